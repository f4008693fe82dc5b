"""Configuration of prompts and sampling."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from stack.rag.templates import MESSAGE_VARIABLES, PASSAGE_VARIABLES, template_problems
from stack.settings import Settings


class Message(Settings):
    role: Literal["system", "user"]
    """Who speaks."""
    content: str
    """A Jinja2 template of context, question, collection, tenant, request_id, received_at, today. What is the same for
    every request belongs in front: the engine keeps its work on a beginning that it has seen."""

    @field_validator("content")
    @classmethod
    def _renders(cls, content: str) -> str:
        return _checked(content, MESSAGE_VARIABLES)


class Prompt(Settings):
    messages: tuple[Message, ...] = Field(min_length=1, max_length=8)
    """What the engine gets."""
    passage: str = "[{{ number }}] {{ title }}\n{{ text }}"
    """How a passage stands in `context`: a Jinja2 template of number, title, text, document."""
    separator: str = Field("\n\n", max_length=100)
    """What stands between passages."""
    context_tokens: int = Field(1024, ge=16, le=1 << 20)
    """Most tokens of all passages together, in the engine's count. What does not fit is left out, and not cited."""
    refusal: str = Field("I found nothing about this in the collection.", min_length=1, max_length=1000)
    """The answer when nothing is found. The engine is not asked then."""

    @field_validator("passage")
    @classmethod
    def _passage_renders(cls, passage: str) -> str:
        return _checked(passage, PASSAGE_VARIABLES)

    @model_validator(mode="after")
    def _asks_with_evidence(self) -> "Prompt":
        for name in ("context", "question"):
            if not any(name in message.content for message in self.messages):
                raise ValueError(f"messages: none of them holds {{{{ {name} }}}}")
        return self


class Sampling(Settings):
    """What nobody sets, the engine chooses."""

    max_tokens: int | None = Field(128, ge=1)
    """Most tokens of an answer; a caller may ask for fewer, not for more."""
    temperature: float | None = Field(0.0, ge=0, le=2)
    """0 always takes the likeliest token; larger values vary more."""
    top_p: float | None = Field(None, gt=0, le=1)
    """Only the likeliest tokens that have this probability together."""
    stop: tuple[str, ...] | None = Field(None, max_length=4)
    """Texts that end the answer."""
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    """Makes sampling repeatable."""
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    """Above 0 disfavours tokens by how often they have occurred."""


def _checked(template: str, variables: frozenset[str]) -> str:
    if problems := template_problems(template, variables):
        raise ValueError("\n".join(problems))
    return template
