"""Rows: what is measured from which moment, and the file that keeps them."""

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests import LoadError
from loadtests.plan import Arrival, Header
from loadtests.rows import (
    MAX_ANSWER_CHARS,
    End,
    Exchange,
    Row,
    RowsHeader,
    read_rows,
    worker_path,
)
from loadtests.writer import RowsWriter, require_new

ARRIVAL = Arrival(i=7, offset=1.0, tenant="acme", path="/v1/chat/completions", body={})


def plan_header(requests: int = 2) -> Header:
    rate = {"shape": "steady", "rate": 1.0, "seconds": 10.0}
    return Header(user="reading_desk", seed=1, split="practice", requests=requests, **rate)


def exchange(intended: float = 1.0, sent: float = 1.0) -> Exchange:
    return Exchange(ARRIVAL, "load-7", intended, sent, status=200)


def piece(text: str | None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text, **delta}}]}


def usage(prompt: int, completion: int) -> dict[str, Any]:
    return {"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": completion}}


def row(**changes: Any) -> Row:
    fields: dict[str, Any] = {
        "i": 0, "request_id": "load-0", "tenant": "acme", "intended": 1.0, "sent": 1.5, "first_token": 3.0,
        "end": 7.0, "outcome": "ok", "status": 200, "error": None, "prompt_tokens": 20,
        "completion_tokens": 5, "answer": "Yes.",
    }  # fmt: skip
    return Row(**{**fields, **changes})


def test_every_duration_counts_from_the_intended_moment():
    late = row(intended=1.0, sent=2.5)
    assert (late.lag, late.ttft, late.latency) == (1.5, 2.0, 6.0)


@given(lag=st.floats(0, 100), ttft=st.floats(0, 100), decode=st.floats(0, 100))
def test_a_late_send_makes_the_answer_as_late_as_it_was_for_its_reader(lag, ttft, decode):
    late = row(intended=1.0, sent=1.0 + lag, first_token=1.0 + lag + ttft, end=1.0 + lag + ttft + decode)
    assert late.ttft >= late.lag
    assert late.latency >= late.ttft


def test_time_per_output_token_divides_by_the_tokens_after_the_first():
    assert row(first_token=3.0, end=7.0, completion_tokens=5).tpot == 1.0


@pytest.mark.parametrize("tokens", [None, 0, 1])
def test_fewer_than_two_tokens_have_no_time_per_token(tokens):
    assert row(completion_tokens=tokens).tpot is None


def test_what_never_came_has_no_duration():
    nothing = row(first_token=None, end=None, outcome="unfinished", completion_tokens=None)
    assert (nothing.ttft, nothing.latency, nothing.tpot) == (None, None, None)


def test_the_first_token_is_the_first_piece_with_text():
    record = exchange()
    record.take(piece("", role="assistant"), 2.0)
    record.take(piece(None), 2.5)
    record.take(piece("Yes"), 3.0)
    record.take(piece("."), 4.0)
    record.take(usage(20, 5), 9.0)
    record.succeed(9.5)
    assert (record.row().first_token, record.row().end, record.row().answer) == (3.0, 4.0, "Yes.")


def test_tokens_are_those_of_the_usage_block_however_they_were_packed():
    record = exchange()
    record.take(piece("four tokens in one piece"), 3.0)
    record.take(piece(" and more"), 5.0)
    record.take(usage(20, 9), 5.0)
    record.succeed(5.0)
    assert (record.row().prompt_tokens, record.row().completion_tokens) == (20, 9)
    assert record.row().tpot == 0.25


def test_an_answer_that_was_not_streamed_has_no_first_token():
    record = exchange()
    record.take_whole({"choices": [{"message": {"content": "Yes."}}], "usage": {"completion_tokens": 2}}, 4.0)
    record.succeed(4.0)
    assert (record.row().first_token, record.row().end, record.row().answer) == (None, 4.0, "Yes.")


