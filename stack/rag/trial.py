"""A collection searched by all its queries at once, with vectors from the cache: what is measured with.

The service does the same one query at a time; both stand on the same stages.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from stack.rag import dense, sparse
from stack.rag.chunking import chunk
from stack.rag.config.stages import ChunkSettings, DenseSettings, FusionSettings, SparseSettings
from stack.rag.encoders import EmbeddingCache, Encoder
from stack.rag.encoders.cache import Progress
from stack.rag.evaluate import Figures, evaluate
from stack.rag.fusion import fuse
from stack.rag.hits import Hits
from stack.rag.rerank import KeepOrder, Reranker
from stack.rag.sources import Collection, Query

DEPTH = 100


@dataclass(frozen=True)
class Trial:
    """A collection cut into passages: `passages[i]` is a piece of document `owners[i]`, by its place."""

    collection: Collection
    passages: tuple[str, ...]
    owners: np.ndarray
    cache: EmbeddingCache

    @classmethod
    def of(
        cls, collection: Collection, cache: EmbeddingCache, settings: ChunkSettings | None = None,
        encoder: Encoder | None = None,
    ) -> "Trial":  # fmt: skip
        """Cut as `settings` say, with the tokenizer of `encoder`; each document in one piece without them."""
        passages, owners = [], []
        for place, document in enumerate(collection.documents):
            pieces = [document.text] if settings is None else [c.text for c in chunk(document.text, settings, encoder)]
            passages += pieces
            owners += [place] * len(pieces)
        return cls(collection, tuple(passages), np.array(owners, np.int64), cache)

    @property
    def questions(self) -> list[str]:
        """The texts of the queries."""
        return [query.text for query in self.collection.queries]

    def sparse(self, settings: SparseSettings, depth: int = DEPTH) -> list[Hits]:
        """What a search by words finds for each query."""
        index = sparse.build(self.passages, settings)
        return [index.search(question, depth) for question in self.questions]

    def dense(
        self, settings: DenseSettings, passages: Encoder, queries: Encoder | None = None, depth: int = DEPTH
    ) -> list[Hits]:
        """What a search by vectors finds for each query; `queries` encodes the queries where it is not the same."""
        index = dense.build(self.cache.vectors(passages, self.passages, "passage"), settings)
        vectors = self.cache.vectors(queries or passages, self.questions, "query")
        return [index.search(vector, depth) for vector in vectors]

    def fused(
        self, settings: FusionSettings, by_words: Sequence[Hits], by_vectors: Sequence[Hits], depth: int = DEPTH
    ) -> list[Hits]:
        """Both lists as one, for each query."""
        pairs = zip(by_words, by_vectors, strict=True)
        return [fuse(settings, words, vectors, depth) for words, vectors in pairs]

    def reranked(
        self, reranker: Reranker | KeepOrder, hits: Sequence[Hits], progress: Progress | None = None
    ) -> list[Hits]:
        """The first hits of each query in a better order."""
        found = []
        for question, first in zip(self.questions, hits, strict=True):
            found.append(reranker.rerank(question, first, [self.passages[row] for row in first.rows]))
            if progress:
                progress(len(found), len(hits))
        return found

    def asking(self, queries: Iterable[Query]) -> "Trial":
        """The same with some of the queries."""
        return replace(self, collection=self.collection.of(queries))

    def documents(self, hits: Hits) -> list[str]:
        """Ids of the documents whose passages were found, in the order of the best passage of each."""
        return list(dict.fromkeys(self.collection.documents[place].id for place in self.owners[hits.rows]))

    def judged(self, hits: Sequence[Hits]) -> Figures:
        """How good `hits`, one list for each query, are."""
        run = {q.id: self.documents(found) for q, found in zip(self.collection.queries, hits, strict=True)}
        return evaluate(self.collection.judgements, run)
