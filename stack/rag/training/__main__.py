"""Trains the cross-encoder that reranks search results, writes it as an int8 ONNX file, and measures whether it pays.

  1. questions   BoolQ, QuAC and half of DisflQA, less whatever is kept for evaluation (corpus.py)
  2. negatives   what BM25 and the dense retriever rank high and is wrong (pairs.py)
  3. training    the lower layers of all-MiniLM-L6-v2, listwise softmax (train.py)
  4. export      ONNX, int8, compared with the original (export.py)
  5. comparison  with late interaction on held-out questions: nDCG@10 and milliseconds (compare.py)

A run that was cut off goes on where its last checkpoint stands: give the same command again. It takes an hour or two
on two free cores. `--under-trained` makes the fault that is met in practice: a cross-encoder with an untrained head and
a few minutes of training, which puts good results into a worse order.
"""

import argparse
import json
import os
import sys
from pathlib import Path

from pydantic import ValidationError

from stack.rag.hits import RetrievalError

MODELS = Path(__file__).parents[1] / "models"


def main(arguments: list[str] | None = None) -> int:
    """The command; gives the exit status."""
    options = _parser().parse_args(arguments)
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error", TOKENIZERS_PARALLELISM="false")
    # Threads that spin while they wait for each other starve on a machine that does other things as well.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from stack.rag.training.recipe import Places, run, under_trained  # takes seconds: not for --help
    from stack.rag.training.train import TrainingSettings

    changes = {key: value for key in ("seed", "steps", "threads") if (value := getattr(options, key)) is not None}
    try:
        settings = under_trained(**changes) if options.under_trained else TrainingSettings(**changes)
        card = run(
            Places(options.data, options.vectors, options.work, options.out),
            settings,
            options.questions,
            options.export_only,
        )
    except (RetrievalError, OSError, ValueError, ValidationError) as problem:
        print(f"training failed: {problem}", file=sys.stderr)
        return 1
    print(json.dumps(card, indent=1))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m stack.rag.training", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path(".cache/data"), help="where `make setup` unpacked the data")
    parser.add_argument("--vectors", type=Path, default=Path(".cache/vectors"), help="kept embeddings; made if need be")
    parser.add_argument("--work", type=Path, default=Path(".cache/training/cross-encoder"), help="checkpoints and log")
    parser.add_argument("--out", type=Path, default=MODELS / "cross-encoder", help="the folder of the finished model")
    parser.add_argument("--seed", type=int, help="of everything random")
    parser.add_argument("--steps", type=int, help="updates of the weights")
    parser.add_argument("--threads", type=int, help="threads of training; another number may give other weights")
    parser.add_argument("--questions", type=int, help="most held-out questions of each half in the comparison")
    parser.add_argument("--export-only", action="store_true", help="export and compare the best checkpoint so far")
    parser.add_argument("--under-trained", action="store_true", help="make the faulty variant; needs --out and --work")
    return parser


if __name__ == "__main__":
    sys.exit(main())
