"""The record of a load run: a header, one row for each request that was sent, and an end line.

All times are seconds since the run's start on the monotonic clock, so rows of one run compare exactly; the
header says when that start was on the wall clock. A row is written when its request ends.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from loadtests import LoadError
from loadtests.plan import Arrival, Header, as_model, as_object

MAX_ANSWER_CHARS = 20_000
MAX_ERROR_CHARS = 300
MAX_DOCUMENTS = 50

Outcome = Literal["ok", "http_error", "stream_error", "timeout", "connection_error", "unfinished"]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class RowsHeader(_Record):
    """When the run started (`start`, unix seconds) and the header of its plan."""

    start: float
    plan: Header


class Row(_Record):
    """What became of one request.

    `intended` is when the plan wanted it sent, `sent` when it was; `first_token` is the arrival of the first
    non-empty piece of the answer. `end` is the arrival of the last one, that is when the reader had the whole
    answer, or the moment at which the request failed; null when the run ended first. Tokens are the server's
    own count. Durations start at `intended`: a request that was held back on this side has kept its reader
    waiting all the same.
    """

    i: int
    request_id: str
    tenant: str
    intended: float
    sent: float
    first_token: float | None
    end: float | None
    outcome: Outcome
    status: int | None = Field(description="HTTP status; null when no answer began")
    error: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    answer: str = Field(description=f"the text of the answer, cut at {MAX_ANSWER_CHARS} characters")
    streamed: bool = Field(True, description="whether the answer was to come piece by piece")
    documents: tuple[str, ...] | None = Field(
        None, strict=False, description="ids of what was found or cited, best first"
    )
    decision: str | None = Field(None, description="what moderation decided")

    @property
    def lag(self) -> float:
        """Seconds that the generator was late."""
        return self.sent - self.intended

    @property
    def ttft(self) -> float | None:
        """Time to first token in seconds, from the intended moment."""
        return None if self.first_token is None else self.first_token - self.intended

    @property
    def latency(self) -> float | None:
        """Seconds from the intended moment to the end."""
        return None if self.end is None else self.end - self.intended

    @property
    def tpot(self) -> float | None:
        """Time per output token in seconds, after the first; null for an answer of fewer than two tokens."""
        if self.end is None or self.first_token is None or (self.completion_tokens or 0) < 2:
            return None
        return (self.end - self.first_token) / (self.completion_tokens - 1)


class End(_Record):
    """The end of a run that was wound up: how many requests were planned and sent, how long it took."""

    planned: int
    sent: int
    seconds: float


@dataclass
class Exchange:
    """A row in the making: filled while the answer of one request comes in."""

    arrival: Arrival
    request_id: str
    intended: float
    sent: float
    status: int | None = None
    first_token: float | None = None
    last_token: float | None = None
    end: float | None = None
    outcome: Outcome = "unfinished"
    error: str | None = None
    usage: dict[str, int] = field(default_factory=dict)
    documents: tuple[str, ...] | None = None
    decision: str | None = None
    _pieces: list[str] = field(default_factory=list)
    _chars: int = 0

    def take(self, event: Mapping[str, Any], now: float) -> None:
        """Reads one `chat.completion.chunk`. Chunks without text (the role, the usage) are no tokens."""
        for choice in event.get("choices") or ():
            self._text((choice.get("delta") or {}).get("content"), now)
        self._found(event.get("citations"))
        self._count(event.get("usage"))

    def take_whole(self, answer: Mapping[str, Any], now: float) -> None:
        """Reads an answer in one piece, which has no first token: a `chat.completion`, what was found, a decision."""
        for choice in answer.get("choices") or ():
            self._text((choice.get("message") or {}).get("content"), now)
        self.first_token = self.last_token = None
        self._found(answer.get("results") or answer.get("citations"))
        self._count(answer.get("usage"))

    def succeed(self, now: float) -> None:
        """The answer is complete."""
        self.outcome, self.end = "ok", now if self.last_token is None else self.last_token

    def fail(self, outcome: Outcome, error: str, now: float) -> None:
        """The request failed, unless its answer was complete before."""
        if self.outcome == "unfinished":
            self.outcome, self.error, self.end = outcome, error[:MAX_ERROR_CHARS], now

    def row(self) -> Row:
        """The row as it stands."""
        return Row(
            i=self.arrival.i,
            request_id=self.request_id,
            tenant=self.arrival.tenant,
            intended=round(self.intended, 6),
            sent=round(self.sent, 6),
            first_token=None if self.first_token is None else round(self.first_token, 6),
            end=None if self.end is None else round(self.end, 6),
            outcome=self.outcome,
            status=self.status,
            error=_clean(self.error),
            prompt_tokens=self.usage.get("prompt_tokens"),
            completion_tokens=self.usage.get("completion_tokens"),
            answer=_clean("".join(self._pieces)),
            streamed=bool(self.arrival.body.get("stream")),
            documents=self.documents,
            decision=_clean(self.decision),
        )

    def _text(self, text: object, now: float) -> None:
        if not isinstance(text, str) or not text:
            return
        if self.first_token is None:
            self.first_token = now
        self.last_token = now
        self._pieces.append(text[: max(0, MAX_ANSWER_CHARS - self._chars)])
        self._chars += len(text)

    def _found(self, results: object) -> None:
        """Notes the documents of a search or of an answer's citations, or the decision on the first text."""
        entries = [entry for entry in results if isinstance(entry, dict)] if isinstance(results, list) else []
        documents = [entry["document"] for entry in entries if isinstance(entry.get("document"), str)]
        if documents:
            self.documents = tuple(_clean(document) or "" for document in documents[:MAX_DOCUMENTS])
        if entries and isinstance(entries[0].get("decision"), str):
            self.decision = entries[0]["decision"][:32]

    def _count(self, usage: object) -> None:
        if isinstance(usage, dict):
            self.usage = {key: value for key, value in usage.items() if type(value) is int}


