"""The bodies of the routes that are passed to retrieval and moderation, as callers send them."""

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from stack.gateway.chat import as_tuple
from stack.service.config import Name
from stack.settings import Settings


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text


Text = Annotated[
    str,
    Field(min_length=1, max_length=100_000, json_schema_extra={"pattern": r"\S"}),
    AfterValidator(_not_blank),
]

Texts = Annotated[tuple[str, ...], Field(min_length=1, max_length=1024)]


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value  # to JSON 5.0 is a whole number


Whole = BeforeValidator(_whole)


class SearchRequest(Settings):
    """Unknown keys are refused: nobody shall trust a setting without effect."""

    collection: Name
    query: Text
    limit: Annotated[int, Field(ge=1, le=1000), Whole] | None = None
    """Most passages; as many as retrieval's configuration says when absent."""
    stages: bool | None = False
    """Tell of each passage where the stages of the search had it."""


class AskRequest(Settings):
    """Unknown keys are refused: nobody shall trust a setting without effect."""

    collection: Name
    question: Text
    stream: bool | None = False
    """As server-sent events."""
    max_tokens: Annotated[int, Field(ge=1), Whole] | None = None
    """Most tokens of the answer; never more than the configuration says."""


class ModerationRequest(Settings):
    """OpenAI's; unknown keys are refused: nobody shall trust a setting without effect."""

    input: Annotated[Texts, BeforeValidator(as_tuple, json_schema_input_type=str | Texts)]
    """One text or several, each judged by itself."""
    model: str | None = Field(None, max_length=128)
    """Taken for the sake of OpenAI's clients; the answer names what judged."""
