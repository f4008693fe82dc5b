"""What follows from hits and scores, by category: the rules of the policy, and the verdict that they end in."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from stack.moderation.categories import CATEGORIES, Category
from stack.moderation.config import Band, CategoryPolicy, ModerationConfig, OnFailure, Priority
from stack.moderation.lists import Hit

Tier = Literal[1, 2, 3, "review"]
Decision = Literal["allow", "block", "review"]
Mode = Literal["open", "closed", "review"]

MODES: dict[OnFailure, Mode] = {"fail-open": "open", "fail-closed": "closed", "review": "review"}
DECISIONS: dict[Mode, Decision] = {"open": "allow", "closed": "block", "review": "review"}


@dataclass(frozen=True)
class Rules:
    """The policy of one category, every key filled in."""

    category: Category
    block_severity: float | None
    escalate_severity: float | None
    band: Band
    judged: bool
    judge_threshold: float
    on_failure: OnFailure
    priority: Priority


@dataclass(frozen=True)
class Verdict:
    """What became of one text."""

    tier: Tier
    """the one that ended it"""
    decision: Decision
    score: float
    """of the last tier that gave one, from 0 to 1; 1 for a listed term that blocks, 0.5 where none gave one"""
    reason: str
    """for people, in a few words that quote nothing of the text"""
    category: Category | None = None
    """the one that the score is of; None where nothing was scored"""
    tiers: tuple[Literal[1, 2, 3], ...] = (1,)
    """those that worked on it"""
    judge_tokens: int = 0
    degraded: bool = False
    """decided without a tier that should have seen it"""
    review_id: int | None = None


@dataclass(frozen=True)
class Listed:
    """What tier 1 found: the gravest hit's rules, whether it blocks, whether it makes the text uncertain."""

    rules: Rules
    severity: float
    blocks: bool
    uncertain: bool


class Policy:
    """The policy of a configuration, compiled."""

    def __init__(self, config: ModerationConfig) -> None:
        self.version = config.policy.version
        self._rules = {
            category: _resolved(category, config.policy.categories.get(category, CategoryPolicy()), config)
            for category in CATEGORIES
        }

    def rules(self, category: Category) -> Rules:
        """The rules of a category."""
        return self._rules[category]

    def listed(self, hits: Iterable[Hit]) -> Listed | None:
        """What the hits amount to: one that blocks before one that does not, then the most severe. None for no hits."""
        found = [self._judge(hit) for hit in hits]
        return max(found, key=lambda one: (one.blocks, one.uncertain, one.severity), default=None)

    def _judge(self, hit: Hit) -> Listed:
        rules = self._rules[hit.category]
        return Listed(
            rules,
            hit.severity,
            blocks=rules.block_severity is not None and hit.severity >= rules.block_severity,
            uncertain=rules.escalate_severity is not None and hit.severity >= rules.escalate_severity,
        )

    @property
    def band_edges(self) -> set[float]:
        """Every edge of a band."""
        return {edge for rules in self._rules.values() for edge in (rules.band.low, rules.band.high)}


def scored(rules: Rules, score: float, uncertain: bool) -> Verdict | None:
    """Tier 2's verdict for a calibrated score; None in the band, and below it where a list made the text uncertain."""
    if score >= rules.band.high:
        return Verdict(2, "block", score, "the classifier's score is above the band", rules.category, (1, 2))
    if score < rules.band.low and not uncertain:
        return Verdict(2, "allow", score, "the classifier's score is below the band", rules.category, (1, 2))
    return None


def judged(rules: Rules, score: float) -> Verdict:
    """Tier 3's verdict where the judge decides."""
    if score >= rules.judge_threshold:
        return Verdict(3, "block", score, "the judge's score reaches the threshold", rules.category, (1, 2, 3))
    return Verdict(3, "allow", score, "the judge's score is below the threshold", rules.category, (1, 2, 3))


def _resolved(category: Category, own: CategoryPolicy, config: ModerationConfig) -> Rules:
    return Rules(
        category,
        own.block_severity,
        own.escalate_severity,
        own.band or config.band,
        own.judged,
        config.tier3.threshold if own.judge_threshold is None else own.judge_threshold,
        own.on_failure or config.tier3.on_failure,
        own.priority,
    )
