"""The sparse side of retrieval: passages found by the words that they share with the query.

`build`, then `search`; `save` and `load` for an index that outlives the process.
"""

from collections.abc import Sequence
from pathlib import Path

from stack.rag.config.stages import SparseSettings
from stack.rag.sparse.analysis import Analyser
from stack.rag.sparse.index import KnownTerms, SparseIndex, analysed, settings_in
from stack.rag.sparse.matrix import MatrixIndex
from stack.rag.sparse.scan import ScanIndex

__all__ = ["Analyser", "KnownTerms", "SparseIndex", "build", "load"]

_KINDS: dict[str, type[SparseIndex]] = {index.kind: index for index in (MatrixIndex, ScanIndex)}


def build(texts: Sequence[str], settings: SparseSettings) -> SparseIndex:
    """An index of `texts`; row i is texts[i]. Raises RetrievalError where no text has a term."""
    return _KINDS[settings.kind]._of_terms(analysed(texts, settings), settings)


def load(folder: Path) -> SparseIndex:
    """The index that was saved in `folder`. Raises RetrievalError when it is missing or damaged."""
    settings = settings_in(folder)
    return _KINDS[settings.kind]._read(folder, settings)
