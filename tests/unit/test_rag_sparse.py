"""Sparse search, both kinds: what matches, in which order, who may be found, and what survives on disk."""

import json

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.rag import sparse
from stack.rag.config.stages import AnalyserSettings, SparseSettings
from stack.rag.hits import RetrievalError

TEXTS = [
    "The cats sat on the mat",
    "A dog ran from the storm",
    "Cats and dogs, dogs and cats",
    "",
    "Storm damage to the mat of the cat",
]
PLAIN = AnalyserSettings(stopwords="none", stemmer="none")


@pytest.fixture(params=["bm25s", "rank-bm25"])
def kind(request):
    return request.param


def test_only_passages_that_share_a_term_are_found_best_first(kind):
    hits = sparse.build(TEXTS, SparseSettings(kind=kind)).search("dogs in a storm", 10)
    assert set(hits.rows.tolist()) == {1, 2, 4}
    assert hits.rows[0] == 1  # the only one with both terms
    assert hits.scores.tolist() == sorted(hits.scores, reverse=True)
    assert (hits.rows.dtype, hits.scores.dtype) == (np.int64, np.float32)


def test_a_term_in_most_passages_still_counts_for_those_that_have_it(kind):
    hits = sparse.build(["cat a", "cat b", "cat c", "d"], SparseSettings(kind=kind, analyser=PLAIN)).search("cat", 10)
    assert hits.rows.tolist() == [0, 1, 2]
    assert (hits.scores > 0).all()


def test_equal_scores_are_in_the_order_of_the_rows_also_where_the_list_ends(kind):
    index = sparse.build(["same words"] * 20 + ["others"], SparseSettings(kind=kind))
    assert index.search("words", 5).rows.tolist() == [0, 1, 2, 3, 4]


def test_depth_bounds_the_list(kind):
    index = sparse.build(TEXTS, SparseSettings(kind=kind))
    assert len(index.search("cat dog mat storm", 2)) == 2
    assert len(index.search("cat dog mat storm", 0)) == 0


@pytest.mark.parametrize("query", ["", "the of and", "zebra"])
def test_a_query_without_a_known_term_finds_nothing(kind, query):
    assert len(sparse.build(TEXTS, SparseSettings(kind=kind)).search(query, 10)) == 0


def test_what_is_not_allowed_takes_no_place_of_what_is(kind):
    texts = ["storm storm storm"] * 30 + ["a storm and many other words beside it"]
    allowed = np.zeros(31, bool)
    allowed[30] = True
    hits = sparse.build(texts, SparseSettings(kind=kind)).search("storm", 3, allowed)
    assert hits.rows.tolist() == [30]


def test_both_kinds_give_the_same_scores():
    one, other = (sparse.build(TEXTS, SparseSettings(kind=kind)) for kind in ("bm25s", "rank-bm25"))
    for query in ("cats", "dog storm", "mat mat cat"):
        a, b = one.search(query, 10), other.search(query, 10)
        assert a.rows.tolist() == b.rows.tolist()
        assert np.allclose(a.scores, b.scores, atol=1e-5)


def test_the_query_may_be_analysed_in_another_way_and_then_misses(kind):
    settings = SparseSettings(kind=kind, query_analyser=PLAIN)
    index = sparse.build(TEXTS, settings)
    assert len(index.search("damages", 10)) == 0
    assert len(sparse.build(TEXTS, SparseSettings(kind=kind)).search("damages", 10)) == 1


def test_known_terms_tell_how_much_of_a_query_the_index_has_seen(kind):
    index = sparse.build(TEXTS, SparseSettings(kind=kind))
    assert index.known_terms("cats and zebras").share == 0.5
    assert index.known_terms("the").share == 1.0
    assert (index.known_terms("cat cat yak").known, index.known_terms("cat cat yak").total) == (2, 3)


def test_an_index_is_the_same_after_saving_and_loading(kind, tmp_path):
    index = sparse.build(TEXTS, SparseSettings(kind=kind, k1=0.9, b=0.4, query_analyser=PLAIN))
    index.save(tmp_path / "sparse")
    loaded = sparse.load(tmp_path / "sparse")
    assert (len(loaded), loaded.settings) == (len(TEXTS), index.settings)
    for query in ("cat", "storm mat", "zebra"):
        assert loaded.search(query, 10).rows.tolist() == index.search(query, 10).rows.tolist()
        assert np.array_equal(loaded.search(query, 10).scores, index.search(query, 10).scores)


def test_the_same_texts_give_the_same_files(kind, tmp_path):
    for name in ("a", "b"):
        sparse.build(TEXTS, SparseSettings(kind=kind)).save(tmp_path / name)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def test_a_missing_index_is_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(RetrievalError, match=r"nowhere: no usable sparse index .*; build the index again"):
        sparse.load(tmp_path / "nowhere")


def test_each_damaged_file_is_an_error_not_a_wrong_answer(kind, tmp_path):
    index = sparse.build(TEXTS, SparseSettings(kind=kind))
    index.save(tmp_path / "whole")
    for name in [file.name for file in (tmp_path / "whole").iterdir()]:
        folder = tmp_path / f"without-{name}"
        index.save(folder)
        whole = (folder / name).read_bytes()
        for damaged in (b"", whole[: len(whole) // 2]):
            (folder / name).write_bytes(damaged)
            with pytest.raises(RetrievalError, match="build the index again"):
                sparse.load(folder)


def test_settings_of_an_unknown_kind_are_an_error(tmp_path):
    sparse.build(TEXTS, SparseSettings()).save(tmp_path)
    settings = json.loads((tmp_path / "settings.json").read_text())
    (tmp_path / "settings.json").write_text(json.dumps({**settings, "kind": "lucene"}))
    with pytest.raises(RetrievalError, match="no usable sparse index"):
        sparse.load(tmp_path)


@pytest.mark.parametrize("texts", [[], ["", "the of"]])
def test_texts_without_a_term_make_no_index(kind, texts):
    with pytest.raises(RetrievalError, match="without a single term"):
        sparse.build(texts, SparseSettings(kind=kind))


words = st.sampled_from(["cat", "dog", "mat", "storm", "ran", "sat"])


@hypothesis.settings(deadline=None)
@given(st.lists(st.lists(words, max_size=6).map(" ".join), min_size=1, max_size=12), st.data())
def test_a_filtered_search_is_the_unfiltered_one_without_what_is_not_allowed(texts, data):
    allowed = np.array(data.draw(st.lists(st.booleans(), min_size=len(texts), max_size=len(texts))))
    if not any(texts):
        return
    index = sparse.build(texts, SparseSettings(analyser=PLAIN))
    everything = index.search("cat storm ran", len(texts))
    wanted = [row for row in everything.rows.tolist() if allowed[row]]
    assert index.search("cat storm ran", len(texts), allowed).rows.tolist() == wanted
