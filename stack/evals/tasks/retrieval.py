"""Whether the right document is found, and by which stage."""

from collections.abc import Mapping
from typing import Any, ClassVar

from stack.evals.example import Example, chosen
from stack.evals.stack_client import Places, Stack
from stack.evals.suite import Mode, Named
from stack.rag import sources
from stack.rag.evaluate import evaluate

SOURCES = {"encyclopedia": "boolq", "articles": "disflqa", "manuals": "manuals"}
"""Whose questions are asked of which collection of the default configuration."""
DEPTH = 50
STAGES = ("sparse", "dense", "fused")


class Retrieval:
    """nDCG@10, recall@50 and reciprocal rank of the results; reciprocal rank of each stage, from its own places."""

    SCORES: ClassVar[frozenset[str]] = frozenset({"ndcg@10", "recall@50", *STAGES})
    WORST: ClassVar[Mapping[str, float]] = dict.fromkeys(SCORES, 0.0)

    def examples(self, suite: Named, mode: Mode, places: Places) -> list[Example]:
        found = []
        for name in suite.suite.collections:
            collection = sources.load(SOURCES[name], places.data, places.manuals)
            found += [
                Example(
                    query.id,
                    {"collection": name, "query": query.text},
                    {"judgements": collection.judgements[query.id]},
                    (name,),
                )
                for query in chosen(collection.queries, suite.size(mode), lambda query: query.id)
            ]
        return found

    async def ask(self, example: Example, stack: Stack) -> dict[str, Any]:
        answer = await stack.search(example.ask["collection"], example.ask["query"], DEPTH)
        results = [
            {"document": one["document"]} | {stage: (one["stages"][stage] or {}).get("rank") for stage in STAGES}
            for one in answer["results"]
        ]
        return {"results": results, "index": answer["index"]["version"]}

    def score(self, example: Example, output: dict[str, Any]) -> dict[str, float]:
        wanted, results = example.expected["judgements"], output["results"]
        documents = list(dict.fromkeys(one["document"] for one in results))
        figures = evaluate({example.id: wanted}, {example.id: documents})
        right = [one for one in results if one["document"] in wanted]
        stages = {
            stage: _reciprocal(min((one[stage] for one in right if one[stage]), default=None)) for stage in STAGES
        }
        return {name: figures.mean(name) for name in ("ndcg@10", "recall@50")} | stages


def _reciprocal(rank: int | None) -> float:
    return 1 / rank if rank else 0.0
