"""What the prompts of a load held, by the gateway's audit trail."""

import json

import pytest
from handmade import a_plan, rows

from lab import prompts
from lab.prompts import clear, prompt_figures, trail
from lab.scenario import PromptHolds

RULES = {"rules": "Be brief.\n\nBe kind."}
CHECK = PromptHolds(
    kind="probe", id="prompt", title="Rules", probe="prompt_holds", documents=("rules",),
    variables=("question", "request_id", "desk"),
)  # fmt: skip


class Public:
    checks = (CHECK,)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(prompts, "WRITTEN_SECONDS", 0.1)


def entry(row, text):
    return json.dumps({"request_id": row.request_id, "messages": [{"role": "system", "content": text}]}) + "\n"


def whole(row):
    return f"be  BRIEF.\nBe kind. Ticket {row.request_id}, desk maps. Is water\nwet?"


def figures(path, found):
    return prompt_figures(path, Public, a_plan(4), found, RULES)["prompt"]


def test_prompts_that_hold_everything_do_whatever_their_white_space_and_case(tmp_path):
    path, found = tmp_path / "prompts.jsonl", rows(4)
    path.write_text("".join(entry(row, whole(row)) for row in found))
    assert figures(path, found) == {"share": 1.0, "missing": None}


def test_one_text_that_one_request_lacks_is_counted_and_named(tmp_path):
    path, found = tmp_path / "prompts.jsonl", rows(4)
    texts = [whole(row) for row in found]
    texts[2] = texts[2].replace("maps", "")
    path.write_text("".join(entry(row, text) for row, text in zip(found, texts, strict=True)))
    assert figures(path, found) == {"share": 19 / 20, "missing": f"its desk (request {found[2].request_id})"}


def test_what_the_rules_say_anyway_is_not_what_a_request_brought(tmp_path):
    """Exploit: the rules spoke of every desk, so that a prompt without the desk held it."""
    path, found = tmp_path / "prompts.jsonl", rows(4)
    rules = {"rules": "Be kind at the desk for maps, as at others.\n\nBe kind."}
    told = "\n".join(rules.values())
    path.write_text("".join(entry(row, f"{told} Ticket {row.request_id}. Is water wet?") for row in found))
    lacking = prompt_figures(path, Public, a_plan(4), found, rules)["prompt"]
    assert lacking == {"share": 16 / 20, "missing": f"its desk (request {found[0].request_id})"}
    path.write_text("".join(entry(row, f"{told} {row.request_id}, maps. Is water wet?") for row in found))
    assert prompt_figures(path, Public, a_plan(4), found, rules)["prompt"]["share"] == 1.0


def test_a_list_of_all_is_not_what_a_request_brought(tmp_path):
    """Exploit: name every desk in every prompt."""
    path, found, plan = tmp_path / "prompts.jsonl", rows(2), a_plan(2)
    plan.arrivals[1].body["metadata"] = {"desk": "books"}
    texts = [whole(row).replace("maps", desk) for row, desk in zip(found, ("maps", "books"), strict=True)]
    path.write_text("".join(entry(row, text) for row, text in zip(found, texts, strict=True)))
    assert prompt_figures(path, Public, plan, found, RULES)["prompt"]["share"] == 1.0
    path.write_text("".join(entry(row, f"{text} Desks: maps, books.") for row, text in zip(found, texts, strict=True)))
    assert prompt_figures(path, Public, plan, found, RULES)["prompt"]["share"] == 4 / 10


def test_an_answered_request_that_the_trail_does_not_know_held_nothing(tmp_path):
    """Exploit: whatever keeps a prompt out of the trail must not keep it out of the grade."""
    path, found = tmp_path / "prompts.jsonl", rows(4)
    path.write_text("".join(entry(row, whole(row)) for row in found[:3]))
    assert figures(path, found)["share"] == 0.75
    path.unlink()
    assert figures(path, found) == {"share": 0.0, "missing": f"rules: Be brief. (request {found[0].request_id})"}


def test_requests_without_an_answer_are_not_asked_for(tmp_path):
    path, found = tmp_path / "prompts.jsonl", rows(2, 2)
    path.write_text("".join(entry(row, whole(row)) for row in found))
    answered = [row for row in found if row.outcome == "ok"]
    assert figures(path, answered)["share"] == 1.0
    assert figures(path, [row.model_copy(update={"outcome": "timeout"}) for row in found])["share"] is None


def test_a_trail_goes_on_in_a_second_file_and_its_last_line_may_be_half_written(tmp_path):
    path, found = tmp_path / "prompts.jsonl", rows(3)
    path.with_name("prompts.jsonl.1").write_text(entry(found[0], "one"))
    path.write_text(entry(found[1], "two") + entry(found[2], "three")[:20])
    assert trail(path) == {found[0].request_id: "one", found[1].request_id: "two"}


def test_clearing_leaves_the_file_that_the_gateway_appends_to(tmp_path):
    path = tmp_path / "prompts.jsonl"
    clear(path)
    with path.open("a") as gateway:
        gateway.write("old\n")
        gateway.flush()
        clear(path)
        gateway.write("new\n")
    assert path.read_text() == "new\n"
