"""One search: which stages run, what each is given, and what their signs of quality say."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rag_library import BOOKS, INDEX, Library, document

from stack.rag.access import AccessViolation, Identity
from stack.rag.canary import CanaryWatch
from stack.rag.config.collections import Canary
from stack.rag.hits import Hits, RetrievalError
from stack.rag.live import LiveCollection, RightsTooOld
from stack.rag.pipeline import Found
from stack.rag.rerank import RerankTimeout
from stack.service.errors import NotReady

READER = Identity("riverside")
CATS = document("cats", "cat cat cat sat")
DOGS = document("dogs", "dog dog ran")
STORM = document("storm", "the storm ran")
MATS = document("mats", "mat mat mat")
ALL = (CATS, DOGS, STORM, MATS)


def library(folder: Path, **query: Any) -> Library:
    return Library(folder, {"query": BOOKS["query"] | query})


def search(live: LiveCollection, query: str, limit: int = 4, who: Identity = READER) -> Found:
    serving, view = live.view(who)
    return serving.pipeline.search(query, view, limit)


def documents(found: Found) -> list[str]:
    return [passage.document for passage in found.passages]


def test_both_legs_find_and_the_nearest_is_first(tmp_path: Path) -> None:
    found = search(library(tmp_path).open(*ALL), "cat")
    assert documents(found)[0] == "cats"
    assert len(found.sparse) == 1
    assert len(found.dense) == 4
    assert found.evidence


@pytest.mark.parametrize(
    ("kind", "runs", "rests"), [("sparse-only", "sparse", "dense"), ("dense-only", "dense", "sparse")]
)
def test_a_leg_that_fusion_does_not_need_does_not_run(tmp_path: Path, kind: str, runs: str, rests: str) -> None:
    lib = library(tmp_path, fusion={"kind": kind}, rerank={"kind": "none"})
    found = search(lib.open(*ALL), "dog")
    assert len(getattr(found, rests)) == 0
    assert documents(found)[0] == "dogs"
    assert lib.sample("rag_stage_seconds_count", stage=runs) == 1
    assert lib.sample("rag_stage_seconds_count", stage=rests) == 0


def test_the_reranker_gets_its_pool_also_where_fewer_results_are_wanted(tmp_path: Path) -> None:
    live = library(tmp_path).open(*ALL)
    seen: list[int] = []

    class Spy:
        def rerank(self, query: str, first: Hits, texts: list[str]) -> Hits:
            seen.append(len(texts))
            return Hits(first.rows[::-1], first.scores)

    live.current.pipeline._reranker = Spy()
    found = search(live, "cat", limit=1)
    assert seen == [4]
    assert len(found.passages) == 1


def test_a_reranker_out_of_time_leaves_the_order_and_is_counted(tmp_path: Path) -> None:
    lib = library(tmp_path)
    live = lib.open(*ALL)

    class Slow:
        def rerank(self, *_: Any) -> Hits:
            raise RerankTimeout("not done")

    live.current.pipeline._reranker = Slow()
    found = search(live, "cat")
    assert found.final.rows.tolist() == found.fused.rows.tolist()
    assert lib.sample("rag_rerank_fallbacks_total") == 1


def test_a_stage_that_brings_up_what_may_not_be_seen_stops_the_search(tmp_path: Path) -> None:
    lib = library(tmp_path)
    live = lib.open(CATS, document("secret", "cat cat", "hilltop"))

    class Leaky:
        def rerank(self, query: str, first: Hits, texts: list[str]) -> Hits:
            return Hits(np.array([0, 1]), np.array([1.0, 0.5], np.float32))

    live.current.pipeline._reranker = Leaky()
    with pytest.raises(AccessViolation):
        search(live, "cat")
    assert lib.sample("rag_access_violations_total") == 1


def test_an_empty_collection_gives_an_empty_answer(tmp_path: Path) -> None:
    found = search(library(tmp_path).open(), "cat")
    assert documents(found) == []
    assert not found.evidence


@pytest.mark.parametrize(
    ("least", "query", "evidence"), [(None, "zebra", True), (0.9, "cat", True), (0.9, "mat dog", False)]
)
def test_evidence_is_what_is_near_enough(tmp_path: Path, least: float | None, query: str, evidence: bool) -> None:
    live = library(tmp_path, no_evidence_below=least).open(document("cats", "cat"), document("storms", "storm"))
    assert search(live, query).evidence is evidence


# ---- signs of quality


def test_the_best_passages_cosine_is_measured_whatever_the_metric(tmp_path: Path) -> None:
    for metric in ("inner_product", "l2"):
        lib = Library(tmp_path / metric, {"indexes": {"blue": INDEX | {"dense": {"kind": "flat", "metric": metric}}}})
        search(lib.open(*ALL), "cat cat cat sat")
        assert lib.sample("rag_dense_top_score_sum") == pytest.approx(1, abs=1e-5)


def test_known_terms_and_agreement_are_measured(tmp_path: Path) -> None:
    lib = library(tmp_path)
    search(lib.open(*ALL), "cat zebra")
    assert lib.sample("rag_query_terms_known_ratio_sum") == 0.5
    assert lib.sample("rag_legs_overlap_ratio_sum") == 1.0  # the one passage that words find is among those of vectors
    assert lib.sample("rag_fused_share_ratio_sum", leg="sparse") == 0.25
    assert lib.sample("rag_fused_share_ratio_sum", leg="dense") == 1.0
    assert lib.sample("rag_results_sum") == 4


def test_how_far_the_reranker_reaches_down_is_measured(tmp_path: Path) -> None:
    lib = library(tmp_path)
    live = lib.open(*ALL)

    class Reversing:
        def rerank(self, query: str, first: Hits, texts: list[str]) -> Hits:
            return Hits(first.rows[::-1], first.scores)

    live.current.pipeline._reranker = Reversing()
    search(live, "cat")
    assert lib.sample("rag_rerank_moved_rank_sum") == 4


def test_a_query_that_the_encoder_cuts_off_is_counted(tmp_path: Path) -> None:
    lib = library(tmp_path)
    live = lib.open(*ALL)
    search(live, "cat " * 100)
    assert lib.sample("rag_query_truncated_total") == 0
    search(live, "cat " * 300)
    assert lib.sample("rag_query_truncated_total") == 1


def test_passages_that_the_encoder_cut_off_are_measured(tmp_path: Path) -> None:
    lib = Library(tmp_path, {"indexes": {"blue": INDEX | {"chunk": None}}})
    lib.open(CATS, document("long", "dog " * 300))
    assert lib.sample("rag_encoder_truncated_ratio") == 0.5
    assert lib.sample("rag_index_passages") == 2
    assert lib.sample("rag_collection_ready") == 1
    assert 0 <= lib.sample("rag_index_age_seconds") < 60


# ---- readiness


def test_before_there_is_an_index_a_search_is_told_why(tmp_path: Path) -> None:
    with pytest.raises(NotReady, match="books: not started yet"):
        Library(tmp_path).live.view(READER)


def test_rights_that_are_too_old_are_not_used(tmp_path: Path) -> None:
    """The store is gone: what was known is good for a while, then nothing is shown any more."""
    storage = {"indexes": "indexes", "vectors": "vectors", "data": "data", "manuals": "manuals"}
    lib = Library(tmp_path, storage=storage | {"rights_max_age_seconds": 0.2})
    live = lib.open(*ALL)
    assert documents(search(live, "cat"))
    live._rights_read -= 0.3
    with pytest.raises(RightsTooOld):
        search(live, "cat")
    live.refresh()
    assert documents(search(live, "cat"))


# ---- canary


def canary(lib: Library, **settings: Any) -> CanaryWatch:
    questions = [{"question": "cat sat", "document": "cats"}, {"question": "dog", "document": "nowhere"}]
    config = Canary.model_validate({"questions": questions, "depth": 1} | settings)
    return CanaryWatch(lib.live, config, lib.folder, lib.metrics)


def test_a_canary_tells_which_stage_finds_its_documents(tmp_path: Path) -> None:
    lib = library(tmp_path)
    lib.open(*ALL)
    assert canary(lib).round() == {"sparse": 0.5, "dense": 0.5, "fused": 0.5, "final": 0.5}
    assert lib.sample("rag_results_count") == 0  # callers' metrics are about callers' queries


def test_a_canary_round_that_fails_has_no_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: the gauge kept that of the round before, and looked like health."""
    lib = library(tmp_path)
    lib.open(*ALL)
    watch, rounds = canary(lib), iter([{"final": 0.5}])

    def one() -> dict[str, float]:
        for found in rounds:
            return found
        raise RetrievalError("the index is gone")

    monkeypatch.setattr(watch, "round", one)
    labels = {"collection": lib.live.name, "stage": "final"}
    for expected in (0.5, math.nan):
        watch.ask()
        found = lib.metrics.registry.get_sample_value("rag_canary_found_ratio", labels)
        assert found == pytest.approx(expected, nan_ok=True)


def test_a_canary_sees_what_its_tenant_sees(tmp_path: Path) -> None:
    lib = library(tmp_path)
    lib.open(document("cats", "cat sat", "riverside"), DOGS)
    assert canary(lib).round()["dense"] == 0.0
    assert canary(lib, tenant="riverside").round()["dense"] == 0.5


def test_canary_questions_can_stand_in_a_file(tmp_path: Path) -> None:
    lib = library(tmp_path)
    lib.open(*ALL)
    (tmp_path / "canary.jsonl").write_text('{"question": "cat", "document": "cats"}\n')
    assert canary(lib, questions=[], file=Path("canary.jsonl")).round()["final"] == 1.0


@pytest.mark.parametrize(("text", "says"), [("", "no question"), ("{}\n", "line 1"), ("nonsense", "line 1")])
def test_a_file_without_questions_is_told(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "canary.jsonl").write_text(text)
    with pytest.raises(RetrievalError, match=says):
        canary(library(tmp_path), questions=[], file=Path("canary.jsonl"))
