"""The bodies of the routes that are passed to retrieval and moderation, as callers send them."""

from typing import Annotated

from pydantic import Field

from stack.service.config import Name
from stack.settings import Settings


class SearchRequest(Settings):
    """Unknown keys are refused: nobody shall trust a setting without effect."""

    collection: Name
    query: str = Field(min_length=1, max_length=100_000)
    limit: int | None = Field(None, ge=1, le=1000)


class AskRequest(Settings):
    """Unknown keys are refused: nobody shall trust a setting without effect."""

    collection: Name
    question: str = Field(min_length=1, max_length=100_000)
    stream: bool | None = False
    max_tokens: int | None = Field(None, ge=1)


class ModerationRequest(Settings):
    """OpenAI's; unknown keys are refused: nobody shall trust a setting without effect."""

    input: str | Annotated[tuple[str, ...], Field(min_length=1, max_length=1024)]
    model: str | None = Field(None, max_length=128)

    @property
    def texts(self) -> tuple[str, ...]:
        return (self.input,) if isinstance(self.input, str) else self.input
