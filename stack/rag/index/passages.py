"""The passages of an index: documents cut into chunks, each with an id that depends on nothing but the document."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stack.rag.access import Passage
from stack.rag.chunking import chunk
from stack.rag.config.stages import ChunkSettings
from stack.rag.encoders import Encoder
from stack.rag.hits import RetrievalError
from stack.rag.sources.collection import Document
from stack.rag.store import Key, key_of

PASSAGES = "passages.jsonl"
DOCUMENTS = "documents.json"


@dataclass(frozen=True)
class Passages:
    """All passages of an index; `owners` has the document of each. The order is the order of the rows."""

    passages: tuple[Passage, ...]
    owners: tuple[Key, ...]

    def __len__(self) -> int:
        return len(self.passages)

    @property
    def texts(self) -> list[str]:
        """What is indexed."""
        return [passage.text for passage in self.passages]


def cut(
    documents: Iterable[Document], settings: ChunkSettings | None, encoder: Encoder, progress: Callable[[int], None]
) -> Passages:
    """The passages of `documents`, in their order; `progress` is told how many documents are done."""
    passages: list[Passage] = []
    owners: list[Key] = []
    for done, document in enumerate(documents, start=1):
        texts = [document.text] if settings is None else [one.text for one in chunk(document.text, settings, encoder)]
        for ordinal, text in enumerate(text for text in texts if text.strip()):
            passages.append(Passage(chunk_id(document, ordinal, text), document.id, document.title, text))
            owners.append(key_of(document))
        progress(done)
    return Passages(tuple(passages), tuple(owners))


def chunk_id(document: Document, ordinal: int, text: str) -> str:
    """`DOCUMENT#ORDINAL-HASH`: the same for the same text at the same place of the same document."""
    digest = hashlib.sha256("\0".join((document.tenant, document.id, str(ordinal), text)).encode())
    return f"{document.id}#{ordinal}-{digest.hexdigest()[:10]}"


def write_passages(passages: Passages, folder: Path) -> None:
    """A JSON line each, into `folder`."""
    with (folder / PASSAGES).open("w", encoding="utf-8") as file:
        for passage, (tenant, _) in zip(passages.passages, passages.owners, strict=True):
            line = [tenant, passage.document, passage.chunk, passage.title, passage.text]
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def read_passages(folder: Path) -> Passages:
    """What was written into `folder`. Raises RetrievalError."""
    path = folder / PASSAGES
    try:
        with path.open(encoding="utf-8") as file:
            return _parsed([json.loads(line) for line in file])
    except (OSError, ValueError, TypeError) as problem:
        raise RetrievalError(f"{path}: no usable passages ({problem}); build the index again") from problem


def write_contents(contents: Mapping[Key, str], folder: Path) -> None:
    """The documents that an index is built from, with the hash of what is in them, into `folder`."""
    lines = [[tenant, name, content] for (tenant, name), content in contents.items()]
    (folder / DOCUMENTS).write_text(json.dumps(lines, ensure_ascii=False), encoding="utf-8")


def read_contents(folder: Path) -> dict[Key, str]:
    """What was written into `folder`. Raises RetrievalError."""
    path = folder / DOCUMENTS
    try:
        return {(tenant, name): content for tenant, name, content in json.loads(path.read_text(encoding="utf-8"))}
    except (OSError, ValueError, TypeError) as problem:
        raise RetrievalError(f"{path}: no usable list of documents ({problem}); build the index again") from problem


def _parsed(lines: Sequence[list[str]]) -> Passages:
    return Passages(
        tuple(Passage(chunk, document, title, text) for _, document, chunk, title, text in lines),
        tuple((tenant, document) for tenant, document, _, _, _ in lines),
    )
