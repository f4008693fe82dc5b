"""The chat request as callers send it (OpenAI's chat completions), and as the engine gets it."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from stack.gateway.config import GatewayConfig, Sampling
from stack.gateway.prompts import ChatMessages
from stack.settings import Settings


class TextPart(Settings):
    type: Literal["text"]
    text: str


class CallerTurn(Settings):
    role: Literal["user", "assistant"]
    content: str | tuple[TextPart, ...]

    @field_validator("role", mode="before")
    @classmethod
    def _no_system_message(cls, role: Any) -> Any:
        if role in ("system", "developer"):
            raise ValueError(f"a {role} message is the assistant's own; send user and assistant turns only")
        return role

    @property
    def text(self) -> str:
        """The turn's text, its parts joined."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class StreamOptions(Settings):
    include_usage: bool = False


def as_tuple(value: Any) -> Any:
    """For keys that take one text or several."""
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


class ChatRequest(Sampling):
    """The body of a chat request. Unknown keys are refused: nobody shall trust a setting without effect."""

    model: str = Field(max_length=64)
    messages: tuple[CallerTurn, ...] = Field(min_length=1)
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    max_completion_tokens: int | None = Field(None, ge=1)
    metadata: dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]] | None = Field(
        None, max_length=16
    )
    stop: Annotated[
        tuple[str, ...] | None,
        BeforeValidator(as_tuple, json_schema_input_type=str | Annotated[tuple[str, ...], Field(max_length=4)] | None),
    ] = Field(None, max_length=4)
    n: Literal[1] | None = None
    user: str | None = Field(None, max_length=512)

    @field_validator("messages")
    @classmethod
    def _ends_with_a_question(cls, messages: tuple[CallerTurn, ...]) -> tuple[CallerTurn, ...]:
        if messages[-1].role != "user" or not messages[-1].text.strip():
            raise ValueError("the last message must be the user's question, and not empty")
        return messages

    @property
    def question(self) -> str:
        """The text of the last message."""
        return self.messages[-1].text

    @property
    def history(self) -> ChatMessages:
        """The turns before the question."""
        return [{"role": turn.role, "content": turn.text} for turn in self.messages[:-1]]

    @property
    def texts(self) -> tuple[str, ...]:
        """All that the caller wrote: its turns, those in the assistant's name too, and what templates may quote."""
        return (*(turn.text for turn in self.messages), *(self.metadata or {}).values())

    @property
    def wants_usage(self) -> bool:
        """True where the caller asked for token counts at the end of a stream."""
        return self.stream_options is not None and self.stream_options.include_usage


def engine_request(config: GatewayConfig, request: ChatRequest, messages: ChatMessages) -> dict[str, Any]:
    """The engine's request: the caller's sampling over the assistant's, never more tokens than allowed."""
    keys = set(Sampling.model_fields)
    own = config.assistants[request.model].sampling
    sampling = own.model_dump(exclude_none=True) | request.model_dump(include=keys, exclude_none=True)
    bounds = (config.limits.max_tokens, own.max_tokens, request.max_tokens, request.max_completion_tokens)
    sampling["max_tokens"] = min(bound for bound in bounds if bound is not None)
    body = {"model": config.upstream.model, "messages": messages, **sampling}
    if request.stream:
        # Always asked for: the token counters need it. The relay takes it out again for other callers.
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return body
