"""What retrieval finds and what it costs: each collection through each way to search it.

`python -m stack.rag.bench` prints a table for every collection: sparse, dense, both fused, and reranked. Quality is
over all queries of the collection, time over some of them, one at a time in one thread, from text to ranked list.
Vectors are kept in `.cache/vectors`: the first run takes minutes, the next ones seconds.
"""

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stack.rag import dense, sources, sparse
from stack.rag.config.stages import (
    ChunkSettings,
    CrossEncoder,
    FlatIndex,
    LateInteraction,
    RerankSettings,
    SparseSettings,
    WeightedFusion,
)
from stack.rag.encoders import EmbeddingCache, Encoder, open_encoder
from stack.rag.evaluate import Figures, difference
from stack.rag.fusion import fuse
from stack.rag.golden import GOLDEN, MINILM, TOLERANCE, Bed
from stack.rag.hits import Hits, RetrievalError
from stack.rag.rerank import TokenVectors, open_reranker
from stack.rag.trial import DEPTH, Trial
from stack.settings import nearest

ROOT = Path(__file__).resolve().parents[2]
DATA, DOCUMENTS, VECTORS = (ROOT / ".cache" / name for name in ("data", "documents", "vectors"))
CROSS_ENCODER = ROOT / "stack/rag/models/cross-encoder"
TIMED, TIMED_SLOW = 200, 20  # queries whose time is taken


@dataclass(frozen=True)
class Defaults:
    """How a collection is searched when all is well."""

    dense_weight: float
    first_stage_weight: float
    chunk: ChunkSettings | None = None

    @property
    def fusion(self) -> WeightedFusion:
        """Both lists on one scale."""
        return WeightedFusion(kind="weighted", dense_weight=self.dense_weight)

    @property
    def late_interaction(self) -> LateInteraction:
        """Over the token vectors of the encoder of the dense index."""
        return LateInteraction(
            kind="late-interaction", encoder="minilm", first_stage_weight=self.first_stage_weight, **PATIENT
        )


# No query is left out because the machine is busy: it takes the time that it takes.
PATIENT = {"timeout_seconds": 60.0}
CROSS = CrossEncoder(kind="cross-encoder", model=CROSS_ENCODER, first_stage_weight=0.5, **PATIENT)
"""The project's own cross-encoder, where it has been trained."""

HEALTHY = {
    "boolq": Defaults(dense_weight=0.8, first_stage_weight=0.5),
    "disflqa": Defaults(dense_weight=0.3, first_stage_weight=0.2),
    "manuals": Defaults(dense_weight=0.7, first_stage_weight=0.0, chunk=ChunkSettings()),
}
"""Weights that `stack.rag.tune` chose on half of the queries."""


@dataclass(frozen=True)
class Measured:
    """One way to search: how good it is, and what some of the queries took, from text to ranked list."""

    name: str
    figures: Figures
    milliseconds: np.ndarray
    cpu_milliseconds: float
    """Of all cores together, on average; other programs on the machine hardly change it."""

    @property
    def p50(self) -> float:
        """Milliseconds of the query in the middle."""
        return float(np.median(self.milliseconds))

    @property
    def per_second(self) -> float:
        """Queries a second, one after the other."""
        return 1000 / float(self.milliseconds.mean())


