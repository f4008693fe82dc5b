"""Dense search with each index: what is near, who may be found, and what survives on disk."""

import numpy as np
import pytest

from stack.rag import dense
from stack.rag.config.stages import FlatIndex, HnswIndex, IvfIndex
from stack.rag.hits import RetrievalError

KINDS = {
    "flat": FlatIndex(kind="flat"),
    "hnsw": HnswIndex(kind="hnsw", m=8, ef_construction=40, ef_search=32),
    "ivf": IvfIndex(kind="ivf", lists=8, probes=2),
}


def unit_vectors(count, dimension=16, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


VECTORS = unit_vectors(400)


@pytest.fixture(params=KINDS)
def settings(request):
    return KINDS[request.param]


def nearest(vectors, query, count, allowed=None):
    scores = vectors @ query
    if allowed is not None:
        scores = np.where(allowed, scores, -np.inf)
    return np.argsort(-scores, kind="stable")[:count].tolist()


def test_a_vector_finds_itself_first_with_score_one(settings):
    index = dense.build(VECTORS, settings)
    hits = index.search(VECTORS[7], 5)
    assert hits.rows[0] == 7
    assert hits.scores[0] == pytest.approx(1, abs=1e-5)
    assert (len(hits), hits.rows.dtype, hits.scores.dtype) == (5, np.int64, np.float32)
    assert (len(index), index.dimension) == (400, 16)


def test_flat_finds_exactly_the_nearest():
    index = dense.build(VECTORS, KINDS["flat"])
    for query in unit_vectors(20, seed=1):
        assert index.search(query, 10).rows.tolist() == nearest(VECTORS, query, 10)


def test_for_vectors_of_length_one_both_metrics_give_one_order(settings):
    squared = settings.model_copy(update={"metric": "l2"})
    hits = dense.build(VECTORS, squared).search(VECTORS[3], 400)
    assert hits.rows.tolist()[:5] == nearest(VECTORS, VECTORS[3], 5)
    assert hits.scores[0] == pytest.approx(0, abs=1e-5)
    assert hits.scores.tolist() == sorted(hits.scores, reverse=True)


def test_with_inner_product_a_long_vector_wins_over_a_near_one():
    vectors = np.array([[1, 0], [3, 3]], np.float32)
    assert dense.build(vectors, FlatIndex(kind="flat")).search(vectors[0], 2).rows.tolist() == [1, 0]
    assert dense.build(vectors, FlatIndex(kind="flat", metric="l2")).search(vectors[0], 2).rows.tolist() == [0, 1]


def test_equal_scores_are_in_the_order_of_the_rows(settings):
    vectors = np.repeat(unit_vectors(2), 10, axis=0)
    assert dense.build(vectors, settings).search(vectors[0], 20).rows.tolist()[:10] == list(range(10))


def test_where_equals_are_cut_off_the_first_rows_stay():
    vectors = np.repeat(unit_vectors(2), 10, axis=0)
    assert dense.build(vectors, KINDS["flat"]).search(vectors[0], 4).rows.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("share", [0.01, 0.1, 0.9])
def test_a_filter_leaves_exactly_the_nearest_of_what_is_allowed(settings, share):
    allowed = np.random.default_rng(5).random(400) < share
    index = dense.build(VECTORS, settings)
    for query in unit_vectors(10, seed=2):
        assert index.search(query, 10, allowed).rows.tolist() == nearest(
            VECTORS, query, min(10, allowed.sum()), allowed
        )


def test_a_filter_over_many_rows_finds_nearly_all_without_comparing_all(settings, monkeypatch):
    monkeypatch.setattr(dense, "EXACT_BELOW", 10)
    allowed = np.random.default_rng(5).random(400) < 0.3
    index = dense.build(VECTORS, settings)
    found = 0
    for query in unit_vectors(30, seed=3):
        rows = index.search(query, 10, allowed).rows
        assert len(rows) == 10
        assert allowed[rows].all()
        found += len(set(rows.tolist()) & set(nearest(VECTORS, query, 10, allowed)))
    assert found / 300 > 0.8


def test_nothing_allowed_or_nothing_wanted_is_nothing_found(settings):
    index = dense.build(VECTORS, settings)
    assert len(index.search(VECTORS[0], 5, np.zeros(400, bool))) == 0
    assert len(index.search(VECTORS[0], 0)) == 0


def test_an_approximate_index_gives_as_many_as_were_asked_for(settings):
    assert len(dense.build(VECTORS, settings).search(VECTORS[0], 1000)) == 400


def test_fewer_vectors_than_cells_are_no_problem():
    index = dense.build(unit_vectors(3), IvfIndex(kind="ivf", lists=64, probes=1))
    assert len(index.search(unit_vectors(3)[0], 3)) == 3


def test_an_index_is_the_same_after_saving_and_loading(settings, tmp_path):
    index = dense.build(VECTORS, settings)
    index.save(tmp_path / "dense")
    loaded = dense.load(tmp_path / "dense")
    assert loaded.settings == settings
    allowed = np.random.default_rng(5).random(400) < 0.2
    for query in unit_vectors(5, seed=4):
        assert loaded.search(query, 10).rows.tolist() == index.search(query, 10).rows.tolist()
        assert loaded.search(query, 10, allowed).rows.tolist() == index.search(query, 10, allowed).rows.tolist()


def test_a_vector_of_another_dimension_is_refused_with_both_named(settings):
    with pytest.raises(RetrievalError, match="a query vector of 15 numbers, an index of 16"):
        dense.build(VECTORS, settings).search(VECTORS[0, :15], 5)


@pytest.mark.parametrize("vectors", [np.empty((0, 16), np.float32), np.empty(0, np.float32)])
def test_no_vectors_make_no_index(settings, vectors):
    with pytest.raises(RetrievalError, match="no vectors"):
        dense.build(vectors, settings)


def test_a_vector_that_holds_no_number_is_refused(settings):
    broken = VECTORS.copy()
    broken[3, 2] = np.nan
    with pytest.raises(RetrievalError, match="no number"):
        dense.build(broken, settings)


def test_missing_and_damaged_indexes_are_errors_that_say_what_to_do(settings, tmp_path):
    with pytest.raises(RetrievalError, match="build the index again"):
        dense.load(tmp_path)
    for name in ("vectors.faiss", "settings.json"):
        dense.build(VECTORS, settings).save(tmp_path / name)
        file = tmp_path / name / name
        file.write_bytes(file.read_bytes()[:40])
        with pytest.raises(RetrievalError, match=r"no usable dense index .*; build the index again"):
            dense.load(tmp_path / name)