def _clean(text: str | None) -> str | None:
    """JSON from a server may hold half a surrogate pair, which no UTF-8 file can."""
    return text and text.encode(errors="replace").decode()


def worker_path(path: Path, index: int) -> Path:
    """Where worker `index` of a divided run writes: `rows.jsonl` becomes `rows.worker0.jsonl`."""
    return path.with_name(f"{path.stem}.worker{index}{path.suffix}")


@dataclass(frozen=True)
class Rows:
    """A run's rows in the plan's order; `end` is null when the run (or one of its workers) was cut short."""

    header: RowsHeader
    rows: tuple[Row, ...]
    end: End | None


def read_rows(path: Path) -> Rows:
    """The rows at `path`, or where there is no such file, those of the workers beside it, put together.

    A last line without a line end was being written when the generator was killed: it is left out. Raises
    LoadError, which names the line.
    """
    paths = [path] if path.exists() else sorted(path.parent.glob(f"{path.stem}.worker*{path.suffix}"))
    if not paths:
        raise LoadError(f"{path}: no such file, and no rows of workers beside it")
    parts = [_read(part) for part in paths]
    if any(part.header != parts[0].header for part in parts):
        raise LoadError(f"{path}: the workers' files beside it are not of one run")
    rows = tuple(sorted((row for part in parts for row in part.rows), key=lambda row: row.i))
    return Rows(parts[0].header, rows, _whole([part.end for part in parts], parts[0].header.plan.requests))


def _read(path: Path) -> Rows:
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except OSError as problem:
        raise LoadError(f"{path}: cannot read the rows: {problem.strerror}") from problem
    if not lines:
        raise LoadError(f"{path}: the file has no header: its run did not start")
    header = as_model(RowsHeader, as_object(lines[0], f"{path}: line 1"), f"{path}: line 1")
    rows: list[Row] = []
    end: End | None = None
    for number, line in enumerate(lines[1:], start=2):
        where = f"{path}: line {number}"
        fields = as_object(line, where)
        if end is not None:
            raise LoadError(f"{where}: a line after the end line")
        if "end" in fields and "i" not in fields:
            end = as_model(End, fields["end"], where)
        else:
            rows.append(as_model(Row, fields, where))
    return Rows(header, tuple(rows), end)


def _whole(ends: list[End | None], requests: int) -> End | None:
    known = [end for end in ends if end is not None]
    planned = sum(end.planned for end in known)
    if len(known) < len(ends) or planned != requests:
        return None
    return End(planned=planned, sent=sum(end.sent for end in known), seconds=max(end.seconds for end in known))
