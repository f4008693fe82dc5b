"""How late the load generator sends at 50 requests a second, through the gateway, to an engine that answers at once.

.venv/bin/python tests/bench/generator_lag.py
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from gateway_overhead import KEY, ROOT, engine, running, serving

from lab.measure import quantile
from loadtests.plan import materialise
from loadtests.rows import read_rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=50.0, help="requests/s")
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    plan = materialise(
        user="reading_desk", shape="steady", rate=options.rate, seconds=options.seconds, seed=1, split="calibration",
        tenant="bench", target="desk", data=ROOT / ".cache/data",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as name, serving(engine()) as engine_url:
        folder = Path(name)
        plan.write(folder / "plan.jsonl")
        (folder / "keys.json").write_text(json.dumps({"bench": KEY}))
        with running("this", ROOT, engine_url, limits=False) as gateway:
            subprocess.run(
                [
                    *(sys.executable, "-m", "locust", "-f", str(ROOT / "loadtests/locustfile.py"), "--headless"),
                    *("--plan", str(folder / "plan.jsonl"), "--rows", str(folder / "rows.jsonl")),
                    *("--keys", str(folder / "keys.json"), "--host", gateway.url, "--loglevel", "ERROR"),
                ],
                cwd=ROOT,
                check=True,
                capture_output=True,
            )
        rows = read_rows(folder / "rows.jsonl").rows
    lags = [row.lag for row in rows]
    answered = sum(row.outcome == "ok" for row in rows)
    shares = {share: quantile(lags, share) or 0.0 for share in (0.5, 0.99)}
    gap = 1 / options.rate
    print(f"{len(rows)} of {plan.header.requests} requests sent at {options.rate:g}/s, {answered} answered")
    print(", ".join(f"lag p{100 * share:.0f} {1e3 * lag:.2f} ms ({lag / gap:.3f} of the mean gap)"
                    for share, lag in shares.items()))  # fmt: skip


if __name__ == "__main__":
    main()
