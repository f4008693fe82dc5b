"""The speed of this machine right now: a fixed piece of arithmetic that no configuration can change.

A verdict compares the stack with what this machine could do when it was calibrated. If the machine itself has become
slower (throttling, a noisy neighbour, another machine), the anchor says so, and nothing is graded. Run as a process,
`python -m lab.anchor SECONDS`, so that the arithmetic library's threads can be fixed beforehand.
"""

import json
import os
import subprocess
import sys
import threading
import time
from statistics import median

from lab.run import RunError

SIZE = 320  # of the square float32 matrices: three fit into a core's L2 cache


def measure(seconds: float) -> float:
    """Rounds per second that all cores do together now; median over short slices, so that one stall is no slow machine.

    Raises RunError when the measurement could not run.
    """
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "lab.anchor", str(seconds)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds + 60)
    if done.returncode != 0:
        raise RunError(f"the machine's speed could not be measured: {done.stderr.strip()[-300:]}")
    return float(json.loads(done.stdout)["rounds_per_second"])


def _work(stop_at: float, slices: list[float]) -> None:
    import numpy

    left = numpy.full((SIZE, SIZE), 1.0 / SIZE, dtype=numpy.float32)
    right = left.T.copy()
    while (start := time.monotonic()) < stop_at:
        rounds = 0
        while time.monotonic() < start + 0.1:
            left @ right
            rounds += 1
        slices.append(rounds / (time.monotonic() - start))


def main() -> int:
    stop_at = time.monotonic() + float(sys.argv[1])
    slices: list[list[float]] = [[] for _ in range(os.cpu_count() or 1)]
    threads = [threading.Thread(target=_work, args=(stop_at, own)) for own in slices]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps({"rounds_per_second": sum(median(own) for own in slices)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
