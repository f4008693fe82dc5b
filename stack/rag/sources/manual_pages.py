"""The pages of the manuals of Git and SQLite, taken apart.

Each section of a page is a document, and so is each option, variable, constant or function that a list explains.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from stack.rag.sources.collection import Document, MissingCollection, document_id
from stack.rag.sources.html import Section, sections

GIT = "git-doc/usr/share/doc/git-doc"
SQLITE = "sqlite3-doc/usr/share/doc/sqlite3"

# Manual pages; without those of other version control systems, of servers, of formats. The HTML, not the .txt beside
# it: there the texts that several pages share are not filled in.
GIT_PAGES = (
    "git.html", "git-*.html", "gitattributes.html", "gitcli.html", "gitcredentials.html", "gitfaq.html",
    "githooks.html", "gitignore.html", "gitmodules.html", "gitrevisions.html", "gitsubmodules.html",
)  # fmt: skip
GIT_LEFT_OUT = (
    "git-svn*", "git-cvs*", "git-p4*", "git-archimport*", "git-gui*", "git-imap*", "git-http*", "git-daemon*",
    "git-*-daemon*", "git-fast-*", "git-filter-branch*", "git-bisect-lk*",
)  # fmt: skip
# Reference and what explains it; without internals, news, and lists that are made of the other pages.
SQLITE_PAGES = (
    "c3ref/*.html", "lang_[!s]*.html", "lang_savepoint.html", "autoinc.html", "cli.html", "compile.html",
    "datatype3.html", "dbstat.html", "eqp.html", "expridx.html", "faq.html", "foreignkeys.html", "gencol.html",
    "inmemorydb.html", "isolation.html", "json1.html", "limits.html", "loadext.html", "partialindex.html",
    "pragma.html", "quirks.html", "rescode.html", "rowidtable.html", "security.html", "sharedcache.html",
    "stricttables.html", "threadsafe.html", "uri.html", "wal.html", "withoutrowid.html",
)  # fmt: skip
SQLITE_LEFT_OUT = ("c3ref/*list.html", "c3ref/intro.html")

# Headings of sections that every manual page has: lists of arguments and of links.
_FRAME = frozenset({"SYNOPSIS", "NAME", "SEE ALSO", "GIT", "See Also", "Author", "AUTHORS"})
_FEWEST_WORDS = 8  # what is shorter only points elsewhere


@dataclass(frozen=True)
class Entry:
    """A document of the manuals with what it was made from."""

    document: Document
    page: str
    """The page that it is named after: `git-stash`, `c3ref/busy_timeout`."""
    section: Section


def read(documents: Path) -> tuple[list[Entry], dict[str, str]]:
    """All entries; and for the pages of commands, page -> what it is for, from the line under NAME, which is in no
    document. `documents` is the folder that the packages were unpacked in. Raises MissingCollection.
    """
    git, purposes = _git(documents / GIT)
    return git + _sqlite(documents / SQLITE), purposes


def _git(folder: Path) -> tuple[list[Entry], dict[str, str]]:
    pages = list(_pages(folder, GIT_PAGES, GIT_LEFT_OUT, "git-doc"))
    purposes = {}
    for page, found in pages:
        for section in found:
            if section.path[-1] == "NAME":
                purposes[page] = section.text.partition(" - ")[2].strip()
    return _entries(pages, lambda page, section: [page, *section.path[1:]]), purposes


def _sqlite(folder: Path) -> list[Entry]:
    pages = list(_pages(folder, SQLITE_PAGES, SQLITE_LEFT_OUT, "sqlite3-doc"))
    return _entries(pages, lambda page, section: ["SQLite", *section.path])


def _entries(pages: list[tuple[str, list[Section]]], headings: Callable[[str, Section], list[str]]) -> list[Entry]:
    """A section that several pages share is one document, named after the first of them; its text names the others."""
    places: dict[tuple[str, str], list[tuple[str, Section]]] = {}
    for page, found in pages:
        for section in found:
            if section.path[-1] not in _FRAME and len(section.text.split()) >= _FEWEST_WORDS:
                places.setdefault((section.path[-1], section.text), []).append((page, section))
    entries = []
    times: Counter[tuple[str, ...]] = Counter()
    for (page, section), *others in places.values():
        title = ": ".join(headings(page, section))
        also = sorted({other for other, _ in others if other != page})
        text = f"{title}\n{section.text}" + (f"\nAlso in: {', '.join(also)}." if also else "")
        # The id stands for the place, not for the text: another edition of the manual changes the document.
        place = (page, *section.path)
        times[place] += 1
        identity = document_id("manuals", *place, str(times[place]))
        entries.append(Entry(Document(identity, title, text), page, section))
    return entries


def _pages(
    folder: Path, wanted: tuple[str, ...], left_out: tuple[str, ...], package: str
) -> Iterator[tuple[str, list[Section]]]:
    """Page and sections; short names first, which are the well-known commands."""
    paths = {path.relative_to(folder).as_posix(): path for pattern in wanted for path in folder.glob(pattern)}
    names = [name for name in paths if not any(fnmatch(name, pattern) for pattern in left_out)]
    if not names:
        raise MissingCollection(f"{folder}: no pages; `make setup` unpacks the package `{package}` there")
    for name in sorted(names, key=lambda name: (len(name), name)):
        text = paths[name].read_text(encoding="utf-8", errors="replace")
        yield name.removesuffix(".html"), list(sections(text))