class Bench:
    """One collection with its indexes. Queries take their vectors from the cache, but where time is taken."""

    def __init__(self, trial: Trial, encoder: Encoder, healthy: Defaults, progress: "Progress") -> None:
        self._trial, self._encoder, self._healthy, self._progress = trial, encoder, healthy, progress
        step = progress.of("token vectors")
        self.tokens = TokenVectors(trial.cache.tokens(encoder, trial.passages, "passage", step), encoder.fingerprint)
        trial.cache.tokens(encoder, trial.questions, "query", progress.of("query vectors"))
        vectors = trial.cache.vectors(encoder, trial.passages, "passage")
        self._sparse = sparse.build(trial.passages, SparseSettings())
        self._dense = dense.build(vectors, FlatIndex(kind="flat"))

    def measure(self, most: int) -> list[Measured]:
        """Every way there is; the cross-encoder, which is slow, over at most `most` queries."""
        progress, trial, healthy = self._progress, self._trial, self._healthy
        by_words = trial.sparse(SparseSettings())
        by_vectors = trial.dense(FlatIndex(kind="flat"), self._encoder)
        fused = trial.fused(healthy.fusion, by_words, by_vectors)
        found = [
            self._measured("sparse", trial, by_words, self._search_sparse),
            self._measured("dense", trial, by_vectors, self._search_dense),
            self._measured("hybrid", trial, fused, self._search_hybrid),
        ]
        late = self._reranker(healthy.late_interaction)
        again = trial.reranked(late, fused, progress.of("late interaction"))
        found.append(self._measured("hybrid + late interaction", trial, again, self._search_reranked(late)))
        if CROSS_ENCODER.is_dir():
            cross = self._reranker(CROSS)
            few, first = _unseen(trial, fused, most)
            again = few.reranked(cross, first, progress.of("cross-encoder"))
            found.append(self._measured("hybrid + cross-encoder", few, again, self._search_reranked(cross), TIMED_SLOW))
        return found

    def _measured(
        self, name: str, trial: Trial, hits: Sequence[Hits], search: Callable[[str], Hits], timed: int = TIMED
    ) -> Measured:
        milliseconds = []
        questions = trial.questions[:timed]
        for question in questions[:5]:  # what is done once, such as mapping files, is nobody's
            search(question)
        before = time.process_time()
        for question in questions:
            started = time.perf_counter()
            search(question)
            milliseconds.append(1000 * (time.perf_counter() - started))
        cpu = 1000 * (time.process_time() - before) / len(questions)
        return Measured(name, trial.judged(hits), np.array(milliseconds), cpu)

    def _reranker(self, settings: RerankSettings):
        return open_reranker(settings, ROOT, self._encoder, self.tokens)

    def _search_sparse(self, question: str) -> Hits:
        return self._sparse.search(question, DEPTH)

    def _search_dense(self, question: str) -> Hits:
        (vector,) = self._encoder.encode_queries([question])
        return self._dense.search(vector, DEPTH)

    def _search_hybrid(self, question: str) -> Hits:
        return fuse(self._healthy.fusion, self._search_sparse(question), self._search_dense(question), DEPTH)

    def _search_reranked(self, reranker) -> Callable[[str], Hits]:
        def search(question: str) -> Hits:
            hits = self._search_hybrid(question)
            return reranker.rerank(question, hits, [self._trial.passages[row] for row in hits.rows])

        return search


def _unseen(trial: Trial, hits: Sequence[Hits], most: int) -> tuple[Trial, list[Hits]]:
    """At most so many queries that the cross-encoder was not trained on, with their hits."""
    from stack.rag.training.corpus import in_test_half

    texts = {document.id: document.text for document in trial.collection.documents}

    def unseen(query: sources.Query) -> bool:
        relevant = trial.collection.judgements[query.id]
        return trial.collection.name != "disflqa" or all(in_test_half(texts[document]) for document in relevant)

    pairs = [pair for pair in zip(trial.collection.queries, hits, strict=True) if unseen(pair[0])][:most]
    return trial.asking(query for query, _ in pairs), [found for _, found in pairs]


class Progress:
    """A line on the terminal that is written over; nothing where there is no terminal but a line a step."""

    def __init__(self, collection: str) -> None:
        self._collection = collection

    def of(self, what: str) -> Callable[[int, int], None]:
        """A callback for the step `what`."""
        if not sys.stderr.isatty():
            print(f"{self._collection}: {what}", file=sys.stderr, flush=True)
            return lambda done, total: None

        def tell(done: int, total: int) -> None:
            end = "\n" if done >= total else ""
            print(f"\r{self._collection}: {what} {done:,} of {total:,}", end=end, file=sys.stderr, flush=True)

        return tell


COLUMNS = (
    ("nDCG@10", "8.3f"), ("±", "6.3f"), ("ratio", "7.3f"), ("recall@50", "11.3f"), ("MRR", "7.3f"),
    ("queries/s", "11.0f"), ("ms p50", "8.2f"), ("CPU ms", "8.2f"), ("ratio", "7.2f"),
)  # fmt: skip
"""Heads and formats; the ratios are to the better single stage, and to the CPU time of dense."""


