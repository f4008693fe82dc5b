"""Collections to search, read from packages that are installed: nothing is downloaded, no text is kept here."""

from collections.abc import Callable
from pathlib import Path

from stack.rag.sources import manuals, questions
from stack.rag.sources.collection import PUBLIC, Collection, Document, MissingCollection, Query
from stack.settings import nearest

__all__ = ["NAMES", "PUBLIC", "Collection", "Document", "MissingCollection", "Query", "load"]

_LOADERS: dict[str, Callable[[Path, Path], Collection]] = {
    "boolq": lambda data, documents: questions.boolq(data),
    "disflqa": lambda data, documents: questions.disflqa(data),
    "manuals": lambda data, documents: manuals.collection(documents),
    "pubmedqa": lambda data, documents: questions.pubmedqa(data),
}
NAMES = tuple(_LOADERS)


def load(name: str, data: Path, documents: Path) -> Collection:
    """The collection `name`. Raises MissingCollection.

    `data` is the folder that packages with data sets are unpacked in, `documents` that of packages with manuals:
    `.cache/data` and `.cache/documents` once the lab is set up.
    """
    if name not in _LOADERS:
        raise MissingCollection(f"unknown collection '{name}'; {nearest(name, NAMES)}")
    return _LOADERS[name](data, documents)
