"""Renders an assistant's prompt: its templates, and the caller's turns, become the engine's messages."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from jinja2 import Template, TemplateError

from stack.gateway.config import GatewayConfig, History
from stack.gateway.errors import InternalError, PromptTooLong
from stack.gateway.templates import Names, compile_template
from stack.telemetry.logs import utc

log = logging.getLogger(__name__)

ChatMessages = list[dict[str, str]]
"""Each has a `role` and a `content`."""


@dataclass(frozen=True)
class Asked:
    """What one request brings into the templates."""

    question: str
    history: ChatMessages
    metadata: Mapping[str, str]
    tenant: str
    request_id: str
    received_at: datetime


class Prompts:
    """The compiled templates of every assistant."""

    def __init__(self, config: GatewayConfig) -> None:
        self._documents = Names(config.documents)
        self._prompt_chars = config.limits.prompt_chars
        self._turns: dict[str, list[tuple[str, Template] | None]] = {
            name: [
                None if isinstance(message, History) else (message.role, compile_template(message.content))
                for message in assistant.messages
            ]
            for name, assistant in config.assistants.items()
        }

    def render(self, assistant: str, asked: Asked) -> ChatMessages:
        """The messages for the engine. Raises PromptTooLong; InternalError when a template fails."""
        variables = {
            "question": asked.question,
            "tenant": asked.tenant,
            "request_id": asked.request_id,
            "received_at": utc(asked.received_at),
            "today": asked.received_at.astimezone(UTC).date().isoformat(),
            "metadata": Names(asked.metadata),
            "documents": self._documents,
        }
        messages: ChatMessages = []
        try:
            for turn in self._turns[assistant]:
                if turn is None:
                    messages += asked.history
                else:
                    role, template = turn
                    messages.append({"role": role, "content": template.render(variables)})
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
            # Its text may quote the caller's; the kind of the error is enough to find the template's fault.
            log.error("prompt template failed", extra={"assistant": assistant, "error": type(error).__name__})
            raise InternalError(f"the prompt of {assistant} cannot be built; tell its owner") from None
        length = sum(len(message["content"]) for message in messages)
        if length > self._prompt_chars:
            raise PromptTooLong(
                f"the prompt has {length} characters, at most {self._prompt_chars} are allowed; "
                "shorten the question or send fewer earlier turns",
                param="messages",
            )
        return messages
