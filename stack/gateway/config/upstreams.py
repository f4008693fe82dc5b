"""The services behind the gateway: where they are, how long they may take, how often they are tried."""

from typing import Literal

from pydantic import AnyHttpUrl, Field, model_validator

from stack.service.config import Seconds
from stack.settings import Protected, Settings

UpstreamName = Literal["llm", "rag", "moderation"]
"""As metrics call them: the engine, retrieval, moderation."""


class AnswerTimeouts(Settings):
    connect_seconds: Seconds = 2.0
    """To reach the service."""
    first_token_seconds: Seconds = 30.0
    """From the moment the request is passed on to the first text of a streamed answer; a check of what the caller wrote
    is part of it."""
    total_seconds: Seconds = 60.0
    """From the moment the request is passed on to the end of the answer."""


class Timeouts(AnswerTimeouts):
    body_seconds: Seconds = 10.0
    """For the caller to send the body of the request."""


def _below(base_url: AnyHttpUrl, path: str) -> str:
    return f"{str(base_url).rstrip('/')}/{path}"


class Retrieval(Settings):
    base_url: AnyHttpUrl = Protected()
    """The service; its routes are below /v1, its readiness at /readyz."""
    timeouts: AnswerTimeouts = AnswerTimeouts()
    """How long a search or an answer may take."""

    @property
    def ready_url(self) -> str:
        return _below(self.base_url, "readyz")


class ModerationTimeouts(Settings):
    connect_seconds: Seconds = 1.0
    """To reach the service."""
    total_seconds: Seconds = 5.0
    """For one check; a later answer counts as none, see on_error."""


class Segments(Settings):
    """How a streamed answer is cut into pieces that are checked while it runs on."""

    sentence_chars: int = Field(60, ge=1, le=10_000)
    """From this many characters on, a segment ends with the sentence."""
    held_chars: int = Field(400, ge=1, le=10_000)
    """A segment of this many characters ends in any case: the most that the caller waits for."""
    context_chars: int = Field(100, ge=0, le=10_000)
    """So much of the answer before a segment is checked together with it: a phrase may lie across the cut."""

    @model_validator(mode="after")
    def _ordered(self) -> "Segments":
        if self.sentence_chars > self.held_chars:
            raise ValueError(
                f"sentence_chars {self.sentence_chars} is above held_chars {self.held_chars}; "
                "no segment would ever end with a sentence"
            )
        return self


class Moderation(Settings):
    base_url: AnyHttpUrl = Protected()
    """The service; its routes are below /v1, its readiness at /readyz."""
    timeouts: ModerationTimeouts = ModerationTimeouts()
    """How long a check may take."""
    segments: Segments = Segments()
    """How streamed answers are checked."""
    piece_chars: int = Field(4000, ge=100, le=100_000)
    """Longer texts are checked in pieces of this size. The service must take texts of this length."""
    pieces: int = Field(16, ge=1, le=1024)
    """Most pieces in one call of the service."""

    @property
    def ready_url(self) -> str:
        return _below(self.base_url, "readyz")


class Retries(Settings):
    """Only before anything of an answer has come, and only where the service was not reached or answered 502 or 503."""

    most: int = Field(0, ge=0, le=10)
    """Most repetitions of one request. 0 for the engine: it answers 503 when it has too much to do, and each repetition
    adds to that; no short wait brings back one that is gone; and a prompt is the most expensive thing to send twice."""
    budget_share: float = Field(0.1, ge=0, le=1)
    """Most repetitions as a share of the requests of the last budget_seconds; one is always allowed."""
    budget_seconds: Seconds = 10.0
    """See budget_share."""
    backoff_seconds: Seconds = 0.05
    """The wait before the first repetition is a random time up to this; the bound doubles with each one more."""
    backoff_most_seconds: Seconds = 1.0
    """Bound of these waits."""


class Circuit(Settings):
    """Time-outs, lost connections and answers of 5xx are failures. 503 and 429 are not: a service that says at once
    that it is busy protects itself, and to cut off all of its traffic would turn some refusals into an outage."""

    failures: int = Field(5, ge=1, le=10_000)
    """So many in a row open the circuit: nothing is sent to the service, requests are refused with 503."""
    open_seconds: Seconds = 5.0
    """After this time one request is let through: when it succeeds, the circuit closes, else it stays open as long
    again."""


class Calls(Settings):
    retries: Retries = Retries()
    """When a call is repeated."""
    circuit: Circuit = Circuit()
    """When calls are not even tried."""
