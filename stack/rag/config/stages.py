"""Configuration of each stage of retrieval: encoder, analyser, sparse and dense index, fusion, reranker, chunks."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from stack.settings import Settings


class _Encoding(Settings):
    """What every kind of encoder has."""

    max_tokens: int = Field(256, ge=8, le=512)
    """Longer texts are cut off here; the prefix and the two special tokens count."""
    normalise: bool = True
    """Scale vectors to length 1, so that the inner product is the cosine."""
    query_prefix: str = Field("", max_length=200)
    """Put before a query; some models were trained with one ("query: ")."""
    passage_prefix: str = Field("", max_length=200)
    """Put before a passage."""
    threads: int = Field(1, ge=1, le=64)
    """Threads of one forward pass."""


class OnnxEncoder(_Encoding):
    kind: Literal["onnx"]
    """An ONNX file, run by onnxruntime."""
    model: Path
    """The ONNX file; relative to the configuration file."""
    tokenizer: Path
    """Its `tokenizer.json`; relative to the configuration file."""
    output: str = Field("last_hidden_state", min_length=1)
    """The model's output that holds one vector a token."""
    pooling: Literal["mean"] = "mean"
    """How token vectors become one: their mean, padding left out."""


class SentenceTransformersEncoder(_Encoding):
    kind: Literal["sentence-transformers"]
    """A folder in the format of the sentence-transformers library; it says itself how to pool."""
    model: Path
    """The folder; relative to the configuration file."""


EncoderSettings = Annotated[OnnxEncoder | SentenceTransformersEncoder, Field(discriminator="kind")]
"""A model that turns text into vectors."""


class AnalyserSettings(Settings):
    """How text becomes terms. The steps run in this order."""

    lowercase: bool = True
    """Fold case."""
    pattern: Literal["word", "whitespace"] = "word"
    """word: runs of letters, digits and underscores. whitespace: what stands between blanks, punctuation included."""
    stopwords: Literal["none", "english"] = "english"
    """Words to leave out. The list is in lower case: without `lowercase` a capitalised stop word stays."""
    stemmer: Literal["none", "english"] = "english"
    """Snowball stemmer that takes endings off."""


class SparseSettings(Settings):
    kind: Literal["bm25s", "rank-bm25"] = "bm25s"
    """bm25s scores by sparse matrix products; rank-bm25 goes through every document in Python."""
    analyser: AnalyserSettings = AnalyserSettings()
    """Of the passages when the index is built."""
    query_analyser: AnalyserSettings | None = None
    """Of the queries; null is the same as the passages'."""
    k1: float = Field(1.5, ge=0, le=10)
    """How slowly a repeated term saturates; 0 counts presence only."""
    b: float = Field(0.75, ge=0, le=1)
    """How much long passages are held back; 0 not at all."""


class FlatIndex(Settings):
    kind: Literal["flat"]
    """Compares with every vector: exact."""
    metric: Literal["inner_product", "l2"] = "inner_product"
    """What is near: a large inner product, or a small Euclidean distance. The same order for vectors of length 1."""


class HnswIndex(Settings):
    kind: Literal["hnsw"]
    """A navigable small-world graph: approximate."""
    metric: Literal["inner_product", "l2"] = "inner_product"
    """What is near: a large inner product, or a small Euclidean distance. The same order for vectors of length 1."""
    m: int = Field(32, ge=2, le=128)
    """Neighbours a node keeps on each level; twice as many on the lowest."""
    ef_construction: int = Field(100, ge=4, le=2000)
    """Candidates looked at for each neighbour while building."""
    ef_search: int = Field(64, ge=1, le=4000)
    """Candidates kept during a search; never fewer than the depth asked for."""


class IvfIndex(Settings):
    kind: Literal["ivf"]
    """Vectors in cells around centroids; the nearest cells are searched: approximate."""
    metric: Literal["inner_product", "l2"] = "inner_product"
    """What is near: a large inner product, or a small Euclidean distance. The same order for vectors of length 1."""
    lists: int = Field(64, ge=1, le=65536)
    """Cells; never more than there are vectors."""
    probes: int = Field(8, ge=1, le=65536)
    """Cells that a search looks into."""


DenseSettings = Annotated[FlatIndex | HnswIndex | IvfIndex, Field(discriminator="kind")]
"""How vectors are searched."""


class RrfFusion(Settings):
    kind: Literal["rrf"]
    """Reciprocal rank fusion: each list gives 1 / (k + rank)."""
    k: float = Field(60, ge=0, le=10000)
    """Large: being in both lists counts. Small: being first in one counts."""


class WeightedFusion(Settings):
    kind: Literal["weighted"]
    """A weighted sum of scores."""
    dense_weight: float = Field(0.7, ge=0, le=1)
    """Of the dense score; the sparse score has the rest."""
    normalise: Literal["min_max", "none"] = "min_max"
    """min_max puts each list on the scale 0 to 1; none adds scores as they are, whatever their size."""


class SparseOnly(Settings):
    kind: Literal["sparse-only"]
    """The sparse list alone."""


class DenseOnly(Settings):
    kind: Literal["dense-only"]
    """The dense list alone."""


FusionSettings = Annotated[RrfFusion | WeightedFusion | SparseOnly | DenseOnly, Field(discriminator="kind")]
"""How the sparse and the dense list become one."""


class NoRerank(Settings):
    kind: Literal["none"]
    """The first stage has the last word."""


class _Reranking(Settings):
    """What every kind of reranker has."""

    pool: int = Field(50, ge=1, le=1000)
    """How many of the first stage's hits are scored anew; those below keep their order after them."""
    first_stage_weight: float = Field(0.7, ge=0, le=1)
    """Of the first stage's score in the mix; the reranker's has the rest. Both on the scale 0 to 1 within the pool."""
    timeout_seconds: float = Field(2.0, gt=0, le=60)
    """Over this, the first stage's order is used."""


class LateInteraction(_Reranking):
    kind: Literal["late-interaction"]
    """Each token of the query looks for its nearest token of the passage."""
    encoder: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    """Alias of the encoder that makes the query's token vectors."""


class CrossEncoder(_Reranking):
    kind: Literal["cross-encoder"]
    """A model that reads query and passage together."""
    model: Path
    """A folder with an ONNX file and `tokenizer.json`, or a CrossEncoder of the sentence-transformers library; relative
    to the configuration file."""
    max_tokens: int = Field(192, ge=16, le=512)
    """Of query and passage together; the longer of both is cut off."""
    batch: int = Field(16, ge=1, le=256)
    """Pairs a forward pass; the clock is looked at between two."""
    threads: int = Field(1, ge=1, le=64)
    """Threads of one forward pass."""


RerankSettings = Annotated[NoRerank | LateInteraction | CrossEncoder, Field(discriminator="kind")]
"""What sorts the first hits again."""


class ChunkSettings(Settings):
    max_tokens: int = Field(200, ge=16, le=510)
    """Most tokens of a chunk, as the encoder's tokenizer counts, without special tokens."""
    overlap_tokens: int = Field(0, ge=0, le=255)
    """Tokens that a chunk repeats from the end of the one before."""
    by_headings: bool = True
    """A heading starts a new chunk."""

    @model_validator(mode="after")
    def _moves_on(self) -> "ChunkSettings":
        if self.overlap_tokens * 2 > self.max_tokens:
            raise ValueError("overlap_tokens must be at most half of max_tokens: each chunk has to bring something new")
        return self
