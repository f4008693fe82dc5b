"""The embedding cache: what is known is not computed again, what it gives is right whatever becomes of a process."""

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_encoder import DIMENSION, small_encoder

from stack.rag.encoders import EmbeddingCache, open_encoder
from stack.rag.hits import RetrievalError

TEXTS = ["the cat sat", "dog", "the storm ran"]


class Counting:
    """An encoder that remembers what it was asked."""

    def __init__(self, encoder):
        self._encoder = encoder
        self.seen = []

    def __getattr__(self, name):
        return getattr(self._encoder, name)

    def encode_queries(self, texts):
        self.seen += texts
        return self._encoder.encode_queries(texts)

    def encode_passages(self, texts):
        self.seen += texts
        return self._encoder.encode_passages(texts)

    def encode(self, texts, role):
        self.seen += texts
        return self._encoder.encode(texts, role)


@pytest.fixture
def encoder(tmp_path):
    return Counting(open_encoder("small", small_encoder(tmp_path / "model"), tmp_path / "model"))


@pytest.fixture
def cache(tmp_path):
    return EmbeddingCache(tmp_path / "cache")


def test_vectors_are_those_of_the_encoder_in_the_order_of_the_texts(cache, encoder):
    assert np.allclose(cache.vectors(encoder, TEXTS, "passage"), encoder.encode_passages(TEXTS), atol=1e-6)


def test_what_is_known_is_not_computed_again_not_even_by_another_process(cache, encoder, tmp_path):
    first = cache.vectors(encoder, TEXTS, "passage")
    assert sorted(encoder.seen) == sorted(TEXTS)
    again = EmbeddingCache(tmp_path / "cache").vectors(encoder, [*TEXTS, "mat"], "passage")
    assert encoder.seen[len(TEXTS) :] == ["mat"]
    assert np.array_equal(again[: len(TEXTS)], first)


def test_a_text_that_comes_twice_is_computed_once(cache, encoder):
    vectors = cache.vectors(encoder, ["dog", "cat", "dog"], "query")
    assert sorted(encoder.seen) == ["cat", "dog"]
    assert np.array_equal(vectors[0], vectors[2])


def test_query_and_passage_are_kept_apart(cache, encoder, tmp_path):
    settings = small_encoder(tmp_path / "prefixed", query_prefix="query : ")
    prefixed = open_encoder("prefixed", settings, tmp_path / "prefixed")
    (query,), (passage,) = (cache.vectors(prefixed, ["cat"], role) for role in ("query", "passage"))
    assert not np.allclose(query, passage)


def test_vectors_of_another_encoder_are_never_given(cache, encoder, tmp_path):
    other = open_encoder("other", small_encoder(tmp_path / "other", seed=2), tmp_path / "other")
    (one,), (two,) = (cache.vectors(one, ["cat"], "passage") for one in (encoder, other))
    assert not np.allclose(one, two)


def test_token_vectors_are_mapped_from_disk_and_bring_the_pooled_ones_along(cache, encoder):
    tokens = cache.tokens(encoder, TEXTS, "passage")
    assert [one.tolist() for one in tokens] == [one.tolist() for one in encoder.encode_tokens(TEXTS, "passage")]
    assert isinstance(tokens[0], np.memmap)
    encoder.seen.clear()
    assert np.allclose(cache.vectors(encoder, TEXTS, "passage"), encoder._encoder.encode_passages(TEXTS), atol=1e-6)
    assert encoder.seen == []


def test_more_token_vectors_leave_those_of_before_where_they_are(cache, encoder):
    before = cache.tokens(encoder, TEXTS[:1], "passage")[0].tolist()
    both = cache.tokens(encoder, [*TEXTS[:1], "mat cat"], "passage")
    assert both[0].tolist() == before
    assert both[1].shape == (4, DIMENSION)


def test_an_empty_list_of_texts_is_no_work(cache, encoder):
    assert cache.vectors(encoder, [], "query").shape == (0, DIMENSION)
    assert cache.tokens(encoder, [], "query") == []


def test_progress_counts_what_has_to_be_computed(cache, encoder):
    cache.vectors(encoder, ["cat"], "query")
    told = []
    cache.vectors(encoder, ["cat", "dog", "mat"], "query", lambda done, total: told.append((done, total)))
    assert told == [(2, 2)]


def test_entries_whose_file_is_gone_or_too_short_are_computed_again(cache, encoder, tmp_path):
    cache.tokens(encoder, TEXTS, "passage")
    (file,) = (tmp_path / "cache").glob("*.f16")
    os.truncate(file, file.stat().st_size - 2)
    tokens = cache.tokens(encoder, TEXTS, "passage")
    assert [one.tolist() for one in tokens] == [one.tolist() for one in encoder.encode_tokens(TEXTS, "passage")]
    for file in (tmp_path / "cache").glob("*.f16"):
        file.unlink()
    assert len(cache.tokens(encoder, TEXTS, "passage")[0]) == 5


WRITER = """
import sys
from pathlib import Path
from small_encoder import small_encoder
from stack.rag.encoders import EmbeddingCache, open_encoder
folder = Path(sys.argv[1])
encoder = open_encoder("small", small_encoder(folder / "model"), folder / "model")
cache = EmbeddingCache(folder / "cache")
print("ready", flush=True)
words = "cat dog mat ran sat".split()
texts = [" ".join(words[int(d)] for d in str(n) if int(d) < 5) + " ." * (n % 7) for n in range(20000)]
cache.tokens(encoder, texts, "passage", lambda done, total: print(done, flush=True))
"""


def test_after_kill_9_in_the_middle_every_entry_is_whole_and_right(tmp_path, encoder):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        for line in writer.stdout:
            if line.strip() == "512":
                break
        writer.send_signal(signal.SIGKILL)
    finally:
        writer.kill()
        writer.wait()
    cache = EmbeddingCache(tmp_path / "cache")
    with sqlite3.connect(tmp_path / "cache" / "vectors.sqlite") as database:
        (kept,) = database.execute("SELECT count(*) FROM tokens").fetchone()
    assert kept >= 512
    texts = [" ".join(["cat", "dog"][n % 2] for _ in range(n % 4 + 1)) for n in range(40)]
    for mine, right in zip(
        cache.tokens(encoder, texts, "passage"), encoder.encode_tokens(texts, "passage"), strict=True
    ):
        assert mine.tolist() == right.tolist()


def test_a_damaged_database_is_an_error_that_says_what_to_do(cache, encoder, tmp_path):
    cache.vectors(encoder, TEXTS, "query")
    for file in (tmp_path / "cache").glob("vectors.sqlite*"):
        file.write_bytes(b"no database at all" * 100)
    with pytest.raises(RetrievalError, match=r"remove the folder: everything in it can be computed again"):
        EmbeddingCache(tmp_path / "cache").vectors(encoder, TEXTS, "query")


def test_a_cache_of_a_later_format_is_refused(cache, tmp_path):
    with sqlite3.connect(tmp_path / "cache" / "vectors.sqlite") as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(RetrievalError, match="format 99, expected 1"):
        EmbeddingCache(tmp_path / "cache")


def test_a_folder_that_cannot_be_made_is_an_error_that_names_it(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RetrievalError, match="file/cache: cannot be made"):
        EmbeddingCache(tmp_path / "file" / "cache")
