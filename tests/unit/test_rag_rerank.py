"""Reranking: what is mixed with what, what stays below the pool, and when the first stage keeps the last word."""

import hypothesis
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from small_encoder import small_encoder

from stack.rag.config.stages import CrossEncoder, LateInteraction, NoRerank
from stack.rag.encoders import open_encoder
from stack.rag.hits import NONE, RetrievalError, ranked
from stack.rag.rerank import RerankTimeout, TokenVectors, open_reranker
from stack.rag.rerank.late import max_sim
from stack.rag.rerank.reranker import Reranker

TEXTS = ["a storm", "the dog ran", "the cat sat on the mat", "the cat", "dog"]


class Prefers(Reranker):
    """Scores rows by a table."""

    def __init__(self, table, **settings):
        super().__init__(LateInteraction(kind="late-interaction", encoder="x", **settings))
        self._table = table

    def _scores(self, query, rows, texts, deadline):
        deadline.check()
        return np.array([self._table[row] for row in rows])


def first(*scores):
    return ranked(np.arange(len(scores)), np.array(scores), len(scores))


def test_the_score_is_the_mix_of_both_each_between_0_and_1():
    reranker = Prefers({0: 10.0, 1: 30.0, 2: 20.0}, pool=3, first_stage_weight=0.6)
    hits = reranker.rerank("q", first(0.9, 0.5, 0.1), ["", "", ""])
    assert hits.rows.tolist() == [1, 0, 2]
    assert hits.scores.tolist() == pytest.approx([0.6 * 0.5 + 0.4, 0.6, 0.4 * 0.5])


def test_at_weight_0_only_the_reranker_counts_and_at_1_only_the_first_stage():
    table = {0: 1.0, 1: 2.0, 2: 3.0}
    for weight, rows in ((0, [2, 1, 0]), (1, [0, 1, 2])):
        reranker = Prefers(table, first_stage_weight=weight)
        assert reranker.rerank("q", first(3.0, 2.0, 1.0), ["", "", ""]).rows.tolist() == rows


def test_below_the_pool_the_order_and_the_distances_stay():
    reranker = Prefers({0: 1.0, 1: 2.0, 2: 99.0, 3: 99.0}, pool=2, first_stage_weight=0)
    hits = reranker.rerank("q", first(9.0, 8.0, 6.0, 5.5), [""] * 4)
    assert hits.rows.tolist() == [1, 0, 2, 3]
    assert hits.scores.tolist() == pytest.approx([1, 0, -2, -2.5])


def test_nothing_found_stays_nothing():
    assert len(Prefers({}).rerank("q", NONE, [])) == 0


def test_out_of_time_is_told_not_hidden():
    with pytest.raises(RerankTimeout, match=r"not done within 1e-09 s"):
        Prefers({0: 1.0}, timeout_seconds=1e-9).rerank("q", first(1.0), [""])


@hypothesis.settings(deadline=None)
@given(st.lists(st.floats(0, 1, width=32), max_size=12), st.integers(1, 15), st.floats(0, 1), st.data())
def test_reranking_keeps_every_row_once_and_sorts_by_score(scores, pool, weight, data):
    table = data.draw(st.lists(st.floats(-9, 9, width=32), min_size=len(scores), max_size=len(scores)))
    before = first(*scores)
    after = Prefers(dict(enumerate(table)), pool=pool, first_stage_weight=weight).rerank(
        "q", before, [""] * len(scores)
    )
    assert sorted(after.rows.tolist()) == sorted(before.rows.tolist())
    assert (np.diff(after.scores) <= 0).all()


def test_max_sim_is_the_mean_over_query_tokens_of_the_nearest_token_of_the_passage():
    query = np.array([[1, 0], [0, 1]], np.float16)
    passages = [np.array([[1, 0], [0.6, 0.8]], np.float16), np.array([[-1, 0]], np.float16)]
    assert max_sim(query, passages).tolist() == pytest.approx([(1 + 0.8) / 2, (-1 + 0) / 2], abs=1e-3)


@pytest.fixture
def encoder(tmp_path):
    return open_encoder("small", small_encoder(tmp_path / "encoder"), tmp_path / "encoder")


def late(encoder, tokens=None, **settings):
    settings = LateInteraction(kind="late-interaction", encoder="small", first_stage_weight=0, **settings)
    tokens = tokens or TokenVectors(encoder.encode_tokens(TEXTS, "passage"), encoder.fingerprint)
    return open_reranker(settings, None, encoder, tokens)


