"""Measures as the field computes them; what has no result counts as nothing found."""

import math

import pytest

from stack.rag.evaluate import difference, evaluate

JUDGED = {"q1": {"a": 1}, "q2": {"b": 1}, "q3": {"c": 1}}


def test_the_place_of_the_one_relevant_document_decides():
    figures = evaluate(JUDGED, {"q1": ["a", "x"], "q2": ["x", "b"], "q3": ["x", "y", "z", "c"]})
    assert figures.values["ndcg@10"].tolist() == pytest.approx([1, 1 / math.log2(3), 1 / math.log2(5)])
    assert figures.values["mrr"].tolist() == pytest.approx([1, 1 / 2, 1 / 4])
    assert figures.values["recall@50"].tolist() == [1, 1, 1]
    assert figures.mean("mrr") == pytest.approx((1 + 1 / 2 + 1 / 4) / 3)


def test_a_query_without_results_counts_as_zero_and_shows_in_the_coverage():
    figures = evaluate(JUDGED, {"q1": ["a"], "q2": []})
    assert figures.values["ndcg@10"].tolist() == [1, 0, 0]
    assert figures.mean("ndcg@10") == pytest.approx(1 / 3)
    assert figures.coverage == pytest.approx(1 / 3)


def test_beyond_the_cut_off_a_document_is_not_found():
    others = [f"x{number:03}" for number in range(60)]
    figures = evaluate({"q1": {"a": 1}}, {"q1": [*others[:10], "a"]})
    assert (figures.mean("ndcg@10"), figures.mean("recall@50")) == (0, 1)
    assert evaluate({"q1": {"a": 1}}, {"q1": [*others[:50], "a"]}).mean("recall@50") == 0


def test_the_order_given_is_the_order_judged_whatever_the_ids_are_called():
    for first, second in (("a", "z"), ("z", "a")):
        assert evaluate({"q": {first: 1}}, {"q": [first, second]}).mean("mrr") == 1
        assert evaluate({"q": {second: 1}}, {"q": [first, second]}).mean("mrr") == 0.5


def test_grades_of_several_documents_add_up():
    figures = evaluate({"q": {"a": 1, "b": 1}}, {"q": ["a", "x", "b"]})
    ideal = 1 + 1 / math.log2(3)
    assert figures.mean("ndcg@10") == pytest.approx((1 + 1 / math.log2(4)) / ideal)
    assert evaluate({"q": {"a": 1, "b": 1}}, {"q": ["a"]}).mean("recall@50") == 0.5


def test_a_query_that_nobody_judged_is_left_out():
    assert evaluate(JUDGED, {"q1": ["a"], "stranger": ["a"]}).queries == ("q1", "q2", "q3")


def test_no_judgements_is_an_error_not_a_perfect_score():
    with pytest.raises(ValueError, match="no judged query"):
        evaluate({}, {"q1": ["a"]})


def test_a_difference_is_taken_query_by_query():
    one = evaluate(JUDGED, {"q1": ["a"], "q2": ["b"], "q3": ["x", "c"]})
    other = evaluate(JUDGED, {"q1": ["x", "a"], "q2": ["x", "b"], "q3": ["x", "c"]})
    gain = difference(one, other, "mrr")
    assert gain.mean == pytest.approx((0.5 + 0.5 + 0) / 3)
    assert gain.standard_error == pytest.approx(math.sqrt(((1 / 6) ** 2 * 2 + (1 / 3) ** 2) / 2) / math.sqrt(3))
    assert difference(one, one, "mrr").standard_error == 0


def test_what_is_equally_hard_for_both_cancels_out():
    judged = {f"q{n}": {f"d{n}": 1} for n in range(20)}
    run = {f"q{n}": [*(f"x{place}" for place in range(n % 7)), f"d{n}"] for n in range(20)}
    one, other = evaluate(judged, run), evaluate(judged, {**run, "q0": ["x", "d0"]})
    assert difference(one, other, "mrr").standard_error < one.standard_error("mrr") / 2


def test_figures_of_different_queries_cannot_be_paired():
    with pytest.raises(ValueError, match="measured on different queries"):
        difference(evaluate({"q1": {"a": 1}}, {}), evaluate({"q2": {"a": 1}}, {}), "mrr")
