"""Labelled texts and the requests that are made of them."""

import json
import random
from pathlib import Path

import pytest

from loadtests import LoadError
from loadtests.labelled import load_labelled
from loadtests.plan import materialise
from loadtests.questions import SOURCE, SPLITS
from loadtests.users import ASK, ASKED_SHARE, MODERATION, SEARCH, USERS, text_of


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "labelled"
    folder.mkdir()
    questions = [{"text": f"what is thing number {n}", "document": f"d{n}"} for n in range(200)]
    comments = [{"text": f"comment number {n}", "violating": n % 2 == 0} for n in range(200)]
    medicine = [{"text": f"does drug number {n} help", "document": f"m{n}"} for n in range(200)]
    for name, entries in (("encyclopedia", questions), ("comments", comments), ("medicine", medicine)):
        _write(folder / f"{name}.jsonl", entries)
    _write(tmp_path / "data" / SOURCE, [{"question": f"is number {n} prime"} for n in range(900)])
    return tmp_path / "data"


def _write(path: Path, entries: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))


def plan(user: str, data: Path, **changes):
    fields = {"user": user, "shape": "steady", "rate": 5.0, "seconds": 20.0, "seed": 3, "split": "practice",
              "tenant": "acme", "target": "books", "data": data}  # fmt: skip
    return materialise(**{**fields, **changes})


def test_splits_share_no_text_and_leave_none_out(data):
    parts = [load_labelled(data.with_name("labelled"), "comments", split) for split in SPLITS]
    texts = [item.text for part in parts for item in part]
    assert len(texts) == len(set(texts)) == 200


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"text": "x"}', '{"text": "", "violating": true}', '{"text": "x", "violating": "yes"}',
             '{"text": "x", "document": "d", "more": 1}', '{"text": "x", "document": "d", "split": "exam"}'],
)  # fmt: skip
def test_a_line_that_is_no_labelled_text_is_named(data, line):
    path = data.with_name("labelled") / "comments.jsonl"
    path.write_text(f'{{"text": "fine", "violating": false}}\n{line}\n')
    with pytest.raises(LoadError, match=r"comments.jsonl: line 2: no labelled text"):
        load_labelled(path.parent, "comments", "practice")


def test_a_split_that_the_file_names_counts(data):
    path = data.with_name("labelled") / "comments.jsonl"
    lines = [{"text": f"text {n}", "violating": True, "split": split} for n, split in enumerate(SPLITS)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = {split: [item.text for item in load_labelled(path.parent, "comments", split)] for split in SPLITS}
    assert found == {split: [f"text {n}"] for n, split in enumerate(SPLITS)}


def test_a_missing_file_says_what_writes_it(tmp_path):
    with pytest.raises(LoadError, match="the set-up writes them"):
        load_labelled(tmp_path, "comments", "practice")


def test_labels_are_in_the_plan_and_not_in_what_is_sent(data):
    for arrival in plan("comments", data).arrivals:
        assert arrival.path == MODERATION
        assert set(arrival.body) == {"input"}
        assert arrival.expected.violating is (int(arrival.body["input"].split()[-1]) % 2 == 0)


def test_most_readers_search_and_some_ask(data):
    arrivals = plan("library", data, rate=20.0).arrivals
    paths = [arrival.path for arrival in arrivals]
    assert {*paths} == {SEARCH, ASK}
    assert 0.5 * ASKED_SHARE < paths.count(ASK) / len(paths) < 1.5 * ASKED_SHARE
    assert all(bool(arrival.body.get("stream")) == (arrival.path == ASK) for arrival in arrivals)
    assert all("books" in arrival.body.values() for arrival in arrivals)


def test_a_new_subject_comes_up_in_the_middle_of_the_run_and_not_before(data):
    arrivals = plan("new_subject", data, rate=40.0).arrivals
    new = [arrival.offset for arrival in arrivals if "drug" in arrival.body["query"]]
    later = [arrival.offset for arrival in arrivals if arrival.offset >= 10.0]
    assert min(new) >= 10.0
    assert 0.18 < len(new) / len(later) < 0.32
    assert {arrival.path for arrival in arrivals} == {SEARCH}


def test_before_the_new_subject_the_same_is_asked_as_without_one(data):
    with_, without = (
        [(a.offset, a.body["query"]) for a in plan(user, data, rate=40.0).arrivals if a.offset < 10.0]
        for user in ("new_subject", "search_box")
    )
    assert with_ == without


def test_what_the_healthy_stack_is_asked_once_is_what_may_be_graded(data):
    texts = {text.text for text in USERS["library"].texts(data, "grading")}
    user = USERS["library"].reference
    once = plan(user, data, split="grading", mode="closed", concurrency=4, rate=len(texts) / 300, seconds=300.0)
    assert sorted(text_of(arrival.body) for arrival in once.arrivals) == sorted(texts)
    assert {arrival.path for arrival in once.arrivals} == {SEARCH}


@pytest.mark.parametrize("name", list(USERS))
def test_the_text_of_a_request_is_found_in_its_body(name):
    body = USERS[name].request("books", "is it so?", random.Random(1), 5).body
    assert text_of(body) == "is it so?"
