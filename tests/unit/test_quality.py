"""Scores of labelled requests, and their comparison with the healthy stack's on the same texts."""

import math
from typing import Any

import pytest
from handmade import a_row
from hypothesis import given
from hypothesis import strategies as st

from lab.quality import key, means, paired, scores
from loadtests.labelled import Expected
from loadtests.plan import Arrival
from loadtests.rows import Row


def a_search(i: int, document: str = "d1", text: str | None = None, stream: bool = False) -> Arrival:
    body = {"collection": "c", "query": text or f"question {i}"} | ({"stream": True} if stream else {})
    return Arrival(i=i, offset=0.0, tenant="acme", path="/v1/search", body=body, expected=Expected(document=document))


def a_comment(i: int, violating: bool) -> Arrival:
    expected = Expected(violating=violating)
    return Arrival(
        i=i, offset=0.0, tenant="acme", path="/v1/moderations", body={"input": f"text {i}"}, expected=expected
    )


def found(i: int, *documents: str, **changes: Any) -> Row:
    return a_row(i, documents=documents, streamed=False, **changes)


def ranking(arrivals: list[Arrival], rows: list[Row], **how: bool) -> list[float]:
    return list(scores("ranking", arrivals, rows, **how).values())


@pytest.mark.parametrize(
    ("documents", "score"),
    [(("d1", "d2"), 1.0), (("d2", "d1"), 1 / math.log2(3)), (("d2", "d3", "d1"), 0.5), (("d2",), 0.0), ((), 0.0)],
)
def test_the_score_of_a_search_falls_with_the_place_of_the_right_document(documents, score):
    assert ranking([a_search(0)], [found(0, *documents)]) == [pytest.approx(score)]


def test_only_the_first_ten_count():
    others = [f"x{n}" for n in range(10)]
    assert ranking([a_search(0)], [found(0, *others, "d1")]) == [0.0]


@pytest.mark.parametrize("outcome", ["http_error", "timeout", "unfinished", "connection_error", "stream_error"])
def test_a_search_that_failed_scores_nothing_whatever_it_said(outcome):
    """Exploit: refuse the hard questions, and the mean over the answered ones rises."""
    assert ranking([a_search(0)], [found(0, "d1", outcome=outcome)]) == [0.0]


def test_a_search_that_was_never_sent_scores_nothing():
    assert ranking([a_search(0), a_search(1)], [found(0, "d1")]) == [1.0, 0.0]


def test_of_a_load_that_was_cut_short_only_what_ended_counts():
    arrivals = [a_search(0), a_search(1), a_search(2)]
    rows = [found(0, "d1"), found(1, outcome="unfinished", end=None)]
    assert ranking(arrivals, rows, only_ended=True) == [1.0]


def test_a_text_that_was_sent_twice_counts_once():
    """Two answers to one question are not two witnesses."""
    arrivals = [a_search(0, text="same"), a_search(1, text="same"), a_search(2)]
    assert ranking(arrivals, [found(0, "d1"), found(1), found(2, "d1")]) == [0.5, 1.0]


def test_streamed_answers_are_left_out():
    assert ranking([a_search(0, stream=True)], [found(0, "d1")]) == []


def test_abuse_is_stopped_by_a_block_or_by_a_person_and_clean_texts_pass_by_neither():
    arrivals = [a_comment(i, violating=i < 3) for i in range(6)]
    said = ["block", "review", "allow", "block", "review", "allow"]
    rows = [a_row(i, streamed=False, decision=decision) for i, decision in enumerate(said)]
    assert means(arrivals, rows) == {"abuse_stopped": pytest.approx(2 / 3), "clean_passed": pytest.approx(1 / 3)}


def test_means_are_of_what_the_labels_allow():
    assert means([a_search(0)], [found(0, "d1")]) == {"ranking": 1.0}


# ── pairs ──


def test_each_text_is_compared_with_itself():
    result = paired({"a": 0.5, "b": 1.0, "c": 0.0}, {"a": 0.5, "b": 1.0, "c": 0.0, "never asked": 1.0}, 0.8)
    assert (result.n, result.value, result.healthy) == (3, 0.5, 0.5)
    assert result.distance == pytest.approx(0.1)


def test_pairs_of_one_pattern_have_a_smaller_error_than_their_spread():
    healthy = {str(n): n / 10 for n in range(10)}
    same = paired(healthy, healthy, 0.9)
    other = paired({str(n): (9 - n) / 10 for n in range(10)}, healthy, 0.9)
    assert same.error < other.error / 5


def test_a_text_that_the_healthy_stack_was_not_asked_is_an_error():
    with pytest.raises(KeyError):
        paired({"a": 1.0, "b": 1.0}, {"a": 1.0}, 0.9)


def test_one_text_is_no_comparison():
    assert paired({"a": 1.0}, {"a": 1.0}, 0.9) is None


def test_a_difference_without_spread_has_no_standard_errors():
    assert paired({"a": 1.0, "b": 1.0}, {"a": 1.0, "b": 1.0}, 0.5).standard_errors is None


@given(
    st.dictionaries(st.text(max_size=3), st.floats(0, 1), min_size=2, max_size=20),
    st.floats(0.1, 1.0),
)
def test_the_healthy_stack_is_never_below_a_share_of_itself(healthy, ratio):
    assert paired(healthy, healthy, ratio).distance >= -1e-12


def test_keys_name_texts_without_holding_them():
    assert key("a question") == key("a question") != key("another question")
    assert len(key("x" * 5000)) == 16
