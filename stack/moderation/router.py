"""The way of a text through the tiers: the cheapest one that is sure of it ends it.

    text ─▶ 1 normalise, lists ─▶ 2 classifier, calibrated ─▶ 3 the LLM judges the band ─▶ people review the rest
              │ block               │ below: allow, above: block  │ allow, block (mode decide)

A tier that fails is never passed over in silence: the category's policy says whether the text is then allowed, blocked
or given to people, the verdict is marked as degraded, and it is counted.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Literal

from stack.moderation.batch import Scorer
from stack.moderation.config import ModerationConfig
from stack.moderation.judge import Judge, JudgeFailed
from stack.moderation.lists import Hit
from stack.moderation.policy import DECISIONS, MODES, Decision, Mode, Policy, Rules, Tier, Verdict, judged, scored
from stack.moderation.review.desk import ReviewDesk
from stack.moderation.review.errors import QueueDown, QueueFull
from stack.moderation.review.models import PRIORITIES
from stack.moderation.review.queue import NewItem
from stack.telemetry.ids import Ids
from stack.telemetry.metrics import ModerationMetrics

log = logging.getLogger(__name__)

_LONG = 1000  # characters; normalising more takes over a millisecond, which others would feel on the event loop


@dataclass(frozen=True)
class Screened:
    """A text after tier 1's work."""

    text: str
    """normalised"""
    hits: list[Hit]
    cut: bool = False
    """it grew too long to be looked at whole"""


@dataclass(frozen=True)
class Sender:
    """Whose text it is, for the review item."""

    tenant: str
    ids: Ids


@dataclass(frozen=True)
class _Undecided:
    """What is known of a text that tier 2 left open."""

    original: str
    text: str
    sender: Sender
    rules: Rules
    score: float = 0.5
    tiers: tuple[Literal[1, 2, 3], ...] = (1,)
    judge_tokens: int = 0
    degraded: bool = False

    def verdict(self, tier: Tier, decision: Decision, reason: str) -> Verdict:
        """A verdict with all that is known."""
        return Verdict(
            tier, decision, self.score, reason, self.rules.category, self.tiers, self.judge_tokens, self.degraded
        )


class Router:
    """Decides texts. `screen` is tier 1's work: blocking, and cheap."""

    def __init__(
        self,
        config: ModerationConfig,
        policy: Policy,
        screen: Callable[[str], Screened],
        scorer: Scorer,
        judge: Judge | None,
        desk: ReviewDesk,
        metrics: ModerationMetrics,
    ) -> None:
        self._config = config
        self._policy = policy
        self._screen = screen
        self._scorer = scorer
        self._judge = judge
        self._desk = desk
        self._metrics = metrics

    async def decide(self, text: str, sender: Sender) -> Verdict:
        """The verdict on one text, counted."""
        verdict = await self._decide(text, sender)
        category = "none" if verdict.decision == "allow" else verdict.category or "none"
        self._metrics.decisions.labels(str(verdict.tier), verdict.decision, category, self._policy.version).inc()
        return verdict

    async def _decide(self, text: str, sender: Sender) -> Verdict:
        with self._timed("1"):
            screened = await asyncio.to_thread(self._screen, text) if len(text) > _LONG else self._screen(text)
            listed = self._policy.listed(screened.hits)
        if listed and listed.blocks:
            return Verdict(1, "block", 1.0, f"listed term, severity {listed.severity:g}", listed.rules.category)
        if not screened.cut and not any(character.isalnum() for character in screened.text):
            return Verdict(1, "allow", 0.0, "no words")
        self._metrics.escalations.labels("1", "2").inc()
        rules = listed.rules if listed else self._policy.rules(self._config.tier2.category)
        undecided = _Undecided(text, screened.text, sender, rules)
        with self._timed("2"):
            try:
                found = await self._scorer.score(screened.text)
            except Exception:
                log.exception("the classifier failed")
                return await self._without_tier(2, "error", undecided)
        self._metrics.score.labels("2").observe(found.score)
        if not listed:
            rules = self._policy.rules(found.category)
        verdict = scored(rules, found.score, uncertain=screened.cut or bool(listed and listed.uncertain))
        return verdict or await self._third(replace(undecided, rules=rules, score=found.score, tiers=(1, 2)))

    async def _third(self, undecided: _Undecided) -> Verdict:
        if self._judge is None or not undecided.rules.judged:
            return await self._to_review(2, undecided)
        self._metrics.escalations.labels("2", "3").inc()
        with self._timed("3"):
            try:
                judgement = await self._judge.judge(undecided.text)
            except JudgeFailed as failure:
                return await self._without_tier(3, failure.reason, undecided)
        self._metrics.score.labels("3").observe(judgement.score)
        if self._config.tier3.mode == "decide":
            return replace(judged(undecided.rules, judgement.score), judge_tokens=judgement.tokens)
        known = replace(undecided, score=judgement.score, tiers=(1, 2, 3), judge_tokens=judgement.tokens)
        return await self._to_review(3, known)

    async def _without_tier(self, tier: Literal[2, 3], reason: str, undecided: _Undecided) -> Verdict:
        """What the policy says for a tier that failed."""
        mode = MODES[undecided.rules.on_failure]
        self._metrics.degraded.labels(str(tier), reason, mode).inc()
        failed = f"tier {tier} failed: {reason}"
        undecided = replace(undecided, degraded=True)
        if mode == "review":
            return await self._to_review(tier, undecided, failed)
        return undecided.verdict(tier, DECISIONS[mode], failed)

    async def _to_review(self, tier: Literal[2, 3], undecided: _Undecided, why: str = "uncertain") -> Verdict:
        review = self._config.review
        with self._timed("review"):
            try:
                item = await self._desk.enqueue(self._item(undecided))
            except QueueFull:
                return self._without_review("full", MODES[review.on_full], undecided, why)
            except QueueDown:
                return self._without_review("down", MODES[review.on_down], undecided, why)
        self._metrics.escalations.labels(str(tier), "review").inc()  # none that no person will see
        if item.outcome:  # the same request was sent again after people decided
            verdict = undecided.verdict("review", item.outcome, "people decided")
        else:
            verdict = undecided.verdict("review", "review", f"{why}; waits for people")
        return replace(verdict, review_id=item.id)

    def _without_review(self, reason: str, mode: Mode, undecided: _Undecided, why: str) -> Verdict:
        self._metrics.degraded.labels("review", reason, mode).inc()
        return replace(undecided, degraded=True).verdict("review", DECISIONS[mode], f"{why}; review queue {reason}")

    def _item(self, undecided: _Undecided) -> NewItem:
        rules, score, sender = undecided.rules, undecided.score, undecided.sender
        middle = rules.judge_threshold if 3 in undecided.tiers else (rules.band.low + rules.band.high) / 2
        return NewItem(
            text=undecided.original,
            tenant=sender.tenant,
            request_id=sender.ids.request_id,
            trace_id=sender.ids.trace_id,
            policy_version=self._policy.version,
            category=rules.category,
            score=score,
            leaning="block" if score >= middle else "allow",
            degraded=undecided.degraded,
            priority=PRIORITIES.index(rules.priority),
            urgency=score,
        )

    @contextmanager
    def _timed(self, tier: str) -> Iterator[None]:
        started = perf_counter()
        try:
            yield
        finally:
            self._metrics.tier_seconds.labels(tier).observe(perf_counter() - started)
