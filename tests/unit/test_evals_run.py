"""Running a suite: each example once, failures kept with their reason, and a run that was cut off goes on."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from evals_handmade import suite
from local_http import Asked, Local, answering

from stack.evals import run as suites_run
from stack.evals.example import Example
from stack.evals.results import Identity, Manifest, Results
from stack.evals.stack_client import TRIES, Addresses, Failed, Held, JudgeEndpoint, Places, Stack, Unreachable
from stack.evals.suite import Named
from stack.evals.tasks import moderation
from stack.settings import ConfigError

TEXTS = [f"text number {number}" for number in range(12)]


class Gateway:
    """Answers moderations; `broken` texts get 500, `busy` ones 429 the first time."""

    def __init__(self) -> None:
        self.broken: set[str] = set()
        self.busy: set[str] = set()
        self.texts: list[str] = []

    def __call__(self, asked: Asked) -> tuple[int, object]:
        text = asked.json["input"]
        self.texts.append(text)
        assert asked.headers["authorization"] == "Bearer key"
        if text in self.broken:
            return 500, {"error": {"message": "no", "code": "internal_error"}}
        if text in self.busy:
            self.busy.remove(text)
            return 429, {"error": {"message": "later", "code": "rate_limited"}}
        allowed = {"decision": "allow", "tier": 2, "score": 0.1, "degraded": False, "flagged": False}
        allowed |= {"categories": {}, "cost": {"tiers": [1, 2], "judge_tokens": 0}}
        return 200, {"results": [allowed]}


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


@pytest.fixture
def server(gateway: Gateway) -> Iterator[Local]:
    with answering(gateway) as local:
        yield local


@pytest.fixture
def of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Named:
    examples = [Example(text, {"text": text}, {"abusive": False}, ("plain",)) for text in TEXTS]
    monkeypatch.setattr(moderation.Moderation, "examples", lambda *_: examples)
    monkeypatch.setattr("stack.evals.stack_client.PAUSE_SECONDS", 0.01)
    return suite(tmp_path)


def results_of(folder: Path, configuration: str = "c") -> Results:
    manifest = Manifest(1, f"run-{configuration}", "quick", {"texts": "h"}, Identity(configuration, "d", "w"), "m", 1.0)
    return Results.new(folder / "runs", manifest)


def go(of: Named, server: Local, results: Results, said: list[str] | None = None) -> None:
    addresses = Addresses(server.url, "key")
    suites_run.run([of], "quick", addresses, Places(Path(), Path()), results, {}, (said or []).append)


def test_each_example_is_asked_once_and_scored(of: Named, server: Local, gateway: Gateway, tmp_path: Path) -> None:
    results = results_of(tmp_path)
    go(of, server, results)
    assert sorted(gateway.texts) == sorted(TEXTS)
    rows = results.rows("texts")
    assert {row.scores["right"] for row in rows.values()} == {1.0}
    assert results.manifest().finished is None, "or a run that was killed while it was judged would begin anew"


def test_a_failure_is_a_result_and_gets_no_second_chance(
    of: Named, server: Local, gateway: Gateway, tmp_path: Path
) -> None:
    """Bug: a release that failed now and then passed when its run was killed and went on."""
    gateway.broken = set(TEXTS[:3])
    results = results_of(tmp_path)
    go(of, server, results)
    failed = [row for row in results.rows("texts").values() if row.error]
    assert len(failed) == 3
    assert "answered 500" in failed[0].error
    assert failed[0].scores == {}
    assert failed[0].failed == "stack"
    gateway.broken, gateway.texts = set(), []
    go(of, server, results)
    assert gateway.texts == []
    assert sum(row.error is not None for row in results.rows("texts").values()) == 3


def test_a_run_that_was_killed_asks_only_what_is_missing(
    of: Named, server: Local, gateway: Gateway, tmp_path: Path
) -> None:
    results = results_of(tmp_path)
    go(of, server, results)
    path = results.folder / "texts.jsonl"
    kept = path.read_bytes().splitlines(keepends=True)[:5]
    path.write_bytes(b"".join(kept) + b'{"suite": "texts", "exam')
    there = {json.loads(line)["example"] for line in kept}
    gateway.texts = []
    said: list[str] = []
    go(of, server, results, said)
    assert sorted(gateway.texts) == sorted(set(TEXTS) - there)
    assert len(results.rows("texts")) == len(TEXTS)


def test_rows_of_another_configuration_are_not_taken(
    of: Named, server: Local, gateway: Gateway, tmp_path: Path
) -> None:
    first, second = results_of(tmp_path), results_of(tmp_path, "another")
    go(of, server, first)
    (second.folder / "texts.jsonl").write_bytes((first.folder / "texts.jsonl").read_bytes())
    gateway.texts = []
    go(of, server, second)
    assert sorted(gateway.texts) == sorted(TEXTS)


def test_what_another_judge_said_is_not_taken(tmp_path: Path) -> None:
    of = suite(tmp_path)
    example = Example("e", {})
    one, other = JudgeEndpoint("http://one", "small"), JudgeEndpoint("http://one", "large")
    keys = {suites_run.key_of("i", of, example, None, judge) for judge in (None, one, other, replace(one, sample=1))}
    assert len(keys) == 4
    elsewhere = JudgeEndpoint("http://elsewhere", "small")
    assert suites_run.key_of("i", of, example, None, elsewhere) not in keys
    own, restarted = (JudgeEndpoint(f"http://127.0.0.1:{port}", "small", own=True) for port in (1, 2))
    assert suites_run.key_of("i", of, example, None, own) == suites_run.key_of("i", of, example, None, restarted)


@pytest.mark.parametrize("answer", [{"results": []}, {"results": None}, {"results": [None]}])
def test_an_answer_of_another_shape_is_a_failure_of_its_example_alone(
    of, gateway, tmp_path, monkeypatch, answer
) -> None:
    monkeypatch.setattr(Gateway, "__call__", lambda self, asked: (200, answer))
    with answering(gateway) as local:
        results = results_of(tmp_path)
        go(of, local, results)
    assert {row.error.partition(":")[0] for row in results.rows("texts").values()} == {"unexpected answer"}


def test_what_is_too_busy_is_asked_again(of: Named, server: Local, gateway: Gateway, tmp_path: Path) -> None:
    gateway.busy = {TEXTS[0]}
    results = results_of(tmp_path)
    go(of, server, results)
    assert gateway.texts.count(TEXTS[0]) == 2
    rows = results.rows("texts")
    assert all(row.error is None for row in rows.values())
    assert (rows[TEXTS[0]].refusals, rows[TEXTS[0]].scores["at_once"]) == (1, 0.0)
    assert (rows[TEXTS[1]].refusals, rows[TEXTS[1]].scores["at_once"]) == (0, 1.0)


def test_a_gateway_that_is_not_there_fails_every_example_and_is_asked_again_later(
    of: Named, server: Local, tmp_path: Path
) -> None:
    results = results_of(tmp_path)
    go(of, Local(1), results)
    rows = results.rows("texts").values()
    assert {row.error.split(": ")[1].split()[0] for row in rows} == {"ConnectError"}
    assert {row.failed for row in rows} == {"way"}
    go(of, server, results)
    assert all(row.error is None for row in results.rows("texts").values())


def test_a_gateway_that_ends_under_the_questions_has_failed(
    of: Named, server: Local, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: whoever killed the run and went on gave a release that crashes another chance."""
    asked, ask = [], moderation.Moderation.ask

    async def crashing(self, example, stack):
        asked.append(example)
        if len(asked) > 3:
            raise Unreachable("nobody listens")
        return await ask(self, example, stack)

    monkeypatch.setattr(moderation.Moderation, "ask", crashing)
    results = results_of(tmp_path)
    go(suite(tmp_path, concurrency=1), server, results)
    assert [row.failed for row in results.rows("texts").values()] == [None] * 3 + ["stack"] * 9


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"metrics": {"a": {"score": "rigth", "tolerance": 0}}}, "'rigth' is no score of the task moderation; did you"),
        ({"collections": ["articels"]}, "unknown collection 'articels'; did you mean 'articles'"),
    ],
)
def test_a_suite_that_cannot_be_judged_is_told_before_anything_is_asked(tmp_path: Path, changes, told) -> None:
    with pytest.raises(ConfigError, match=told):
        suites_run.check([suite(tmp_path, **changes)])


