"""Fusion: two lists into one by ranks or by scores, and each list alone."""

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.rag.config.stages import DenseOnly, RrfFusion, SparseOnly, WeightedFusion
from stack.rag.fusion import fuse
from stack.rag.hits import NONE, Hits, min_max, ranked


def hits(**scores):
    rows = [int(name[1:]) for name in scores]
    return ranked(np.array(rows), np.array(list(scores.values())), len(rows))


SPARSE = hits(r1=12.0, r2=9.0, r3=3.0)
DENSE = hits(r2=0.9, r4=0.8, r1=0.5)


def weighted(weight, normalise="min_max"):
    return WeightedFusion(kind="weighted", dense_weight=weight, normalise=normalise)


def test_reciprocal_ranks_add_up():
    fused = fuse(RrfFusion(kind="rrf", k=60), SPARSE, DENSE, 10)
    assert fused.rows.tolist() == [2, 1, 4, 3]
    assert fused.scores.tolist() == pytest.approx([1 / 62 + 1 / 61, 1 / 61 + 1 / 63, 1 / 62, 1 / 63])


def test_with_a_small_k_being_first_counts_for_more_than_being_in_both():
    sparse, dense = hits(r1=9.0, r2=1.0), hits(r3=9.0, r2=1.0)
    assert fuse(RrfFusion(kind="rrf", k=0), sparse, dense, 1).rows.tolist() == [1]
    assert fuse(RrfFusion(kind="rrf", k=60), sparse, dense, 1).rows.tolist() == [2]


def test_min_max_puts_both_lists_on_one_scale_and_a_missing_row_gets_nothing():
    fused = fuse(weighted(0.5), SPARSE, DENSE, 10)
    scores = dict(zip(fused.rows.tolist(), fused.scores.tolist(), strict=True))
    assert scores == pytest.approx({1: 0.5, 2: 0.5 * 6 / 9 + 0.5, 3: 0.0, 4: 0.5 * 0.75})


def test_raw_scores_leave_the_order_to_the_list_with_the_larger_numbers():
    assert fuse(weighted(0.5, "none"), SPARSE, DENSE, 3).rows.tolist() == SPARSE.rows.tolist()


def test_the_weight_at_its_ends_leaves_one_list_in_charge():
    assert fuse(weighted(1.0), SPARSE, DENSE, 2).rows.tolist() == [2, 4]
    assert fuse(weighted(0.0), SPARSE, DENSE, 2).rows.tolist() == [1, 2]


def test_one_list_alone_passes_as_it_is():
    assert fuse(SparseOnly(kind="sparse-only"), SPARSE, DENSE, 2).rows.tolist() == [1, 2]
    assert fuse(DenseOnly(kind="dense-only"), SPARSE, DENSE, 10).scores.tolist() == DENSE.scores.tolist()


@pytest.mark.parametrize("settings", [RrfFusion(kind="rrf"), weighted(0.7), weighted(0.7, "none")])
def test_an_empty_list_leaves_the_order_of_the_other(settings):
    assert fuse(settings, NONE, DENSE, 10).rows.tolist() == DENSE.rows.tolist()
    assert fuse(settings, SPARSE, NONE, 10).rows.tolist() == SPARSE.rows.tolist()
    assert len(fuse(settings, NONE, NONE, 10)) == 0


def test_a_list_of_equal_scores_is_worth_its_whole_weight():
    assert fuse(weighted(0.7), hits(r5=2.0), NONE, 1).scores.tolist() == pytest.approx([0.3])


lists = st.dictionaries(st.integers(0, 30), st.floats(-5, 50, width=32), max_size=20).map(
    lambda found: ranked(np.array(list(found), np.int64), np.array(list(found.values()), np.float32), len(found))
)
fusions = st.sampled_from([RrfFusion(kind="rrf"), RrfFusion(kind="rrf", k=0), weighted(0.3), weighted(0.9, "none")])


@hypothesis.settings(deadline=None)
@given(fusions, lists, lists, st.integers(0, 40))
def test_the_result_is_a_ranked_list_of_rows_that_were_found(settings, sparse, dense, depth):
    fused = fuse(settings, sparse, dense, depth)
    found = set(sparse.rows.tolist()) | set(dense.rows.tolist())
    assert set(fused.rows.tolist()) <= found
    assert len(fused) == len(set(fused.rows.tolist())) == min(depth, len(found))
    keys = list(zip((-fused.scores).tolist(), fused.rows.tolist(), strict=True))
    assert keys == sorted(keys)


@hypothesis.settings(deadline=None)
@given(fusions, lists, lists)
def test_a_shorter_list_is_the_beginning_of_a_longer_one(settings, sparse, dense):
    whole = fuse(settings, sparse, dense, 100)
    for depth in range(len(whole)):
        assert fuse(settings, sparse, dense, depth).rows.tolist() == whole.rows[:depth].tolist()


def test_min_max_of_nothing_and_of_equals():
    assert min_max(np.empty(0)).tolist() == []
    assert min_max(np.array([3.0, 3.0])).tolist() == [1, 1]
    assert min_max(np.array([2.0, 4.0, 3.0])).tolist() == [0, 1, 0.5]


def test_the_first_of_a_list():
    assert Hits(np.array([4, 2]), np.array([2.0, 1.0])).first(1).rows.tolist() == [4]
