"""From text to terms: each step does what its setting says, and they run in the documented order."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from stack.rag.config.stages import AnalyserSettings
from stack.rag.sparse import Analyser

BARE = {"lowercase": False, "pattern": "whitespace", "stopwords": "none", "stemmer": "none"}


def terms(text, **settings):
    return Analyser(AnalyserSettings(**{**BARE, **settings})).terms(text)


def test_whitespace_keeps_punctuation_and_case():
    assert terms("Is  Qwen. a\tmodel?") == ["Is", "Qwen.", "a", "model?"]


def test_word_takes_letters_digits_and_underscores():
    assert terms("Is Qwen. a model? sqlite3_step(x)", pattern="word") == [
        "Is",
        "Qwen",
        "a",
        "model",
        "sqlite3_step",
        "x",
    ]


def test_word_knows_letters_beyond_ascii():
    assert terms("naïve café", pattern="word") == ["naïve", "café"]


def test_stop_words_are_left_out_only_in_the_case_of_the_list():
    assert terms("The cat is on the mat", stopwords="english") == ["The", "cat", "mat"]
    assert terms("The cat is on the mat", stopwords="english", lowercase=True) == ["cat", "mat"]


def test_stemming_joins_the_forms_of_a_word_and_comes_after_the_stop_words():
    assert terms("running runs run", stemmer="english") == ["run", "run", "run"]
    assert terms("being", stemmer="english", stopwords="english") == []


def test_the_default_takes_every_step():
    assert Analyser(AnalyserSettings()).terms("Does the KV cache get evicted?") == ["kv", "cach", "get", "evict"]


@pytest.mark.parametrize("text", ["", "   \n", "?!"])
def test_a_text_without_words_has_no_terms(text):
    assert Analyser(AnalyserSettings()).terms(text) == []


def test_several_threads_get_the_terms_that_one_gets():
    words = [f"{stem}ing {stem}ed {stem}s" for stem in ("walk", "jump", "index", "search", "retriev", "rank")] * 200
    analyser = Analyser(AnalyserSettings())
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(analyser.terms, words)) == [analyser.terms(text) for text in words]
