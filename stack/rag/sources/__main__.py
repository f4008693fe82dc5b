"""Writes the questions of a collection with the document that answers each, for load generators and graders.

python -m stack.rag.sources boolq --out questions.jsonl --data .cache/data --manuals .cache/documents --shared 0.34
"""

import argparse
import json
import sys
from pathlib import Path

from stack.rag.hits import RetrievalError
from stack.rag.sources import NAMES, load
from stack.rag.sources.overlap import low_overlap


def main(arguments: list[str] | None = None) -> int:
    """The exit status: 0 written, 1 the collection is missing."""
    parser = argparse.ArgumentParser(
        prog="python -m stack.rag.sources", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("collection", choices=NAMES)
    parser.add_argument("--data", type=Path, required=True, help="folder of the packages that carry data sets")
    parser.add_argument("--manuals", type=Path, required=True, help="folder of the packages that carry manuals")
    parser.add_argument("--shared", type=float, default=1.0, help="only questions that share at most this part of "
                        "their stems with their document (default: all)")  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="the file to write: a JSON line a question")
    options = parser.parse_args(arguments)
    try:
        collection = low_overlap(load(options.collection, options.data, options.manuals), options.shared)
    except RetrievalError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    lines = [
        json.dumps({"text": query.text, "document": document}, ensure_ascii=False)
        for query in collection.queries
        for document in list(collection.judgements[query.id])[:1]
    ]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    print(f"{options.out}: {len(lines)} questions")
    return 0


if __name__ == "__main__":
    sys.exit(main())
