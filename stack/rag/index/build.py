"""Builds an index version from the documents and puts it into a slot. What was encoded before is not encoded again."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Literal

import numpy as np

from stack.rag import dense, sparse
from stack.rag.config.collections import Index, Slot
from stack.rag.encoders import EmbeddingCache, Encoder, Truncation
from stack.rag.hits import RetrievalError
from stack.rag.index.manifest import (
    EncoderFacts,
    Manifest,
    analyser_hash,
    corpus_hash,
    read_manifest,
    version_of,
)
from stack.rag.index.passages import Passages, cut, write_contents, write_passages
from stack.rag.index.versions import Versions, hashes, verify
from stack.rag.store import Key, Store, content_of, key_of

log = logging.getLogger(__name__)

Tell = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is."""


@dataclass(frozen=True)
class Built:
    """What a build came to."""

    manifest: Manifest
    outcome: Literal["built", "unchanged"]
    seconds: float


def build(
    settings: Index, slot: Slot, store: Store, versions: Versions, encoder: Encoder, cache: EmbeddingCache, tell: Tell,
    token_vectors: bool = False,
) -> Built:  # fmt: skip
    """Build what `settings` say from the documents of now, into `slot`; nothing to do where that version is there.

    `token_vectors`: also compute those that late interaction needs, in the same pass of the encoder. Killed at any
    moment, the next call goes on with what was encoded. Raises RetrievalError; BuildBusy.
    """
    started = perf_counter()
    with versions.building():
        versions.clean()
        documents = store.documents(versions.collection)
        contents = {key_of(document): content_of(document) for document in documents}
        version = version_of(settings, encoder.fingerprint, corpus_hash(contents))
        manifest = _whole(versions, version)
        outcome: Literal["built", "unchanged"] = "built" if manifest is None else "unchanged"
        if manifest is None:
            passages = cut(documents, settings.chunk, encoder, lambda done: tell("documents cut", done, len(documents)))
            vectors = _vectors(settings, passages, encoder, cache, tell, token_vectors)
            folder = versions.unfinished(version)
            write_contents(contents, folder)
            _write_legs(settings, passages, vectors, folder)
            manifest = _describe(settings, passages, encoder, versions.collection, contents, hashes(folder))
            manifest.write(folder)
            versions.finish(version)
        versions.assign(slot, version)
    built = Built(manifest, outcome, perf_counter() - started)
    log.info(
        "index built",
        extra={
            "collection": versions.collection, "slot": slot, "version": version, "outcome": outcome,
            "passages": manifest.passages, "encoder": encoder.alias, "seconds": round(built.seconds, 2),
        },
    )  # fmt: skip
    return built


def _whole(versions: Versions, version: str) -> Manifest | None:
    """The manifest of a version that is there and not damaged."""
    if not versions.exists(version):
        return None
    try:
        manifest = read_manifest(versions.path(version))
        verify(versions.path(version), manifest.files)
    except RetrievalError as problem:
        log.warning("an index version is damaged and built again", extra={"problem": str(problem)})
        return None
    return manifest


def _vectors(
    settings: Index, passages: Passages, encoder: Encoder, cache: EmbeddingCache, tell: Tell, token_vectors: bool
) -> np.ndarray | None:
    if not len(passages):
        return None

    def progress(done: int, missing: int) -> None:
        known = len(passages) - missing
        tell("passages", known + done, len(passages))

    if token_vectors:
        cache.tokens(encoder, passages.texts, "passage", progress)  # these keep the others as well
    return cache.vectors(encoder, passages.texts, "passage", progress) if settings.dense else None


def _write_legs(settings: Index, passages: Passages, vectors: np.ndarray | None, folder: Path) -> None:
    write_passages(passages, folder)
    if len(passages) and settings.sparse:
        sparse.build(passages.texts, settings.sparse).save(folder / "sparse")
    if vectors is not None and settings.dense:
        dense.build(vectors, settings.dense).save(folder / "dense")


def _describe(
    settings: Index, passages: Passages, encoder: Encoder, collection: str, contents: Mapping[Key, str],
    files: dict[str, str],
) -> Manifest:  # fmt: skip
    corpus = corpus_hash(contents)
    cut_off = encoder.truncation(passages.texts) if settings.dense else Truncation(0.0, 0.0)
    return Manifest(
        version=version_of(settings, encoder.fingerprint, corpus),
        collection=collection,
        encoder=EncoderFacts.of(encoder),
        settings=settings,
        analyser=analyser_hash(settings),
        corpus=corpus,
        documents=len(contents),
        passages=len(passages),
        truncated_passages=cut_off.texts,
        truncated_tokens=cut_off.tokens,
        built_at=datetime.now(UTC),
        files=files,
    )
