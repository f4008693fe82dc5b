"""Hard negatives: what both retrievers rank high for a training question although it does not answer it.

A reranker sees nothing but what a retriever let through, so it has to learn from the same: the best passages of BM25
and of the dense retriever, joined.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stack.rag.config.stages import SparseSettings
from stack.rag.encoders import EmbeddingCache, Encoder
from stack.rag.hits import ranked
from stack.rag.sparse import build
from stack.rag.training.corpus import Question, share_of, shingles

SAME = 0.5
"""A candidate that shares this much of its pieces with the right passage is no negative: it may answer too."""


@dataclass(frozen=True)
class Candidates:
    """For n questions up to k passages each, best first by cosine.

    `questions`, `passages`: texts. `rows` int32[n,k]: places in `passages`, -1 where a question has fewer. `cosine`
    float32[n,k]. `negative` bool[n,k]: safe to learn from as a wrong one. `right` int32[n]: the passage that answers.
    """

    questions: tuple[str, ...]
    passages: tuple[str, ...]
    rows: np.ndarray
    cosine: np.ndarray
    negative: np.ndarray
    right: np.ndarray


def mine(
    questions: Sequence[Question],
    passages: Sequence[str],
    encoder: Encoder,
    cache: EmbeddingCache,
    depth: int,
    sparse: bool = True,
) -> Candidates:
    """The dense retriever's best `depth` of `passages` for each question, joined by BM25's where `sparse` is set.

    `passages` are all different, and the right ones are among them.
    """
    place = {passage: row for row, passage in enumerate(passages)}
    right = np.array([place[question.passage] for question in questions], np.int32)
    texts = [question.text for question in questions]
    asked, written = cache.vectors(encoder, texts, "query"), cache.vectors(encoder, passages, "passage")
    bm25 = build(passages, SparseSettings()) if sparse else None
    pieces = [shingles(passage) for passage in passages]
    shape = (len(texts), depth * (2 if sparse else 1))
    rows, cosine, negative = np.full(shape, -1, np.int32), np.zeros(shape, np.float32), np.zeros(shape, bool)
    for i, text in enumerate(texts):
        similar = written @ asked[i]
        found = ranked(np.arange(len(passages)), similar, depth).rows
        if bm25 is not None:
            found = np.union1d(found, bm25.search(text, depth).rows)
        found = ranked(found, similar[found], len(found)).rows
        rows[i, : len(found)], cosine[i, : len(found)] = found, similar[found]
        negative[i, : len(found)] = [row != right[i] and not alike(pieces[row], pieces[right[i]]) for row in found]
    return Candidates(tuple(texts), tuple(passages), rows, cosine, negative, right)


def alike(one: set[str], other: set[str]) -> bool:
    """Whether two passages, as their pieces, say the same for the most part."""
    return max(share_of(one, other), share_of(other, one)) >= SAME
