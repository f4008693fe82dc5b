"""Assistants: a prompt, and how the engine continues it."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator

from stack.gateway.config.routes import ModerationUse
from stack.settings import Settings


class Turn(Settings):
    role: Literal["system", "user", "assistant"]
    """Who speaks."""
    content: str
    """A Jinja2 template of question, tenant, request_id, received_at, today, metadata.*, documents.*"""


class History(Settings):
    source: Literal["history"] = Field(alias="from")
    """Stands for the caller's earlier turns."""


def _kind(message: Any) -> str:
    history = "from" in message if isinstance(message, dict) else isinstance(message, History)
    return "history" if history else "turn"


Message = Annotated[Annotated[Turn, Tag("turn")] | Annotated[History, Tag("history")], Discriminator(_kind)]


class Sampling(Settings):
    """How the engine picks tokens. A caller may set the same keys; what nobody sets, the engine chooses."""

    max_tokens: int | None = Field(None, ge=1)
    """Most tokens of an answer; a caller may ask for fewer, not for more."""
    temperature: float | None = Field(None, ge=0, le=2)
    """0 always takes the likeliest token; larger values vary more."""
    top_p: float | None = Field(None, gt=0, le=1)
    """Only the likeliest tokens that have this probability together."""
    stop: tuple[str, ...] | None = Field(None, max_length=4)
    """Texts that end the answer."""
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    """Makes sampling repeatable."""
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    """Above 0 disfavours tokens that have occurred."""
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    """Above 0 disfavours tokens by how often they have occurred."""


class Assistant(Settings):
    description: str = Field(max_length=500)
    """What it is for."""
    messages: tuple[Message, ...] = Field(min_length=1)
    """The prompt: turns, and at most one `from: history`."""
    sampling: Sampling = Sampling()
    """Its own choice of sampling."""
    moderation: ModerationUse = ModerationUse()
    """What is checked of what callers write and of what the engine answers."""

    @field_validator("messages")
    @classmethod
    def _one_history(cls, messages: tuple[Turn | History, ...]) -> tuple[Turn | History, ...]:
        if sum(isinstance(message, History) for message in messages) > 1:
            raise ValueError("'from: history' is given twice; the caller's turns can stand in one place only")
        return messages
