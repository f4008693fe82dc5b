"""What the policy makes of hits and scores."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from stack.moderation.config import ModerationConfig
from stack.moderation.lists import Hit
from stack.moderation.policy import Policy, judged, scored
from stack.settings import parse

HEALTHY = Path(__file__).parents[2] / "stack" / "config" / "moderation.yaml"


def policy(**categories: dict[str, Any]) -> Policy:
    config = yaml.safe_load(HEALTHY.read_text())
    config["policy"]["categories"] = {name.replace("_", "-"): one for name, one in categories.items()}
    config["band"] = {"low": 0.4, "high": 0.7}
    config["tier3"] |= {"threshold": 0.6, "on_failure": "review"}
    return Policy(parse(yaml.safe_dump(config), ModerationConfig, "moderation.yaml"))


def hit(severity: float, category: Any = "harassment") -> Hit:
    return Hit("term", category, severity, 0, 4, "list")


def test_a_category_takes_the_keys_it_has_and_the_defaults_for_the_rest() -> None:
    rules = policy(hate={"band": {"low": 0.2, "high": 0.9}, "on_failure": "fail-closed", "judge_threshold": 0})
    own, other = rules.rules("hate"), rules.rules("sexual")
    assert (own.band.low, own.band.high, own.on_failure, own.judge_threshold) == (0.2, 0.9, "fail-closed", 0)
    assert (other.band.low, other.band.high, other.on_failure, other.judge_threshold) == (0.4, 0.7, "review", 0.6)
    assert rules.band_edges == {0.2, 0.4, 0.7, 0.9}


def test_without_hits_there_is_nothing_listed() -> None:
    assert policy().listed([]) is None


@pytest.mark.parametrize(
    ("severity", "blocks", "uncertain"), [(1, False, False), (1.9, False, False), (2, False, True), (2.4, True, True)]
)
def test_severity_decides_whether_a_listed_term_blocks_or_makes_uncertain(
    severity: float, blocks: bool, uncertain: bool
) -> None:
    listed = policy().listed([hit(severity)])
    assert listed
    assert (listed.blocks, listed.uncertain) == (blocks, uncertain)


def test_a_category_may_block_earlier_or_never() -> None:
    rules = policy(hate={"block_severity": 1.5}, sexual={"block_severity": None, "escalate_severity": None})
    strict, lax = rules.listed([hit(1.6, "hate")]), rules.listed([hit(3, "sexual")])
    assert strict
    assert strict.blocks
    assert lax
    assert not lax.blocks
    assert not lax.uncertain


def test_a_hit_that_blocks_counts_before_a_graver_one_that_does_not() -> None:
    listed = policy(hate={"block_severity": 1}, sexual={"block_severity": None}).listed(
        [hit(3, "sexual"), hit(1, "hate"), hit(1)]
    )
    assert listed
    assert (listed.rules.category, listed.blocks) == ("hate", True)


@pytest.mark.parametrize(
    ("score", "uncertain", "decision"),
    [
        (0.0, False, "allow"),
        (0.399, False, "allow"),
        (0.4, False, None),
        (0.699, False, None),
        (0.7, False, "block"),
        (1.0, False, "block"),
        (0.0, True, None),
        (0.7, True, "block"),
    ],
)
def test_the_band_is_closed_below_and_open_above(score: float, uncertain: bool, decision: str | None) -> None:
    verdict = scored(policy().rules("harassment"), score, uncertain)
    assert (verdict and verdict.decision) == decision


def test_a_band_of_nothing_leaves_nothing_open() -> None:
    rules = policy(hate={"band": {"low": 0.5, "high": 0.5}}).rules("hate")
    assert [scored(rules, score, uncertain=False).decision for score in (0.49, 0.5)] == ["allow", "block"]


@pytest.mark.parametrize(("score", "decision"), [(0.59, "allow"), (0.6, "block")])
def test_the_judges_score_blocks_from_the_threshold_up(score: float, decision: str) -> None:
    verdict = judged(policy().rules("harassment"), score)
    assert (verdict.tier, verdict.decision, verdict.score) == (3, decision, score)
