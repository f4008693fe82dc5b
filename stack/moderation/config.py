"""The moderation service's configuration file, every key of it."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AnyHttpUrl, Field, field_validator, model_validator
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from stack.moderation.calibration import Calibration
from stack.moderation.categories import CATEGORIES, Category
from stack.moderation.classifiers import ClassifierConfig
from stack.moderation.normalise import MAX_CHARACTERS, STEPS, Step
from stack.service.config import Listen, Logs, Seconds
from stack.settings import Protected, Settings, nearest

Severity = Annotated[float, Field(ge=1, le=3)]
OnFailure = Literal["fail-open", "fail-closed", "review"]
Priority = Literal["low", "normal", "high", "urgent"]
Share = Annotated[float, Field(ge=0, le=1)]


class Band(Settings):
    low: Share
    """Texts with a calibrated score below this are allowed."""
    high: Share
    """Texts with a score from this up are blocked; those between low and high are uncertain, and go on to tier 3."""

    @model_validator(mode="after")
    def _ordered(self) -> "Band":
        if self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}; exchange them, or make them equal for no band")
        return self


class CategoryPolicy(Settings):
    """What is done about texts of one category. A key left out takes the default below."""

    block_severity: Severity | None = 2.4
    """A listed term of this severity or above blocks in tier 1; null lets no list alone block."""
    escalate_severity: Severity | None = 2.0
    """A listed term of this severity or above makes a text uncertain at least: tier 2 cannot allow it any more."""
    band: Band | None = None
    """Its own uncertain band; null takes `band`."""
    judged: bool = True
    """False gives what is uncertain to people at once: the judge is no judge of this category."""
    judge_threshold: Share | None = None
    """Its own threshold of the judge's score; null takes tier3.threshold."""
    on_failure: OnFailure | None = None
    """When no tier could decide: allow (fail-open), block (fail-closed), or ask people; null takes tier3.on_failure."""
    priority: Priority = "normal"
    """Its class in the review queue."""


class Policy(Settings):
    version: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$")
    """Stands in every decision, metric and review item; change it with the policy."""
    categories: dict[str, CategoryPolicy] = Field(default_factory=dict)
    """By category; one that is not here takes the defaults."""

    @field_validator("categories")
    @classmethod
    def _known(cls, categories: dict[str, CategoryPolicy]) -> dict[str, CategoryPolicy]:
        unknown = [name for name in categories if name not in CATEGORIES]
        if unknown:
            raise ValueError("\n".join(f"unknown category '{name}'; {nearest(name, CATEGORIES)}" for name in unknown))
        return categories


