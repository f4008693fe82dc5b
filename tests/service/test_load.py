"""The load generator as it is run: real Locust processes against a server that answers in every bad way."""

import json
import resource
import signal
import socket
import subprocess
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from load_rig import KEY, BadServer, Generator, free_port, plan_of, wait_for

from loadtests.plan import Plan
from loadtests.questions import SOURCE
from loadtests.rows import read_rows, worker_path

DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@pytest.fixture
def server() -> Iterator[BadServer]:
    server = BadServer()
    yield server
    server.stop()


@pytest.fixture
def generator(tmp_path: Path, server: BadServer) -> Iterator[Generator]:
    generator = Generator(tmp_path, server)
    yield generator
    generator.stop()


OUTCOMES = {
    "fast": ("ok", 200, None),
    "slow": ("ok", 200, None),
    "whole": ("ok", 200, None),
    "busy": ("http_error", 429, "too many in flight"),
    "cut": ("stream_error", 200, "Incomplete"),
    "refused_midway": ("stream_error", 200, "the answer took too long"),
    "without_done": ("stream_error", 200, "before its [DONE]"),
    "gibberish": ("stream_error", 200, "JSON"),
    "one_long_line": ("stream_error", 200, "longer than"),
    "hang_up": ("connection_error", None, "closed"),
    "silent": ("timeout", None, "not done 1 s after"),
    "endless": ("timeout", 200, "not done 1 s after"),
}


def test_every_kind_of_answer_gets_the_row_that_it_deserves(generator, server):
    models = list(OUTCOMES) * 3
    csv = generator.rows.with_name("stats")
    run = generator.run(plan_of(models), "--timeout-seconds", "1", "--tag", "run.7", "--csv", str(csv))
    assert [row.i for row in run.rows] == list(range(len(models)))
    for row, model in zip(run.rows, models, strict=True):
        outcome, status, error = OUTCOMES[model]
        assert (row.outcome, row.status) == (outcome, status), (model, row)
        assert (row.error is None) if error is None else (error in row.error), (model, row)
        assert row.request_id == f"run.7-{row.i}"
        assert row.end is not None
        moments = [row.intended, row.sent, *([row.first_token] if row.first_token else []), row.end]
        assert moments[1:] == sorted(moments[1:]), (model, row)
    fast = next(row for row, model in zip(run.rows, models, strict=True) if model == "fast")
    assert (fast.answer, fast.prompt_tokens, fast.completion_tokens) == ("Yes, it is.", 20, 5)
    assert run.end is not None
    assert (run.end.planned, run.end.sent) == (len(models), len(models))
    kinds = [line.split(",")[0] for line in Path(f"{csv}_stats.csv").read_text().splitlines()[1:]]
    assert {"LLM", "TTFT", "TPOT"} <= set(kinds)


def test_the_server_gets_what_the_plan_holds_with_key_and_request_id(generator, server):
    plan = plan_of(["fast"] * 20)
    generator.run(plan, "--tag", "run-1")
    assert [body for body in server.requests] == [arrival.body for arrival in plan.arrivals]
    for i, head in enumerate(server.heads):
        assert head.startswith("POST /v1/chat/completions HTTP/1.1\r\n")
        assert f"Authorization: Bearer {KEY}\r\n" in head
        assert f"X-Request-ID: run-1-{i}\r\n" in head
    assert KEY not in generator.log() + generator.rows.read_text()


def test_connections_are_used_again(generator, server):
    generator.run(plan_of(["fast"] * 30, gap=0.05))
    assert len(server.requests) == 30
    assert server.connections < 10


def test_arrivals_never_wait_for_answers(generator, server):
    run = generator.run(plan_of(["silent"] * 300, gap=0.003), "--drain-seconds", "0.5")
    assert len(server.requests) == server.most_in_flight == 300
    assert Counter(row.outcome for row in run.rows) == {"unfinished": 300}
    assert run.end is not None
    assert run.end.sent == 300
    assert {(row.status, row.end) for row in run.rows} == {(None, None)}
    wait_for(lambda: server.left_early == 300)  # each request was closed, so that the server can stop its work


def test_a_drain_lets_late_answers_in_and_no_longer_than_asked(generator, server):
    run = generator.run(plan_of(["slow", "endless"]), "--drain-seconds", "1")
    assert [row.outcome for row in run.rows] == ["ok", "unfinished"]
    assert run.rows[1].first_token is not None
    assert run.rows[1].answer.startswith("and and ")


def test_a_closed_loop_keeps_its_concurrency_in_flight_and_never_more(generator, server):
    # The server answers only when five requests are there together: with four the run would never end.
    run = generator.run(plan_of(["gated"] * 40, gap=0, mode="closed", concurrency=5), "--drain-seconds", "2")
    assert Counter(row.outcome for row in run.rows) == {"ok": 40}
    assert server.most_in_flight == 5
    assert {row.lag for row in run.rows} == {0.0}


