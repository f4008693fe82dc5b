"""The baseline of a suite: scores of every example as the released stack had them, and its answers where a model
compares them."""

import gzip
import json
import zlib
from collections.abc import Collection, Iterable, Mapping, Set
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from stack.evals.errors import NoBaseline
from stack.evals.example import Row
from stack.evals.suite import Mode, Named
from stack.evals.tasks.preference import SEEN

BASELINES = Path(__file__).parent / "baselines"
SCHEMA = 4
DIGITS = 5


@dataclass(frozen=True)
class Baseline:
    """`NAME.json.gz`."""

    schema: int
    suite: str
    suite_hash: str
    mode: Mode
    identity: dict[str, str]
    machine: str
    made: float
    """Unix seconds."""
    scores: dict[str, dict[str, float]]
    """By example; a failed one has none."""
    answers: dict[str, str]
    asked: dict[str, str]
    """By example, its digest."""
    quick: list[str]
    """The examples that a quick run asks."""

    def examples(self, mode: Mode) -> Set[str]:
        """What a run of this size must have asked."""
        return set(self.quick) if mode == "quick" else self.scores.keys()


def make(suite: Named, mode: Mode, identity: Mapping[str, str], machine: str, made: float,
         rows: Mapping[str, Row], quick: Collection[str]) -> Baseline:  # fmt: skip
    """The baseline that a finished run's rows are; `quick` names those that a quick run asks."""
    return Baseline(
        SCHEMA, suite.name, suite.hash, mode, dict(identity), machine, made,
        {name: {score: round(value, DIGITS) for score, value in row.scores.items()} for name, row in rows.items()},
        {name: row.output["text"] for name, row in rows.items() if SEEN in row.slices and row.error is None},
        {name: row.digest for name, row in rows.items()},
        sorted(quick),
    )  # fmt: skip


def write(baseline: Baseline, folder: Path = BASELINES) -> Path:
    """Store it, replacing the one before."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{baseline.suite}.json.gz"
    content = json.dumps(asdict(baseline), sort_keys=True, ensure_ascii=False).encode()
    path.write_bytes(gzip.compress(content, mtime=0))
    return path


def read(suite: Named, mode: Mode, folder: Path = BASELINES) -> Baseline:
    """The stored baseline. Raises NoBaseline: it is missing, damaged, of another suite or too small."""
    path = folder / f"{suite.name}.json.gz"
    remedy = f"`lab eval baseline{' --full' if mode == 'full' else ''}` makes it from the stack as it is"
    try:
        baseline = TypeAdapter(Baseline).validate_python(json.loads(gzip.decompress(path.read_bytes())))
    except FileNotFoundError:
        raise NoBaseline(f"{suite.name}: no baseline at {path}; {remedy}") from None
    except ValidationError as problem:
        first = problem.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise NoBaseline(f"{suite.name}: {path} is damaged ({where}: {first['msg']}); {remedy}") from problem
    except (OSError, ValueError, TypeError, EOFError, zlib.error) as problem:
        raise NoBaseline(f"{suite.name}: {path} is damaged ({problem}); {remedy}") from problem
    if baseline.schema != SCHEMA:
        raise NoBaseline(f"{suite.name}: {path} has version {baseline.schema}, this program needs {SCHEMA}; {remedy}")
    if baseline.suite_hash != suite.hash:
        raise NoBaseline(f"{suite.name}: the suite has changed since its baseline was made; {remedy}")
    if mode == "full" and baseline.mode == "quick":
        raise NoBaseline(f"{suite.name}: the baseline has the quick examples only; {remedy}")
    return baseline


def without_suite(suites: Iterable[Named], folder: Path = BASELINES) -> list[str]:
    """Baselines whose suite is not among `suites`: what it looked after would not be looked at any more."""
    there = {path.name.removesuffix(".json.gz") for path in folder.glob("*.json.gz")}
    return sorted(there - {suite.name for suite in suites})
