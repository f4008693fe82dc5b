"""What goes over HTTP: the bodies of requests and answers."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from stack.rag.config.collections import Slot


def _well_formed(text: str) -> str:
    if "\0" in text:
        raise ValueError("holds the character NUL, which no text may have")
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text


Text = Annotated[str, AfterValidator(_well_formed)]
Query = Annotated[
    str, Field(min_length=1, max_length=100_000), AfterValidator(_well_formed), AfterValidator(_not_blank)
]
CollectionName = Annotated[str, Field(min_length=1, max_length=64)]
DocumentId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,199}$")]
GroupName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
TenantName = Annotated[str, Field(pattern=r"^(\*|[a-z0-9][a-z0-9-]{0,63})$")]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


class SearchRequest(Body):
    collection: CollectionName
    query: Query
    limit: int | None = Field(None, ge=1, le=1000)
    """Most results; as many as the configuration says when absent."""
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
    text: Text = Field(min_length=1)
    tenant: TenantName | None = None
    """Whose document it is: the caller's own tenant when absent; "*" is for operators only."""
    groups: list[GroupName] = Field(default_factory=list, max_length=64)
    """Who of the tenant may see it; all when empty."""


class DocumentBatch(Body):
    documents: list[DocumentIn] = Field(min_length=1, max_length=10_000)


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
    max_tokens: int | None = Field(None, ge=1)
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
