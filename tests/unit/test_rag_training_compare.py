"""How rerankers are compared: the measure, and that a weight is not chosen on what it is reported for."""

from pathlib import Path

import ir_measures
import numpy as np
import pytest
from small_encoder import small_encoder

from stack.rag.encoders import EmbeddingCache, open_encoder
from stack.rag.sources.collection import Collection, Document, Query
from stack.rag.training import compare as comparison
from stack.rag.training.compare import Scored, compare
from stack.rag.training.metrics import reciprocal_gain


@pytest.mark.parametrize("place", [0, 1, 4, 9, 10, 11])
def test_the_gain_is_the_fields_ndcg_at_ten(place):
    scores, right = np.linspace(1, 0, 12), np.arange(12) == place
    run = {"q": {f"d{i}": float(score) for i, score in enumerate(scores)}}
    expected = ir_measures.calc_aggregate([ir_measures.nDCG @ 10], {"q": {f"d{place}": 1}}, run)
    assert reciprocal_gain(scores, right) == pytest.approx(next(iter(expected.values())))


def test_a_passage_that_is_not_among_the_candidates_gains_nothing():
    assert reciprocal_gain(np.ones(5), np.zeros(5, bool)) == 0


def test_of_equal_scores_the_earlier_candidate_comes_first():
    assert reciprocal_gain(np.ones(3), np.array([True, False, False])) == 1
    assert reciprocal_gain(np.ones(3), np.array([False, True, False])) == pytest.approx(1 / np.log2(3))


def _scored(first: list[float], own: list[float]) -> Scored:
    scores = {"late-interaction": np.array(own), "cross-encoder": np.array(own)}
    return Scored(np.array([True, False]), np.array(first), scores, dict.fromkeys(scores, 0.002))


def test_the_weight_is_chosen_on_one_half_and_reported_for_the_other(tmp_path, monkeypatch):
    encoder = open_encoder("small", small_encoder(tmp_path), tmp_path)
    documents = (Document("d0", "", "the cat sat"), Document("d1", "", "the dog ran"))
    queries = tuple(Query(f"q{n}", f"cat {n}") for n in range(40))
    collection = Collection("c", documents, queries, {query.id: {"d0": 1} for query in queries})
    chooses = {query.id for query in collection.half(0).queries}
    # In the half that chooses, only the reranker is right; in the other one, only the first stage is.
    reranker, first = _scored([0, 1], [1, 0]), _scored([1, 0], [0, 1])
    monkeypatch.setattr(comparison, "_scored", lambda _, query, *__: reranker if query in chooses else first)
    monkeypatch.setattr(comparison, "CrossEncoderReranker", lambda *_: None)
    found = compare(collection, encoder, EmbeddingCache(tmp_path / "v"), Path("model"), 2, None)
    result = found.results["cross-encoder"]
    assert found.chosen_on + found.questions == 40
    assert result.weight < 0.5
    assert result.mixed == pytest.approx(1 / np.log2(3))
    assert found.first_stage == 1
    assert result.gain == pytest.approx(1 / np.log2(3) - 1)
    assert result.milliseconds == pytest.approx(2)
