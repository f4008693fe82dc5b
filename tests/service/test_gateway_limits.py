"""The limits of tenants over HTTP."""

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fake_engine import FakeEngine
from gateway_process import (
    CHAT,
    GatewayProcess,
    StartGateway,
    ask,
    assert_error,
    free_port,
    question,
    wait_until,
)


def limited(**limits: int) -> dict[str, Any]:
    """Changes of the configuration: the first tenant has these limits, the second none."""
    return {
        "tenants": [
            {"name": "demo", "assistants": ["desk"], "limits": limits},
            {"name": "other", "assistants": ["other-desk"]},
        ]
    }


def ask_as_other(gateway: GatewayProcess) -> httpx.Response:
    with gateway.client(key=gateway.OTHER_KEY) as client:
        return client.post(CHAT, json=question() | {"model": "other-desk"})


def test_a_tenant_over_its_rate_gets_429_in_openais_shape_and_the_others_are_served(
    start_gateway: StartGateway, engine: FakeEngine
) -> None:
    gateway = start_gateway(**limited(requests_per_minute=3))
    left = [ask(gateway).headers["x-ratelimit-remaining-requests"] for _ in range(3)]
    assert left == ["2", "1", "0"]
    refused = ask(gateway, question(stream=True))
    assert_error(refused, 429, "rate_limit_exceeded", "demo may send 3 requests a minute")
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert 1 <= int(refused.headers["retry-after"]) <= 120
    assert refused.headers["x-ratelimit-limit-requests"] == "3"
    assert len(engine.bodies) == 3
    assert ask_as_other(gateway).status_code == 200
    assert "x-ratelimit-limit-requests" not in ask_as_other(gateway).headers
    assert gateway.metric("gateway_rejections_total", reason="rate_limit_exceeded", tenant="demo") == 1


async def test_a_tenant_with_too_many_requests_in_progress_gets_429_until_one_has_ended(
    start_gateway: StartGateway, engine: FakeEngine
) -> None:
    gateway = await asyncio.to_thread(start_gateway, **limited(concurrent=2))
    engine.behave = engine.says("Yes", gate_after=1)
    headers = {"authorization": f"Bearer {gateway.KEY}"}
    async with httpx.AsyncClient(base_url=gateway.url, headers=headers, timeout=20, trust_env=False) as client:
        two = [asyncio.create_task(client.post(CHAT, json=question(stream=True))) for _ in range(2)]
        await asyncio.to_thread(wait_until, lambda: engine.gate_visitors == 2, "both reach the engine")
        assert await asyncio.to_thread(gateway.metric, "gateway_tenant_in_flight", tenant="demo") == 2
        refused = await client.post(CHAT, json=question())
        engine.gate.set()
        assert [answer.status_code for answer in await asyncio.gather(*two)] == [200, 200]
    assert_error(refused, 429, "too_many_concurrent", "2 requests of demo are in progress")
    assert refused.headers["retry-after"] == "1"
    assert ask(gateway).status_code == 200
    assert gateway.metric("gateway_tenant_in_flight", tenant="demo") == 0


def test_tokens_are_charged_as_the_engine_counted_them(start_gateway: StartGateway, engine: FakeEngine) -> None:
    # The prompt of 37 characters is taken for 10 tokens, and one may be answered; the engine counts 21 and 2. What
    # comes back meanwhile is a token a second, far less than the difference.
    gateway = start_gateway(**limited(tokens_per_minute=67))
    answers = [ask(gateway, question(max_tokens=1)) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    left = [int(answer.headers["x-ratelimit-remaining-tokens"]) for answer in answers]
    assert left[0] == 67 - 11
    assert 67 - 23 - 11 <= left[1] < 67 - 22
    assert 67 - 46 - 11 <= left[2] < 67 - 33
    used = gateway.metric("gateway_tenant_token_budget_used_ratio", tenant="demo")
    assert used == pytest.approx(69 / 67, abs=10 / 67)
    refused = ask(gateway, question(max_tokens=1))
    assert_error(refused, 429, "token_limit_exceeded", "demo may use 67 tokens in a minute")
    assert int(refused.headers["retry-after"]) >= 1


def test_a_body_that_makes_no_sense_uses_no_tokens(start_gateway: StartGateway, engine: FakeEngine) -> None:
    gateway = start_gateway(**limited(tokens_per_minute=1000))
    for _ in range(3):
        assert ask(gateway, b"{").status_code == 400
    engine.behave = engine.refuses(500, "no")
    assert ask(gateway).status_code == 502
    assert gateway.metric("gateway_tenant_token_budget_used_ratio", tenant="demo") == 0


# ---- several gateways


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("no redis-server on the path")
    port, folder = free_port(), tmp_path_factory.mktemp("redis")
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    wait_until(lambda: "Ready to accept" in Path(folder / "log").read_text(), "redis is ready")
    yield f"redis://127.0.0.1:{port}", process
    process.kill()
    process.wait()


def test_gateways_with_one_redis_count_together_and_each_for_itself_while_it_is_away(
    start_gateway: StartGateway, engine: FakeEngine, redis: tuple[str, subprocess.Popen[bytes]]
) -> None:
    url, server = redis
    changes = limited(requests_per_minute=4, tokens_per_minute=1000) | {"limits_storage_url": url}
    first, second = start_gateway(**changes), start_gateway(**changes)
    left = [ask(gateway).headers["x-ratelimit-remaining-requests"] for gateway in (first, second, first, second)]
    assert left == ["3", "2", "1", "0"]
    assert_error(ask(first), 429, "rate_limit_exceeded")
    assert second.metric("gateway_tenant_token_budget_used_ratio", tenant="demo") == pytest.approx(4 * 23 / 1000)
    server.kill()
    assert [ask(second).status_code for _ in range(5)] == [200] * 4 + [429]
    assert second.metric("gateway_limits_degraded_total") > 0


def test_a_gateway_whose_redis_was_never_there_counts_for_itself(
    start_gateway: StartGateway, engine: FakeEngine
) -> None:
    changes = limited(requests_per_minute=2) | {"limits_storage_url": f"redis://127.0.0.1:{free_port()}"}
    gateway = start_gateway(**changes)
    assert [ask(gateway).status_code for _ in range(3)] == [200, 200, 429]
    assert gateway.metric("gateway_limits_degraded_total") > 0
    assert any(line["message"] == "the storage of limits does not answer" for line in gateway.log())
