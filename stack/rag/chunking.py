"""Documents into chunks that fit an encoder, counted in its own tokens."""

import re
from dataclasses import dataclass
from itertools import pairwise

from stack.rag.config.stages import ChunkSettings
from stack.rag.encoders import Encoder

_HEADING = re.compile(r"^#{1,6} .+$", re.MULTILINE)


@dataclass(frozen=True)
class Chunk:
    """A piece of a document: `text` is document[start:end]."""

    text: str
    start: int
    end: int


def chunk(text: str, settings: ChunkSettings, encoder: Encoder) -> list[Chunk]:
    """`text` as chunks in its order; the same input gives the same chunks. None for a text of blanks."""
    chunks = []
    for start, end in _sections(text) if settings.by_headings else [(0, len(text))]:
        chunks += _windows(text, start, end, settings, encoder)
    return chunks


def _sections(text: str) -> list[tuple[int, int]]:
    """Where the sections begin and end; what stands before the first heading is one."""
    bounds = [0, *(match.start() for match in _HEADING.finditer(text)), len(text)]
    return [(start, end) for start, end in pairwise(bounds) if start < end]


def _windows(text: str, start: int, end: int, settings: ChunkSettings, encoder: Encoder) -> list[Chunk]:
    spans = [(a + start, b + start) for a, b in encoder.spans(text[start:end])]
    step = settings.max_tokens - settings.overlap_tokens
    found = []
    for first in range(0, len(spans), step):
        window = spans[first : first + settings.max_tokens]
        found.append(Chunk(text[window[0][0] : window[-1][1]], window[0][0], window[-1][1]))
        if first + settings.max_tokens >= len(spans):
            break
    return found
