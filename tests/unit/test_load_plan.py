"""Plans: made from a seed, written, read back, refused when they are broken."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadtests import LoadError
from loadtests.plan import MAX_REQUESTS, Arrival, Header, Plan, Share, materialise, read_plan
from loadtests.questions import SOURCE, SPLITS, split_of

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    path = root / SOURCE
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps({"question": f"is {n} a prime number"}) + "\n" for n in range(300)))
    return root


def make(data: Path, **changes: Any) -> Plan:
    parameters: dict[str, Any] = {
        "user": "reading_desk", "shape": "steady", "rate": 2.8, "seconds": 45, "seed": 11,
        "split": "practice", "tenant": "acme", "target": "reading-desk", "data": data,
    }  # fmt: skip
    return materialise(**{**parameters, **changes})


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.sampled_from(["steady", "step", "spike"]),
    rate=st.floats(1, 10),
    seconds=st.integers(10, 40),
    seed=st.integers(0, 2**31),
    split=st.sampled_from(sorted(SPLITS)),
)
def test_a_plan_is_the_same_byte_for_byte_and_survives_its_file(data, tmp_path, shape, rate, seconds, seed, split):
    wanted = {"shape": shape, "rate": rate, "seconds": seconds, "seed": seed, "split": split}
    plan, again = make(data, **wanted), make(data, **wanted)
    assert plan.text() == again.text()
    plan.write(tmp_path / "plan.jsonl")
    assert read_plan(tmp_path / "plan.jsonl") == plan
    assert read_plan(tmp_path / "plan.jsonl").digest == again.digest


def test_another_seed_gives_other_moments_and_other_questions(data):
    first, second = make(data, seed=1), make(data, seed=2)
    assert [a.offset for a in first.arrivals] != [a.offset for a in second.arrivals]
    assert [asked(a.body) for a in first.arrivals][:50] != [asked(a.body) for a in second.arrivals][:50]
    assert first.digest != second.digest


def test_another_rate_asks_the_same_questions(data):
    slow, fast = make(data, rate=1), make(data, rate=2)
    pairs = list(zip(slow.arrivals, fast.arrivals, strict=False))
    assert [a.body for a, _ in pairs] == [b.body for _, b in pairs]


def asked(body: dict[str, Any]) -> str:
    return body["messages"][-1]["content"]


@pytest.mark.parametrize("split", sorted(SPLITS))
def test_a_plan_asks_only_questions_of_its_split_and_none_twice(data, split):
    questions = [asked(arrival.body) for arrival in make(data, split=split, rate=1, seconds=30).arrivals]
    assert {split_of(question) for question in questions} == {split}
    assert len(set(questions)) == len(questions)


def test_the_reading_desk_streams_with_usage_and_leaves_max_tokens_to_the_assistant(data):
    for arrival in make(data).arrivals:
        assert set(arrival.body) == {"model", "messages", "metadata", "stream", "stream_options"}
        assert arrival.body["model"] == "reading-desk"
        assert [message["role"] for message in arrival.body["messages"]] == ["user"]
        assert asked(arrival.body)[0].isupper()
        assert asked(arrival.body).endswith("?")
        assert arrival.body["stream"] is True
        assert arrival.body["stream_options"] == {"include_usage": True}
        assert (arrival.tenant, arrival.path) == ("acme", "/v1/chat/completions")
    assert len({arrival.body["metadata"]["desk"] for arrival in make(data).arrivals}) > 1


def test_max_tokens_are_asked_for_when_wanted(data):
    assert all(arrival.body["max_tokens"] == 5 for arrival in make(data, max_tokens=5).arrivals)


def test_a_closed_plan_holds_rate_times_seconds_requests(data):
    plan = make(data, mode="closed", concurrency=4, rate=3, seconds=20)
    assert plan.header.requests == len(plan.arrivals) == 60
    assert {arrival.offset for arrival in plan.arrivals} == {0.0}
    assert (plan.header.mode, plan.header.concurrency) == ("closed", 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rate": 0}, "rate is 0"),
        ({"rate": 201}, "allowed is above 0 to 200"),
        ({"rate": 101, "shape": "step"}, "at its peak 202"),
        ({"rate": float("nan")}, "rate is nan"),
        ({"seconds": 0}, "seconds is 0"),
        ({"seconds": 3601}, "at most 3600"),
        ({"rate": 100, "seconds": 3600}, f"at most {MAX_REQUESTS}"),
        ({"rate": 0.001, "seconds": 1}, "would hold 0 requests"),
        ({"mode": "closed"}, "a closed plan needs a concurrency"),
        ({"mode": "closed", "concurrency": 0}, "concurrency"),
        ({"concurrency": 4}, "an open plan has none"),
        ({"user": "nobody"}, "reading_desk"),
        ({"shape": "zigzag"}, "steady, step, spike"),
        ({"tenant": "a b"}, "tenant"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"seed": -1}, "seed"),
    ],
)
def test_a_plan_out_of_bounds_is_refused(data, changes, message):
    with pytest.raises(LoadError, match=message):
        make(data, **changes)


@given(count=st.integers(1, 60), concurrency=st.integers(1, 40), of=st.integers(1, 9))
def test_workers_share_a_plan_exactly(count, concurrency, of):
    head = {"user": "trace", "shape": "steady", "rate": 1, "seconds": 1, "seed": 0, "split": "none"}
    arrivals = tuple(Arrival(i=i, offset=0, tenant="acme", path="/", body={}) for i in range(count))
    plan = Plan(Header(**head, requests=count, mode="closed", concurrency=concurrency), arrivals)
    shares = [Share(index, of) for index in range(of)]
    for index, share in enumerate(shares):
        assert all(arrival.i % of == index for arrival in share.arrivals(plan))
    assert sorted(arrival.i for share in shares for arrival in share.arrivals(plan)) == list(range(count))
    parts = [share.concurrency(plan) for share in shares]
    assert sum(parts) == concurrency
    assert max(parts) - min(parts) <= 1


def header(**changes: Any) -> dict[str, Any]:
    fields = {
        "user": "trace", "shape": "recorded", "rate": 1, "unit": "requests/s", "seconds": 10, "seed": 0,
        "split": "none", "requests": 1, "mode": "open", "concurrency": None,
    }  # fmt: skip
    return {"schema": 1, "plan": {**fields, **changes}}


def arrival(**changes: Any) -> dict[str, Any]:
    fields = {
        "schema": 1,
        "i": 0,
        "offset": 1.5,
        "tenant": "acme",
        "path": "/v1/chat/completions",
        "body": {},
    }
    return {**fields, **changes}


def save(path: Path, *lines: dict[str, Any] | str) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def test_a_recorded_trace_in_the_format_is_a_plan(tmp_path):
    trace = save(tmp_path / "trace.jsonl", header(requests=2), arrival(), arrival(i=1, offset=1.5, body={"n": 1}))
    assert [(a.i, a.offset, a.body) for a in read_plan(trace).arrivals] == [(0, 1.5, {}), (1, 1.5, {"n": 1})]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "the plan is empty"),
        ([arrival()], "line 1: a plan starts with its header"),
        ([header(), "{"], "line 2: not JSON"),
        ([header(), arrival(schema=2)], 'line 2: expected an object with "schema":1'),
        ([header(), arrival(i=1)], "line 2: i is 1, expected 0"),
        ([header(), arrival(offset=-1)], "line 2: offset"),
        ([header(), arrival(offset="soon")], "line 2: offset"),
        ([header(), arrival(offset=float("inf"))], "line 2: offset"),
        ([header(), arrival(colour="red")], "line 2: colour"),
        ([header(), arrival(path="no-slash")], "line 2: path"),
        ([header(requests=2), arrival()], "says 2 requests, the file holds 1"),
        ([header(requests=2), arrival(offset=2), arrival(i=1, offset=1)], "line 3: offset 1.0 comes before"),
        ([header(), arrival(offset=11)], "after the plan's end"),
        ([header(rate=500), arrival()], "line 1: rate"),
        ([header(mode="closed"), arrival()], "line 1: .*needs a concurrency"),
    ],
)
def test_a_broken_plan_is_refused_with_its_line(tmp_path, lines, message):
    with pytest.raises(LoadError, match=message):
        read_plan(save(tmp_path / "plan.jsonl", *lines))


def test_a_missing_plan_is_a_clear_error(tmp_path):
    with pytest.raises(LoadError, match=r"plan\.jsonl: cannot read the plan: No such file"):
        read_plan(tmp_path / "plan.jsonl")


def run_cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "loadtests.plan", *arguments]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=30, check=False)


def options(data: Path, out: Path) -> list[str]:
    return (
        "--user reading_desk --shape steady --rate 2.8 --seconds 45 --seed 11 --split practice "
        f"--tenant acme --target reading-desk --data {data} --out {out}"
    ).split()


def test_the_command_line_writes_the_plan_of_the_function(data, tmp_path):
    answer = run_cli(*options(data, tmp_path / "plan.jsonl"))
    assert answer.returncode == 0, answer.stderr
    assert (tmp_path / "plan.jsonl").read_text() == make(data).text()


def test_the_command_line_refuses_in_one_line(data, tmp_path):
    answer = run_cli(*options(data, tmp_path / "nowhere" / "plan.jsonl"))
    assert answer.returncode == 2
    assert answer.stderr.count("\n") == 1
    assert "cannot write the plan" in answer.stderr


def test_help_explains_shapes_modes_and_splits():
    text = run_cli("--help").stdout
    assert all(word in text for word in ("Shapes", "Modes", "Splits", "example:", "--max-tokens"))
