"""The dense side of retrieval: passages found by the nearness of vectors, with faiss.

`build`, then `search`; `save` and `load` for an index that outlives the process.
"""

import math
from pathlib import Path

import faiss
import numpy as np
from pydantic import TypeAdapter, ValidationError

from stack.rag.config.stages import DenseSettings, FlatIndex, HnswIndex, IvfIndex
from stack.rag.hits import NONE, Hits, RetrievalError, ranked

VECTORS = "vectors.faiss"
SETTINGS = "settings.json"
EXACT_BELOW = 10_000
"""An approximate index compares all allowed rows when they are no more than this. Its graph or its cells lead to the
nearest of all rows; where few are allowed, hardly any of those is among them."""
_SETTINGS: TypeAdapter[DenseSettings] = TypeAdapter(DenseSettings)

# One vector at a time is too little work to share out, and threads that wait for each other cost the other services.
faiss.omp_set_num_threads(1)


class DenseIndex:
    """Vectors of one dimension. Row i is the i-th vector that it was built from."""

    def __init__(self, index: faiss.Index, settings: DenseSettings) -> None:
        self.settings = settings
        self._index = index

    def __len__(self) -> int:
        return self._index.ntotal

    @property
    def dimension(self) -> int:
        """Numbers in a vector."""
        return self._index.d

    def search(self, vector: np.ndarray, depth: int, allowed: np.ndarray | None = None) -> Hits:
        """The nearest `depth` of the allowed rows to `vector`, float32[dimension].

        Scores: the inner product; for l2 the negative squared distance. `allowed`: bool[n], None allows all; rows
        that are not allowed are left out while searching, not afterwards. An approximate index may find other rows
        than the nearest, but never fewer than there are. Raises RetrievalError for a vector of another dimension.
        """
        vector = np.ascontiguousarray(vector, np.float32).reshape(1, -1)
        if vector.shape[1] != self.dimension:
            raise RetrievalError(
                f"a query vector of {vector.shape[1]} numbers, an index of {self.dimension}: "
                "the query's encoder is not the one that the index was built with"
            )
        available = len(self) if allowed is None else int(np.count_nonzero(allowed))
        wanted = min(depth, available)
        if wanted < 1:
            return NONE
        exact = isinstance(self.settings, FlatIndex)
        if allowed is not None and not exact and available <= EXACT_BELOW:
            return self._compared(vector, wanted, allowed)
        found = self._searched(vector, wanted, allowed, available / len(self))
        return found if len(found) == wanted else self._compared(vector, wanted, allowed)

    def _searched(self, vector: np.ndarray, wanted: int, allowed: np.ndarray | None, share: float) -> Hits:
        scores, rows = self._index.search(vector, wanted, params=self._parameters(wanted, allowed, share))
        real = rows[0] >= 0
        return ranked(rows[0][real], self._sign * scores[0][real], wanted)

    def _compared(self, vector: np.ndarray, wanted: int, allowed: np.ndarray | None) -> Hits:
        """Exact, whatever the index."""
        rows = np.arange(len(self)) if allowed is None else np.flatnonzero(allowed)
        vectors = self._index.reconstruct_batch(rows)
        if self.settings.metric == "inner_product":
            scores = vectors @ vector[0]
        else:
            scores = -np.square(vectors - vector).sum(axis=1)
        return ranked(rows, scores, wanted)

    @property
    def _sign(self) -> int:
        return 1 if self.settings.metric == "inner_product" else -1

    def _parameters(self, wanted: int, allowed: np.ndarray | None, share: float) -> faiss.SearchParameters:
        """`share` of the rows is allowed: so many times more have to be looked at."""
        chosen = {} if allowed is None else {"sel": faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))}
        match self.settings:
            case HnswIndex(ef_search=ef_search):
                return faiss.SearchParametersHNSW(efSearch=math.ceil(max(ef_search, wanted) / share), **chosen)
            case IvfIndex(probes=probes):
                return faiss.SearchParametersIVF(nprobe=math.ceil(probes / share), **chosen)
        return faiss.SearchParameters(**chosen)

    def save(self, folder: Path) -> None:
        """Write the index into `folder`, which is made if need be."""
        folder.mkdir(parents=True, exist_ok=True)
        faiss.write_index(self._index, str(folder / VECTORS))
        (folder / SETTINGS).write_text(self.settings.model_dump_json(indent=1), encoding="utf-8")


def build(vectors: np.ndarray, settings: DenseSettings) -> DenseIndex:
    """An index of `vectors`, float32[n, dimension]; row i is vectors[i]. Raises RetrievalError when there are none."""
    vectors = np.ascontiguousarray(vectors, np.float32)
    if vectors.ndim != 2 or not vectors.size:
        raise RetrievalError("a dense index of no vectors; is the collection empty?")
    if not np.isfinite(vectors).all():
        raise RetrievalError("a vector holds something that is no number; embed the collection again")
    index = _empty(len(vectors), vectors.shape[1], settings)
    if not index.is_trained:
        index.train(vectors)
    index.add(vectors)
    return DenseIndex(index, settings)


def _empty(count: int, dimension: int, settings: DenseSettings) -> faiss.Index:
    metric = faiss.METRIC_INNER_PRODUCT if settings.metric == "inner_product" else faiss.METRIC_L2
    match settings:
        case FlatIndex():
            return faiss.IndexFlat(dimension, metric)
        case HnswIndex(m=m, ef_construction=ef_construction):
            index = faiss.IndexHNSWFlat(dimension, m, metric)
            index.hnsw.efConstruction = ef_construction
            return index
        case IvfIndex(lists=lists):
            lists = min(lists, count)
            index = faiss.IndexIVFFlat(faiss.IndexFlat(dimension, metric), dimension, lists, metric)
            index.cp.min_points_per_centroid = 1  # small collections are meant; no warning
            index.make_direct_map()
            return index


def load(folder: Path) -> DenseIndex:
    """The index that was saved in `folder`. Raises RetrievalError when it is missing or damaged."""
    try:
        settings = _SETTINGS.validate_json((folder / SETTINGS).read_text(encoding="utf-8"))
        index = faiss.read_index(str(folder / VECTORS))
    except (OSError, UnicodeDecodeError, ValidationError, RuntimeError) as problem:
        text = " ".join(str(problem).split())
        raise RetrievalError(f"{folder}: no usable dense index ({text}); build the index again") from problem
    return DenseIndex(index, settings)
