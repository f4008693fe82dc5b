"""Routes that change a collection: its documents, its indexes, which index is searched.

Only members of the groups that the configuration names may use them. An editor writes and deletes documents of its own
tenant; an operator also those of every tenant, and builds and switches indexes.
"""

from typing import Annotated, ClassVar

from fastapi import APIRouter, Depends, Query
from fastapi import Path as InPath

from stack.rag.access import Identity
from stack.rag.config.collections import Slot
from stack.rag.index.opened import DamagedIndex, NotBuilt
from stack.rag.index.versions import BuildBusy
from stack.rag.live import IndexRefused, LiveCollection
from stack.rag.schemas import (
    ActiveSlot,
    Building,
    Deleted,
    DocumentBatch,
    DocumentId,
    DocumentIn,
    IndexVersion,
    TenantName,
    Written,
    bounded,
)
from stack.rag.service import ANY_COLLECTION, RagService, StoreUnavailable, caller, staff, version_of
from stack.rag.sources.collection import PUBLIC, Document
from stack.rag.store import HiddenDocument, Key, MaySee, Outcome
from stack.service.errors import BadRequest, NotFound, NotReady, ServiceError, TooMany, responses

_SWITCH_SECONDS = 120.0  # to read an index into memory

Caller = Annotated[Identity, Depends(caller)]
CollectionInPath = Annotated[str, InPath(max_length=64)]
DocumentInPath = Annotated[DocumentId, InPath()]


class NotAllowed(ServiceError):
    """The caller is in none of the groups that may do this."""

    status, type, code = 403, "permission_error", "not_allowed"


class NoDocument(NotFound):
    """No document of that id that the caller may see."""

    code: ClassVar = "no_document"


class Conflict(ServiceError):
    """The index is not one that can be searched, or another build is under way."""

    status, type, code = 409, "invalid_request_error", "index_conflict"


_WRITING = (*ANY_COLLECTION, BadRequest, NotAllowed, StoreUnavailable)


def admin_routes(service: RagService) -> APIRouter:
    """Those below `/v1/collections/{name}/`."""
    router = APIRouter()
    bodies = bounded(service.config.limits)

    @router.put("/v1/collections/{name}/documents", responses=responses(*_WRITING))
    async def put(name: CollectionInPath, batch: bodies.documents, who: Caller) -> Written:
        """Write documents. The index has them after its next build; who may see them counts at once."""
        live = service.collection(name, who)
        documents = _documents(live, batch, who)
        outcome = await service.store(_upsert, service, live, documents, who)
        return Written(
            added=outcome.added, changed=outcome.changed, unchanged=outcome.unchanged, lag_documents=live.lag
        )

    @router.delete("/v1/collections/{name}/documents/{document}", responses=responses(*_WRITING, NoDocument))
    async def delete(
        name: CollectionInPath,
        document: DocumentInPath,
        who: Caller,
        tenant: Annotated[TenantName | None, Query(description='Whose; the caller\'s own, or "*".')] = None,
    ) -> Deleted:
        """Delete a document. No search finds it from now on, whatever the index still holds."""
        live = service.collection(name, who)
        _may_write(live, who, tenant or who.tenant)
        await service.store(_delete, service, live, (tenant or who.tenant, document), who)
        return Deleted(document=document, lag_documents=live.lag)

    @router.post(
        "/v1/collections/{name}/indexes/{slot}", status_code=202, responses=responses(*_WRITING, Conflict, TooMany)
    )
    async def build(name: CollectionInPath, slot: Slot, who: Caller) -> Building:
        """Build an index in the background; GET /v1/collections tells how far it is."""
        live = service.collection(name, who)
        _may_operate(live, who)
        try:
            service.keeper.build(name, slot)
        except (NotBuilt, BuildBusy) as problem:
            raise Conflict(str(problem), "slot") from problem
        return Building(collection=name, slot=slot)

    @router.post("/v1/collections/{name}/active", responses=responses(*_WRITING, Conflict, NotReady))
    async def activate(name: CollectionInPath, active: ActiveSlot, who: Caller) -> IndexVersion:
        """Search that slot from now on. Requests in progress end with the index that they began with."""
        live = service.collection(name, who)
        _may_operate(live, who)
        try:
            await service.store(live.switch, active.slot, seconds=_SWITCH_SECONDS)
        except (NotBuilt, DamagedIndex, IndexRefused) as problem:
            raise Conflict(str(problem), "slot") from problem
        return version_of(live.serving())

    return router


def _may_write(live: LiveCollection, who: Identity, tenant: str) -> None:
    allowed = staff(live.settings) if tenant == who.tenant else frozenset(live.settings.operators)
    if tenant not in (who.tenant, PUBLIC):
        raise NotAllowed("documents of another tenant cannot be written")
    if not who.groups & allowed:
        raise NotAllowed(f"the caller is in none of the groups that may write these documents of {live.name}")


def _rule(live: LiveCollection, who: Identity) -> MaySee | None:
    """Which documents the caller may replace; operators also keep those up to date that they need not read."""
    return None if who.groups & frozenset(live.settings.operators) else who.may_see


def _may_operate(live: LiveCollection, who: Identity) -> None:
    if not who.groups & frozenset(live.settings.operators):
        raise NotAllowed(f"the caller is in none of the groups that operate {live.name}")


def _documents(live: LiveCollection, batch: DocumentBatch, who: Identity) -> list[Document]:
    """The batch as the store takes it. Raises BadRequest, NotAllowed."""
    documents = [_document(one, who) for one in batch.documents]
    for document in documents:
        _may_write(live, who, document.tenant)
    if len({(document.tenant, document.id) for document in documents}) < len(documents):
        raise BadRequest("documents: one of them is given twice", "documents")
    return documents


def _document(one: DocumentIn, who: Identity) -> Document:
    return Document(one.id, one.title, one.text, one.tenant or who.tenant, tuple(sorted(set(one.groups))))


def _upsert(service: RagService, live: LiveCollection, documents: list[Document], who: Identity) -> Outcome:
    try:
        outcome = service.parts.store.upsert(live.name, documents, may_see=_rule(live, who))
    except HiddenDocument as problem:
        raise NotAllowed(str(problem), "documents") from problem
    _wrote(service, live, outcome)
    return outcome


def _delete(service: RagService, live: LiveCollection, key: Key, who: Identity) -> None:
    if not service.parts.store.delete(live.name, key, _rule(live, who)):
        raise NoDocument("no document of that id that the caller may see", "document")
    _wrote(service, live, Outcome(deleted=1))


def _wrote(service: RagService, live: LiveCollection, outcome: Outcome) -> None:
    for kind, count in vars(outcome).items():
        service.metrics.ingest.labels(live.name, kind).inc(count)
    live.refresh_rights()
