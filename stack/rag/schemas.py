"""What goes over HTTP: the bodies of requests and answers."""

import re
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, create_model

from stack.rag.config import Limits
from stack.rag.config.collections import Slot

_VISIBLE = r"[^\s\x00-\x20]"


def _whole(value: Any) -> Any:
    # 3.0 is an integer in JSON Schema, though not in Python.
    return int(value) if isinstance(value, float) and value.is_integer() else value


Positive = Annotated[int, Field(ge=1), BeforeValidator(_whole)]


def _no_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("holds the character NUL, which no text may have")
    return text


def _not_blank(text: str) -> str:
    if not re.search(_VISIBLE, text):
        raise ValueError("must not be blank")
    return text


_NO_NUL = AfterValidator(_no_nul), Field(json_schema_extra={"pattern": r"^[^\x00]*$"})
_VISIBLY = AfterValidator(_not_blank), Field(json_schema_extra={"pattern": _VISIBLE})
Text = Annotated[str, *_NO_NUL]
Query = Annotated[str, *_VISIBLY]
CollectionName = Annotated[str, Field(min_length=1, max_length=64)]
DocumentId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,199}$")]
GroupName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
TenantName = Annotated[str, Field(pattern=r"^(\*|[a-z0-9][a-z0-9-]{0,63})$")]


class Models(NamedTuple):
    """Bodies of requests, with the bounds of one configuration."""

    search: type["SearchRequest"]
    ask: type["AskRequest"]
    documents: type["DocumentBatch"]


def bounded(limits: Limits) -> Models:
    """The bodies as `limits` allow them, so that the OpenAPI document tells the bounds."""
    # The bounds stand before the validators: else they would be told of as those of any value.
    query = Annotated[str, Field(min_length=1, max_length=limits.query_chars), *_VISIBLY]
    most = Annotated[int, Field(ge=1, le=limits.results), BeforeValidator(_whole)]
    text = Annotated[str, Field(min_length=1, max_length=limits.document_chars), *_NO_NUL]
    document = create_model("DocumentIn", __base__=DocumentIn, text=(text, ...))
    batch = Annotated[list[document], Field(min_length=1, max_length=limits.batch_documents)]  # type: ignore[valid-type]
    return Models(
        create_model("SearchRequest", __base__=SearchRequest, query=(query, ...), limit=(most | None, None)),
        create_model("AskRequest", __base__=AskRequest, question=(query, ...)),
        create_model("DocumentBatch", __base__=DocumentBatch, documents=(batch, ...)),
    )


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


class SearchRequest(Body):
    collection: CollectionName
    query: Query
    limit: Positive | None = None
    """Most results; as many as configured when absent."""
    stages: bool = False
    """Tell of each result where the stages had it."""


class Place(BaseModel):
    rank: int
    score: float


class Stages(BaseModel):
    """Where a stage had a passage; null where it had it not."""

    sparse: Place | None
    dense: Place | None
    fused: Place | None


class Result(BaseModel):
    rank: int
    score: float
    document: str
    chunk: str
    title: str
    text: str
    stages: Stages | None = None


class IndexVersion(BaseModel):
    slot: Slot
    version: str


class SearchAnswer(BaseModel):
    collection: str
    index: IndexVersion
    evidence: bool
    """Whether something was found that counts (`no_evidence_below`); where not, an answer is refused."""
    results: list[Result]


class Operations(BaseModel):
    """What operators see of a collection."""

    passages: int | None
    documents: int | None
    built_at: datetime | None
    lag_documents: int | None
    slots: dict[Slot, str]
    building: Slot | None
    """The slot that is being built on demand."""
    progress: str | None
    """What goes on, or why the collection cannot be searched."""
    last_build: str | None


class CollectionInfo(BaseModel):
    name: str
    description: str
    documents: int
    """How many the caller may see."""
    ready: bool
    index: IndexVersion | None
    operations: Operations | None = None


class CollectionList(BaseModel):
    collections: list[CollectionInfo]


class DocumentIn(Body):
    id: DocumentId
    title: Text = Field("", max_length=1000)
    text: Text
    tenant: TenantName | None = None
    """Whose document it is: the caller's own tenant when absent; "*" is for operators only."""
    groups: list[GroupName] = Field(default_factory=list, max_length=64)
    """Who of the tenant may see it; all when empty."""


class DocumentBatch(Body):
    documents: list[DocumentIn]


class Written(BaseModel):
    added: int
    changed: int
    unchanged: int
    lag_documents: int | None
    """Documents that the index which is searched does not have as they are now; build it again."""


class Deleted(BaseModel):
    document: str
    lag_documents: int | None


class Building(BaseModel):
    collection: str
    slot: Slot
    state: Literal["building"] = "building"


class ActiveSlot(Body):
    slot: Slot


class AskRequest(Body):
    collection: CollectionName
    question: Query
    stream: bool = False
    """As server-sent events."""
    max_tokens: Positive | None = None
    """Most tokens of the answer; never more than the configuration says."""


class Citation(BaseModel):
    """A passage that is in the prompt; the answer refers to it by its number."""

    number: int
    document: str
    chunk: str
    title: str


class AnswerMessage(BaseModel):
    role: Literal["assistant"] = "assistant"
    content: str


class Choice(BaseModel):
    index: Literal[0] = 0
    message: AnswerMessage
    finish_reason: str


class Usage(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class AskAnswer(BaseModel):
    """OpenAI's chat completion, and what it was made from."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    citations: list[Citation]
    collection: str
    index: IndexVersion
