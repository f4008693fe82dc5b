"""The audit trail: each prompt that went to the engine, and nothing else."""

import json
import stat

import pytest
from gateway_process import RENDER, StartGateway, ask, question, wait_until


def test_each_prompt_that_goes_to_the_engine_is_in_the_trail(start_gateway: StartGateway, tmp_path, engine) -> None:
    path = tmp_path / "trail" / "prompts.jsonl"
    path.parent.mkdir()
    gateway = start_gateway(audit={"file": str(path)})
    sent = ask(gateway, question("Is a bat a bird?"), headers={"X-Request-ID": "r-1"})
    ask(gateway, question(stream=True), headers={"X-Request-ID": "r-2"})
    ask(gateway, question(unknown=1), headers={"X-Request-ID": "refused"})
    ask(gateway, question(), path=RENDER, headers={"X-Request-ID": "rendered"})
    assert sent.status_code == 200
    lines = wait_until(lambda: len(path.read_text().splitlines()) == 2 and path.read_text().splitlines(), "two lines")
    entries = [json.loads(line) for line in lines]
    assert [entry["request_id"] for entry in entries] == ["r-1", "r-2"]
    assert [entry["messages"] for entry in entries] == [body["messages"] for body in engine.bodies]
    assert (entries[0]["schema"], entries[0]["tenant"], entries[0]["assistant"]) == (1, "demo", "desk")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_trail_that_was_emptied_goes_on_from_its_start(start_gateway: StartGateway, tmp_path, engine) -> None:
    path = tmp_path / "prompts.jsonl"
    gateway = start_gateway(audit={"file": str(path)})
    ask(gateway)
    wait_until(lambda: path.read_text(), "the first line")
    with path.open("r+") as file:
        file.truncate(0)
    ask(gateway, headers={"X-Request-ID": "after"})
    wait_until(lambda: path.read_text(), "the second line")
    assert json.loads(path.read_text())["request_id"] == "after"


def test_a_place_that_cannot_be_written_is_refused_at_the_start(start_gateway: StartGateway, tmp_path) -> None:
    with pytest.raises(pytest.fail.Exception, match=r"ended with 2: .*cannot write the audit trail"):
        start_gateway(audit={"file": str(tmp_path / "nowhere" / "prompts.jsonl")})