def test_a_search_is_read_with_its_documents_in_their_order():
    record = exchange()
    record.take_whole({"results": [{"document": "b", "score": 2.0}, {"document": "a"}, {"no": "document"}]}, 4.0)
    record.succeed(4.0)
    assert (record.row().documents, record.row().decision, record.row().outcome) == (("b", "a"), None, "ok")


def test_a_streamed_answer_is_read_with_what_it_cites():
    record = exchange()
    record.take({"citations": [{"number": 1, "document": "b"}], "choices": []}, 2.0)
    record.take(piece("Yes [1]."), 3.0)
    assert (record.row().documents, record.row().answer) == (("b",), "Yes [1].")


def test_a_decision_is_read():
    record = exchange()
    record.take_whole({"results": [{"flagged": True, "decision": "block"}]}, 4.0)
    assert (record.row().decision, record.row().documents) == ("block", None)


@pytest.mark.parametrize("results", [None, "x", [1], [{"document": 5}], [{"decision": None}], {"document": "a"}])
def test_results_of_another_shape_are_no_results(results):
    record = exchange()
    record.take_whole({"results": results}, 4.0)
    assert (record.row().documents, record.row().decision) == (None, None)


def test_documents_survive_the_way_through_the_file(tmp_path):
    record = exchange()
    record.take_whole({"results": [{"document": "b"}]}, 4.0)
    record.succeed(4.0)
    writer = RowsWriter(tmp_path / "rows.jsonl", RowsHeader(start=1.0, plan=plan_header()))
    writer.write(record.row())
    writer.close(End(planned=1, sent=1, seconds=3.0))
    assert read_rows(tmp_path / "rows.jsonl").rows == (record.row(),)


def test_a_complete_answer_cannot_fail_any_more():
    record = exchange()
    record.succeed(3.0)
    record.fail("stream_error", "the connection broke while it was put away", 4.0)
    assert (record.row().outcome, record.row().error) == ("ok", None)


def test_an_answer_is_kept_up_to_its_limit():
    record = exchange()
    for _ in range(3):
        record.take(piece("x" * (MAX_ANSWER_CHARS // 2)), 3.0)
    assert record.row().answer == "x" * MAX_ANSWER_CHARS


def test_half_a_surrogate_pair_does_not_lose_the_row(tmp_path):
    record = exchange()
    record.take(piece("\ud83d"), 3.0)
    record.fail("stream_error", "\udc00", 4.0)
    writer = RowsWriter(tmp_path / "rows.jsonl", RowsHeader(start=1.0, plan=plan_header()))
    writer.write(record.row())
    writer.close(End(planned=1, sent=1, seconds=3.0))
    assert [(r.answer, r.error) for r in read_rows(tmp_path / "rows.jsonl").rows] == [("?", "?")]


def test_rows_are_on_the_disk_before_the_file_is_closed(tmp_path):
    path = tmp_path / "rows.jsonl"
    writer = RowsWriter(path, RowsHeader(start=1.5, plan=plan_header()))
    assert read_rows(path).header == RowsHeader(start=1.5, plan=plan_header())
    writer.write(row())
    deadline = time.monotonic() + 10
    while not read_rows(path).rows and time.monotonic() < deadline:
        time.sleep(0.01)
    assert read_rows(path).rows == (row(),)
    assert read_rows(path).end is None
    writer.close(End(planned=2, sent=1, seconds=3.0))
    assert read_rows(path).end == End(planned=2, sent=1, seconds=3.0)


def test_a_disk_that_keeps_the_writer_waiting_does_not_keep_the_sender_waiting(tmp_path):
    """Bug: each row was written where requests are sent, and a busy disk made the load a second late."""
    path = tmp_path / "rows.jsonl"
    os.mkfifo(path)  # takes 64 KiB, then nothing until it is read
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer = RowsWriter(path, RowsHeader(start=1.0, plan=plan_header(requests=1000)))
    sending = threading.Thread(target=lambda: [writer.write(row(i=i)) for i in range(1000)], daemon=True)
    sending.start()
    sending.join(60)
    assert not sending.is_alive()
    os.set_blocking(reading, True)
    lines: list[str] = []
    drain = threading.Thread(target=lambda: lines.extend(os.fdopen(reading)), daemon=True)
    drain.start()
    writer.close(End(planned=1000, sent=1000, seconds=3.0))
    drain.join(60)
    assert [json.loads(line).get("i") for line in lines] == [None, *range(1000), None]


def test_rows_hold_the_fields_that_other_programs_read(tmp_path):
    writer = RowsWriter(tmp_path / "rows.jsonl", RowsHeader(start=1.5, plan=plan_header()))
    writer.write(row())
    writer.close(End(planned=2, sent=1, seconds=3.0))
    first, second, last = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert (first["schema"], first["start"], first["plan"]["user"]) == (1, 1.5, "reading_desk")
    assert list(second) == [
        "schema", "i", "request_id", "tenant", "intended", "sent", "first_token", "end", "outcome", "status",
        "error", "prompt_tokens", "completion_tokens", "answer", "streamed", "documents", "decision",
    ]  # fmt: skip
    assert last == {"schema": 1, "end": {"planned": 2, "sent": 1, "seconds": 3.0}}


def test_a_line_that_was_being_written_when_the_generator_died_is_left_out(tmp_path):
    path = tmp_path / "rows.jsonl"
    writer = RowsWriter(path, RowsHeader(start=1.0, plan=plan_header()))
    writer.write(row())
    writer.close(End(planned=2, sent=1, seconds=3.0))
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index(b'{"schema":1,"end"')] + b'{"schema":1,"i":1,"requ')
    assert [r.i for r in read_rows(path).rows] == [0]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nonsense", "line 2: not JSON"),
        ('{"schema":1,"i":0}', "line 2: request_id"),
        ('{"schema":1,"end":{"planned":1}}', "line 2: sent"),
    ],
)
def test_a_broken_row_is_named(tmp_path, line, message):
    path = tmp_path / "rows.jsonl"
    RowsWriter(path, RowsHeader(start=1.0, plan=plan_header()))
    with path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(LoadError, match=message):
        read_rows(path)


