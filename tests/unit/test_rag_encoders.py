"""Encoders: what a vector depends on, what the fingerprint tells apart, what the tokenizer counts and cuts."""

from pathlib import Path

import numpy as np
import pytest
from small_encoder import DIMENSION, small_encoder

from stack.rag.encoders import open_encoder
from stack.rag.hits import RetrievalError


def opened(folder, **settings):
    return open_encoder("small", small_encoder(folder, **settings), folder)


@pytest.fixture
def encoder(tmp_path):
    return opened(tmp_path)


def test_vectors_have_length_one_and_come_in_the_order_of_the_texts(encoder):
    texts = ["the cat sat . the cat sat .", "dog", "the mat"]
    vectors = encoder.encode_passages(texts)
    assert vectors.shape == (3, DIMENSION)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1)
    for row, text in enumerate(texts):
        assert np.allclose(vectors[row], encoder.encode_passages([text])[0], atol=1e-6)


def test_without_normalisation_a_vector_is_the_plain_mean_of_its_tokens(tmp_path):
    plain, scaled = opened(tmp_path / "a", normalise=False), opened(tmp_path / "b")
    (one,), (other,) = plain.encode_queries(["cat dog"]), scaled.encode_queries(["cat dog"])
    assert not np.isclose(np.linalg.norm(one), 1)
    assert np.allclose(one / np.linalg.norm(one), other, atol=1e-6)


def test_padding_of_a_batch_changes_no_vector(encoder):
    (alone,) = encoder.encode_passages(["cat"])
    beside = encoder.encode_passages(["cat", "the cat ran . the dog ran . the storm"])[0]
    assert np.allclose(alone, beside, atol=1e-6)


def test_no_texts_are_no_vectors(encoder):
    assert encoder.encode_queries([]).shape == (0, DIMENSION)
    assert encoder.encode_tokens([], "query") == []


def test_token_vectors_are_one_a_token_of_length_one_special_tokens_included(encoder):
    short, long = encoder.encode_tokens(["cat", "the cat ran"], "passage")
    assert (short.shape, long.shape) == ((3, DIMENSION), (5, DIMENSION))
    assert short.dtype == np.float16
    assert np.allclose(np.linalg.norm(long.astype(np.float32), axis=1), 1, atol=2e-3)


def test_both_kinds_of_vectors_come_from_one_pass_and_are_the_same_as_alone(encoder):
    (both,) = encoder.encode(["the cat"], "query")
    assert np.allclose(both.pooled, encoder.encode_queries(["the cat"])[0])
    assert np.array_equal(both.tokens, encoder.encode_tokens(["the cat"], "query")[0])


def test_prefixes_are_put_before_queries_and_passages_apart(tmp_path):
    plain = opened(tmp_path / "a")
    prefixed = opened(tmp_path / "b", query_prefix="query : ", passage_prefix="passage : ")
    assert np.allclose(prefixed.encode_queries(["cat"]), plain.encode_queries(["query : cat"]), atol=1e-6)
    assert np.allclose(prefixed.encode_passages(["cat"]), plain.encode_passages(["passage : cat"]), atol=1e-6)


def test_a_long_text_is_cut_at_max_tokens_with_its_special_tokens(tmp_path):
    encoder = opened(tmp_path, max_tokens=8)
    text = "cat dog mat ran sat the storm . cat dog"
    (tokens,) = encoder.encode_tokens([text], "passage")
    assert len(tokens) == 8
    assert np.allclose(encoder.encode_passages([text]), encoder.encode_passages(["cat dog mat ran sat the"]), atol=1e-6)


def test_the_tokenizers_own_truncation_and_padding_count_for_nothing(encoder):
    assert encoder.count_tokens(["cat dog mat ran", "cat"]).tolist() == [6, 3]


def test_counted_tokens_include_the_prefix_of_the_role(tmp_path):
    encoder = opened(tmp_path, query_prefix="query : ")
    assert encoder.count_tokens(["cat"], "query").tolist() == [5]
    assert encoder.count_tokens(["cat"], "passage").tolist() == [3]


def test_truncation_tells_the_share_of_texts_and_of_tokens_that_are_lost(tmp_path):
    encoder = opened(tmp_path, max_tokens=8)
    lost = encoder.truncation(["cat " * 10, "dog", "mat"])  # 12, 3 and 3 tokens
    assert lost.texts == pytest.approx(1 / 3)
    assert lost.tokens == pytest.approx(4 / 18)
    assert encoder.truncation([]).tokens == 0


def test_spans_say_where_each_token_stands_in_the_text(encoder):
    text = "The cat,  ran"
    assert [text[start:end] for start, end in encoder.spans(text)] == ["The", "cat", ",", "ran"]


@pytest.mark.parametrize(
    "change", [{"max_tokens": 64}, {"normalise": False}, {"query_prefix": "query : "}, {"passage_prefix": ": "}]
)
def test_whatever_changes_a_vector_changes_the_fingerprint(tmp_path, change):
    assert opened(tmp_path / "a").fingerprint != opened(tmp_path / "b", **change).fingerprint


def test_other_weights_have_another_fingerprint(tmp_path):
    assert opened(tmp_path / "a").fingerprint != opened(tmp_path / "b", seed=2).fingerprint


def test_another_tokenizer_has_another_fingerprint(tmp_path):
    before = opened(tmp_path / "a")
    settings = small_encoder(tmp_path / "b")
    file = tmp_path / "b" / settings.tokenizer
    file.write_text(file.read_text().replace('"cat": 4', '"cat": 5').replace('"dog": 5', '"dog": 4'))
    assert open_encoder("small", settings, tmp_path / "b").fingerprint != before.fingerprint


def test_folder_alias_and_threads_do_not_change_the_fingerprint(tmp_path):
    one = opened(tmp_path / "a")
    other = open_encoder("another", small_encoder(tmp_path / "b", threads=2), tmp_path / "b")
    assert one.fingerprint == other.fingerprint


def test_a_missing_file_is_named(tmp_path):
    settings = small_encoder(tmp_path)
    (tmp_path / "model.onnx").unlink()
    with pytest.raises(RetrievalError, match=r"model\.onnx: cannot read"):
        open_encoder("small", settings, tmp_path)


@pytest.mark.parametrize("file", ["model.onnx", "tokenizer.json"])
def test_a_damaged_file_is_named(tmp_path, file):
    settings = small_encoder(tmp_path)
    (tmp_path / file).write_bytes(b"\x00\x01 no such format")
    with pytest.raises(RetrievalError, match=file):
        open_encoder("small", settings, tmp_path)


@pytest.mark.parametrize("output", ["flat", "no_such"])
def test_an_output_that_is_not_one_vector_a_token_is_refused_with_the_outputs_there_are(tmp_path, output):
    settings = small_encoder(tmp_path, output=output)
    with pytest.raises(RetrievalError, match=r"outputs of this model: last_hidden_state \['b', 't', 8\], flat"):
        open_encoder("small", settings, tmp_path)


def test_a_folder_that_is_no_model_of_sentence_transformers_is_refused(tmp_path):
    from stack.rag.config.stages import SentenceTransformersEncoder

    settings = SentenceTransformersEncoder(kind="sentence-transformers", model=Path("nothing"))
    with pytest.raises(RetrievalError, match=r"nothing: no model of the sentence-transformers library"):
        open_encoder("st", settings, tmp_path)
