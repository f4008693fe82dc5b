"""A scenario: one folder of data that turns a design question into an incident. Schema and loader.

`public/` is what a learner sees: `scenario.yaml` and `brief.md`. `hidden/` is the rest: `site/` and `fault/` are merge
patches on the healthy configuration, `fixes/` and `cheats/` are patches on the broken one, `truth.yaml` is the
diagnosis and what a roll-back must do, `hints.md`, `debrief.md`, and `proof/` the evidence that the grade is right.
"""

import hashlib
import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, field_validator, model_validator

from lab.diagnosis import Truth
from lab.paths import SCENARIOS
from stack.settings import ConfigError, Settings, load, nearest, read_yaml

Operator = Literal[">=", "<=", "between"]
ServiceName = Literal["llm", "rag", "moderation", "drift", "gate", "gateway"]
SERVICES: tuple[ServiceName, ...] = get_args(ServiceName)  # in the order in which they are waited for


class Load(Settings):
    """Traffic: which Locust user, how much, which questions."""

    user: str
    shape: Literal["steady", "step", "spike"] = "steady"
    rate: float = Field(gt=0, le=50, description="in `unit`")
    unit: Literal["capacity", "requests/s", "in flight"] = Field(
        "capacity", description="in flight: so many callers, each of whom waits for the answer before asking again"
    )
    seconds: float = Field(60, ge=5, le=3600)
    seed: int
    split: Literal["practice", "grading"] = "practice"
    tenant: str
    target: str = Field(description="the assistant or the collection that is asked; moderation has none: write -")


class Loads(Settings):
    practice: Load
    grading: Load
    warm_up_seconds: float = Field(
        0, ge=0, le=60, description="of other questions before the graded load: what fills caches is not graded"
    )

    @model_validator(mode="after")
    def _grading_does_not_wait(self) -> "Loads":
        if self.grading.unit == "in flight":
            raise ValueError("grading: callers who wait for slow answers ask less; give a rate")
        return self


class Objectives(Settings):
    """What one request must do to count as good; seconds, from the intended send time."""

    first_token_seconds: float | None = Field(None, gt=0, description="of a streamed answer")
    time_per_output_token_seconds: float | None = Field(None, gt=0, description="of a streamed answer")
    latency_seconds: float | None = Field(None, gt=0, description="to the end of a streamed answer")
    whole_seconds: float | None = Field(None, gt=0, description="to an answer in one piece: a search, a decision")

    @model_validator(mode="after")
    def _something_is_wanted(self) -> "Objectives":
        if self.latency_seconds is None and self.whole_seconds is None:
            raise ValueError("give latency_seconds for streamed answers, whole_seconds for others, or both")
        return self

    @property
    def longest_seconds(self) -> float:
        """After which a request that has not ended is certain to be a miss."""
        return max(self.latency_seconds or 0, self.whole_seconds or 0)

    def in_words(self) -> str:
        """The limits in one phrase."""
        told = (
            (self.first_token_seconds, "first token within {:g} s"),
            (self.time_per_output_token_seconds, "{:g} s per token"),
            (self.latency_seconds, "all of an answer within {:g} s"),
            (self.whole_seconds, "an answer in one piece within {:g} s"),
        )
        return ", ".join(text.format(limit) for limit, text in told if limit is not None)


class Symptom(Settings):
    """Absent after `within_seconds`, the start has failed."""

    query: str
    op: Literal[">", "<"]
    value: float
    within_seconds: float = Field(60, ge=20, le=180)


class Goodput(Settings):
    """Share of offered requests that met every objective."""

    kind: Literal["slo"]
    id: str
    title: str
    op: Literal[">="] = ">="
    value: float = Field(gt=0, le=1)


class Work(Settings):
    """Mean tokens per answered request as the engine counted them, as a ratio to the healthy run."""

    kind: Literal["work"]
    id: str
    title: str
    field: Literal["prompt_tokens", "completion_tokens"]
    op: Literal[">=", "<=", "between"] = ">="
    ratio_to_healthy: float | tuple[float, float]

    @model_validator(mode="after")
    def _a_range_has_two_ends(self) -> "Work":
        if (self.op == "between") != isinstance(self.ratio_to_healthy, tuple):
            raise ValueError("between takes two ratios, and every other op takes one")
        return self


