"""A plan: every request of a load run, with the moment it is due, written down before the first is sent.

python -m loadtests.plan --help
"""

import argparse
import hashlib
import json
import math
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from loadtests import LoadError
from loadtests.labelled import Expected
from loadtests.questions import SPLITS, draw
from loadtests.shapes import SHAPES, expected, peak, poisson, steady
from loadtests.users import NEW_SHARE, USERS, Text, User

MAX_RATE = 200.0  # requests/s; one generator on one core keeps its schedule up to here
MAX_SECONDS = 3600.0
MAX_REQUESTS = 150_000
MAX_CONCURRENCY = 1000
MAX_PLAN_BYTES = 64 * 1024 * 1024  # a plan is held in memory while it runs

Model = TypeVar("Model", bound=BaseModel)
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class Header(BaseModel):
    """What a plan is: the first line of its file."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    user: Name = Field(description="who sends the requests; the label of the generator's metrics")
    shape: Name = Field(description="how the rate changes over the run")
    rate: float = Field(gt=0, le=MAX_RATE, description="the shape's base rate")
    unit: Literal["requests/s"] = "requests/s"
    seconds: float = Field(gt=0, le=MAX_SECONDS, description="length of the run, without the drain")
    seed: int = Field(ge=0)
    split: Name = Field(description="which questions were drawn from")
    requests: int = Field(gt=0, le=MAX_REQUESTS)
    mode: Literal["open", "closed"] = Field(
        default="open",
        description="open: each request is sent when it is due. closed: offsets are ignored, `concurrency` "
        "requests are kept in flight until the plan or its seconds are used up.",
    )
    concurrency: int | None = Field(default=None, ge=1, le=MAX_CONCURRENCY)

    @model_validator(mode="after")
    def _concurrency_is_for_closed_plans(self) -> "Header":
        if (self.mode == "closed") != (self.concurrency is not None):
            raise ValueError("a closed plan needs a concurrency and an open plan has none")
        return self


class Arrival(BaseModel):
    """One request: due `offset` seconds after the run's start, sent with `tenant`'s key."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    i: int = Field(ge=0)
    offset: float = Field(ge=0, allow_inf_nan=False)
    tenant: Name
    path: str = Field(pattern=r"^/[!-~]{0,255}$")
    body: dict[str, Any]
    expected: Expected | None = Field(None, description="what a right answer is; it is not sent")


@dataclass(frozen=True)
class Plan:
    """A header and its arrivals, in order: `arrivals[i].i == i`, offsets never fall."""

    header: Header
    arrivals: tuple[Arrival, ...]

    @property
    def tenants(self) -> set[str]:
        return {arrival.tenant for arrival in self.arrivals}

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the plan's text: equal plans, equal digests."""
        return hashlib.sha256(self.text().encode()).hexdigest()

    def text(self) -> str:
        """The plan as JSON Lines."""
        head = {"schema": 1, "plan": self.header.model_dump()}
        lines = [head, *({"schema": 1, **arrival.model_dump(exclude_none=True)} for arrival in self.arrivals)]
        return "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)

    def write(self, path: Path) -> None:
        """Writes the plan to `path`. Raises LoadError."""
        try:
            path.write_text(self.text(), encoding="utf-8")
        except OSError as problem:
            raise LoadError(f"{path}: cannot write the plan: {problem.strerror}") from problem


@dataclass(frozen=True)
class Share:
    """Which arrivals are a process's: every `of`-th, from the `index`-th on."""

    index: int = 0
    of: int = 1

    def arrivals(self, plan: Plan) -> tuple[Arrival, ...]:
        return plan.arrivals[self.index :: self.of]

    def concurrency(self, plan: Plan) -> int:
        """Of a closed plan: its part of the requests in flight."""
        whole = plan.header.concurrency or 0
        return whole // self.of + (self.index < whole % self.of)