def test_rows_of_another_run_are_not_overwritten(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("something\n")
    with pytest.raises(LoadError, match="holds rows already"):
        require_new(path)
    assert path.read_text() == "something\n"


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(LoadError, match="cannot write rows there"):
        require_new(tmp_path / "nowhere" / "rows.jsonl")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_a_clear_error():
    with pytest.raises(LoadError, match="No space left on device"):
        RowsWriter(Path("/dev/full"), RowsHeader(start=1.0, plan=plan_header()))


def write_worker(path: Path, index: int, numbers: list[int], *, start: float = 5.0, closed: bool = True) -> None:
    writer = RowsWriter(worker_path(path, index), RowsHeader(start=start, plan=plan_header(requests=4)))
    for number in numbers:
        writer.write(row(i=number))
    if closed:
        writer.close(End(planned=2, sent=len(numbers), seconds=float(index)))


def test_the_files_of_workers_read_as_one_run(tmp_path):
    path = tmp_path / "rows.jsonl"
    write_worker(path, 1, [3, 1])
    write_worker(path, 0, [2, 0])
    assert [r.i for r in read_rows(path).rows] == [0, 1, 2, 3]
    assert read_rows(path).end == End(planned=4, sent=4, seconds=1.0)


def test_a_worker_that_was_cut_short_or_is_missing_leaves_the_run_without_an_end(tmp_path):
    path = tmp_path / "rows.jsonl"
    write_worker(path, 0, [0, 2])
    assert read_rows(path).end is None
    write_worker(path, 1, [1], closed=False)
    assert read_rows(path).end is None


def test_workers_of_different_runs_are_not_mixed(tmp_path):
    path = tmp_path / "rows.jsonl"
    write_worker(path, 0, [0, 2])
    write_worker(path, 1, [1, 3], start=6.0)
    with pytest.raises(LoadError, match="not of one run"):
        read_rows(path)
