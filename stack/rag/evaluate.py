"""How good a ranking is: nDCG, recall and reciprocal rank, with ir-measures, for each query and on average."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ir_measures
import numpy as np
from ir_measures import RR, R, nDCG

Run = Mapping[str, Sequence[str]]
"""query id -> document ids, best first, each once."""

MEASURES = {"ndcg@10": nDCG @ 10, "recall@50": R @ 50, "mrr": RR}


@dataclass(frozen=True)
class Figures:
    """Each measure of each judged query, in the order of `queries`; a query without results has 0."""

    queries: tuple[str, ...]
    values: dict[str, np.ndarray]
    """measure -> float64[queries], 0 to 1."""
    coverage: float
    """Share of the judged queries that have any result."""

    def mean(self, measure: str) -> float:
        """The average over all judged queries."""
        return float(self.values[measure].mean())

    def standard_error(self, measure: str) -> float:
        """Of that average, as queries drawn at random would make it vary."""
        return _standard_error(self.values[measure])

    def of(self, queries: Sequence[str]) -> "Figures":
        """The same for some of the queries; `coverage` stays that of all."""
        place = {query: row for row, query in enumerate(self.queries)}
        rows = [place[query] for query in queries]
        return Figures(tuple(queries), {name: values[rows] for name, values in self.values.items()}, self.coverage)


@dataclass(frozen=True)
class Difference:
    """What one system has more than another on the same queries."""

    mean: float
    standard_error: float


def evaluate(judgements: Mapping[str, Mapping[str, int]], run: Run) -> Figures:
    """Judges `run`. Queries without a judgement are left out; judged queries that `run` lacks count as 0."""
    if not judgements:
        raise ValueError("no judged query: nothing can be measured")
    queries = tuple(judgements)
    place = {query: row for row, query in enumerate(queries)}
    # Scores from places: trec_eval would break ties between equal scores by document id, not by our order.
    scored = {
        query: {document: float(-rank) for rank, document in enumerate(run[query])}
        for query in queries
        if run.get(query)
    }
    values = {name: np.zeros(len(queries)) for name in MEASURES}
    names = {measure: name for name, measure in MEASURES.items()}
    qrels = {query: dict(grades) for query, grades in judgements.items()}
    for metric in ir_measures.iter_calc(list(names), qrels, scored):
        values[names[metric.measure]][place[metric.query_id]] = metric.value
    return Figures(queries, values, len(scored) / len(queries))


def difference(one: Figures, other: Figures, measure: str) -> Difference:
    """`one` less `other`, query by query: what they find equally hard cancels out.

    Standard error of paired differences, as "Adding error bars to evals" (2024), section 4, recommends it.
    """
    if one.queries != other.queries:
        raise ValueError("the two were measured on different queries; only the same ones can be compared in pairs")
    differences = one.values[measure] - other.values[measure]
    return Difference(float(differences.mean()), _standard_error(differences))


def _standard_error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
