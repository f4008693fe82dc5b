"""Questions with known answers, asked of each collection again and again: a sign of quality that needs no labels."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from stack.rag.access import AccessViolation, Identity, View
from stack.rag.config.collections import Canary, CanaryQuestion
from stack.rag.hits import Hits, RetrievalError
from stack.rag.live import LiveCollection
from stack.rag.pipeline import Found
from stack.service.background import Background
from stack.service.errors import ServiceError
from stack.telemetry.metrics import RagMetrics

log = logging.getLogger(__name__)

STAGES = ("sparse", "dense", "fused", "final")


class CanaryWatch:
    """Asks the questions of one collection in the background."""

    def __init__(self, live: LiveCollection, settings: Canary, folder: Path, metrics: RagMetrics) -> None:
        """A relative file counts from `folder`. Raises RetrievalError."""
        self._live = live
        self._settings = settings
        self._questions = [*settings.questions, *(_read(folder / settings.file) if settings.file else ())]
        self._who = Identity(settings.tenant, frozenset(settings.groups))
        self._gauge = metrics.canary_found
        self.background = Background("canary", self.ask, settings.every_seconds)

    def ask(self) -> None:
        """A round, told in the metrics."""
        found = dict.fromkeys(STAGES, math.nan)  # a round that fails has no value, and not that of the one before
        try:
            found = self.round()
        except ServiceError:
            pass  # the collection cannot be searched now, which other metrics tell
        except (RetrievalError, AccessViolation) as problem:
            log.error("canary failed", extra={"collection": self._live.name, "problem": str(problem)})
        for stage, ratio in found.items():
            self._gauge.labels(self._live.name, stage).set(ratio)

    def round(self) -> dict[str, float]:
        """Share of the questions whose document each stage has among its first. Raises NotReady, RetrievalError."""
        serving, view = self._live.view(self._who)
        pipeline = serving.pipeline.unobserved()  # callers' metrics are about callers' queries
        found = dict.fromkeys(STAGES, 0)
        for one in self._questions:
            answer = pipeline.search(one.question, view, self._settings.depth)
            for stage in STAGES:
                found[stage] += one.document in self._documents(answer, stage, view)
        return {stage: count / len(self._questions) for stage, count in found.items()}

    def _documents(self, found: Found, stage: str, view: View) -> set[str]:
        hits: Hits = getattr(found, stage).first(self._settings.depth)
        return {passage.document for passage in view.passages(hits.rows)}


def _read(path: Path) -> Sequence[CanaryQuestion]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        raise RetrievalError(f"{path}: cannot read the canary's questions ({problem})") from problem
    questions = []
    for number, line in enumerate(lines, start=1):
        try:
            questions.append(CanaryQuestion.model_validate_json(line))
        except ValidationError as problem:
            told = problem.errors(include_url=False)[0]["msg"]
            raise RetrievalError(
                f'{path}: line {number}: expected {{"question": …, "document": …}} ({told})'
            ) from problem
    if not questions:
        raise RetrievalError(f"{path}: holds no question")
    return questions
