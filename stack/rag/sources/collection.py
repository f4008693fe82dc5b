"""A collection: documents, questions about them, and which document answers which question."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from stack.rag.hits import RetrievalError

PUBLIC = "*"
"""The tenant of a document that every tenant may read."""


class MissingCollection(RetrievalError):
    """A collection's source is not there, or not what it should be; the message says how to get it."""


@dataclass(frozen=True)
class Document:
    """What is indexed. `id` is the same on every machine."""

    id: str
    title: str
    text: str
    tenant: str = PUBLIC
    groups: tuple[str, ...] = ()
    """Groups of that tenant whose members may read it; empty: everyone of the tenant."""


@dataclass(frozen=True)
class Query:
    """A question whose answer is known to stand in a document."""

    id: str
    text: str


@dataclass(frozen=True)
class Collection:
    """`judgements`: query id -> document id -> grade, 1 or more for what answers it."""

    name: str
    documents: tuple[Document, ...]
    queries: tuple[Query, ...]
    judgements: dict[str, dict[str, int]]

    def of(self, queries: Iterable[Query]) -> "Collection":
        """The same documents with some of the queries."""
        queries = tuple(queries)
        return Collection(self.name, self.documents, queries, {q.id: self.judgements[q.id] for q in queries})

    def half(self, which: int) -> "Collection":
        """Half 0 or 1 of the queries, by the hash of their text: weights chosen on one are measured on the other."""
        return self.of(query for query in self.queries if _digest(query.text)[0] % 2 == which)


def document_id(collection: str, *parts: str) -> str:
    """`collection-` and 12 hex digits of the hash of `parts`."""
    return f"{collection}-{_digest(chr(0).join(parts)).hex()[:12]}"


def query_id(collection: str, text: str, document: str) -> str:
    """Stable, and apart for the same words asked about two documents."""
    return f"{collection}-q-{_digest(text + chr(0) + document).hex()[:12]}"


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
