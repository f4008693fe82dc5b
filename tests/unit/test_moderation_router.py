"""The way of a text through the tiers, each tier replaced by one that does as a test says."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from stack.moderation.batch import Scored, Scorer
from stack.moderation.config import ModerationConfig
from stack.moderation.judge import JudgeFailed, Judgement
from stack.moderation.lists import Hit
from stack.moderation.policy import Policy
from stack.moderation.review.errors import QueueDown, QueueFull
from stack.moderation.review.queue import NewItem
from stack.moderation.router import Router, Screened, Sender
from stack.settings import parse
from stack.telemetry.ids import Ids
from stack.telemetry.metrics import ModerationMetrics

HEALTHY = Path(__file__).parents[2] / "stack" / "config" / "moderation.yaml"
SENDER = Sender("demo", Ids("request-1", "a" * 32, "b" * 16))


@dataclass
class FakeJudge:
    says: Judgement | JudgeFailed = field(default_factory=lambda: Judgement(0.5, 60))
    asked: list[str] = field(default_factory=list)

    async def judge(self, text: str) -> Judgement:
        self.asked.append(text)
        if isinstance(self.says, JudgeFailed):
            raise self.says
        return self.says


@dataclass
class FakeDesk:
    fails: Exception | None = None
    outcome: str | None = None
    items: list[NewItem] = field(default_factory=list)

    async def enqueue(self, new: NewItem) -> Any:
        if self.fails:
            raise self.fails
        self.items.append(new)
        return SimpleNamespace(id=len(self.items), outcome=self.outcome)


class Rig:
    """A router, what is behind it, and what it counted."""

    def __init__(self, score: float | Exception = 0.0, hits: Sequence[Hit] = (), **changes: Any) -> None:
        config = yaml.safe_load(HEALTHY.read_text())
        config["band"] = {"low": 0.4, "high": 0.7}
        config["policy"] = {"version": "7", "categories": changes.pop("categories", {})}
        for section, keys in changes.items():
            config[section] = config[section] | keys
        self.config = parse(yaml.safe_dump(config), ModerationConfig, "moderation.yaml")
        self.judge, self.desk, self.metrics = FakeJudge(), FakeDesk(), ModerationMetrics()

        def scores(texts: Sequence[str]) -> list[Scored]:
            if isinstance(score, Exception):
                raise score
            return [Scored(score, "violence" if "blood" in text else "harassment") for text in texts]

        self.router = Router(
            self.config,
            Policy(self.config),
            lambda text: Screened(text.lower(), list(hits), cut="cut" in text),
            Scorer(scores, 16, self.metrics.batch_texts),
            self.judge if self.config.tier3.enabled else None,
            self.desk,
            self.metrics,
        )

    async def decide(self, text: str = "A Text") -> Any:
        return await self.router.decide(text, SENDER)

    def counted(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    def decided(self, tier: str, decision: str, category: str) -> float:
        labels = {"tier": tier, "decision": decision, "category": category, "policy": "7"}
        return self.counted("moderation_decisions_total", **labels)

    def degraded(self, tier: str, reason: str, mode: str) -> float:
        return self.counted("moderation_degraded_total", tier=tier, reason=reason, mode=mode)


def hit(severity: float, category: Any = "hate") -> Hit:
    return Hit("term", category, severity, 0, 4, "list")


# ── the cheapest tier that is sure ──


async def test_a_listed_term_blocks_without_the_classifier() -> None:
    rig = Rig(score=AssertionError("the classifier was asked"), hits=[hit(3)])
    verdict = await rig.decide()
    assert (verdict.tier, verdict.decision, verdict.category, verdict.score) == (1, "block", "hate", 1.0)
    assert verdict.tiers == (1,)
    assert rig.decided("1", "block", "hate") == 1
    assert rig.counted("moderation_escalations_total", **{"from": "1", "to": "2"}) == 0


@pytest.mark.parametrize("text", ["", "  ", "?!… 🙂"])
async def test_a_text_without_words_is_allowed_at_once(text: str) -> None:
    rig = Rig(score=AssertionError("the classifier was asked"))
    verdict = await rig.decide(text)
    assert (verdict.tier, verdict.decision) == (1, "allow")


@pytest.mark.parametrize(("score", "decision", "label"), [(0.1, "allow", "none"), (0.9, "block", "harassment")])
async def test_a_score_outside_the_band_ends_it_without_the_judge(score: float, decision: str, label: str) -> None:
    rig = Rig(score=score)
    verdict = await rig.decide()
    assert (verdict.tier, verdict.decision, verdict.score) == (2, decision, score)
    assert rig.judge.asked == []
    assert rig.decided("2", decision, label) == 1
    assert rig.counted("moderation_score_count", tier="2") == 1


@pytest.mark.parametrize(("judgement", "decision"), [(0.2, "allow"), (0.8, "block")])
async def test_in_mode_decide_the_judge_decides_the_band(judgement: float, decision: str) -> None:
    rig = Rig(score=0.5, tier3={"mode": "decide", "threshold": 0.5})
    rig.judge.says = Judgement(judgement, 61)
    verdict = await rig.decide()
    assert (verdict.tier, verdict.decision, verdict.score) == (3, decision, judgement)
    assert (verdict.tiers, verdict.judge_tokens, verdict.degraded) == ((1, 2, 3), 61, False)
    assert rig.judge.asked == ["a text"], "it gets the normalised text"
    assert rig.desk.items == []


async def test_in_mode_sort_people_decide_and_the_judges_score_is_the_place_in_the_queue() -> None:
    rig = Rig(score=0.5, tier3={"mode": "sort", "threshold": 0.6}, categories={"harassment": {"priority": "high"}})
    rig.judge.says = Judgement(0.65, 61)
    verdict = await rig.decide()
    assert (verdict.tier, verdict.decision, verdict.review_id, verdict.degraded) == ("review", "review", 1, False)
    (item,) = rig.desk.items
    assert (item.text, item.tenant, item.request_id, item.policy_version) == ("A Text", "demo", "request-1", "7")
    assert (item.priority, item.urgency, item.score, item.leaning) == (2, 0.65, 0.65, "block")


async def test_without_a_judge_the_band_goes_to_people() -> None:
    rig = Rig(score=0.45, tier3={"enabled": False})
    verdict = await rig.decide()
    assert (verdict.tier, verdict.decision, verdict.tiers) == ("review", "review", (1, 2))
    assert rig.desk.items[0].leaning == "allow", "0.45 is in the lower half of the band"
    assert rig.counted("moderation_escalations_total", **{"from": "2", "to": "review"}) == 1


async def test_what_the_judge_is_no_judge_of_goes_to_people_at_once() -> None:
    rig = Rig(score=0.1, hits=[hit(2, "self-harm/intent")], categories={"self-harm/intent": {"judged": False}})
    verdict = await rig.decide()
    assert (verdict.tier, verdict.decision, verdict.tiers) == ("review", "review", (1, 2))
    assert rig.judge.asked == []


async def test_a_text_that_no_list_named_has_the_category_that_tier_2_finds() -> None:
    own = {"violence": {"band": {"low": 0.8, "high": 0.9}}}
    assert (await Rig(score=0.75, categories=own).decide("blood")).decision == "allow"
    assert (await Rig(score=0.95, categories=own).decide("blood")).category == "violence"
    named = await Rig(score=0.75, hits=[hit(1)], categories=own).decide("blood")
    assert (named.category, named.decision) == ("hate", "block")


async def test_a_listed_term_that_does_not_block_keeps_tier_2_from_allowing_the_text() -> None:
    rig = Rig(score=0.01, hits=[hit(2)], tier3={"mode": "decide"})
    rig.judge.says = Judgement(0.1, 5)
    verdict = await rig.decide()
    assert (verdict.tier, verdict.decision, verdict.category) == (3, "allow", "hate")


async def test_a_text_that_could_not_be_looked_at_whole_is_uncertain() -> None:
    rig = Rig(score=0.01, tier3={"mode": "decide"})
    assert (await rig.decide("cut")).tier == 3


async def test_a_text_that_people_decided_is_answered_with_their_decision() -> None:
    rig = Rig(score=0.5)
    rig.desk.outcome = "allow"
    verdict = await rig.decide()
    assert (verdict.tier, verdict.decision, verdict.reason) == ("review", "allow", "people decided")


# ── tiers that fail ──


@pytest.mark.parametrize("reason", ["too_long", "full", "timeout", "unreachable", "refused", "error", "garbage"])
@pytest.mark.parametrize(
    ("policy", "mode", "decision"), [("fail-open", "open", "allow"), ("fail-closed", "closed", "block")]
)
async def test_when_the_judge_fails_the_categorys_policy_decides_in_plain_sight(
    reason: Any, policy: str, mode: str, decision: str
) -> None:
    rig = Rig(score=0.5, categories={"harassment": {"on_failure": policy}})
    rig.judge.says = JudgeFailed(reason)
    verdict = await rig.decide()
    assert (verdict.tier, verdict.decision, verdict.degraded) == (3, decision, True)
    assert reason in verdict.reason
    assert rig.degraded("3", reason, mode) == 1
    assert rig.desk.items == []


async def test_when_the_judge_fails_people_can_decide_and_see_that_it_failed() -> None:
    rig = Rig(score=0.5, tier3={"on_failure": "review"})
    rig.judge.says = JudgeFailed("timeout")
    verdict = await rig.decide()
    assert (verdict.tier, verdict.decision, verdict.degraded) == ("review", "review", True)
    assert verdict.reason == "tier 3 failed: timeout; waits for people"
    assert rig.desk.items[0].degraded
    assert rig.degraded("3", "timeout", "review") == 1


async def test_each_category_fails_in_its_own_way() -> None:
    rig = Rig(score=0.5, hits=[hit(2, "sexual/minors")], categories={"sexual/minors": {"on_failure": "fail-closed"}})
    rig.judge.says = JudgeFailed("unreachable")
    assert (await rig.decide()).decision == "block"


async def test_a_classifier_that_fails_is_no_allowance() -> None:
    rig = Rig(score=RuntimeError("broken"), categories={"harassment": {"on_failure": "fail-closed"}})
    verdict = await rig.decide()
    assert (verdict.tier, verdict.decision, verdict.degraded, verdict.tiers) == (2, "block", True, (1,))
    assert rig.degraded("2", "error", "closed") == 1


@pytest.mark.parametrize(("error", "reason"), [(QueueFull("x"), "full"), (QueueDown("x"), "down")])
@pytest.mark.parametrize(
    ("policy", "mode", "decision"), [("fail-open", "open", "allow"), ("fail-closed", "closed", "block")]
)
async def test_without_room_for_review_nothing_is_said_to_wait(
    error: Exception, reason: str, policy: str, mode: str, decision: str
) -> None:
    rig = Rig(score=0.5, review={"on_full": policy, "on_down": policy})
    rig.desk.fails = error
    verdict = await rig.decide()
    assert (verdict.tier, verdict.decision, verdict.degraded) == ("review", decision, True)
    assert verdict.review_id is None
    assert rig.degraded("review", reason, mode) == 1


async def test_no_reason_quotes_the_text() -> None:
    text = "xyzzy"
    for rig in (Rig(score=0.1), Rig(score=0.5), Rig(score=0.9), Rig(hits=[Hit(text, "hate", 3, 0, 5, "list")])):
        assert text not in (await rig.decide(text)).reason
