"""Who sends requests: where the texts come from, and what is made of one."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtests.labelled import Expected, load_labelled
from loadtests.questions import load_questions

# Where questions are asked in the library whose assistant the lab serves; the gateway's templates may use it.
DESKS = ("adult reference", "children", "local history", "periodicals")
ASKED_SHARE = 0.1  # of a library's readers who want an answer written; the others look at what is found
NEW_SHARE = 0.25  # of the readers whose subject is new, once it has come up

CHAT, SEARCH, ASK, MODERATION = "/v1/chat/completions", "/v1/search", "/v1/ask", "/v1/moderations"


@dataclass(frozen=True)
class Text:
    """One text to send, with its label where there is one."""

    text: str
    expected: Expected | None = None


@dataclass(frozen=True)
class Request:
    path: str
    body: dict[str, Any]


@dataclass(frozen=True)
class User:
    """`texts` takes the data folder and a split; `request` the target, a text, dice and most tokens.

    `reference` names the user that sends the same texts with nothing left to chance: what the healthy stack makes of
    each text is measured with it. `later` are texts that NEW_SHARE of the requests have in the second half of a run.
    """

    what: str
    texts: Callable[[Path, str], list[Text]]
    request: Callable[[str, str, random.Random, int | None], Request]
    reference: str | None = None
    later: Callable[[Path, str], list[Text]] | None = None


def _reading_desk(target: str, text: str, dice: random.Random, max_tokens: int | None) -> Request:
    """A visitor of a library's reading desk asks one question and reads the answer as it is written."""
    body: dict[str, Any] = {
        "model": target,
        "messages": [{"role": "user", "content": text}],
        "metadata": {"desk": DESKS[int(dice.random() * len(DESKS))]},
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    return Request(CHAT, body if max_tokens is None else {**body, "max_tokens": max_tokens})


def _search(target: str, text: str, dice: random.Random, max_tokens: int | None) -> Request:
    """A reader types a question into the search box of a collection."""
    return Request(SEARCH, {"collection": target, "query": text, "limit": 10})


def _library(target: str, text: str, dice: random.Random, max_tokens: int | None) -> Request:
    """Most readers search; some have the answer written for them."""
    if dice.random() >= ASKED_SHARE:
        return _search(target, text, dice, max_tokens)
    body: dict[str, Any] = {"collection": target, "question": text, "stream": True}
    return Request(ASK, body if max_tokens is None else {**body, "max_tokens": max_tokens})


def _comments(target: str, text: str, dice: random.Random, max_tokens: int | None) -> Request:
    """A site asks about each comment before it shows it."""
    return Request(MODERATION, {"input": text})


def _questions(data: Path, split: str) -> list[Text]:
    return [Text(question) for question in load_questions(data, split)]


def _labelled(name: str) -> Callable[[Path, str], list[Text]]:
    def read(data: Path, split: str) -> list[Text]:
        return [Text(item.text, item.expected) for item in load_labelled(data.with_name("labelled"), name, split)]

    return read


USERS = {
    "reading_desk": User("visitors of a reading desk ask an assistant", _questions, _reading_desk),
    "library": User("readers search a collection, some ask it", _labelled("encyclopedia"), _library, "library_search"),
    "library_search": User("readers search a collection", _labelled("encyclopedia"), _search, "library_search"),
    "search_box": User("readers search a collection for whatever comes to mind", _questions, _search),
    "new_subject": User(
        "the same, and from the middle of the run on a quarter of the questions are about medicine",
        _questions,
        _search,
        later=_labelled("medicine"),
    ),
    "comments": User("a site has comments checked", _labelled("comments"), _comments, "comments"),
}


def text_of(body: dict[str, Any]) -> str:
    """The text that a request asks about, out of its body."""
    if "messages" in body:
        return body["messages"][-1]["content"]
    return next(body[name] for name in ("query", "question", "input") if name in body)
