"""The routes that are passed to retrieval, and what moderation is used for."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from stack.service.config import Name
from stack.settings import Settings


def _yaml_word(value: Any) -> Any:
    return "off" if value is False else value  # YAML reads the bare word off as false


Check = Annotated[Literal["off", "check"], BeforeValidator(_yaml_word)]


class ModerationUse(Settings):
    input: Check = "off"
    """check: what the caller wrote goes through moderation before anything else sees it."""
    output: Check = "off"
    """check: the answer goes through moderation before the caller sees it; a streamed one segment by segment."""
    on_review: Literal["hold", "allow"] = "hold"
    """What becomes of a text that people have to decide about: hold refuses it with 403 under_review."""
    on_error: Literal["block", "allow"] = "block"
    """What happens while moderation cannot be asked: block refuses with 503, allow lets texts through unchecked. Both
    are counted in gateway_moderation_degraded_total."""


class Search(Settings):
    query_chars: int = Field(1000, ge=1, le=100_000)
    """Most characters of a query."""
    limit: int = Field(50, ge=1, le=1000)
    """Most passages that a caller may ask for."""


class Ask(Settings):
    name: Name = "help-desk"
    """What metrics and logs call these requests, where a chat request has its assistant's name."""
    question_chars: int = Field(2000, ge=1, le=100_000)
    """Most characters of a question."""
    max_tokens: int = Field(256, ge=1)
    """Most tokens of an answer; a caller may ask for fewer."""
    context_tokens: int = Field(1024, ge=0)
    """Prompt tokens that a question is taken to cost besides its own, until the answer's usage tells."""
    moderation: ModerationUse = ModerationUse()
    """What is checked of questions and answers."""
