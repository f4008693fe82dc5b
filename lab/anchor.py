"""The speed of this machine right now: a fixed piece of arithmetic that no configuration can change.

A verdict compares the stack with what this machine could do when it was calibrated. If the machine itself has become
slower (throttling, a noisy neighbour, another machine), the anchor says so, and nothing is graded. Run as a process,
`python -m lab.anchor SECONDS`, so that the arithmetic library's threads can be fixed beforehand.

The work is that of a decoding step: a few rows of activations go through weights that no core's own caches hold.
Arithmetic within the caches does not do: when this machine served half of what it had served, by its neighbours, that
had lost an eighth, and this two fifths (docs/grading.md).
"""

import json
import os
import subprocess
import sys
import threading
import time
from statistics import median

from lab.run import RunError

SECONDS = 4.0  # that the measurement takes
ROWS = 8  # of activations: about what a busy engine decodes at once
WIDTH, INNER = 576, 1536  # of a layer of the served model, see https://huggingface.co/HuggingFaceTB/SmolLM2-135M
# Matrices of float32 weights, shared out among the cores: 212 MB, as the served model has. None is as large as 4 MiB,
# from where on numpy asks for huge pages: the engine's weights have none, and a busy host translates addresses slowly.
WEIGHTS = 60
SLICE_SECONDS = 0.1


def measure() -> float:
    """Rounds per second that all cores do together now; median over short slices, so that one stall is no slow machine.

    Raises RunError when the measurement could not run.
    """
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "lab.anchor", str(SECONDS)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS + 60)
    if done.returncode != 0:
        raise RunError(f"the machine's speed could not be measured: {done.stderr.strip()[-300:]}")
    return float(json.loads(done.stdout)["rounds_per_second"])


def _work(weights: int, ready: threading.Barrier, seconds: float, slices: list[float]) -> None:
    import numpy

    activations = numpy.full((ROWS, WIDTH), 1.0, dtype=numpy.float32)
    layers = [numpy.full((WIDTH, INNER), 1.0 / WIDTH, dtype=numpy.float32) for _ in range(weights)]
    ready.wait()
    stop_at = time.monotonic() + seconds
    layer = 0
    while (start := time.monotonic()) < stop_at:
        rounds = 0
        while time.monotonic() < start + SLICE_SECONDS:
            activations @ layers[layer]
            layer = (layer + 1) % weights
            rounds += 1
        slices.append(rounds / (time.monotonic() - start))


def main() -> int:
    cores = os.cpu_count() or 1
    ready = threading.Barrier(cores)
    slices: list[list[float]] = [[] for _ in range(cores)]
    arguments = [(max(1, WEIGHTS // cores), ready, float(sys.argv[1]), own) for own in slices]
    threads = [threading.Thread(target=_work, args=own) for own in arguments]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps({"rounds_per_second": sum(median(own) for own in slices)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
