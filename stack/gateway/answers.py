"""What the routes answer, for the OpenAPI document; what other services add passes as it is."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class Passing(BaseModel):
    """As the service behind the route gives it."""

    model_config = ConfigDict(extra="allow")


class Message(BaseModel):
    role: Literal["system", "user", "assistant"]
    content: str


class Rendered(BaseModel):
    """The messages that the engine would get."""

    messages: list[Message]
    request_id: str


class Model(BaseModel):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class Models(BaseModel):
    """The caller's assistants."""

    object: Literal["list"]
    data: list[Model]


class ChatCompletion(Passing):
    """OpenAI's; from retrieval with `citations`."""

    object: Literal["chat.completion"]
    choices: list[dict[str, Any]]


class SearchAnswer(Passing):
    """The passages found, best first."""

    collection: str
    results: list[dict[str, Any]]


class Moderated(Passing):
    """One text's: OpenAI's keys, with what moderation decided."""

    flagged: bool
    categories: dict[str, bool]
    category_scores: dict[str, float]
    decision: Literal["allow", "review", "block"]


class Moderations(Passing):
    """A result for each text."""

    id: str
    model: str
    results: list[Moderated]


class Health(BaseModel):
    ok: bool


class Ready(BaseModel):
    ready: bool
    reasons: list[str]
    degraded: dict[str, list[str]]
    """Services besides the engine that are not ready, with the reasons."""
