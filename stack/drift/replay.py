"""Makes a reference without waiting for traffic: questions from a time when all was well are searched once more.

python -m stack.drift.replay --rag stack/config/rag.yaml --collection encyclopedia --tenant demo \\
    --questions questions.txt --out reference.npz
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from stack.drift.monitor import save
from stack.drift.traffic import Searches
from stack.rag.access import Identity
from stack.rag.config import RagConfig
from stack.rag.hits import RetrievalError
from stack.rag.live import LiveCollection
from stack.rag.parts import Parts
from stack.rag.pipeline import Found
from stack.service.errors import NotReady
from stack.settings import ConfigError, load, nearest
from stack.telemetry.metrics import RagMetrics

_TOLD_EVERY = 100
_RESULTS = 10


def replay(live: LiveCollection, tenant: str, questions: Sequence[str]) -> Iterator[tuple[float, Found]]:
    """What retrieval finds for each question, with the time; where there is no index, it is built first.

    Raises RetrievalError, NotReady.
    """
    live.prepare()
    serving, view = live.view(Identity(tenant))
    for question in questions:
        yield time.time(), serving.pipeline.search(question, view, _RESULTS)


def as_searches(found: Sequence[tuple[float, Found]]) -> Searches:
    """As the traffic log would have told of them. Raises ValueError: they have no vectors."""
    if any(one.vector is None for _, one in found):
        raise ValueError("this collection is not searched by vectors, so there is nothing to compare")
    return Searches(
        np.array([at for at, _ in found]),
        np.stack([one.vector for _, one in found if one.vector is not None]).astype(np.float32),
        np.array([one.nearest or 0.0 for _, one in found]),
        np.array([float(one.sparse.scores[0]) if len(one.sparse) else 0.0 for _, one in found]),
        np.array([one.evidence for _, one in found], bool),
    )


def main(arguments: list[str] | None = None) -> int:
    """The exit status: 0 written, 1 it could not be done, 2 the configuration or the command is refused."""
    options = _parser().parse_args(arguments)
    try:
        config = load(options.rag, RagConfig)
        questions = [line for line in options.questions.read_text("utf-8").splitlines() if line.strip()]
    except (ConfigError, OSError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    if options.collection not in config.collections:
        print(f"unknown collection '{options.collection}'; {nearest(options.collection, config.collections)}",
              file=sys.stderr)  # fmt: skip
        return 2
    found: list[tuple[float, Found]] = []
    try:
        live = LiveCollection(options.collection, Parts.of(config, options.rag.resolve().parent, RagMetrics()))
        for one in replay(live, options.tenant, questions):
            found.append(one)
            if len(found) % _TOLD_EVERY == 0:
                print(f"{len(found):,} of {len(questions):,} questions searched", flush=True)
        save(as_searches(found), options.out)
    except (RetrievalError, NotReady, ValueError, OSError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    print(f"{options.out}: a reference of {len(found):,} searches")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m stack.drift.replay", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rag", type=Path, required=True, help="configuration of retrieval, as all was well")
    parser.add_argument("--collection", required=True, help="what is searched")
    parser.add_argument("--tenant", required=True, help="whose rights count")
    parser.add_argument("--questions", type=Path, required=True, help="a question a line")
    parser.add_argument("--out", type=Path, required=True, help="the reference, for reference.file of drift.yaml")
    return parser


if __name__ == "__main__":
    sys.exit(main())