def test_late_interaction_prefers_the_passage_that_has_the_query_tokens(encoder):
    hits = late(encoder).rerank("cat mat", first(5.0, 4.0, 3.0, 2.0, 1.0), TEXTS)
    assert hits.rows[:2].tolist() == [2, 3]


def test_late_interaction_with_another_encoders_query_vectors_prefers_something_else(encoder, tmp_path):
    other = open_encoder("other", small_encoder(tmp_path / "other", seed=2), tmp_path / "other")
    tokens = TokenVectors(encoder.encode_tokens(TEXTS, "passage"), encoder.fingerprint)
    settings = LateInteraction(kind="late-interaction", encoder="other", first_stage_weight=0)
    right = late(encoder).rerank("cat mat", first(5.0, 4.0, 3.0, 2.0, 1.0), TEXTS)
    wrong = open_reranker(settings, None, other, tokens).rerank("cat mat", first(5.0, 4.0, 3.0, 2.0, 1.0), TEXTS)
    assert wrong.rows.tolist() != right.rows.tolist()


def test_late_interaction_refuses_vectors_of_another_dimension(encoder):
    tokens = TokenVectors([np.ones((2, 5), np.float16)], "other")
    with pytest.raises(RetrievalError, match="encoder 'small' makes vectors of 8 numbers, the index has 5"):
        late(encoder, tokens)


def test_late_interaction_without_token_vectors_is_refused():
    settings = LateInteraction(kind="late-interaction", encoder="small")
    with pytest.raises(RetrievalError, match="needs an encoder and an index that was built with token vectors"):
        open_reranker(settings, None)


def test_token_vectors_tell_what_they_take(encoder):
    tokens = TokenVectors(encoder.encode_tokens(["cat", "the cat"], "passage"), encoder.fingerprint)
    assert (len(tokens), tokens.dimension, tokens.bytes) == (2, 8, (3 + 4) * 8 * 2)


def test_no_reranker_gives_back_what_it_gets():
    hits = first(2.0, 1.0)
    assert open_reranker(NoRerank(kind="none"), None).rerank("q", hits, ["", ""]) is hits


@pytest.fixture
def pair_model(tmp_path):
    """A cross-encoder whose score is the sum of the token numbers of the passage."""
    folder = tmp_path / "pairs"
    small_encoder(folder)
    names = ("input_ids", "attention_mask", "token_type_ids")
    nodes = [
        helper.make_node("Mul", ["input_ids", "token_type_ids"], ["passage"]),
        helper.make_node("Mul", ["passage", "attention_mask"], ["counted"]),
        helper.make_node("Cast", ["counted"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["numbers", "axis"], ["logits"], keepdims=1),
    ]
    graph = helper.make_graph(
        nodes, "pairs", [helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "t"]) for name in names],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b", 1])],
        [helper.make_tensor("axis", TensorProto.INT64, [1], [1])],
    )  # fmt: skip
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), folder / "model.onnx"
    )
    return folder


def cross(folder, **settings):
    settings = CrossEncoder(kind="cross-encoder", model=folder.name, first_stage_weight=0, **settings)
    return open_reranker(settings, folder.parent)


def test_a_cross_encoder_reads_pairs_in_batches_and_passages_in_place(pair_model):
    scores = [5.0, 4.0, 3.0, 2.0, 1.0]
    for batch in (1, 2, 16):
        hits = cross(pair_model, batch=batch).rerank("cat", first(*scores), TEXTS)
        assert hits.rows[0] == 2  # the longest passage has the largest sum
        assert hits.rows.tolist() == cross(pair_model).rerank("cat", first(*scores), TEXTS).rows.tolist()


def test_a_cross_encoder_cuts_what_is_too_long_whichever_it_is(pair_model):
    reranker = cross(pair_model, max_tokens=16)
    for query, text in (("cat " * 50, "dog"), ("cat", "dog " * 50), ("cat " * 50, "dog " * 50)):
        assert len(reranker.rerank(query, first(1.0), [text])) == 1


def test_a_cross_encoder_looks_at_the_clock_between_batches(pair_model):
    with pytest.raises(RerankTimeout):
        cross(pair_model, timeout_seconds=1e-9).rerank("cat", first(1.0, 0.5), TEXTS[:2])


def test_a_missing_folder_and_two_models_in_one_are_errors(pair_model, tmp_path):
    with pytest.raises(RetrievalError, match="nowhere: no folder of a cross-encoder"):
        cross(tmp_path / "nowhere")
    (pair_model / "other.onnx").write_bytes(b"")
    with pytest.raises(RetrievalError, match=r"several ONNX files \(model\.onnx, other\.onnx\)"):
        cross(pair_model)
