"""Makes a reference without waiting for traffic: questions from a time when all was well are searched once more.

python -m stack.drift.replay --rag stack/config/rag.yaml --collection encyclopedia --tenant demo \\
    --questions questions.txt --out reference.npz
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from stack.drift.monitor import save
from stack.drift.traffic import read
from stack.rag.access import Identity
from stack.rag.config import RagConfig, Traffic
from stack.rag.hits import RetrievalError
from stack.rag.live import LiveCollection
from stack.rag.parts import Parts
from stack.rag.traffic import TrafficLog
from stack.service.errors import NotReady
from stack.settings import ConfigError, load, nearest
from stack.telemetry.metrics import RagMetrics

_TOLD_EVERY = 100
_RESULTS = 10
_ALL = 1 << 40  # bytes: nothing is moved away


def replay(live: LiveCollection, tenant: str, questions: Sequence[str], log: TrafficLog) -> Iterator[int]:
    """Search for each question and log it as the service does; how many there are so far.

    Where there is no index, it is built first. Raises RetrievalError, NotReady.
    """
    live.prepare()
    serving, view = live.view(Identity(tenant))
    with log.writing():
        for number, question in enumerate(questions, start=1):
            log.write(live.name, tenant, serving.pipeline.search(question, view, _RESULTS))
            yield number


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
    try:
        live = LiveCollection(options.collection, Parts.of(config, options.rag.resolve().parent, RagMetrics()))
        with tempfile.TemporaryDirectory() as name:
            file = Path(name) / "searches.jsonl"
            log = TrafficLog(Traffic(file=file, max_bytes=_ALL), file.parent)
            for number in replay(live, options.tenant, questions, log):
                if number % _TOLD_EVERY == 0:
                    print(f"{number:,} of {len(questions):,} questions searched", flush=True)
            found = read(file, options.collection)
        save(found, options.out)
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
