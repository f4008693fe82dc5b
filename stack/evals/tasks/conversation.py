"""Whether an assistant answers as its rules say, as a stream as well, and remembers what was said so many turns ago."""

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from stack.evals.example import Example, chosen
from stack.evals.stack_client import Places, Stack
from stack.evals.suite import Mode, Named
from stack.evals.text import contains
from stack.rag import sources

_FORM = re.compile(r"\W*(yes|no)\b", re.IGNORECASE)
TURNS = (1, 12)
"""Questions of the reader, the last one included."""
_STORY = (
    "I have been a reader of this library for eleven years, and I come on Saturdays with my two children, who like the "
    "books about animals best. My sister comes as well when she is in town. Last week the machine at the door did not "
    "take my card, and the lady at the desk was so kind as to write the number down for me, so that I can tell it to "
    "you today. We would like to order a book about whales and one about the sea, and if there is a new one about "
    "volcanoes, my daughter would be glad to have it before the holidays. We are in no hurry with the others. "
)
"""Before the number and the question where all is in one message: what is cut off there is lost."""
DESK = "desk"
"""A reader's question to the reading desk, whose rules ask for a Yes or No first; answered as a stream."""


class Conversation:
    """answered: there is an answer. remembered: it has the number that the first turn told. form: it begins with Yes or
    No. words: of the desk's answer. first_words: seconds to the first words of a stream."""

    WORST: ClassVar[Mapping[str, float]] = {"answered": 0.0, "remembered": 0.0, "form": 0.0}
    SCORES: ClassVar[frozenset[str]] = frozenset({*WORST, "prompt_tokens", "answer_tokens", "words", "first_words"})

    def examples(self, suite: Named, mode: Mode, places: Places) -> list[Example]:
        questions = chosen(sources.load("boolq", places.data, places.manuals).queries, 2000, lambda query: query.id)
        found = [
            Example(f"{DESK}-{query.id}", {"messages": [{"role": "user", "content": f"{query.text}?"}]}, {}, (DESK,))
            for query in questions[-suite.size(mode) :]
        ]
        for turns in TURNS:
            for number in range(suite.size(mode)):
                asked = [query.text for query in questions[number * max(TURNS) :][: turns - 1]]
                card = str(1000 + (number * 7919 + turns * 131) % 9000)
                found.append(Example(f"{turns}-turns-{number}", {"messages": _messages(card, asked)}, {"card": card},
                                     (f"{turns} turns",)))  # fmt: skip
        return found

    async def ask(self, example: Example, stack: Stack) -> dict[str, Any]:
        if DESK in example.slices:
            return await stack.chat_streamed(example.ask["messages"])
        answer = await stack.chat(example.ask["messages"])
        return {
            "text": answer["choices"][0]["message"]["content"],
            "prompt_tokens": answer["usage"]["prompt_tokens"],
            "answer_tokens": answer["usage"]["completion_tokens"],
        }

    def score(self, example: Example, output: dict[str, Any]) -> dict[str, float]:
        answered = {"answered": float(bool(output["text"].strip()))}
        if DESK in example.slices:
            form = _FORM.match(output["text"]) is not None
            words = len(output["text"].split())
            return answered | {"form": float(form), "words": float(words), "first_words": output["first_words"]}
        return answered | {
            "remembered": float(contains(output["text"], example.expected["card"])),
            "prompt_tokens": float(output["prompt_tokens"]),
            "answer_tokens": float(output["answer_tokens"]),
        }


def _messages(card: str, questions: list[str]) -> list[dict[str, str]]:
    told = f"The number of my library card is {card}."
    asked = "What is the number of my library card?"
    if not questions:
        return [{"role": "user", "content": f"{_STORY}{told} {asked}"}]
    messages = [
        {"role": "user", "content": told},
        {"role": "assistant", "content": "Thank you, I have noted the number of your card."},
    ]
    for question in questions[1:]:
        messages += [
            {"role": "user", "content": f"{question}?"},
            {"role": "assistant", "content": "Yes, as far as I know."},
        ]
    return [*messages, {"role": "user", "content": asked}]
