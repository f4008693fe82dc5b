"""What retrieval finds on real collections with real encoders: the figures that it has always had.

The first run computes the vectors of one collection, which takes a minute or less; they are kept where the evaluation
keeps its own, and are computed again when the encoders' code changed.
"""

import functools
from pathlib import Path

import pytest

from lab.evaluation import vectors_of_this_code
from stack.rag.bench import DATA, VECTORS
from stack.rag.encoders import EmbeddingCache
from stack.rag.golden import GOLDEN, TOLERANCE, Bed


@functools.cache
def bed(collection):
    return Bed(collection, DATA, EmbeddingCache(Path(vectors_of_this_code(VECTORS))))


@pytest.mark.parametrize(
    "golden", [pytest.param(one, id=f"{one.collection}: {one.name}") for one in GOLDEN if one.quick]
)
def test_the_figure_is_what_it_was(golden):
    assert golden.measure(bed(golden.collection)) == pytest.approx(golden.value, abs=TOLERANCE)


def test_each_fault_costs_more_than_the_tolerance():
    """Else the figures above would stay in their bounds with the fault, and prove nothing."""
    values = {(one.collection, one.name): one.value for one in GOLDEN}
    for collection in ("boolq", "disflqa"):
        assert values[collection, "BM25, stems"] - values[collection, "BM25, whitespace"] > 4 * TOLERANCE
        assert values[collection, "BM25, stems"] - values[collection, "BM25, stems, query in plain words"] > 0.1
    for fault in ("cut at 128 tokens", "passages not normalised", "queries by another encoder"):
        assert values["disflqa", "dense"] - values["disflqa", f"dense, {fault}"] > TOLERANCE
