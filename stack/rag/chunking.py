"""Documents into chunks that fit an encoder, counted in its own tokens."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from stack.rag.config.stages import ChunkSettings
from stack.rag.encoders import Encoder

# A heading of Markdown. Without the blank line above, a comment in a piece of code would be one.
_HEADING = re.compile(r"(?:\A|(?<=\n\n))#{1,6} .+$", re.MULTILINE)

Span = tuple[int, int]


@dataclass(frozen=True)
class Chunk:
    """A piece of a document: `text` is document[start:end]."""

    text: str
    start: int
    end: int


def chunk(text: str, settings: ChunkSettings, encoder: Encoder) -> list[Chunk]:
    """`text` as chunks in its order, cut between words; the same input gives the same chunks.

    A text of blanks has none. A single word of more than `max_tokens` tokens is cut inside.
    """
    sections = _sections(text) if settings.by_headings else [(0, len(text))]
    return [
        Chunk(text[start:end], start, end)
        for section in sections
        for start, end in _windows(_spans(text, section, encoder), settings)
    ]


def _sections(text: str) -> list[Span]:
    """Where the sections begin and end; what stands before the first heading is one."""
    bounds = [0, *(match.start() for match in _HEADING.finditer(text)), len(text)]
    return [(start, end) for start, end in pairwise(bounds) if start < end]


def _spans(text: str, section: Span, encoder: Encoder) -> list[Span]:
    """The tokens of a section, as places in the whole text."""
    start, end = section
    return [(start + first, start + last) for first, last in encoder.spans(text[start:end])]


def _windows(spans: list[Span], settings: ChunkSettings) -> Iterator[Span]:
    """Runs of at most `max_tokens` tokens, each beginning at most `overlap_tokens` before the end of the last."""
    first = done = 0
    while done < len(spans):
        end = min(first + settings.max_tokens, len(spans))
        if end < len(spans):
            end = next((at for at in range(end, done, -1) if _begins_word(spans, at)), end)
        yield spans[first][0], spans[end - 1][1]
        done = end
        repeated = range(max(done - settings.overlap_tokens, first + 1), done)
        first = next((at for at in repeated if _begins_word(spans, at)), done)


def _begins_word(spans: list[Span], at: int) -> bool:
    """Whether something stands between this token and the one before; a tokenizer takes words apart."""
    return spans[at][0] > spans[at - 1][1]
