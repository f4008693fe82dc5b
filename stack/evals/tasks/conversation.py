"""Whether an assistant answers as its rules say, as a stream as well, and what it makes of a conversation."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from stack.evals.example import Example, chosen
from stack.evals.stack_client import Places, Stack
from stack.evals.suite import Mode, Named
from stack.evals.text import contains
from stack.rag import sources

_FORM = re.compile(r"\W*(yes|no)\b", re.IGNORECASE)
DESK = "desk"
"""A reader's question to the reading desk, whose rules ask for a Yes or No first; answered as a stream."""
TURNS = (1, 4)
"""Questions of the reader, the last one included."""
FOLLOWED_UP = "followed up"
"""A short conversation whose last question was answered in it."""

RENDERED, MANY = "rendered", 20
"""A conversation of so many turns, as the engine would get it."""
LONG, VERY_MANY = "long", 110
"""One of so many turns is about 3,400 tokens: what the engine has room for, with some left for the rules."""

Messages = list[dict[str, str]]

_ANOTHER = [{"role": "user", "content": "Where are the books about whales?"}]

_STORY = (
    "I have been a reader of this library for eleven years.",
    "I come on Saturdays with my two children, who like the books about animals best.",
    "My sister comes as well when she is in town.",
    "Last week the machine at the door did not take my card, and the lady at the desk wrote a note for me.",
    "We would like to order a book about whales and one about the sea.",
    "If there is a new one about volcanoes, my daughter would be glad to have it before the holidays.",
    "We are in no hurry with the others.",
)
"""Before the number and the question where all is in one message: what is cut off there is lost."""
_NUMBERS = (
    ("The number of my library card is {}.", "What is the number of my library card?"),
    ("The book that I ordered has the number {}.", "What number has the book that I ordered?"),
    ("My locker is number {}.", "What is the number of my locker?"),
    ("The code of the reading room is {}.", "What is the code of the reading room?"),
    ("I was born in the house number {}.", "What is the number of the house?"),
)
_REPLIES = (
    "Yes, as far as I know.",
    "No, that is not the case.",
    "Yes, in most places it is.",
    "No, there is another rule for that.",
    "Yes, that is right.",
)
_BOOKS = (
    "whales", "volcanoes", "trains", "spiders", "castles", "robots", "gardens", "pirates", "planets", "horses",
    "bridges", "storms", "rivers",
)  # fmt: skip
_FOLLOW_UPS = (
    ("Where was the book about {} printed?", "It was printed in {}.",
     ("Paris", "London", "Rome", "Madrid", "Vienna", "Berlin", "Oslo", "Dublin", "Athens", "Lisbon", "Prague")),
    ("Who wrote the book about {}?", "{} wrote it.",
     ("Anna", "Peter", "Maria", "Thomas", "Laura", "Daniel", "Susan", "Robert", "Helen", "Martin", "Emma")),
)  # fmt: skip
"""A question that is asked twice, its answer, and what it may tell. The answer alone tells it: where the order of the
turns is another one, this model gives that of the other book. Of three turns and more it remembers too little."""


