"""Loads a collection's source into the store. Interrupted, it goes on; done twice, it changes nothing."""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from stack.rag import sources
from stack.rag.config.collections import NO_SOURCE, Collection
from stack.rag.sources.collection import Document
from stack.rag.store import Outcome, Store, content_of, key_of

log = logging.getLogger(__name__)

_BATCH = 500


def load_source(
    store: Store, name: str, collection: Collection, data: Path, manuals: Path, tell: Callable[[int, int], None]
) -> Outcome:
    """See that the store holds the documents of the source; `data` and `manuals` are where sources are read from.

    `tell` gets how many documents are written and how many there are. Raises RetrievalError.
    """
    documents = _documents(collection, data, manuals)
    source = _named(collection.source, documents)
    if store.source(name) == source:
        return Outcome(unchanged=len(documents))
    total = Outcome()
    for start in range(0, len(documents), _BATCH):
        total += store.upsert(name, documents[start : start + _BATCH], origin="source")
        tell(min(start + _BATCH, len(documents)), len(documents))
    total += Outcome(deleted=store.finish_source(name, source, map(key_of, documents)))
    log.info("source loaded", extra={"collection": name, "source": collection.source, **vars(total)})
    return total


def _documents(collection: Collection, data: Path, manuals: Path) -> list[Document]:
    """Those of the source, for the callers that the configuration names."""
    if collection.source == NO_SOURCE:
        return []
    access = collection.access
    found = sources.load(collection.source, data, manuals).documents
    return [replace(document, tenant=access.tenant, groups=tuple(sorted(access.groups))) for document in found]


def _named(source: str, documents: Sequence[Document]) -> str:
    """A name for exactly these documents under these rights."""
    digest = hashlib.sha256()
    for document in documents:
        digest.update(json.dumps([*key_of(document), *document.groups, content_of(document)]).encode())
    return f"{source}:{digest.hexdigest()[:32]}"