def test_a_closed_loop_ends_with_its_seconds_though_its_plan_holds_more(generator, server):
    run = generator.run(plan_of(["slow"] * 500, gap=0, mode="closed", concurrency=3, seconds=1.0))
    assert run.end is not None
    assert 3 <= run.end.sent == len(run.rows) < 500
    assert Counter(row.outcome for row in run.rows) == {"ok": run.end.sent}


def test_callers_of_a_closed_loop_who_are_not_served_wait_before_they_ask_again(generator, server):
    """Bug: while an engine was restarted they asked all that a drill of 45 minutes holds within seconds."""
    run = generator.run(plan_of(["busy"] * 500, gap=0, mode="closed", concurrency=3, seconds=1.5))
    assert run.end is not None
    assert 3 <= run.end.sent <= 6
    assert Counter(row.outcome for row in run.rows) == {"http_error": run.end.sent}


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_ends_the_run_within_three_seconds_and_leaves_complete_rows(generator, server, name):
    process = generator.start_plan(plan_of(["fast"] + ["endless"] * 30 + ["fast"] * 1000, gap=0.02))
    wait_for(lambda: len(server.requests) > 40)
    process.send_signal(getattr(signal, name))
    assert process.wait(3) == 1, generator.log()
    run = read_rows(generator.rows)
    assert run.end is not None
    assert run.end.planned == 1031
    assert 40 < run.end.sent == len(run.rows) < 1031
    assert Counter(row.outcome for row in run.rows)["unfinished"] >= 30
    assert run.rows[0].outcome == "ok"
    sent = len(server.requests)
    time.sleep(0.2)
    assert len(server.requests) == sent


def start_divided(generator: Generator, plan: Plan, count: int) -> list[subprocess.Popen[bytes]]:
    """A master and its workers, in this order."""
    plan.write(generator.plan)
    port = str(free_port())
    divided = ["--headless", "--master", "--master-bind-port", port, "--expect-workers", str(count)]
    master = generator.start(*divided, *generator.files)
    return [master] + [generator.start("--worker", "--master-port", port, *generator.files) for _ in range(count)]


def test_workers_divide_the_plan_among_them(generator, server):
    processes = start_divided(generator, plan_of(["fast"] * 101), 2)
    assert [process.wait(30) for process in processes] == [0, 0, 0], generator.log(0)
    for index in (0, 1):
        part = read_rows(worker_path(generator.rows, index))
        assert len({row.i % 2 for row in part.rows}) == 1
    run = read_rows(generator.rows)
    assert [row.i for row in run.rows] == list(range(101))
    assert run.end is not None
    assert (run.end.planned, run.end.sent, len(server.requests)) == (101, 101, 101)
    assert Counter(row.outcome for row in run.rows) == {"ok": 101}


def test_a_signal_to_the_master_ends_its_workers_too(generator, server):
    processes = start_divided(generator, plan_of(["endless"] * 20 + ["fast"] * 2000), 2)
    wait_for(lambda: len(server.requests) > 40)
    processes[0].send_signal(signal.SIGINT)
    assert [process.wait(4) for process in processes] == [1, 1, 1], generator.log(0)
    run = read_rows(generator.rows)
    assert run.end is not None
    assert 40 < run.end.sent == len(run.rows) < 2020
    assert Counter(row.outcome for row in run.rows)["unfinished"] >= 20


def test_a_lost_worker_makes_the_run_incomplete_but_does_not_hold_it_up(generator, server):
    master, first, second = start_divided(generator, plan_of(["fast"] * 200), 2)
    wait_for(lambda: len(server.requests) > 20)
    first.kill()
    assert master.wait(20) == 1
    assert "was lost with its share" in generator.log(0)
    assert second.wait(5) == 0
    assert read_rows(generator.rows).end is None


def test_a_worker_with_another_plan_is_not_let_in(generator, server):
    other = generator.plan.with_name("other.jsonl")
    plan_of(["fast"] * 11).write(other)
    plan_of(["fast"] * 10).write(generator.plan)
    port = str(free_port())
    divided = ["--headless", "--master", "--master-bind-port", port, "--expect-workers", "1"]
    master = generator.start(*divided, *generator.files)
    generator.start("--worker", "--master-port", port, "--plan", str(other))
    assert master.wait(20) == 1
    assert "plan is not the master's" in generator.log(0)
    assert server.requests == []


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda g: g.plan.write_text("nonsense\n"), "line 1: not JSON"),
        (lambda g: g.keys.write_text('{"other": "sk-1"}'), "no key for tenant 'acme'"),
        (lambda g: g.keys.write_text('{"acme": "two words"}'), "the key of tenant 'acme'"),
        (lambda g: g.keys.unlink(), "cannot read the keys"),
        (lambda g: g.rows.mkdir(), "cannot write rows there: Is a directory"),
        (lambda g: g.rows.write_text("rows of an earlier run\n"), "holds rows already"),
    ],
)
def test_broken_files_are_refused_in_one_line_before_the_first_request(generator, server, spoil, message):
    plan_of(["fast"]).write(generator.plan)
    spoil(generator)
    process = generator.start("--headless", *generator.files)
    assert process.wait(20) == 2
    assert_refused(generator, server, message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--host", "http://192.0.2.7:8100"], "not this machine"),
        (["--host", "http://127.0.0.1.example.org"], "not this machine"),
        (["--host", "https://127.0.0.1:8100"], "expected no more than a scheme"),
        (["--tag", "a b"], "--tag 'a b'"),
        (["--drain-seconds", "-1"], "--drain-seconds -1"),
    ],
)
def test_bad_options_are_refused_in_one_line_before_the_first_request(generator, server, options, message):
    process = generator.start_plan(plan_of(["fast"]), *options)
    assert process.wait(20) == 2
    assert_refused(generator, server, message)


