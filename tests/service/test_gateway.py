"""The gateway's answers over HTTP, and what can be seen of them from outside."""

import re

import pytest
from fake_engine import USAGE, FakeEngine, delta, sse
from gateway_process import (
    CHAT,
    RENDER,
    GatewayProcess,
    StartGateway,
    ask,
    question,
)

# ---- answers


def test_an_answer_in_one_piece_is_the_engines(gateway: GatewayProcess, engine: FakeEngine) -> None:
    response = ask(gateway)
    assert response.status_code == 200
    assert response.json()["choices"][0]["message"]["content"] == "Yes, it is."
    assert response.json()["usage"] == USAGE
    assert engine.bodies == [
        {
            "model": "tiny",
            "messages": [
                {"role": "system", "content": "Answer yes or no."},
                {"role": "user", "content": "Is a whale a mammal?"},
            ],
            "max_tokens": 12,
            "temperature": 0.0,
        }
    ]


def test_a_stream_passes_byte_by_byte_with_the_usage_that_was_asked_for(
    gateway: GatewayProcess, engine: FakeEngine
) -> None:
    response = ask(gateway, question(stream=True, stream_options={"include_usage": True}))
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.content == b"".join(
        [
            sse(delta(role="assistant", content="")),
            sse(delta(content="Yes")),
            sse(delta(content=", it is.")),
            sse({"object": "chat.completion.chunk", "choices": [], "usage": USAGE}),
            sse("[DONE]"),
        ]
    )


def test_usage_is_left_out_of_a_stream_unless_asked_for_and_counted_all_the_same(
    gateway: GatewayProcess, engine: FakeEngine
) -> None:
    before = gateway.metric("gateway_tokens_total", tenant="demo", direction="completion")
    response = ask(gateway, question(stream=True))
    assert b"usage" not in response.content
    assert response.content.endswith(sse("[DONE]"))
    assert engine.bodies[0]["stream_options"] == {"include_usage": True}
    assert gateway.metric("gateway_tokens_total", tenant="demo", direction="completion") == before + 2


def test_text_arrives_while_the_engine_is_still_writing(gateway: GatewayProcess, engine: FakeEngine) -> None:
    engine.behave = engine.says("Yes", ", it is.", gate_after=1)
    with gateway.client() as client, client.stream("POST", CHAT, json=question(stream=True)) as response:
        lines = response.iter_lines()
        seen = ""
        while '"Yes"' not in seen:
            seen = next(lines)
        engine.gate.set()
        assert any(", it is." in line for line in lines)


def test_the_callers_earlier_turns_stand_where_the_assistant_puts_them(
    gateway: GatewayProcess, engine: FakeEngine
) -> None:
    turns = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Ask away"},
        {"role": "user", "content": [{"type": "text", "text": "Is ice "}, {"type": "text", "text": "wet?"}]},
    ]
    assert ask(gateway, {"model": "desk", "messages": turns}).status_code == 200
    assert engine.bodies[0]["messages"] == [
        {"role": "system", "content": "Answer yes or no."},
        *turns[:2],
        {"role": "user", "content": "Is ice wet?"},
    ]


@pytest.mark.parametrize(
    ("assistant", "asked", "sent"),
    [
        ("desk", {}, 12),
        ("desk", {"max_tokens": 5}, 5),
        ("desk", {"max_tokens": 15}, 12),
        ("desk", {"max_completion_tokens": 3, "max_tokens": 9}, 3),
        ("traced", {}, 20),
        ("traced", {"max_completion_tokens": 999}, 20),
    ],
)
def test_max_tokens_is_the_least_of_the_callers_the_assistants_and_the_limit(
    gateway: GatewayProcess, engine: FakeEngine, assistant: str, asked: dict[str, int], sent: int
) -> None:
    assert ask(gateway, question(**asked) | {"model": assistant}).status_code == 200
    assert engine.bodies[0]["max_tokens"] == sent
    assert "max_completion_tokens" not in engine.bodies[0]


def test_a_callers_sampling_stands_over_the_assistants(gateway: GatewayProcess, engine: FakeEngine) -> None:
    assert ask(gateway, question(temperature=1, stop="\n", seed=7)).status_code == 200
    sent = engine.bodies[0]
    assert (sent["temperature"], sent["stop"], sent["seed"]) == (1, ["\n"], 7)


def test_rendered_messages_are_what_the_engine_receives(gateway: GatewayProcess, engine: FakeEngine) -> None:
    body = question() | {"model": "traced", "metadata": {"branch": "harbour"}}
    headers = {"x-request-id": "render-1"}
    rendered = ask(gateway, body, RENDER, headers=headers).json()
    assert not engine.bodies
    ask(gateway, body, headers=headers)
    assert rendered["request_id"] == "render-1"

    def parts(messages: list[dict[str, str]]) -> list[str]:
        assert [message["role"] for message in messages] == ["user"]
        return messages[0]["content"].split("|")

    shown, sent = parts(rendered["messages"]), parts(engine.bodies[0]["messages"])
    moment = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
    assert moment.fullmatch(shown[5])
    assert moment.fullmatch(sent[5])
    assert shown[4] == shown[5][:10]
    assert shown[:4] == sent[:4] == ["render-1", "demo", "harbour", ""]
    assert shown[6] == sent[6] == "Is a whale a mammal?"


