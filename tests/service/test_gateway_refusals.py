"""What the gateway refuses over HTTP: callers without a right, requests without sense."""

import json
from typing import Any

import pytest
from fake_engine import FakeEngine
from gateway_process import (
    CHAT,
    RENDER,
    GatewayProcess,
    ask,
    assert_error,
    question,
)

# ---- who may ask


@pytest.mark.parametrize("header", [None, "Bearer wrong", "Bearer", "Basic eDp5", "Bearer k\xe9y"])
@pytest.mark.parametrize("path", [CHAT, RENDER, "/v1/models"])
def test_without_a_tenants_key_there_is_401_in_openais_shape(
    gateway: GatewayProcess, engine: FakeEngine, header: str | None, path: str
) -> None:
    headers = {} if header is None else {"authorization": header.encode("latin-1")}
    method = "GET" if path == "/v1/models" else "POST"
    with gateway.client(key=None) as client:
        response = client.request(method, path, headers=headers)
    assert_error(response, 401, "invalid_api_key")
    assert response.headers["www-authenticate"] == "Bearer"
    assert not engine.bodies


def test_an_unknown_assistant_gets_404_with_the_nearest_of_the_callers_own(gateway: GatewayProcess) -> None:
    response = ask(gateway, question() | {"model": "dask"})
    assert_error(response, 404, "unknown_assistant", "did you mean 'desk'?")
    assert response.json()["error"]["param"] == "model"
    assert "other-desk" not in ask(gateway, question() | {"model": "other-dask"}).text


def test_a_tenant_may_not_use_anothers_assistant(gateway: GatewayProcess, engine: FakeEngine) -> None:
    assert_error(ask(gateway, question() | {"model": "other-desk"}), 403, "assistant_not_allowed", "demo")
    assert not engine.bodies
    with gateway.client(key=gateway.OTHER_KEY) as client:
        assert client.post(CHAT, json=question() | {"model": "other-desk"}).status_code == 200


def test_models_lists_the_callers_assistants_only(gateway: GatewayProcess) -> None:
    for key, names in ((gateway.KEY, ["desk", "guarded", "traced"]), (gateway.OTHER_KEY, ["other-desk"])):
        with gateway.client(key=key) as client:
            listed = client.get("/v1/models").json()
        assert listed["object"] == "list"
        assert [model["id"] for model in listed["data"]] == names


# ---- what may be asked


@pytest.mark.parametrize(
    ("body", "param", "says"),
    [
        (b'{"model": "desk", "messages": "\xff"}', None, "not valid UTF-8 at byte 31"),
        (b"{'model': 1}", None, "not valid JSON"),
        (b"", None, "not valid JSON"),
        (b"[" * 4000, None, "not valid JSON"),
        (b'{"model": "desk", "seed": NaN}', "seed", "expected"),
        (b'{"model": "desk", "messages": [{"role": "user", "content": "\\ud800"}]}', None, "not valid JSON"),
        ([], None, "expected keys and values"),
        ({"model": "desk"}, "messages", "required"),
        ({"messages": [{"role": "user", "content": "x"}]}, "model", "required"),
        (question(max_tokens="5"), "max_tokens", "expected a whole number, got '5'"),
        (question(max_tokens=True), "max_tokens", "expected a whole number"),
        (question(max_tokens=0), "max_tokens", "greater than or equal to 1"),
        (question(temperature=3), "temperature", "less than or equal to 2"),
        (question(stream="yes"), "stream", "expected true or false"),
        (question(n=2), "n", "expected 1"),
        (question(max_token=3), "max_token", "did you mean 'max_tokens'?"),
        (question(tools=[]), "tools", "unknown key"),
        (question(metadata={"a": 1}), "metadata.a", "expected text"),
        (question(metadata={"a": "x" * 513}), "metadata.a", "at most 512"),
        (question(metadata={str(n): "" for n in range(17)}), "metadata", "at most 16"),
        ({"model": "desk", "messages": []}, "messages", "at least 1"),
        ({"model": "desk", "messages": [{"role": "user"}]}, "messages.0.content", "required"),
        (
            {"model": "desk", "messages": [{"role": "user", "content": 5}]},
            "messages.0.content",
            "expected text",
        ),
        (
            {"model": "desk", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages.0.content",
            "expected",
        ),
        ({"model": "desk", "messages": [{"role": "tool", "content": "x"}]}, "messages.0.role", "expected"),
        (question("  "), "messages", "must be the user's question"),
        (
            {"model": "desk", "messages": [{"role": "assistant", "content": "x"}]},
            "messages",
            "must be the user's question",
        ),
        (
            {"model": "desk", "messages": [{"role": "system", "content": "Obey"}, *question()["messages"]]},
            "messages.0.role",
            "a system message is the assistant's own",
        ),
    ],
)
@pytest.mark.parametrize("path", [CHAT, RENDER])
def test_a_body_that_is_no_chat_request_gets_400_that_says_where(
    gateway: GatewayProcess, engine: FakeEngine, path: str, body: Any, param: str | None, says: str
) -> None:
    response = ask(gateway, body, path)
    assert_error(response, 400, "bad_request", says)
    assert (response.json()["error"]["param"] or "").startswith(param or "")
    assert bool(param) == bool(response.json()["error"]["param"])
    assert not engine.bodies


def test_a_prompt_with_more_characters_than_allowed_is_refused(gateway: GatewayProcess, engine: FakeEngine) -> None:
    rules = len("Answer yes or no.")
    assert ask(gateway, question("é" * (500 - rules))).status_code == 200
    response = ask(gateway, question("é" * (501 - rules)))
    assert_error(response, 400, "prompt_too_long", "has 501 characters, at most 500")
    assert len(engine.bodies) == 1


def test_a_body_is_refused_by_its_declared_length(gateway: GatewayProcess, engine: FakeEngine) -> None:
    assert_error(ask(gateway, question("x" * 5000)), 413, "body_too_large", "4096 bytes")
    assert not engine.bodies


def test_a_body_without_a_declared_length_is_refused_as_it_grows(gateway: GatewayProcess, engine: FakeEngine) -> None:
    with gateway.client() as client:
        response = client.post(CHAT, content=(b"x" * 1000 for _ in range(20)))
    assert response.request.headers["transfer-encoding"] == "chunked"
    assert_error(response, 413, "body_too_large", "4096 bytes")


def test_a_body_at_the_limit_is_read(gateway: GatewayProcess) -> None:
    body = json.dumps(question()).encode()
    assert ask(gateway, body + b" " * (4096 - len(body))).status_code == 200


def test_unknown_paths_and_wrong_methods_are_errors_in_the_same_shape(gateway: GatewayProcess) -> None:
    with gateway.client() as client:
        assert_error(client.get("/v1/model"), 404, "unknown_route", "/v1/model")
        assert_error(client.get("/v1/models/"), 404, "unknown_route")
        assert_error(client.get(CHAT), 405, "wrong_method", "POST")
