"""Writes the labelled traffic as a file, for load generators and graders.

python -m stack.moderation.training.export --data .cache/data --out .cache/labelled/comments.jsonl
"""

import argparse
import json
import sys
from pathlib import Path

from stack.moderation.training.data import Part
from stack.moderation.training.traffic import traffic

TEXTS: dict[Part, int] = {"calibration": 200, "practice": 300, "grading": 400}


def main(arguments: list[str] | None = None) -> int:
    """The exit status: 0 written, 1 the data is missing."""
    parser = argparse.ArgumentParser(
        prog="python -m stack.moderation.training.export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the packages that carry data sets")
    parser.add_argument("--out", type=Path, required=True, help="the file to write: a JSON line a text")
    options = parser.parse_args(arguments)
    try:
        found = {
            labelled.text: {"text": labelled.text, "violating": labelled.abusive, "split": part}
            for part, count in TEXTS.items()
            for labelled in traffic(part, count, data=options.data)
        }
    except OSError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    options.out.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(entry, ensure_ascii=False) for entry in found.values()]
    options.out.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    print(f"{options.out}: {len(lines)} texts")
    return 0


if __name__ == "__main__":
    sys.exit(main())