def test_a_template_in_a_question_stays_text(gateway: GatewayProcess, engine: FakeEngine) -> None:
    ask(gateway, question("{{ documents.rules }} {% raw %}"))
    assert engine.bodies[0]["messages"][-1]["content"] == "{{ documents.rules }} {% raw %}"


# ---- what can be seen from outside


def test_a_well_formed_request_id_and_trace_go_end_to_end(gateway: GatewayProcess, engine: FakeEngine) -> None:
    trace, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    headers = {"x-request-id": "Run.7_a-1", "traceparent": f"00-{trace}-{span}-01"}
    assert ask(gateway, headers=headers).headers["x-request-id"] == "Run.7_a-1"
    sent = engine.requests[0].headers
    assert sent["x-request-id"] == "Run.7_a-1"
    version, sent_trace, sent_span, flags = sent["traceparent"].split("-")
    assert (version, sent_trace, flags) == ("00", trace, "01")
    assert sent_span != span
    line = gateway.log_of("Run.7_a-1")
    assert (line["trace_id"], line["span_id"]) == (trace, sent_span)


@pytest.mark.parametrize("request_id", ["", "a b", "x" * 65, 'x"y', "é"])
def test_a_malformed_request_id_is_replaced(gateway: GatewayProcess, engine: FakeEngine, request_id: str) -> None:
    headers = {"x-request-id": request_id.encode("latin-1"), "traceparent": "00-nonsense-01"}
    made = ask(gateway, headers=headers).headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{32}", made)
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-00", engine.requests[0].headers["traceparent"])


def test_errors_carry_the_request_id_too(gateway: GatewayProcess) -> None:
    assert ask(gateway, b"{", headers={"x-request-id": "bad-1"}).headers["x-request-id"] == "bad-1"


def test_the_log_has_neither_prompts_nor_keys_even_at_debug(gateway: GatewayProcess, engine: FakeEngine) -> None:
    secret = "zebra-crossing-42"
    wrong_key = "mistyped-key-77"
    ask(gateway, question(secret), headers={"x-request-id": "redacted-1"})
    ask(gateway, question(secret, stream=True))
    ask(gateway, question(secret) | {"n": secret})
    ask(gateway, b'{"model": "' + secret.encode())
    engine.behave = engine.refuses(400, secret)
    ask(gateway, question(secret), headers={"x-request-id": "redacted-2"})
    with gateway.client(key=wrong_key) as client:
        assert client.post(CHAT, json=question()).status_code == 401
    line = gateway.log_of("redacted-1")
    assert line["prompt_chars"] == len("Answer yes or no.") + len(secret)
    assert (line["tenant"], line["assistant"], line["status"]) == ("demo", "desk", 200)
    assert (line["prompt_tokens"], line["completion_tokens"]) == (21, 2)
    assert gateway.log_of("redacted-2")["error"] == "engine_refused"
    text = gateway.log_file.read_text()
    for word in (secret, wrong_key, gateway.KEY, gateway.OTHER_KEY, "Answer yes or no"):
        assert word not in text


def test_prompts_are_logged_where_the_configuration_says_so(start_gateway: StartGateway, engine: FakeEngine) -> None:
    gateway = start_gateway(telemetry={"prompts_in_logs": True})
    ask(gateway, headers={"x-request-id": "open-1"})
    assert gateway.log_of("open-1")["prompt"] == engine.bodies[0]["messages"]


def test_metrics_tell_of_the_traffic(start_gateway: StartGateway, engine: FakeEngine) -> None:
    gateway = start_gateway()
    for _ in range(3):
        ask(gateway, question(stream=True))
    ask(gateway)
    ask(gateway, question() | {"model": "no-such-desk"})
    ask(gateway, path=RENDER)
    with gateway.client(key=None) as client:
        client.get("/v1/models")
        client.get("/no/such/path")
    count = gateway.metric
    chat = {"route": CHAT, "tenant": "demo", "assistant": "desk"}
    assert count("gateway_requests_total", **chat, status="200") == 4
    assert count("gateway_requests_total", route=CHAT, assistant="unknown", status="404") == 1
    assert count("gateway_requests_total", route=RENDER, status="200") == 1
    assert count("gateway_requests_total", route="/v1/models", tenant="unknown", status="401") == 1
    assert count("gateway_requests_total", route="unknown", status="404") == 1
    assert count("gateway_requests_total") == 8
    assert count("gateway_request_duration_seconds_count", route=CHAT, assistant="desk") == 4
    assert count("gateway_time_to_first_token_seconds_count", assistant="desk") == 3
    assert count("gateway_upstream_duration_seconds_count", assistant="desk", outcome="ok") == 4
    assert count("gateway_overhead_seconds_count") == 4
    assert count("gateway_rejections_total", reason="unknown_assistant", tenant="demo") == 1
    assert count("gateway_rejections_total", reason="invalid_api_key", tenant="unknown") == 1
    assert count("gateway_tokens_total", tenant="demo", assistant="desk", direction="prompt") == 84
    assert count("gateway_tokens_total", tenant="demo", assistant="desk", direction="completion") == 8
    assert count("gateway_in_flight_requests") == 0
    assert count("process_resident_memory_bytes") > 0
