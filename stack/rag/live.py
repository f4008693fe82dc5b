"""A collection that is being served: its documents loaded, its index built and opened, exchanged without a pause."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import ClassVar

from stack.rag.access import Access, Identity, View
from stack.rag.config.collections import Collection, Index, Slot
from stack.rag.config.stages import LateInteraction, SparseOnly
from stack.rag.encoders import Encoder
from stack.rag.hits import RetrievalError
from stack.rag.index.build import Built, Tell, build
from stack.rag.index.manifest import corpus_hash, mismatches, refused, version_of, warned
from stack.rag.index.opened import NotBuilt, OpenIndex, open_index, rebuild_command
from stack.rag.index.versions import BuildBusy, Versions
from stack.rag.ingest import load_source
from stack.rag.parts import Parts
from stack.rag.pipeline import Pipeline
from stack.rag.rerank import TokenVectors, open_reranker
from stack.rag.store import Rights, StoreError
from stack.service.errors import NotReady

log = logging.getLogger(__name__)


class IndexRefused(RetrievalError):
    """An index does not belong to what queries are made with."""


class RightsTooOld(NotReady):
    """The document store does not answer, and who may see what was last known too long ago."""

    code: ClassVar = "store_unavailable"


@dataclass(frozen=True)
class Serving:
    """What requests are answered from. It is replaced as a whole; who holds it finishes with it."""

    index: OpenIndex
    access: Access
    pipeline: Pipeline


class LiveCollection:
    """One collection. `problem` says why it cannot be searched, None while it can; `passing`: it may end by itself."""

    def __init__(self, name: str, parts: Parts) -> None:
        self.name = name
        self.settings: Collection = parts.config.collections[name]
        self.versions = Versions(parts.folder / parts.config.storage.indexes, name)
        self.problem: str | None = "not started yet"
        self.passing = True
        self.progress: str | None = None
        self._parts = parts
        self._serving: Serving | None = None
        self._rights_read = float("-inf")
        self._stamp = self.versions.stamp()
        self._exchange = threading.RLock()
        parts.metrics.index_age.labels(name).set_function(self._age)

    @property
    def reason(self) -> str | None:
        """Why it cannot be searched, in words for a caller."""
        return self.problem and f"{self.name}: {self.progress or self.problem}"

    @property
    def current(self) -> Serving | None:
        """What requests are answered from, None before there is anything."""
        return self._serving

    @property
    def slots(self) -> dict[Slot, str]:
        """Which version each slot holds, as far as that can be read."""
        try:
            return self.versions.state().slots
        except RetrievalError:
            return {}

    @property
    def lag(self) -> int | None:
        """Documents that were added, changed or deleted since the index was built."""
        serving = self._serving
        return serving and serving.index.lag(serving.access.rights)

    def documents(self, caller: Identity) -> int:
        """How many documents this caller may see, as far as is known."""
        serving = self._serving
        return serving.access.documents(caller) if serving else 0

    def serving(self) -> Serving:
        """What to answer from now. Raises NotReady."""
        serving = self._serving
        if serving is None:
            raise NotReady(f"the collection cannot be searched: {self.reason}")
        most = self._parts.config.storage.rights_max_age_seconds
        if monotonic() - self._rights_read > most:
            raise RightsTooOld(
                f"the document store has not answered for {most:g} s, so nobody knows who may see what; try again later"
            )
        return serving

    def view(self, caller: Identity) -> tuple[Serving, View]:
        """What to answer from now, and the caller's part of it. Raises NotReady."""
        serving = self.serving()
        return serving, serving.access.view(caller)

    def _active(self) -> Slot:
        """The slot to search. Raises RetrievalError."""
        slot = self.versions.active(self.settings.active)
        return slot if slot in self.settings.indexes else self.settings.active

    # ---- start

    def prepare(self) -> None:
        """Load the source, build what is missing, open the index. `problem` tells what went wrong."""
        try:
            self.load_source()
            self.versions.settle(self.settings.active)
            slot = self._active()
            if self._must_build(slot):
                self.build(slot)
            else:
                self._open(slot)
        except RetrievalError as problem:
            self.passing = isinstance(problem, StoreError | BuildBusy)
            self._say(str(problem))
        finally:
            self.progress = None

    def load_source(self, tell: Callable[[int, int], None] | None = None) -> None:
        """See that the documents of the source are in the store. Raises RetrievalError."""
        storage, folder = self._parts.config.storage, self._parts.folder

        def progress(done: int, there_are: int) -> None:
            self.progress = f"loading documents: {done:,} of {there_are:,}"
            if tell:
                tell(done, there_are)

        outcome = load_source(
            self._parts.store, self.name, self.settings, folder / storage.data, folder / storage.manuals, progress
        )
        for kind, count in vars(outcome).items():
            self._parts.metrics.ingest.labels(self.name, kind).inc(count)

    def _must_build(self, slot: Slot) -> bool:
        version = self.versions.state().slots.get(slot)
        if version is None or not self.versions.path(version).is_dir():
            return True
        if self.settings.rebuild == "missing":
            return False
        settings = self.index_settings(slot)
        corpus = corpus_hash(self._parts.store.rights(self.name).content)
        return version != version_of(settings, self._parts.encoders.get(settings.encoder).fingerprint, corpus)

    # ---- build, switch

    def index_settings(self, slot: Slot) -> Index:
        """What the configuration says of a slot. Raises RetrievalError."""
        if slot not in self.settings.indexes:
            raise NotBuilt(f"the configuration has no collections.{self.name}.indexes.{slot}; add it")
        return self.settings.indexes[slot]

    def build(self, slot: Slot) -> Built:
        """Build into a slot, and search it from now on where it is the active one. Raises RetrievalError."""
        built = self.build_only(slot)
        with self._exchange:
            if slot == self._active() and not self._holds(slot):
                self._open(slot)
        return built

    def build_only(self, slot: Slot, tell: Tell | None = None) -> Built:
        """Build into a slot. Raises RetrievalError."""
        settings, parts = self.index_settings(slot), self._parts

        def progress(what: str, done: int, there_are: int) -> None:
            self.progress = f"building index {slot} of {self.name}: {done:,} of {there_are:,} {what}"
            if tell:
                tell(what, done, there_are)

        try:
            encoder = parts.encoders.get(settings.encoder)
            built = build(
                settings, slot, parts.store, self.versions, encoder, parts.cache, progress, self._late is not None
            )
        except RetrievalError:
            parts.metrics.builds.labels(self.name, "failed").inc()
            raise
        finally:
            self.progress = None
        parts.metrics.builds.labels(self.name, built.outcome).inc()
        parts.metrics.build_seconds.labels(self.name).set(built.seconds)
        return built

    def switch(self, slot: Slot) -> None:
        """Search that slot from now on. Raises NotBuilt, IndexRefused, RetrievalError; what ran before runs on then."""
        self.index_settings(slot)
        with self._exchange:
            self._open(slot)
            self.versions.activate(slot, self.settings.active)
            self._stamp = self.versions.stamp()
        self._parts.metrics.switches.labels(self.name).inc()

    # ---- keeping up

    def refresh(self) -> None:
        """Take over what other processes did: documents, rights, a new version, a switch. Raises RetrievalError."""
        if self.versions.stamp() != self._stamp:
            self._take_over()
        serving = self._serving
        if serving is not None:
            if self._parts.store.revision(self.name) != serving.access.rights.revision:
                self.refresh_rights()
            self._rights_read = monotonic()

    def refresh_rights(self) -> None:
        """Read again who may see what. Raises RetrievalError."""
        with self._exchange:
            serving = self._serving
            if serving is None:
                return
            rights = self._parts.store.rights(self.name)
            self._serving = Serving(serving.index, serving.index.access(rights), serving.pipeline)
            self._rights_read = monotonic()
            self._parts.metrics.index_lag.labels(self.name).set(serving.index.lag(rights))

    def _take_over(self) -> None:
        with self._exchange:
            self._stamp = self.versions.stamp()
            slot = self._active()
            if self._holds(slot):
                return
            try:
                self._open(slot)
            except RetrievalError as problem:
                if self._serving is None:
                    self._say(str(problem))
                else:
                    log.error("new index not taken", extra={"collection": self.name, "problem": str(problem)})

    def _holds(self, slot: Slot) -> bool:
        """Whether what is searched now is what the slot has."""
        serving = self._serving
        here = serving and (serving.index.slot, serving.index.manifest.version)
        return here == (slot, self.versions.state().slots.get(slot))

    def _open(self, slot: Slot) -> None:
        """Search what the slot holds. Raises RetrievalError, and changes nothing then."""
        with self._exchange:
            index = open_index(self.versions, slot)
            rights = self._parts.store.rights(self.name)
            self._check(index, rights)
            pipeline = self._pipeline(index)
            self._serving = Serving(index, index.access(rights), pipeline)
            self._rights_read = monotonic()
            self._stamp = self.versions.stamp()
            self._say(None)
        self._observe(index, rights)

    def check(self, index: OpenIndex) -> None:
        """Compare an index with the configuration and the documents. Raises IndexRefused, RetrievalError."""
        self._check(index, self._parts.store.rights(self.name))

    def _check(self, index: OpenIndex, rights: Rights) -> None:
        """Raises IndexRefused."""
        manifest, slot = index.manifest, index.slot
        settings = self.index_settings(slot)
        own = self._parts.encoders.get(settings.encoder)
        found = mismatches(manifest, settings, own, corpus_hash(rights.content), self._query_encoders(index))
        for mismatch in warned(self.settings.manifest_checks, found):
            log.warning("manifest differs", extra={"collection": self.name, "slot": slot, "problem": str(mismatch)})
        if bad := refused(self.settings.manifest_checks, found):
            checks = ", ".join(dict.fromkeys(one.check for one in bad))
            raise IndexRefused(
                f"index {slot} does not fit (manifest_checks: {checks}): {'; '.join(map(str, bad))}. "
                f"Make both sides the same; {rebuild_command(self.name, slot)}"
            )

    def _query_encoders(self, index: OpenIndex) -> dict[str, Encoder]:
        query, encoders = self.settings.query, {}
        if index.manifest.settings.dense and not isinstance(query.fusion, SparseOnly):
            encoders["query.encoder"] = self._parts.encoders.get(query.encoder)
        if self._late:
            encoders["query.rerank.encoder"] = self._parts.encoders.get(self._late.encoder)
        return encoders

    @property
    def _late(self) -> LateInteraction | None:
        rerank = self.settings.query.rerank
        return rerank if isinstance(rerank, LateInteraction) else None

    def _pipeline(self, index: OpenIndex) -> Pipeline:
        query, parts = self.settings.query, self._parts
        needed = self._query_encoders(index)
        tokens = None
        if self._late:
            facts = index.manifest.encoder
            # Those of the encoder that made the index, whatever queries are encoded with.
            encoder = parts.encoders.of_fingerprint(facts.fingerprint, facts.alias)
            vectors = parts.cache.tokens(encoder, index.passages.texts, "passage")
            tokens = TokenVectors(vectors, encoder.fingerprint)
        reranker = open_reranker(query.rerank, parts.folder, needed.get("query.rerank.encoder"), tokens)
        return Pipeline(self.name, query, index, needed.get("query.encoder"), reranker, parts.metrics)

    # ---- telling

    def _say(self, problem: str | None) -> None:
        if problem != self.problem:
            log.info("collection state", extra={"collection": self.name, "ready": problem is None, "problem": problem})
        self.problem = problem
        self._parts.metrics.collection_ready.labels(self.name).set(problem is None)

    def _observe(self, index: OpenIndex, rights: Rights) -> None:
        metrics, manifest = self._parts.metrics, index.manifest
        log.info(
            "index opened",
            extra={
                "collection": self.name, "slot": index.slot, "version": manifest.version,
                "encoder": manifest.encoder.alias, "query_encoder": self.settings.query.encoder,
                "passages": manifest.passages,
            },
        )  # fmt: skip
        metrics.index_passages.labels(self.name).set(manifest.passages)
        metrics.index_documents.labels(self.name).set(manifest.documents)
        metrics.index_lag.labels(self.name).set(index.lag(rights))
        metrics.encoder_truncated.labels(self.name).set(manifest.truncated_passages)

    def _age(self) -> float:
        serving = self._serving
        return (datetime.now(UTC) - serving.index.manifest.built_at).total_seconds() if serving else 0.0