def table(found: Sequence[Measured]) -> list[str]:
    """The lines of a collection: each way with its figures, then what it gains over the better single stage."""
    single = max(found[:2], key=lambda one: one.figures.mean("ndcg@10"))
    lines = [f"{'':28}" + "".join(f"{head:>{form.split('.')[0]}}" for head, form in COLUMNS)]
    notes = []
    for one in found:
        alone = single.figures.of(one.figures.queries)
        mean, error = one.figures.mean("ndcg@10"), one.figures.standard_error("ndcg@10")
        values = (
            mean, error, mean / alone.mean("ndcg@10"), one.figures.mean("recall@50"), one.figures.mean("mrr"),
            one.per_second, one.p50, one.cpu_milliseconds, one.cpu_milliseconds / found[1].cpu_milliseconds,
        )  # fmt: skip
        few = len(one.figures.queries) < len(found[0].figures.queries)
        lines.append(
            f"{one.name + ' *' * few:28}" + "".join(f"{v:{form}}" for v, (_, form) in zip(values, COLUMNS, strict=True))
        )
        for other in (single, found[3]) if few else (single,):
            gain = difference(one.figures, other.figures.of(one.figures.queries), "ndcg@10")
            notes.append(f"  {one.name}: {gain.mean:+.4f} ± {gain.standard_error:.4f} nDCG@10 over {other.name}")
        notes += [f"  * over {len(one.figures.queries):,} of the queries"] * few
    return lines + notes[2:]


def described(trial: Trial, bench: Bench, healthy: Defaults) -> str:
    """The head of a table."""
    return (
        f"{trial.collection.name}: {len(trial.collection.documents):,} documents, {len(trial.passages):,} passages, "
        f"{len(trial.questions):,} queries; {bench.tokens.bytes / 2**20:,.0f} MiB of token vectors; weight of dense "
        f"{healthy.dense_weight:g}, of the first stage {healthy.first_stage_weight:g}"
    )


def machine() -> str:
    """What the times hold for."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    load = os.getloadavg()[0]
    return f"{next(names, platform.processor())}, {os.cpu_count()} cores, load {load:.1f} when the run began"


def golden(cache: EmbeddingCache) -> bool:
    """Prints each golden figure beside what is measured now; whether all are within the tolerance."""
    beds: dict[str, Bed] = {}
    right = True
    for one in GOLDEN:
        if one.collection not in beds:
            beds[one.collection] = Bed(one.collection, DATA, cache)
        now = one.measure(beds[one.collection])
        off = abs(now - one.value) > TOLERANCE
        right &= not off
        print(f"{one.collection:8} {one.name:34} {one.value:.3f}  now {now:.4f}{'  OFF' if off else ''}", flush=True)
    return right


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0, or 1 where a collection is missing or a golden figure is not what it was."""
    parser = argparse.ArgumentParser(prog="python -m stack.rag.bench", description=__doc__)
    parser.add_argument("collections", nargs="*", help=f"some of {', '.join(HEALTHY)}; default: all")
    parser.add_argument("--cross-encoder-queries", type=int, default=100, help="how many it is measured on")
    parser.add_argument("--golden", action="store_true", help="measure the golden figures instead")
    options = parser.parse_args(arguments)
    for name in options.collections:
        if name not in HEALTHY:
            parser.error(f"unknown collection '{name}'; {nearest(name, HEALTHY)}")
    print(machine())
    try:
        cache = EmbeddingCache(VECTORS)
        if options.golden:
            return 0 if golden(cache) else 1
        encoder = open_encoder("minilm", MINILM, DATA)
        for name in options.collections or HEALTHY:
            healthy = HEALTHY[name]
            trial = Trial.of(sources.load(name, DATA, DOCUMENTS), cache, healthy.chunk, encoder)
            bench = Bench(trial, encoder, healthy, Progress(name))
            print(f"\n{described(trial, bench, healthy)}")
            print("\n".join(table(bench.measure(options.cross_encoder_queries))), flush=True)
    except RetrievalError as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
