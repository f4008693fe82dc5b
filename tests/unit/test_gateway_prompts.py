"""Rendering an assistant's prompt."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
import yaml

from stack.gateway.config import GatewayConfig
from stack.gateway.errors import InternalError, PromptTooLong
from stack.gateway.prompts import Asked, Prompts
from stack.settings import parse


def config(
    *messages: dict[str, str], documents: dict[str, str] | None = None, prompt_chars: int = 1000
) -> GatewayConfig:
    data = {
        "schema": 1,
        "upstream": {"base_url": "http://127.0.0.1:1", "ready_url": "http://127.0.0.1:1", "model": "m"},
        "telemetry": {"latency_buckets": [1]},
        "limits": {"prompt_chars": prompt_chars},
        "tenants": [{"name": "demo", "assistants": ["desk"]}],
        "assistants": {"desk": {"description": "", "messages": list(messages)}},
        "documents": documents or {},
    }
    return parse(yaml.safe_dump(data), GatewayConfig, "test.yaml")


def asked(**changes: Any) -> Asked:
    values = {
        "question": "Why?",
        "history": [],
        "metadata": {},
        "tenant": "demo",
        "request_id": "r-1",
        "received_at": datetime(2031, 5, 6, 7, 8, 9, 123456, UTC),
    }
    return Asked(**(values | changes))


def rendered(content: str, documents: dict[str, str] | None = None, **changes: Any) -> str:
    prompts = Prompts(config({"role": "user", "content": content}, documents=documents))
    (message,) = prompts.render("desk", asked(**changes))
    assert message["role"] == "user"
    return message["content"]


def test_turns_come_in_their_order_with_the_history_in_its_place() -> None:
    history = [{"role": "user", "content": "{{ tenant }}"}, {"role": "assistant", "content": "b"}]
    prompts = Prompts(
        config({"role": "system", "content": "s"}, {"from": "history"}, {"role": "user", "content": "{{ question }}"})
    )
    assert prompts.render("desk", asked(history=history)) == [
        {"role": "system", "content": "s"},
        *history,
        {"role": "user", "content": "Why?"},
    ]


def test_history_is_left_out_where_the_assistant_has_no_place_for_it() -> None:
    prompts = Prompts(config({"role": "user", "content": "{{ question }}"}))
    assert len(prompts.render("desk", asked(history=[{"role": "user", "content": "x"}]))) == 1


def test_moments_are_utc_with_milliseconds() -> None:
    moment = datetime(2031, 5, 7, 1, 8, 9, 123456, timezone(timedelta(hours=5)))
    assert rendered("{{ received_at }} {{ today }}", received_at=moment) == "2031-05-06T20:08:09.123Z 2031-05-06"


@pytest.mark.parametrize("name", ["branch", "items", "keys", "get", "_values"])
def test_metadata_of_any_name_is_its_text_and_absent_metadata_is_empty(name: str) -> None:
    template = f"[{{{{ metadata['{name}'] }}}}]"
    assert rendered(template, metadata={name: "x"}) == "[x]"
    assert rendered(template) == "[]"


def test_documents_are_text_not_templates() -> None:
    assert rendered("{{ documents.rules }}", documents={"rules": "{{ question }}"}) == "{{ question }}"


@pytest.mark.parametrize(
    "content", ["{{ question.__class__.__mro__ }}", "{{ question / 2 }}", "{{ question.none.x }}", "{{ range(10**9) }}"]
)
def test_a_template_that_fails_or_leaves_the_sandbox_is_the_gateways_error_without_the_question(
    content: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(InternalError) as caught:
        rendered(content, question="a secret question")
    assert "secret" not in caught.value.message + caplog.text
    assert "prompt template failed" in caplog.text


def test_the_length_of_all_messages_together_is_limited() -> None:
    prompts = Prompts(config({"from": "history"}, {"role": "user", "content": "{{ question }}"}, prompt_chars=10))
    history = [{"role": "user", "content": "12345"}]
    assert prompts.render("desk", asked(question="67890", history=history))
    with pytest.raises(PromptTooLong, match="has 11 characters, at most 10"):
        prompts.render("desk", asked(question="678901", history=history))
