"""Chunks fit the encoder, lose no word, cut no word, and come out the same each time."""

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tokenizers import Tokenizer, models, pre_tokenizers

from stack.rag.chunking import chunk
from stack.rag.config.stages import ChunkSettings


class PieceCounter:
    """Takes words apart into pieces of at most three letters, as tokenizers for real encoders do."""

    def __init__(self):
        self._tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
        self._tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Whitespace(), pre_tokenizers.FixedLength(length=3)]
        )

    def spans(self, text):
        return self._tokenizer.encode(text, add_special_tokens=False).offsets


PIECES = PieceCounter()


def settings(**changes):
    return ChunkSettings(**{"max_tokens": 16, "overlap_tokens": 0, "by_headings": False, **changes})


def test_a_short_text_is_one_chunk_without_the_blanks_around_it():
    (only,) = chunk("  a cat sat \n", settings(), PIECES)
    assert (only.text, only.start, only.end) == ("a cat sat", 2, 11)


@pytest.mark.parametrize("text", ["", " \n\n "])
def test_a_text_of_blanks_has_no_chunk(text):
    assert chunk(text, settings(), PIECES) == []


def test_a_long_text_is_cut_between_words_each_chunk_as_full_as_words_allow():
    chunks = chunk("elephants " * 12, settings(), PIECES)  # three pieces a word, five words to 16 pieces
    assert [one.text.split() for one in chunks] == [["elephants"] * 5, ["elephants"] * 5, ["elephants"] * 2]


def test_chunks_overlap_by_at_most_the_tokens_that_were_asked_for():
    words = [f"w{number:02}" for number in range(40)]
    chunks = chunk(" ".join(words), settings(overlap_tokens=4), PIECES)
    assert [one.text.split()[0] for one in chunks] == ["w00", "w12", "w24"]
    assert chunks[0].text.split()[-4:] == chunks[1].text.split()[:4]
    assert chunks[-1].text.split()[-1] == "w39"


def test_a_word_longer_than_a_chunk_is_cut_inside():
    chunks = chunk("x" * 100, settings(), PIECES)
    assert [len(one.text) for one in chunks] == [48, 48, 4]


def test_a_heading_starts_a_chunk_and_what_stands_before_it_is_one():
    text = "before\n\n# First\nabout one\n\n## Second\nabout two"
    assert [one.text for one in chunk(text, settings(by_headings=True), PIECES)] == [
        "before",
        "# First\nabout one",
        "## Second\nabout two",
    ]
    assert len(chunk(text, settings(), PIECES)) == 1


def test_a_comment_in_code_is_no_heading():
    assert len(chunk("run this:\n# a comment\nmake drill", settings(by_headings=True), PIECES)) == 1


def test_an_overlap_of_more_than_half_is_refused():
    with pytest.raises(ValidationError, match="overlap_tokens must be at most half of max_tokens"):
        settings(overlap_tokens=9)


texts = st.lists(
    st.sampled_from(["a", "cat", "elephant", "x" * 70, "# ", "\n\n", "don't", "ünïcödé", "日本語"]), max_size=60
).map(" ".join)


@hypothesis.settings(deadline=None)
@given(texts, st.integers(16, 24), st.integers(0, 8), st.booleans())
def test_chunks_are_pieces_of_the_text_that_fit_and_leave_nothing_out(text, most, overlap, by_headings):
    chosen = settings(max_tokens=most, overlap_tokens=overlap, by_headings=by_headings)
    chunks = chunk(text, chosen, PIECES)
    assert chunks == chunk(text, chosen, PIECES)
    covered = 0
    for one in chunks:
        assert one.text == text[one.start : one.end]
        assert 0 < len(PIECES.spans(one.text)) <= most
        assert not text[covered : one.start].strip()
        assert one.end > covered
        covered = one.end
    assert not text[covered:].strip()
