"""From passages and a question to the prompt: as many passages as the budget of tokens has room for, and no others.

What a caller is told to be cited is what this module put in, not what was found.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from jinja2 import Template, TemplateError
from tokenizers import Tokenizer

from stack.rag.access import Passage
from stack.rag.config.prompt import Prompt
from stack.rag.hits import RetrievalError
from stack.rag.templates import compile_template
from stack.service.errors import BadRequest, InternalError

ChatMessages = list[dict[str, str]]
"""Each has a `role` and a `content`."""

_PER_MESSAGE = 8  # tokens that the chat template puts around a message, at most
_CITED = re.compile(r"\[(\d{1,3}(?:\s*,\s*\d{1,3})*)\]")


class QuestionTooLong(BadRequest):
    """Question and answer have no room in the engine's context."""

    code: ClassVar = "question_too_long"


@dataclass(frozen=True)
class Rendered:
    """A prompt. `cited` are the passages in it; passage `[n]` of the prompt is cited[n - 1]."""

    messages: ChatMessages
    cited: tuple[Passage, ...]
    context_tokens: int
    dropped: int
    """How many passages were found and had no room."""


class PromptBuilder:
    """Renders prompts for one engine."""

    def __init__(self, settings: Prompt, tokenizer: Path, engine_tokens: int) -> None:
        """`engine_tokens`: prompt and answer together. Raises RetrievalError where the tokenizer cannot be read."""
        try:
            self._tokenizer = Tokenizer.from_file(str(tokenizer))
        except Exception as problem:  # the library raises plain Exception
            raise RetrievalError(f"{tokenizer}: no usable tokenizer ({problem}); `make setup` prepares it") from problem
        self._tokenizer.no_truncation()  # its file may say so, for training
        self._tokenizer.no_padding()
        self._settings = settings
        self._engine_tokens = engine_tokens
        self._passage = compile_template(settings.passage)
        self._messages: list[tuple[str, Template]] = [
            (message.role, compile_template(message.content)) for message in settings.messages
        ]

    def count(self, text: str) -> int:
        """Tokens of `text` as the engine counts, special tokens left out."""
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def render(self, passages: Sequence[Passage], variables: Mapping[str, str], answer_tokens: int) -> Rendered:
        """The prompt for `passages`, the best first. `variables`: those of templates but the context.

        Takes milliseconds. Raises QuestionTooLong, InternalError where a template fails.
        """
        context, kept = self._context(passages)
        while True:
            text = self._settings.separator.join(context)
            context_tokens = self.count(text)
            if context_tokens <= self._settings.context_tokens or not kept:
                messages = self._rendered({**variables, "context": text})
                tokens = sum(self.count(message["content"]) + _PER_MESSAGE for message in messages)
                if tokens + answer_tokens <= self._engine_tokens:
                    return Rendered(messages, tuple(kept), context_tokens, len(passages) - len(kept))
                if not kept:
                    raise QuestionTooLong("the question is too long for the model; ask a shorter one", "question")
            context, kept = context[:-1], kept[:-1]

    def _context(self, passages: Sequence[Passage]) -> tuple[list[str], list[Passage]]:
        """The passages that fit, rendered and as they are. One that is too long is left out, shorter ones follow.

        Each is counted by itself; where they meet, a tokenizer may see a token more or less.
        """
        left = self._settings.context_tokens
        between = self.count(self._settings.separator)
        context: list[str] = []
        kept: list[Passage] = []
        for passage in passages:
            text = self._rendered_passage(len(kept) + 1, passage)
            tokens = self.count(text) + (between if kept else 0)
            if tokens <= left:
                left -= tokens
                context.append(text)
                kept.append(passage)
        if passages and not kept:
            whole = self._rendered_passage(1, passages[0])
            return [self._cut(whole, self._settings.context_tokens)], [passages[0]]
        return context, kept

    def _cut(self, text: str, budget: int) -> str:
        """The beginning of `text`, at most `budget` tokens of it; half an answer is better than none."""
        offsets = self._tokenizer.encode(text, add_special_tokens=False).offsets
        if len(offsets) <= budget:
            return text
        # What was cut off can make the last word another one, of more tokens than it was.
        cuts = (text[: offsets[last - 1][1]] for last in range(budget, 0, -1))
        return next(cut for cut in cuts if self.count(cut) <= budget)

    def _rendered_passage(self, number: int, passage: Passage) -> str:
        values = {"number": number, "title": passage.title, "text": passage.text, "document": passage.document}
        return _render(self._passage, values)

    def _rendered(self, values: Mapping[str, str]) -> ChatMessages:
        return [{"role": role, "content": _render(template, values)} for role, template in self._messages]


def citations(answer: str, passages: int) -> tuple[int, int]:
    """How many citations like [1] or [1, 2] an answer holds: those of its `passages`, and those of none."""
    numbers = [int(number) for found in _CITED.findall(answer) for number in found.split(",")]
    valid = sum(1 <= number <= passages for number in numbers)
    return valid, len(numbers) - valid


def _render(template: Template, values: Mapping[str, object]) -> str:
    try:
        return template.render(values)
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
        # Its text may quote the caller's; the kind of the error is enough to find the template's fault.
        raise InternalError(f"the prompt cannot be built ({type(error).__name__}); tell its owner") from None