class Conversation:
    """answered: there is an answer. remembered: it has the number that the last message tells, or what an earlier
    turn tells. long: a conversation that is nearly as long as the engine has room for is answered. whole: what the
    engine would get ends in all messages, in their order, behind something of the assistant's own. shared: characters
    with which it begins as another conversation does, which the engine need not read again. form: it begins with Yes
    or No. words: of the desk's answer. first_words: seconds to the first words of a stream."""

    WORST: ClassVar[Mapping[str, float]] = dict.fromkeys(
        ("answered", "remembered", "long", "whole", "shared", "form"), 0.0
    )
    SCORES: ClassVar[frozenset[str]] = frozenset({*WORST, "prompt_tokens", "answer_tokens", "words", "first_words"})

    def examples(self, suite: Named, mode: Mode, places: Places) -> list[Example]:
        size = suite.size(mode)
        queries = chosen(sources.load("boolq", places.data, places.manuals).queries, 2000, lambda query: query.id)
        questions = [f"{query.text}?" for query in queries]
        found = [
            Example(f"{DESK}-{query.id}", {"messages": [_user(f"{query.text}?")]}, {}, (DESK,))
            for query in queries[-size:]
        ]
        for slice_, turns, numbers, apart in (
            *((f"{turns} turns", turns, range(size), max(TURNS)) for turns in TURNS),
            (RENDERED, MANY, range(size // 3), MANY),
            # Of one beginning, replies included: the engine reads it once, which takes it long.
            (LONG, VERY_MANY, range(0, max(3, size // 10) * len(_REPLIES), len(_REPLIES)), 0),
        ):
            for number in numbers:
                before = questions[number * apart :][: turns - 1]
                found.append(_example(slice_, number, *_told_last(number, before)))
        return found + [_example(FOLLOWED_UP, number, *_followed_up(number)) for number in range(2 * size)]

    async def ask(self, example: Example, stack: Stack) -> dict[str, Any]:
        if DESK in example.slices:
            return await stack.chat_streamed(example.ask["messages"])
        if RENDERED in example.slices:
            messages = await stack.rendered(example.ask["messages"])
            return {"messages": messages, "of_another": await stack.rendered(_ANOTHER)}
        answer = await stack.chat(example.ask["messages"])
        return {
            "text": answer["choices"][0]["message"]["content"],
            "prompt_tokens": answer["usage"]["prompt_tokens"],
            "answer_tokens": answer["usage"]["completion_tokens"],
        }

    def score(self, example: Example, output: dict[str, Any]) -> dict[str, float]:
        if RENDERED in example.slices:
            sent, got = example.ask["messages"], output["messages"]
            whole = len(got) > len(sent) and got[-len(sent) :] == sent
            return {"whole": float(whole), "shared": float(_shared(_as_text(got), _as_text(output["of_another"])))}
        said = float(bool(output["text"].strip()))
        if LONG in example.slices:
            return {"long": said}
        answered = {"answered": said}
        if DESK in example.slices:
            form = _FORM.match(output["text"]) is not None
            words = len(output["text"].split())
            return answered | {"form": float(form), "words": float(words), "first_words": output["first_words"]}
        return answered | {
            "remembered": float(contains(output["text"], example.expected["told"])),
            "prompt_tokens": float(output["prompt_tokens"]),
            "answer_tokens": float(output["answer_tokens"]),
        }


def _told_last(number: int, questions: Sequence[str]) -> tuple[Messages, str]:
    """Questions with answers, and a last message that tells a number and asks for it; the number."""
    told = str(1000 + (number * 7919 + 131) % 9000)
    fact, asked = (text.format(told) for text in _NUMBERS[number % len(_NUMBERS)])
    first = number % len(_STORY)
    story = _STORY[first:] + _STORY[:first]
    history: Messages = []
    for place, question in enumerate(questions):
        history += [_user(question), _assistant(_REPLIES[(number + place) % len(_REPLIES)])]
    return [*history, _user(" ".join((*story, fact, asked)))], told


def _followed_up(number: int) -> tuple[Messages, str]:
    """Two questions with answers, and one of the two again; its answer."""
    asked, answered, words = _FOLLOW_UPS[number % 2]
    turn = number // 2
    questions = [asked.format(_BOOKS[(turn + place * 5) % len(_BOOKS)]) for place in range(2)]
    told = [words[(turn * 3 + place * 4) % len(words)] for place in range(2)]
    history = [
        message
        for question, word in zip(questions, told, strict=True)
        for message in (_user(question), _assistant(answered.format(word)))
    ]
    return [*history, _user(questions[turn % 2])], told[turn % 2]


def _example(slice_: str, number: int, messages: Messages, told: str) -> Example:
    return Example(f"{slice_.replace(' ', '-')}-{number}", {"messages": messages}, {"told": told}, (slice_,))


def _as_text(messages: Messages) -> str:
    """As an engine reads them, whatever its template puts between."""
    return "".join(f"{message['role']}\n{message['content']}\n" for message in messages)


def _shared(one: str, other: str) -> int:
    """Characters with which both begin."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))


def _user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def _assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}