class Tier1(Settings):
    steps: tuple[Step, ...] = STEPS
    """What normalisation does before anything looks at a text; tier 2 and the judge get the normalised text too."""
    lists: bool = True
    """Look for listed terms."""
    patterns: bool = True
    """Look for patterns."""
    data: Path = Protected(Path("../../.cache/data"))
    """Folder of the installed data packages, which carry the lists; relative to this file."""

    @field_validator("steps")
    @classmethod
    def _once_each(cls, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        if len(set(steps)) != len(steps):
            raise ValueError("a step is given twice; they run in one order, each once")
        return steps


class Tier2(Settings):
    classifier: ClassifierConfig = ClassifierConfig()
    """What scores texts."""
    calibration: Calibration
    """From its score to the probability that a text breaks the rules."""
    category: Category = "harassment"
    """The category of a text that nothing puts into another."""
    attributes: bool = True
    """Regressions over a text's vector put one that is not clearly allowed, and that no list named, into a category.
    They take one more run of the encoder."""
    batch: int = Field(4, ge=1, le=256)
    """Most texts that are scored in one go; texts that come while the classifier is busy wait for the next."""


class Tier3(Settings):
    enabled: bool = True
    """False sends the band to review unjudged."""
    mode: Literal["decide", "sort"] = "sort"
    """decide: the judge's score decides. sort: people decide, and the score is the place in their queue."""
    upstream: AnyHttpUrl = Protected()
    """The engine; its routes are below /v1."""
    model: str = Protected(min_length=1, max_length=128)
    """The engine's name of the model or adapter: what sorts the queue has to be able to."""
    concurrency: int = Field(4, ge=1, le=256)
    """Most calls of the judge at a time."""
    queue: int = Field(32, ge=0, le=10000)
    """Most texts that wait for a call; one more is a failure, see on_failure."""
    characters: int = Field(4000, ge=1, le=MAX_CHARACTERS)
    """Longest text that is judged, never cut: a longer one is a failure, see on_failure."""
    timeout_seconds: Seconds = 5.0
    """For one text, from its place in the wait queue to the judge's answer."""
    threshold: Share = 0.5
    """In mode decide: a score from this up blocks."""
    on_failure: OnFailure = "review"
    """What becomes of a text that the judge did not judge: it is down, slow, unintelligible, or has no room."""


class Review(Settings):
    url: str = Protected("sqlite:///moderation.sqlite")
    """SQLAlchemy URL of the queue: sqlite:///FILE (relative to this file) or postgresql+psycopg://USER@HOST/NAME."""
    lease_seconds: float = Field(300.0, ge=1, le=86400)
    """How long a reviewer may keep an item before others get it; a reviewer may ask for less, and renew."""
    ageing_seconds: float | None = Field(900.0, gt=0, le=30 * 86400)
    """An item that waits this long counts one class higher; null: the lowest class may wait for ever."""
    capacity: int = Field(10000, ge=1, le=10_000_000)
    """Most undecided items."""
    on_full: Literal["fail-open", "fail-closed"] = "fail-closed"
    """What becomes of a text that the queue has no room for."""
    on_down: Literal["fail-open", "fail-closed"] = "fail-closed"
    """What becomes of a text while the database does not answer."""

    @field_validator("url")
    @classmethod
    def _a_database_we_know(cls, url: str) -> str:
        try:
            parsed = make_url(url)
        except ArgumentError:
            raise ValueError("no URL of a database; write sqlite:///FILE or postgresql+psycopg://…") from None
        if parsed.drivername not in ("sqlite", "postgresql+psycopg"):
            raise ValueError(f"unknown database '{parsed.drivername}'; use sqlite or postgresql+psycopg")
        if not parsed.database or parsed.database == ":memory:":
            raise ValueError("it names no database; a queue in memory would be lost with the process")
        return url


class Limits(Settings):
    body_bytes: int = Field(262144, ge=64, le=1 << 26)
    """Largest body of a request."""
    inputs: int = Field(32, ge=1, le=1024)
    """Most texts of one request."""
    characters: int = Field(20000, ge=1, le=MAX_CHARACTERS)
    """Most characters of one text; a longer one is refused, never cut."""
    in_flight: int = Field(256, ge=1, le=10000)
    """Most texts in progress; what would exceed it is refused with 429."""

    @model_validator(mode="after")
    def _one_request_fits(self) -> "Limits":
        if self.in_flight < self.inputs:
            raise ValueError(
                f"in_flight {self.in_flight} is below inputs {self.inputs}: the largest request could never be served"
            )
        return self


class ModerationConfig(Settings):
    """`moderation.yaml`."""

    schema_version: Literal[1] = Field(alias="schema")
    """Version of this file's format."""
    listen: Listen = Protected()
    """Where the service answers."""
    telemetry: Logs = Logs()
    """Logs and metrics."""
    limits: Limits = Limits()
    """How much one request, and all together, may ask for."""
    policy: Policy
    """What is done about which category."""
    tier1: Tier1 = Tier1()
    """Normalisation, listed terms and patterns."""
    tier2: Tier2
    """The classifier."""
    band: Band
    """What is uncertain after tier 2."""
    tier3: Tier3
    """The language model as judge of what is uncertain."""
    review: Review = Review()
    """The queue of those texts that people decide."""
