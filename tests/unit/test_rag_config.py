"""The retrieval service's configuration: the healthy file is valid, and slips are told with the nearest right word."""

import copy
from pathlib import Path
from typing import Any

import pytest
from rag_library import parsed, rag_config

from stack.rag import sources
from stack.rag.config import RagConfig
from stack.settings import ConfigError, load, protected_paths

ROOT = Path(__file__).parents[2]


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    return copy.deepcopy(rag_config(tmp_path))


def problems(config: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as error:
        parsed(config)
    return error.value.problems


def test_the_healthy_configuration_is_valid_and_checks_all_manifests() -> None:
    config = load(ROOT / "stack/config/rag.yaml", RagConfig)
    for name, collection in config.collections.items():
        assert set(collection.manifest_checks.model_dump().values()) == {"refuse"}, name
    assert not config.telemetry.prompts_in_logs
    assert config.audit.file is None


def test_every_document_of_the_healthy_canary_is_there() -> None:
    folder = ROOT / "stack/config"
    config = load(folder / "rag.yaml", RagConfig)
    watched = {name: one for name, one in config.collections.items() if one.canary is not None}
    assert watched
    for name, collection in watched.items():
        source = sources.load(collection.source, folder / config.storage.data, folder / config.storage.manuals)
        there = {document.id for document in source.documents}
        assert {one.document for one in collection.canary.questions} <= there, name


def test_what_a_learner_may_not_change() -> None:
    assert protected_paths(RagConfig) == {"listen", "storage", "answerer", "audit", "traffic"}


def test_an_unknown_encoder_is_told_wherever_it_is_used(config: dict[str, Any]) -> None:
    config["encoders"]["smaller"] = config["encoders"].pop("small")
    assert problems(config) == [
        "rag.yaml: collections.books.indexes.blue.encoder: unknown encoder 'small'; did you mean 'smaller'?",
        "rag.yaml: collections.books.indexes.green.encoder: unknown encoder 'small'; did you mean 'smaller'?",
        "rag.yaml: collections.books.query.encoder: unknown encoder 'small'; did you mean 'smaller'?",
        "rag.yaml: collections.books.query.rerank.encoder: unknown encoder 'small'; did you mean 'smaller'?",
    ]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"source": "boolk"}, "source: unknown source 'boolk'; did you mean 'boolq'?"),
        ({"indexes": {"blue": {"encoder": "small", "dense": None, "sparse": None}}},
         "indexes.blue: sparse and dense are both null: nothing could be searched"),
        ({"active": "green", "indexes": {"blue": {"encoder": "small", "dense": {"kind": "flat"}}}},
         "active: 'green' is not among the indexes; add indexes.green"),
        ({"indexes": {"blue": {"encoder": "small", "dense": None}}},
         "indexes.blue.dense: null, but query.fusion weighted needs it"),
        ({"manifest_check": {}}, "manifest_check: unknown key; did you mean 'manifest_checks'?"),
        ({"manifest_checks": {"dimension": "ignore"}}, "manifest_checks.dimension: unknown key; "),
        ({"canary": {}}, "canary: neither questions nor file: there is nothing to ask"),
    ],
)  # fmt: skip
def test_a_collection_that_cannot_work_is_refused(config: dict[str, Any], change: dict, problem: str) -> None:
    config["collections"]["books"] |= change
    assert any(problem in found for found in problems(config)), problems(config)


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("passage", "{{ titel }}", "unknown variable 'titel'; did you mean 'title'?"),
        ("passage", "{{ title", "no valid template"),
        ("messages", [{"role": "user", "content": "{{ question }}"}], "none of them holds {{ context }}"),
        ("messages", [{"role": "user", "content": "{{ context }}{{ questions }}"}], "unknown variable 'questions'"),
        ("context_tokens", 500, "leave no room for the question in the engine's 512"),
    ],
)
def test_a_prompt_that_cannot_work_is_refused(config: dict[str, Any], key: str, value: Any, problem: str) -> None:
    config["prompt"][key] = value
    assert any(problem in found for found in problems(config)), problems(config)


def test_more_results_than_the_limit_are_refused(config: dict[str, Any]) -> None:
    config["limits"] = {"results": 3}
    assert "query.results: more than limits.results, which is 3" in problems(config)[0]
