"""The moderation service's configuration file: the healthy one, and what is refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from stack.moderation.config import Band, CategoryPolicy, ModerationConfig
from stack.settings import ConfigError, load, parse, protected_paths

HEALTHY = Path(__file__).parents[2] / "stack" / "config" / "moderation.yaml"


def healthy() -> dict[str, Any]:
    return yaml.safe_load(HEALTHY.read_text())


def problems(config: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(yaml.safe_dump(config), ModerationConfig, "moderation.yaml")
    return caught.value.problems


def changed(path: str, value: Any) -> dict[str, Any]:
    config = healthy()
    place: Any = config
    *parents, last = path.split(".")
    for parent in parents:
        place = place[parent]
    place[last] = value
    return config


def models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from models(field.annotation)


def test_the_healthy_configuration_is_valid_and_has_a_band() -> None:
    config = load(HEALTHY, ModerationConfig)
    assert 0 < config.band.low < config.band.high < 1
    assert config.tier3.enabled


def test_every_key_is_documented() -> None:
    for model in {*models(ModerationConfig), CategoryPolicy, Band}:
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"


def test_a_learner_may_not_change_addresses_data_and_the_database() -> None:
    protected = protected_paths(ModerationConfig)
    assert {"listen", "tier1.data", "tier3.upstream", "review.url"} <= protected
    assert not any(path.startswith(("band", "policy", "tier2.calibration", "limits")) for path in protected)


def test_a_band_upside_down_is_refused_with_what_to_do() -> None:
    assert problems(changed("band", {"low": 0.8, "high": 0.3})) == [
        "moderation.yaml: band: low 0.8 is above high 0.3; exchange them, or make them equal for no band"
    ]
    (own,) = problems(changed("policy.categories.illicit.band", {"low": 0.8, "high": 0.3}))
    assert own.startswith("moderation.yaml: policy.categories.illicit.band: low 0.8 is above high 0.3")


def test_a_band_of_nothing_is_allowed() -> None:
    parse(yaml.safe_dump(changed("band", {"low": 0.5, "high": 0.5})), ModerationConfig, "x")


def test_an_unknown_category_is_refused_with_the_nearest_one() -> None:
    assert problems(changed("policy.categories", {"harassment": {}, "harasment": {}, "self-harm/intend": {}})) == [
        "moderation.yaml: policy.categories: unknown category 'harasment'; did you mean 'harassment'?",
        "moderation.yaml: policy.categories: unknown category 'self-harm/intend'; did you mean 'self-harm/intent'?",
    ]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("moderation.sqlite", "no URL of a database"),
        ("mysql://x/y", "unknown database 'mysql'; use sqlite or postgresql+psycopg"),
        ("postgresql://x/y", "unknown database 'postgresql'; use"),
        ("sqlite://", "it names no database; a queue in memory would be lost"),
        ("sqlite:///:memory:", "it names no database"),
        ("postgresql+psycopg://localhost", "it names no database"),
    ],
)
def test_a_database_that_cannot_keep_the_queue_is_refused(url: str, says: str) -> None:
    (problem,) = problems(changed("review.url", url))
    assert problem.startswith(f"moderation.yaml: review.url: {says}")


def test_a_limit_that_no_full_request_could_pass_is_refused() -> None:
    assert problems(changed("limits", {"inputs": 9, "in_flight": 8})) == [
        "moderation.yaml: limits: in_flight 8 is below inputs 9: the largest request could never be served"
    ]


def test_a_step_given_twice_is_refused() -> None:
    (problem,) = problems(changed("tier1.steps", ["nfkc", "leet", "nfkc"]))
    assert problem == "moderation.yaml: tier1.steps: a step is given twice; they run in one order, each once"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("band.low", -0.1),
        ("band.high", 1.5),
        ("policy.version", "one two"),
        ("policy.categories.illicit.block_severity", 4),
        ("policy.categories.illicit.on_failure", "fail-silent"),
        ("tier1.steps", ["nfkd"]),
        ("tier2.batch", 0),
        ("tier2.category", "rudeness"),
        ("tier3.mode", "guess"),
        ("tier3.concurrency", 0),
        ("tier3.queue", -1),
        ("tier3.timeout_seconds", 0),
        ("tier3.upstream", "ftp://x"),
        ("tier3.tresholds", 0.5),
        ("review.lease_seconds", 0),
        ("review.ageing_seconds", 0),
        ("review.on_full", "review"),
        ("limits.characters", 10**6),
        ("limits.inputs", 0),
        ("listen.host", "0.0.0.0"),
        ("schema", 2),
    ],
)
def test_values_out_of_range_are_refused_by_their_path(path: str, value: Any) -> None:
    (problem,) = problems(changed(path, value))
    start = path.removesuffix(".host")
    assert problem.startswith((f"moderation.yaml: {start}: ", f"moderation.yaml: {start}.0: "))
