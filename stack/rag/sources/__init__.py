"""Collections to search, read from packages that are installed: nothing is downloaded, no text is kept here."""

from collections.abc import Callable
from pathlib import Path

from stack.rag.sources import questions
from stack.rag.sources.collection import PUBLIC, Collection, Document, MissingCollection, Query
from stack.settings import nearest

__all__ = ["NAMES", "PUBLIC", "Collection", "Document", "MissingCollection", "Query", "load"]

_LOADERS: dict[str, Callable[[Path], Collection]] = {
    "boolq": lambda cache: questions.boolq(cache / "data"),
    "disflqa": lambda cache: questions.disflqa(cache / "data"),
    "pubmedqa": lambda cache: questions.pubmedqa(cache / "data"),
}
NAMES = tuple(_LOADERS)


def load(name: str, cache: Path) -> Collection:
    """The collection `name`; `cache` is the folder that set-up fills (`.cache`). Raises MissingCollection."""
    if name not in _LOADERS:
        raise MissingCollection(f"unknown collection '{name}'; {nearest(name, NAMES)}")
    return _LOADERS[name](cache)