def test_a_metrics_port_that_is_taken_is_refused_before_the_first_request(generator, server):
    process = generator.start_plan(plan_of(["fast"]), "--metrics-port", str(server.port))
    assert process.wait(20) == 2
    assert_refused(generator, server, f"metrics port {server.port}: cannot listen")


def assert_refused(generator: Generator, server: BadServer, message: str) -> None:
    errors = [line for line in generator.log().splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, generator.log()
    assert message in errors[0]
    assert "Traceback" not in generator.log()
    assert server.requests == []


def test_a_full_disk_stops_the_run_with_a_clear_error(generator, server):
    def small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    process = generator.start_plan(plan_of(["fast"] * 1000), before=small_disk)
    assert process.wait(30) == 1
    assert f"{generator.rows}: cannot write a row" in generator.log()
    assert "Traceback" not in generator.log()
    assert len(server.requests) < 1000
    run = read_rows(generator.rows)
    assert run.end is None
    assert {row.outcome for row in run.rows} == {"ok"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data" / SOURCE
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps({"question": f"is {n} a prime number"}) + "\n" for n in range(300)))
    return tmp_path / "data"


class WebPage:
    """What Locust's page does when its buttons are pressed."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"
        wait_for(self._is_up)

    def start(self, **fields: Any) -> None:
        form = urlencode({"user_count": 5, "spawn_rate": 1, **fields}).encode()
        assert json.loads(self.get("/swarm", form))["success"]

    def stopped(self) -> bool:
        return json.loads(self.get("/stats/requests"))["state"] == "stopped"

    def get(self, path: str, form: bytes | None = None) -> bytes:
        with DIRECT.open(self._url + path, form, timeout=5) as answer:
            return answer.read()

    def _is_up(self) -> bool:
        try:
            return b"<html" in self.get("/")
        except OSError:
            return False


def listening(address: str) -> set[int]:
    """The ports that this machine listens on at `address`, from Linux' table of sockets."""
    wanted = socket.inet_aton(address)[::-1].hex().upper()
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {int(row[1][9:], 16) for row in rows if row[3] == "0A" and row[1][:8] == wanted}


def ended(rows: Path) -> bool:
    return rows.exists() and '"end":{' in rows.read_text()


def test_the_web_page_runs_plans_made_from_its_form(generator, server, data):
    web, metrics = free_port(), free_port()
    options = ["--web-port", str(web), "--metrics-port", str(metrics), "--rows", str(generator.rows)]
    process = generator.start(*options, "--tenant", "acme", "--target", "fast", "--data", str(data))
    page = WebPage(web)
    if Path("/proc/net/tcp").exists():
        assert web in listening("127.0.0.1")
        assert web not in listening("0.0.0.0")

    page.start(rate=40, seconds=1, seed=3)
    wait_for(lambda: ended(generator.rows) and page.stopped())
    first = read_rows(generator.rows)
    assert (first.header.plan.rate, first.header.plan.seconds, first.header.plan.seed) == (40, 1, 3)
    assert len(first.rows) == first.header.plan.requests == len(server.requests)

    again = generator.rows.with_name("rows.run2.jsonl")
    page.start(rate=20, seconds=1, seed=4)
    wait_for(lambda: ended(again) and page.stopped())
    assert read_rows(again).header.plan.rate == 20
    assert len(server.requests) == len(first.rows) + len(read_rows(again).rows)

    offered = f'loadgen_offered_total{{user="reading_desk"}} {float(len(server.requests))}'
    with DIRECT.open(f"http://127.0.0.1:{metrics}/metrics", timeout=5) as answer:
        assert offered in answer.read().decode()
    process.terminate()
    assert process.wait(5) == 0


def test_the_web_page_refuses_what_the_command_line_refuses(generator, server, data):
    web = free_port()
    options = ["--web-port", str(web), "--tenant", "acme", "--target", "fast", "--data", str(data)]
    process = generator.start(*options)
    page = WebPage(web)
    for field, value, message in (
        ("rate", 5000, "rate is 5000"),
        ("host", "http://192.0.2.7:8100", "not this machine"),
    ):
        page.start(**{"rate": 10, field: value})
        wait_for(lambda message=message: message in generator.log() and page.stopped())
    assert server.requests == []
    assert process.poll() is None