class Cost(Settings):
    """A PromQL expression over the graded window, as a ratio to the healthy run. `$window` is its length."""

    kind: Literal["cost"]
    id: str
    title: str
    query: str
    op: Literal["<=", ">="] = "<="
    ratio_to_healthy: float = Field(gt=0)


class Level(Settings):
    """A PromQL expression over the graded window, against a number. `$window` is its length."""

    kind: Literal["level"]
    id: str
    title: str
    query: str
    op: Literal["<=", ">="]
    value: float


class Bound(Settings):
    """A configuration value that must stay within a budget; exact."""

    kind: Literal["bound"]
    id: str
    title: str
    key: str = Field(pattern=r"^[a-z]+(\.[A-Za-z0-9_-]+)+$", description="service.path.to.key")
    op: Literal[">=", "<="]
    value: float
    absent: Literal["fail", "pass"] = Field(
        "fail", description="what no number there means, such as of a stage left out"
    )


class PromptHolds(Settings):
    """Share of the listed texts that the prompts of the answered requests hold, as the engine got them."""

    kind: Literal["probe"]
    id: str
    title: str
    probe: Literal["prompt_holds"]
    documents: tuple[str, ...] = Field(description="documents of the site that must be in the prompt whole")
    variables: tuple[Literal["question", "request_id", "desk"], ...] = Field(description="and these, of the request")
    op: Literal[">="] = ">="
    value: float = Field(1.0, gt=0, le=1)


class AlarmCheck(Settings):
    """What the drift monitor's alarm, as it is configured, is worth. See `lab.alarms`."""

    id: str
    title: str
    op: Literal["<="] = "<="
    value: float = Field(gt=0)


class FalseAlarms(AlarmCheck):
    """How often it would ring by chance; `value` is in rings per hour."""

    kind: Literal["false_alarms"]
    searches_per_second: float = Field(gt=0, description="of usual traffic")


class MissedAlarms(AlarmCheck):
    """How often it would be silent after a change; `value` is a share of the time."""

    kind: Literal["missed_alarms"]
    value: float = Field(gt=0, lt=1)
    after_seconds: float = Field(gt=0, description="of the graded load; what comes later is the changed traffic")


class Quality(Settings):
    """How right the answers were where the right one is known, as a ratio to the healthy stack's on the same texts."""

    kind: Literal["quality"]
    id: str
    title: str
    measure: Literal["ranking", "abuse_stopped", "clean_passed"]
    op: Literal[">="] = ">="
    ratio_to_healthy: float = Field(gt=0, le=1)


Check = Annotated[
    Goodput | Work | Cost | Level | Bound | PromptHolds | FalseAlarms | MissedAlarms | Quality,
    Field(discriminator="kind"),
]


class Watch(Settings):
    """A ready-made query of `lab metrics`."""

    title: str
    query: str
    unit: str = ""
    objective: str = ""


class Prediction(Settings):
    id: str
    ask: str
    unit: str


class Vocabulary(Settings):
    """What a learner may answer in the diagnosis: subsets of scenarios/vocabulary.yaml."""

    components: tuple[str, ...] = Field(min_length=3)
    mechanisms: tuple[str, ...] = Field(min_length=4)


class Public(Settings):
    """public/scenario.yaml"""

    schema_: Literal[1] = Field(alias="schema")
    id: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    title: str
    question: str
    level: int = Field(ge=1, le=4)
    covers: tuple[str, ...]
    services: tuple[ServiceName, ...] = Field(min_length=1, description="what runs; everything else stays off")
    without_rules: tuple[str, ...] = Field(
        (), description="files of dashboards/rules, without .yml, whose alerts nobody had at this site"
    )
    fresh: tuple[ServiceName, ...] = Field(
        (), description="restarted before each graded load: what they saw before it would count in it"
    )
    load: Loads
    objectives: Objectives
    wait_for: Symptom
    checks: tuple[Check, ...] = Field(min_length=1)
    watch: tuple[Watch, ...]
    diagnosis: Vocabulary
    predict: tuple[Prediction, ...] = ()
    time_box_minutes: float = Field(gt=0, le=240)

    @property
    def least_goodput(self) -> float | None:
        """Share of the requests that must meet every objective; None where no check asks for one."""
        return next((check.value for check in self.checks if isinstance(check, Goodput)), None)

    @field_validator("services")
    @classmethod
    def _in_order(cls, services: tuple[ServiceName, ...]) -> tuple[ServiceName, ...]:
        """In the order of SERVICES, whatever the file says."""
        if "gateway" not in services:
            raise ValueError("gateway is missing; all load goes through it")
        return tuple(name for name in SERVICES if name in services)