def materialise(
    *,
    user: str,
    shape: str,
    rate: float,
    seconds: float,
    seed: int,
    split: str,
    tenant: str,
    target: str,
    data: Path,
    mode: Literal["open", "closed"] = "open",
    concurrency: int | None = None,
    max_tokens: int | None = None,
) -> Plan:
    """The plan that these parameters name; the same parameters give the same plan, byte for byte.

    An open plan holds the Poisson arrivals of `shape` at `rate` requests/s; a closed one `rate` times
    `seconds` requests due at once, so `rate` should be above what the system can do. `data` is the folder
    that the data packages are unpacked in; labelled texts are in `labelled` beside it. Raises LoadError.
    """
    if user not in USERS:
        raise LoadError(f"unknown user {user!r}; one of: {', '.join(USERS)}")
    if max_tokens is not None and max_tokens < 1:
        raise LoadError(f"max_tokens is {max_tokens}; it must be at least 1")
    offsets = _offsets(mode, shape, rate, seconds, seed)
    # Three streams of chance: a new rate keeps the questions, a new user keeps the arrivals.
    texts = _texts(USERS[user], data, split, seed, seconds / 2)
    dice = random.Random(f"{seed}/{user}")
    header = {
        "user": user, "shape": shape, "rate": rate, "seconds": seconds, "seed": seed, "split": split,
        "requests": len(offsets), "mode": mode, "concurrency": concurrency,
    }  # fmt: skip
    arrivals = []
    where = "the plan is not valid"
    for i, offset in enumerate(offsets):
        text = texts(offset)
        request = USERS[user].request(target, text.text, dice, max_tokens)
        fields = {"i": i, "offset": offset, "tenant": tenant, "path": request.path, "body": request.body,
                  "expected": text.expected}  # fmt: skip
        arrivals.append(as_model(Arrival, fields, where))
    return Plan(as_model(Header, header, where), tuple(arrivals))


def read_plan(path: Path) -> Plan:
    """The plan in the file at `path`. Raises LoadError, which names the line."""
    try:
        if path.stat().st_size > MAX_PLAN_BYTES:
            raise LoadError(f"{path}: the plan is larger than {MAX_PLAN_BYTES // 2**20} MiB")
        lines = path.read_bytes().splitlines()
    except OSError as problem:
        raise LoadError(f"{path}: cannot read the plan: {problem.strerror}") from problem
    if not lines:
        raise LoadError(f"{path}: the plan is empty")
    first = as_object(lines[0], f"{path}: line 1")
    if set(first) != {"plan"}:
        raise LoadError(f'{path}: line 1: a plan starts with its header, {{"schema":1,"plan":{{…}}}}')
    header = as_model(Header, first["plan"], f"{path}: line 1")
    arrivals = tuple(_arrivals(lines, path))
    if len(arrivals) != header.requests:
        raise LoadError(f"{path}: the header says {header.requests} requests, the file holds {len(arrivals)}")
    if header.mode == "open" and arrivals[-1].offset > header.seconds:
        raise LoadError(f"{path}: the last request is due at {arrivals[-1].offset} s, after the plan's end")
    return Plan(header, arrivals)


def _texts(user: User, data: Path, split: str, seed: int, middle: float) -> Callable[[float], Text]:
    """What the next request asks, by the second in which it is due; from `middle` on there may be new subjects."""
    texts = draw(user.texts(data, split), random.Random(f"{seed}/questions"))
    if user.later is None:
        return lambda offset: next(texts)
    later = draw(user.later(data, split), random.Random(f"{seed}/later"))
    dice = random.Random(f"{seed}/subjects")
    return lambda offset: next(later if offset >= middle and dice.random() < NEW_SHARE else texts)


def _offsets(mode: str, shape: str, rate: float, seconds: float, seed: int) -> list[float]:
    if shape not in SHAPES:
        raise LoadError(f"unknown shape {shape!r}; one of: {', '.join(SHAPES)}")
    pieces = SHAPES[shape](rate, seconds) if mode == "open" else steady(rate, seconds)
    _check_size(rate, seconds, expected(pieces), peak_rate=peak(pieces))
    if mode == "open":
        # Down to whole milliseconds: short to read, and never past the plan's end.
        moments = poisson(pieces, random.Random(f"{seed}/arrivals"))
        offsets = [math.floor(moment * 1000) / 1000 for moment in moments]
    else:
        offsets = [0.0] * round(rate * seconds)
    if not 0 < len(offsets) <= MAX_REQUESTS:
        raise LoadError(
            f"the plan would hold {len(offsets)} requests; between 1 and {MAX_REQUESTS} are allowed: "
            "change its rate, seconds or seed"
        )
    return offsets


def _check_size(rate: float, seconds: float, requests: float, *, peak_rate: float) -> None:
    """Raises LoadError before anything is drawn: a plan of a billion requests must not be tried."""
    if not 0 < seconds <= MAX_SECONDS:
        raise LoadError(f"seconds is {seconds:g}; it must be above 0 and at most {MAX_SECONDS:g}")
    if not 0 < rate <= peak_rate <= MAX_RATE:
        raise LoadError(f"rate is {rate:g}, at its peak {peak_rate:g} requests/s; allowed is above 0 to {MAX_RATE:g}")
    if requests > MAX_REQUESTS:
        raise LoadError(f"the plan would hold about {requests:.0f} requests; at most {MAX_REQUESTS} are allowed")


