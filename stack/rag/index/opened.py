"""An index version in memory, ready to be searched."""

from dataclasses import dataclass
from pathlib import Path

from stack.rag import dense, sparse
from stack.rag.access import Access
from stack.rag.config.collections import Slot
from stack.rag.dense import DenseIndex
from stack.rag.hits import RetrievalError
from stack.rag.index.manifest import MANIFEST, Manifest, read_manifest, version_of
from stack.rag.index.passages import Passages, read_contents, read_passages
from stack.rag.index.versions import Versions, verify
from stack.rag.sparse import SparseIndex
from stack.rag.store import Key, Rights


class NotBuilt(RetrievalError):
    """The slot holds no index."""


class DamagedIndex(RetrievalError):
    """The slot's index is not what was built."""


@dataclass(frozen=True)
class OpenIndex:
    """The searches give rows; their texts are reached through `access` only. A leg is None where it was not built."""

    slot: Slot
    manifest: Manifest
    sparse: SparseIndex | None
    dense: DenseIndex | None
    passages: Passages
    contents: dict[Key, str]

    def access(self, rights: Rights) -> Access:
        """The passages under these rights."""
        return Access(self.passages.passages, self.passages.owners, rights)

    def lag(self, rights: Rights) -> int:
        """How many documents were added, changed or deleted since the index was built."""
        return len({key for key, _ in rights.content.items() ^ self.contents.items()})


def open_index(versions: Versions, slot: Slot) -> OpenIndex:
    """What the slot holds. Raises NotBuilt; DamagedIndex that names the file which is missing or damaged."""
    version = versions.state().slots.get(slot)
    if version is None:
        raise NotBuilt(
            f"index {slot} of {versions.collection} is not built; {rebuild_command(versions.collection, slot)}"
        )
    try:
        return _read(versions.path(version), slot)
    except RetrievalError as problem:
        raise DamagedIndex(f"{problem}; {rebuild_command(versions.collection, slot)}") from problem


def rebuild_command(collection: str, slot: Slot) -> str:
    """What mends an index, to be typed."""
    return f"build it: python -m stack.rag.index build --config FILE --collection {collection} --slot {slot}"


def _read(folder: Path, slot: Slot) -> OpenIndex:
    manifest = read_manifest(folder)
    if version_of(manifest.settings, manifest.encoder.fingerprint, manifest.corpus) != folder.name:
        raise RetrievalError(f"{folder / MANIFEST}: not the manifest of this version")
    verify(folder, manifest.files)
    passages = read_passages(folder)
    index = OpenIndex(
        slot,
        manifest,
        sparse.load(folder / "sparse") if manifest.settings.sparse and len(passages) else None,
        dense.load(folder / "dense") if manifest.settings.dense and len(passages) else None,
        passages,
        read_contents(folder),
    )
    for name, leg in (("sparse", index.sparse), ("dense", index.dense)):
        if leg is not None and len(leg) != len(passages):
            raise RetrievalError(f"{folder / name}: {len(leg)} rows, but passages.jsonl has {len(passages)}")
    return index