class Change(Settings):
    """A fix or a cheat: merge patches by service on the broken configuration, and services to stop."""

    title: str
    patch: dict[ServiceName, dict[str, Any]] = Field(default_factory=dict)
    stop: tuple[ServiceName, ...] = ()
    fails_on: str | None = Field(None, description="for a cheat: the check that must fail")


class HiddenTruth(Settings):
    """hidden/truth.yaml"""

    diagnosis: Truth
    decoy: Change = Field(description="a run with the same symptom and another cause")
    predictions: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    broken_fails_on: str = Field(description="the check on which the broken configuration fails, and the decoy")
    rollback_fails_on: str | None = Field(description="the check on which a roll-back to the defaults fails, or null")


class Scenario:
    """A loaded scenario folder; the parts are read when first asked for. Raises ConfigError."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.public = load(folder / "public/scenario.yaml", Public)
        if self.public.id != folder.name:
            problem = f"scenario.yaml: id is '{self.public.id}', but the folder is '{folder.name}'"
            raise ConfigError(folder / "public/scenario.yaml", [problem])

    @property
    def id(self) -> str:
        return self.public.id

    @cached_property
    def truth(self) -> HiddenTruth:
        return load(self.folder / "hidden/truth.yaml", HiddenTruth)

    @cached_property
    def fixes(self) -> dict[str, Change]:
        """By file stem, the reference first."""
        return self._changes("fixes")

    @cached_property
    def cheats(self) -> dict[str, Change]:
        cheats = self._changes("cheats")
        for name, cheat in cheats.items():
            if cheat.fails_on not in {check.id for check in self.public.checks}:
                path = self.folder / f"hidden/cheats/{name}.yaml"
                raise ConfigError(path, [f"{path.name}: fails_on: no check has the id '{cheat.fails_on}'"])
        return cheats

    @cached_property
    def brief(self) -> str:
        return (self.folder / "public/brief.md").read_text(encoding="utf-8")

    @cached_property
    def hints(self) -> list[str]:
        """The ladder of hints, one per `## ` section."""
        text = (self.folder / "hidden/hints.md").read_text(encoding="utf-8")
        return [part.strip() for part in re.split(r"^## .*$", text, flags=re.M)[1:]]

    @cached_property
    def debrief(self) -> str:
        return (self.folder / "hidden/debrief.md").read_text(encoding="utf-8")

    def layer(self, name: Literal["site", "fault"]) -> dict[str, dict[str, Any]]:
        """The merge patches of one layer, by service."""
        paths = {service: self.folder / "hidden" / name / f"{service}.yaml" for service in self.public.services}
        there = {service: path for service, path in paths.items() if path.is_file()}
        return {service: read_yaml(path.read_text(encoding="utf-8"), path.name) for service, path in there.items()}

    @cached_property
    def digest(self) -> str:
        """SHA-256 over every file that decides what runs and how it is graded: all but the texts for people, and the
        proof and recordings, which are made from the rest."""
        digest = hashlib.sha256()
        for path in sorted(p for p in self.folder.rglob("*") if p.is_file() and p.suffix != ".md"):
            name = path.relative_to(self.folder).as_posix()
            if not name.startswith(("hidden/proof/", "hidden/recordings/")):
                digest.update(f"{name}\0{path.stat().st_size}\0".encode() + path.read_bytes())
        return digest.hexdigest()

    def _changes(self, kind: str) -> dict[str, Change]:
        paths = sorted((self.folder / "hidden" / kind).glob("*.yaml"))
        return {path.stem: load(path, Change) for path in paths}


def all_ids() -> list[str]:
    """Ids of the scenarios of this checkout, in the order in which they are offered."""
    return sorted(path.parent.parent.name for path in SCENARIOS.glob("*/public/scenario.yaml"))


def find(scenario_id: str) -> Scenario:
    """The scenario with that id; raises ConfigError that names the nearest one."""
    if scenario_id not in all_ids():
        raise ConfigError(SCENARIOS, [f"no scenario '{scenario_id}': {nearest(scenario_id, all_ids())}"])
    return Scenario(SCENARIOS / scenario_id)
