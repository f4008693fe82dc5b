"""Routes that read: search, and the list of collections."""

from typing import Annotated

import numpy as np
from fastapi import APIRouter, Depends

from stack.rag.access import Identity, NoIdentity
from stack.rag.hits import Hits
from stack.rag.live import LiveCollection, Serving
from stack.rag.pipeline import Found
from stack.rag.schemas import (
    CollectionInfo,
    CollectionList,
    Operations,
    Place,
    Result,
    SearchAnswer,
    Stages,
    bounded,
)
from stack.rag.service import SEARCH, RagService, SearchFailed, caller, version_of
from stack.service.errors import responses

Caller = Annotated[Identity, Depends(caller)]


def reading_routes(service: RagService) -> APIRouter:
    """`POST /v1/search`, `GET /v1/collections`."""
    router = APIRouter()
    bodies = bounded(service.config.limits)

    @router.post("/v1/search", responses=responses(*SEARCH, SearchFailed))
    async def search(request: bodies.search, who: Caller) -> SearchAnswer:
        """The best passages for a query among the documents that the caller may see."""
        serving, found = await service.search(request.collection, request.query, request.limit, who)
        return SearchAnswer(
            collection=request.collection,
            index=version_of(serving),
            evidence=found.evidence,
            results=_results(found, request.stages),
        )

    @router.get("/v1/collections", responses=responses(NoIdentity))
    async def collections(who: Caller) -> CollectionList:
        """The collections that the caller may know of."""
        names = [name for name in sorted(service.collections) if service.visible(name, who)]
        return CollectionList(collections=[_info(service, service.collections[name], who) for name in names])

    return router


def _results(found: Found, stages: bool) -> list[Result]:
    return [
        Result(
            rank=rank,
            score=float(score),
            document=passage.document,
            chunk=passage.chunk,
            title=passage.title,
            text=passage.text,
            stages=_stages(found, row) if stages else None,
        )
        for rank, (row, score, passage) in enumerate(
            zip(found.final.rows, found.final.scores, found.passages, strict=True), start=1
        )
    ]


def _stages(found: Found, row: int) -> Stages:
    return Stages(sparse=_place(found.sparse, row), dense=_place(found.dense, row), fused=_place(found.fused, row))


def _place(hits: Hits, row: int) -> Place | None:
    places = np.flatnonzero(hits.rows == row)
    return Place(rank=int(places[0]) + 1, score=float(hits.scores[places[0]])) if len(places) else None


def _info(service: RagService, live: LiveCollection, who: Identity) -> CollectionInfo:
    serving = live.current
    operator = bool(who.groups & set(live.settings.operators))
    return CollectionInfo(
        name=live.name,
        description=live.settings.description,
        documents=live.documents(who),
        ready=live.problem is None,
        index=version_of(serving) if serving else None,
        operations=_operations(service, live, serving) if operator else None,
    )


def _operations(service: RagService, live: LiveCollection, serving: Serving | None) -> Operations:
    manifest = serving.index.manifest if serving else None
    return Operations(
        passages=manifest and manifest.passages,
        documents=manifest and manifest.documents,
        built_at=manifest and manifest.built_at,
        lag_documents=live.lag,
        slots=live.slots,
        building=service.keeper.building(live.name),
        progress=live.progress or live.problem,
        last_build=service.keeper.outcome(live.name),
    )
