"""The gateway's configuration file: the healthy one, and what is refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from stack.gateway.config import (
    Assistant,
    GatewayConfig,
    History,
    ModerationUse,
    Sampling,
    Tenant,
    TenantLimits,
    Turn,
)
from stack.gateway.config.upstreams import Calls, Circuit, Moderation, Retries, Retrieval
from stack.settings import ConfigError, load, parse, protected_paths

HEALTHY = Path(__file__).parents[2] / "stack" / "config" / "gateway.yaml"


def healthy() -> dict[str, Any]:
    return yaml.safe_load(HEALTHY.read_text())


def problems(config: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(yaml.safe_dump(config), GatewayConfig, "gateway.yaml")
    return caught.value.problems


def models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from models(field.annotation)


def test_the_healthy_configuration_is_valid_and_answers_yes_or_no_questions() -> None:
    config = load(HEALTHY, GatewayConfig)
    desk = config.assistants["reading-desk"]
    assert [type(message) for message in desk.messages] == [Turn, History, Turn]
    assert desk.sampling == Sampling(max_tokens=32, temperature=0.0)
    assert 100 <= len(config.documents["house_rules"].split()) <= 140
    assert not config.telemetry.prompts_in_logs


def test_every_key_is_documented() -> None:
    known = {*models(GatewayConfig), Tenant, TenantLimits, Assistant, Turn, History, Sampling, ModerationUse}
    upstreams = {Calls, Circuit, Retries, *models(Moderation), *models(Retrieval)}
    for model in known | upstreams:
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"


def test_a_learner_may_not_change_the_address_the_engine_the_keys_and_the_buckets() -> None:
    assert protected_paths(GatewayConfig) == {
        "listen",
        "upstream",
        "retrieval.base_url",
        "moderation.base_url",
        "keys_file",
        "limits_storage_url",
        "audit",
        "telemetry.latency_buckets",
    }


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.2", "::", "example.org"])
def test_a_host_that_others_reach_needs_allow_remote(host: str) -> None:
    config = healthy()
    config["listen"]["host"] = host
    (problem,) = problems(config)
    assert problem.startswith(f"gateway.yaml: listen: host {host} is no loopback address")
    config["listen"]["allow_remote"] = True
    assert parse(yaml.safe_dump(config), GatewayConfig, "x").listen.host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost"])
def test_a_loopback_host_is_accepted(host: str) -> None:
    config = healthy()
    config["listen"]["host"] = host
    assert parse(yaml.safe_dump(config), GatewayConfig, "x").listen.host == host


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{{ qestion }}", "unknown variable 'qestion'; did you mean 'question'?"),
        ("{{ config }}", "unknown variable 'config'; known: documents, metadata, question, "),
        ("{{ documents.house_rule }}", "unknown document 'house_rule'; did you mean 'house_rules'?"),
        ("{{ documents['house'] }}", "unknown document 'house'; did you mean 'house_rules'?"),
        ("{{ documents }}", "'documents' by itself is no text; write documents.NAME"),
        ("{% for key in metadata %}x{% endfor %}", "'metadata' by itself is no text; write metadata.NAME"),
        ("{{ metadata[question] }}", "'metadata' by itself is no text; write metadata.NAME"),
        ("{{ question | shout }}", "no valid template: No filter named 'shout'"),
        ("{{ question", "no valid template: unexpected end of template"),
    ],
)
def test_a_template_that_cannot_be_meant_is_refused_at_load(content: str, problem: str) -> None:
    config = healthy()
    config["assistants"]["reading-desk"]["messages"][2]["content"] = content
    (found,) = problems(config)
    assert found.startswith(f"gateway.yaml: assistants.reading-desk.messages.2.content: {problem}")


def test_templates_may_branch_loop_and_set_their_own_variables() -> None:
    config = healthy()
    config["assistants"]["reading-desk"]["messages"][2]["content"] = (
        "{% set name = metadata.branch or tenant %}{% for n in range(2) %}{{ n }}{{ name }}{% endfor %}"
        "{% if question | length > 3 %}{{ documents['house_rules'] }}{% endif %}"
    )
    parse(yaml.safe_dump(config), GatewayConfig, "x")


def test_problems_of_several_parts_are_reported_together() -> None:
    config = healthy()
    config["tenants"] = [{"name": "demo", "assistants": ["reading-dusk"]}, {"name": "demo", "assistants": []}]
    config["assistants"]["reading-desk"]["messages"][2]["content"] = "{{ x }}"
    found = problems(config)
    assert found[0] == "gateway.yaml: tenants: 'demo' is listed twice"
    assert found[1] == (
        "gateway.yaml: tenants.0.assistants: unknown assistant 'reading-dusk'; did you mean 'reading-desk'?"
    )
    assert "unknown variable 'x'" in found[2]


def test_history_has_one_place() -> None:
    config = healthy()
    config["assistants"]["reading-desk"]["messages"].append({"from": "history"})
    assert problems(config) == [
        "gateway.yaml: assistants.reading-desk.messages: 'from: history' is given twice; "
        "the caller's turns can stand in one place only"
    ]


@pytest.mark.parametrize("buckets", [[], [0, 1], [1, 1], [2, 1]])
def test_latency_buckets_are_positive_and_increase(buckets: list[float]) -> None:
    config = healthy()
    config["telemetry"]["latency_buckets"] = buckets
    (problem,) = problems(config)
    assert problem.startswith("gateway.yaml: telemetry.latency_buckets: expected ")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("upstream.base_url", "ftp://x"),
        ("timeouts.total_seconds", 0),
        ("limits.in_flight", 0),
        ("limits.body_bytes", 10**12),
        ("assistants.reading-desk.sampling.temperature", 3),
        ("assistants.reading-desk.sampling.n", 2),
        ("documents.house-rules", "x"),
        ("assistants.Reading Desk", {"description": "x", "messages": [{"from": "history"}]}),
        ("schema", 2),
    ],
)
def test_values_out_of_range_and_bad_names_are_refused_by_their_path(path: str, value: Any) -> None:
    config = healthy()
    place = config
    *parents, last = path.split(".")
    for parent in parents:
        place = place[parent]
    place[last] = value
    (problem,) = problems(config)
    assert problem.startswith(f"gateway.yaml: {path}: ")


# ---- what the parts say about each other


def without(*keys: str) -> dict[str, Any]:
    config = healthy()
    for key in keys:
        del config[key]
    return config


def test_the_healthy_configuration_uses_all_services_but_its_reading_desk_the_engine_alone() -> None:
    config = load(HEALTHY, GatewayConfig)
    assert config.used_upstreams == {"llm", "rag", "moderation"}
    desk, ask = config.assistants["reading-desk"].moderation, config.ask
    assert (desk.input, desk.output) == ("off", "off")
    assert (ask.name, ask.moderation.input, ask.moderation.output) == ("help-desk", "check", "check")
    assert config.calls_of("llm").retries.most == 0


def test_an_upstream_is_used_where_some_tenant_can_reach_it() -> None:
    config = without("retrieval", "moderation")
    config["tenants"] = [{"name": "demo", "assistants": ["reading-desk"]}]
    checked = {"description": "", "messages": [{"from": "history"}], "moderation": {"input": "check"}}
    config["assistants"]["nobodys-desk"] = checked
    assert parse(yaml.safe_dump(config), GatewayConfig, "x").used_upstreams == {"llm"}


def test_what_is_used_has_to_be_somewhere() -> None:
    config = without("retrieval", "moderation")
    config["assistants"]["reading-desk"]["moderation"] = {"output": "check"}
    config["tenants"] = config["tenants"][:1]
    places = ("assistants.reading-desk.moderation", "ask.moderation", "tenants.0.moderations")
    assert problems(config) == [
        "gateway.yaml: tenants.0.collections: nothing can be searched without `retrieval`; add its base_url",
        *(f"gateway.yaml: {key}: nothing can be checked without `moderation`; add its base_url" for key in places),
    ]


def test_answers_from_documents_need_a_name_of_their_own() -> None:
    config = healthy()
    config["ask"]["name"] = "reading-desk"
    (problem,) = problems(config)
    assert problem.startswith("gateway.yaml: ask.name: 'reading-desk' is an assistant too")


def test_off_may_be_written_as_yaml_reads_it() -> None:
    """YAML takes the bare word off for false."""
    text = "input: off\noutput: check"
    assert parse(text, ModerationUse, "x") == ModerationUse(input="off", output="check")
    with pytest.raises(ConfigError, match=r"input: expected 'off' or 'check', got True"):
        parse("input: on", ModerationUse, "x")


def test_the_defaults_set_no_limits_repeat_nothing_and_let_no_text_pass_unchecked() -> None:
    assert set(TenantLimits().model_dump().values()) == {None}
    assert Calls().retries.most == 0
    assert ModerationUse().on_error == "block"
    assert ModerationUse().on_review == "hold"


def test_segments_that_could_never_end_with_a_sentence_are_refused() -> None:
    config = healthy()
    config["moderation"]["segments"] = {"sentence_chars": 500, "held_chars": 400}
    (problem,) = problems(config)
    assert problem.startswith("gateway.yaml: moderation.segments: sentence_chars 500 is above held_chars 400")


@pytest.mark.parametrize("url", ["memory://", "http://127.0.0.1", "127.0.0.1:6379"])
def test_limits_are_kept_in_redis_or_here(url: str) -> None:
    (problem,) = problems(healthy() | {"limits_storage_url": url})
    assert problem.startswith("gateway.yaml: limits_storage_url: expected text that matches")