def _arrivals(lines: list[bytes], path: Path) -> Iterator[Arrival]:
    due = 0.0
    for number, line in enumerate(lines[1:], start=2):
        where = f"{path}: line {number}"
        arrival = as_model(Arrival, as_object(line, where), where)
        if arrival.i != number - 2:
            raise LoadError(f"{where}: i is {arrival.i}, expected {number - 2}")
        if arrival.offset < due:
            raise LoadError(f"{where}: offset {arrival.offset} comes before the line above it")
        due = arrival.offset
        yield arrival


def as_object(line: bytes, where: str) -> dict[str, Any]:
    """The JSON object in `line` less its `schema`, which must be 1. LoadError starts with `where`."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as problem:
        raise LoadError(f"{where}: not JSON ({problem})") from problem
    if not isinstance(record, dict) or record.pop("schema", None) != 1:
        raise LoadError(f'{where}: expected an object with "schema":1')
    return record


def as_model(model: type[Model], fields: object, where: str) -> Model:
    """`fields` as `model`. LoadError starts with `where`."""
    try:
        return model.model_validate(fields)
    except ValidationError as problem:
        raise LoadError(f"{where}: {_first(problem)}") from problem


def _first(problem: ValidationError) -> str:
    error = problem.errors()[0]
    place = ".".join(str(part) for part in error["loc"])
    return f"{place}: {error['msg']}" if place else error["msg"]


EXPLANATION = """\
A plan is a file of JSON Lines: a header, then one line for each request with the moment it is due (`offset`
seconds after the start), whose key sends it (`tenant`), and what is sent (`path`, `body`). The same options
give the same file, byte for byte, so a run can be repeated, compared and divided among workers; a recorded
trace in the same format takes a plan's place.

Shapes (an open plan's arrivals are random, as independent people are: a Poisson process at this rate):
  steady   --rate all the time
  step     --rate in the first half, twice as much from then on
  spike    --rate, but four times as much in the middle fifth

Modes:
  open     requests are sent when they are due, whether or not earlier ones were answered, as a public service
           meets them. This asks "does it keep up?".
  closed   --concurrency requests are kept in flight, the next one when one is done, for --seconds. This asks
           "how much can it do?". The plan holds rate x seconds requests: choose a rate above what you expect.

Splits share no question: calibrate on one, practise on the second, be graded on the third.
"""

EXAMPLE = """\
example:
  python -m loadtests.plan --user reading_desk --shape steady --rate 2.8 --seconds 45 --seed 11 \\
      --split practice --tenant demo --target reading-desk --data .cache/data --out plan.jsonl
  locust -f loadtests/locustfile.py --headless --plan plan.jsonl --rows rows.jsonl --keys keys.json \\
      --host http://127.0.0.1:8100
"""


def parser() -> argparse.ArgumentParser:
    """The command line, whose options are the parameters of `materialise`."""
    options = argparse.ArgumentParser(
        prog="python -m loadtests.plan",
        description="Write the plan of a load run: which requests are sent, and when.\n\n" + EXPLANATION,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = options.add_argument
    add(
        "--user",
        choices=list(USERS),
        required=True,
        help="; ".join(f"{name}: {user.what}" for name, user in USERS.items()),
    )
    add("--shape", choices=list(SHAPES), default="steady", help="how the rate changes (default: %(default)s)")
    add("--rate", type=float, required=True, help=f"requests/s, at the shape's peak at most {MAX_RATE:g}")
    add("--seconds", type=float, required=True, help=f"length of the run, at most {MAX_SECONDS:g}")
    add("--seed", type=int, required=True, help="another seed, another draw of moments and questions")
    add("--split", choices=list(SPLITS), required=True, help="which questions to draw from")
    add("--tenant", required=True, help="whose key sends the requests")
    add("--target", required=True, help="what is asked: an assistant, or a collection")
    add("--data", type=Path, required=True, help="the folder that the data packages are unpacked in")
    add("--mode", choices=["open", "closed"], default="open", help="see above (default: %(default)s)")
    add("--concurrency", type=int, help=f"closed mode: requests in flight, at most {MAX_CONCURRENCY}")
    add("--max-tokens", type=int, help="ask for at most so many tokens (default: leave it to the assistant)")
    add("--out", type=Path, required=True, help="the file to write")
    return options


def main() -> int:
    """Writes the plan; exit code 2 and one line on stderr when it cannot."""
    options = vars(parser().parse_args())
    out: Path = options.pop("out")
    try:
        plan = materialise(**options)
        plan.write(out)
    except LoadError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    header = plan.header
    print(f"{out}: {header.requests} requests in {header.seconds:g} s ({header.mode}, {header.shape})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
