"""Tiers 1 and 2 made from a configuration: what is switched off does nothing, what is missing is told."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from stack.moderation.config import ModerationConfig
from stack.moderation.encoder import Encoder
from stack.moderation.policy import Policy
from stack.moderation.tiers import OneRun, Screen, load_tier2
from stack.settings import ConfigError, parse

CONFIGS = Path(__file__).parents[2] / "stack" / "config"
ABUSE = "ｙｏｕ fucking idiot, go die"


def config(**changes: Any) -> ModerationConfig:
    data = yaml.safe_load((CONFIGS / "moderation.yaml").read_text())
    for section, keys in changes.items():
        data[section] |= keys
    return parse(yaml.safe_dump(data), ModerationConfig, "moderation.yaml")


def test_lists_and_patterns_find_what_is_in_the_normalised_text() -> None:
    screen = Screen(config(), CONFIGS)
    screened = screen(ABUSE)
    assert screened.text.startswith("you fucking")
    assert {"harassment", "sexual", "hate", "self-harm/intent"} <= screen.categories
    assert {hit.source for hit in screened.hits} >= {"profanity_en", "patterns"}
    assert screen("what a lovely afternoon").hits == []


def test_what_is_switched_off_finds_nothing() -> None:
    screen = Screen(config(tier1={"lists": False, "patterns": False, "steps": [], "data": "nowhere"}), CONFIGS)
    assert screen(ABUSE).text == ABUSE
    assert screen(ABUSE).hits == []
    assert screen.categories == frozenset()


def test_a_text_that_grows_beyond_the_limit_is_told_to_be_cut() -> None:
    screen = Screen(config(limits={"characters": 20}), CONFIGS)
    assert not screen("x" * 20).cut
    assert screen("\ufdfa" * 20).cut, "one letter of Arabic that is eighteen in plain ones"


def test_tier_2_gives_a_calibrated_score_and_a_category_to_what_is_not_clearly_allowed() -> None:
    calibration = {"kind": "platt", "slope": 1.874, "offset": 0.0116}  # of this classifier
    classifier = {"kind": "hatesonar", "data": "../../.cache/data"}
    settings = config(tier2={"classifier": classifier, "calibration": calibration})
    tier2 = load_tier2(settings, Policy(settings), CONFIGS)
    kind, crude = tier2.score_all(["what a lovely afternoon", "come and suck my dick, bitch"])
    assert kind.score < settings.band.low < crude.score
    assert (kind.category, crude.category) == ("harassment", "sexual")
    assert tier2.model == "hatesonar"


def test_without_attributes_there_is_one_category() -> None:
    tier2 = {"classifier": {"kind": "hatesonar"}, "attributes": False, "category": "hate"}
    settings = config(tier2=tier2)
    found = load_tier2(settings, Policy(settings), CONFIGS)
    assert {one.category for one in found.score_all(["a nice day", "fuck you bitch"])} == {"hate"}
    assert found.categories == {"hate"}


@pytest.mark.parametrize("attributes", [True, False])
def test_an_encoder_that_is_not_there_is_told_with_what_to_do(attributes: bool) -> None:
    settings = config(tier2={"classifier": {"kind": "minilm", "data": "nowhere"}, "attributes": attributes})
    with pytest.raises(ConfigError, match=r"tier2\.classifier: the encoder below .*nowhere cannot be loaded"):
        load_tier2(settings, Policy(settings), CONFIGS)


def test_lists_that_are_not_there_are_told_with_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"tier1\.data: cannot read .*nowhere.*: No such file"):
        Screen(config(tier1={"data": "nowhere"}), CONFIGS)


def test_a_text_is_encoded_once_for_all_who_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[str] = []

    def vectors(self: Encoder, texts: Sequence[str]) -> np.ndarray:
        encoded.extend(texts)
        return np.array([[float(len(text))] for text in texts])

    monkeypatch.setattr(Encoder, "__init__", lambda self, data, threads: None)
    monkeypatch.setattr(Encoder, "vectors", vectors)
    encoder = OneRun(Path(), 1)
    assert encoder.vectors(["a", "bb", "a"]).tolist() == [[1], [2], [1]]
    assert encoder.vectors(["bb"]).tolist() == [[2]]
    assert encoded == ["a", "bb"]
    encoder.vectors(["ccc"])
    encoder.vectors(["a"])
    assert encoded == ["a", "bb", "ccc", "a"], "it keeps the last texts, not all"
