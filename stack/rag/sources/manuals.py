"""The manuals of Git and SQLite with questions of people who know that something exists, and look for its place.

Each question is made from the name of an option, a variable, a constant, a function, or from the line that says what a
command is for. Names are written the way people say them, not the way they are spelled: `core.hooksPath` becomes "git
config core hooks path", `SQLITE_BUSY_SNAPSHOT` "sqlite error busy snapshot". So hardly any query repeats a heading: a
search by words has to live with what the text says, a search by meaning with names that it has never seen.

A name of one word is left out (`--quiet` means something in sixty commands), and so is a query all of whose words are
in the heading of another document as well: nobody could say which of the two is meant.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from stack.rag.sources import manual_pages
from stack.rag.sources.collection import Collection, Query, query_id
from stack.rag.sources.manual_pages import Entry

_OPTION = re.compile(r"--(?:\[no-\])?([a-z0-9]+(?:-[a-z0-9]+)+)")
_VARIABLE = re.compile(r"[a-z]+(?:\.[<>\w*-]+)*\.[A-Za-z]+")
_ENVIRONMENT = re.compile(r"(GIT(?:_[A-Z0-9]+)+)")
_PRAGMA = re.compile(r"PRAGMA (\w+)")
_RESULT = re.compile(r"\(\d+\) SQLITE_(\w+)")
_CONSTANT = re.compile(r"SQLITE_(\w+)")
_FUNCTION = re.compile(r"\bsqlite3_(\w+)\(")


def collection(documents: Path) -> Collection:
    """The manuals; `documents` is the folder that their packages were unpacked in. Raises MissingCollection."""
    entries, purposes = manual_pages.read(documents)
    headings = _Headings(entries)
    wanted: dict[str, str] = {}
    for entry in entries:
        for text in _queries(entry, purposes):
            if not headings.elsewhere(text, entry):
                wanted.setdefault(text, entry.document.id)
    queries = {text: Query(query_id("manuals", text, document), text) for text, document in wanted.items()}
    judgements = {queries[text].id: {document: 1} for text, document in wanted.items()}
    return Collection("manuals", tuple(entry.document for entry in entries), tuple(queries.values()), judgements)


def _queries(entry: Entry, purposes: dict[str, str]) -> Iterator[str]:
    """What is asked about `entry`: one query, or none."""
    page, heading = entry.page, entry.section.path[-1]
    if not page.startswith("git"):
        yield from _of_sqlite(page, heading, entry.section.text)
    elif heading == "DESCRIPTION" and page in purposes:
        yield purposes[page].rstrip(".").lower()
    elif page == "git-config" and _VARIABLE.fullmatch(heading):
        yield from _said("git config", re.sub(r"<.*?>", " ", heading))
    elif name := _OPTION.search(heading):
        yield from _said(page.replace("-", " "), name[1])
    elif name := _ENVIRONMENT.fullmatch(heading):
        yield from _said("environment variable", name[1])


def _of_sqlite(page: str, heading: str, text: str) -> Iterator[str]:
    if name := _PRAGMA.fullmatch(heading):
        yield from _said("sqlite pragma", name[1])
    elif name := _RESULT.fullmatch(heading):
        yield from _said("sqlite error", name[1])
    elif name := _CONSTANT.match(heading):
        yield from _said("sqlite", name[1])
    elif page.startswith("c3ref/") and (name := _FUNCTION.search(text.splitlines()[0])):
        yield from _said("sqlite c function", name[1])


def _said(subject: str, name: str) -> Iterator[str]:
    words = spoken(name)
    if len(words) > 1:
        yield f"{subject} {' '.join(words)}"


def spoken(name: str) -> list[str]:
    """The words of a name: taken apart at punctuation, underscores and capitals, in lower case."""
    parted = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name)
    return re.findall(r"[a-z0-9]+", parted.lower())


class _Headings:
    """Which words stand in the heading of which document."""

    def __init__(self, entries: list[Entry]) -> None:
        self._documents: dict[str, set[str]] = defaultdict(set)
        for entry in entries:
            for word in spoken(entry.document.title):
                self._documents[word].add(entry.document.id)

    def elsewhere(self, text: str, entry: Entry) -> bool:
        """Whether another document has every word of `text` in its heading."""
        having = [self._documents.get(word, set()) for word in spoken(text)]
        return bool(set.intersection(*having) - {entry.document.id})