STREAM = [{"choices": [{"delta": {"content": word}, "finish_reason": None}]} for word in ("Yes", ", it is.")]
END = {"choices": [{"delta": {}, "finish_reason": "stop"}]}


@pytest.mark.parametrize(
    ("events", "told"),
    [
        ([*STREAM, END], None),
        (STREAM, "ended without an end"),
        ([END], "ended without a word"),
        ([STREAM[0], {"error": {"code": "total_timeout"}}], "broke off: .*total_timeout"),
    ],
)
async def test_a_stream_is_an_answer_when_it_comes_to_its_end(events: list, told: str | None) -> None:
    lines = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
    with answering(lambda _: (200, lines.encode())) as local:
        async with Stack(Addresses(local.url, "key")) as stack:
            if told:
                with pytest.raises(Failed, match=told):
                    await stack.chat_streamed([])
                return
            answer = await stack.chat_streamed([])
    assert (answer["text"], answer["finish"]) == ("Yes, it is.", "stop")
    assert answer["first_words"] > 0


async def test_a_stream_that_is_refused_for_now_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: half of the answers counted as failed where the other half was only late."""
    monkeypatch.setattr("stack.evals.stack_client.PAUSE_SECONDS", 0.01)
    stream = "".join(f"data: {json.dumps(event)}\n\n" for event in [*STREAM, END]).encode()
    answers = [(503, {"error": {"code": "overloaded"}}), (429, {"error": {"code": "rate_limited"}}), (200, stream)]
    with answering(lambda _: answers.pop(0)) as local:
        async with Stack(Addresses(local.url, "key")) as stack:
            assert (await stack.chat_streamed([]))["text"] == "Yes, it is."
            assert stack.refusals == 2
    with answering(lambda _: (503, {"error": {"code": "overloaded"}})) as local:
        async with Stack(Addresses(local.url, "key")) as stack:
            with pytest.raises(Failed, match="answered 503"):
                await stack.chat_streamed([])
            assert stack.refusals == TRIES


@pytest.mark.parametrize(("status", "code"), [(403, "under_review"), (400, "content_filter")])
async def test_a_stream_that_moderation_keeps_back_or_ends_is_not_a_failure(status: int, code: str) -> None:
    held = {"error": {"message": "held", "code": code}}
    for answer in ((status, held), (200, f"data: {json.dumps(STREAM[0])}\n\ndata: {json.dumps(held)}\n\n".encode())):
        with answering(lambda _, answer=answer: answer) as local:
            async with Stack(Addresses(local.url, "key")) as stack:
                with pytest.raises(Held):
                    await stack.ask_streamed("books", "why?", 8)


@pytest.mark.parametrize(("status", "code"), [(403, "under_review"), (400, "content_filter")])
async def test_what_moderation_keeps_back_is_not_a_failure(status: int, code: str) -> None:
    with answering(lambda _: (status, {"error": {"message": "held", "code": code}})) as local:
        async with Stack(Addresses(local.url, "key")) as stack:
            with pytest.raises(Held):
                await stack.ask("articles", "why?")


@pytest.mark.parametrize(("status", "body", "code"), [
    (200, {"choices": []}, None),
    (503, {"error": {"code": "moderation_unavailable"}}, "moderation_unavailable"),
    (500, {"oops": 1}, "status 500"),
])  # fmt: skip
async def test_what_a_gateway_without_moderation_says_is_told(status, body, code) -> None:
    with answering(lambda _: (status, body)) as local:
        async with Stack(Addresses("http://127.0.0.1:1", "key", gateway_without_moderation=local.url)) as stack:
            assert await stack.refusal_without_moderation("articles", "why?") == code


async def test_a_judge_that_is_asked_again_draws_its_verdict() -> None:
    with answering(lambda asked: (200, asked.json)) as local:
        async with Stack(Addresses(local.url, "key", judge=JudgeEndpoint(local.url))) as stack:
            assert (await stack.judge({"temperature": 0}))["temperature"] == 0
        async with Stack(Addresses(local.url, "key", judge=JudgeEndpoint(local.url, sample=2))) as stack:
            body = await stack.judge({"temperature": 0})
    assert (body["temperature"], body["seed"]) == (0.7, 2000)
