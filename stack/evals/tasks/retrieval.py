"""Whether the right document is found, and by which stage."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from stack.evals.example import Example, chosen
from stack.evals.stack_client import Places, Stack
from stack.evals.suite import Mode, Named
from stack.evals.text import sentences
from stack.rag import sources
from stack.rag.evaluate import evaluate
from stack.rag.sources.collection import Collection

SOURCES = {"encyclopedia": "boolq", "articles": "disflqa", "manuals": "manuals"}
"""Whose questions are asked of which collection of the default configuration."""
QUESTIONS, AS_USERS, LATER_PARTS = "questions", "as users ask", "later parts"
DEPTH = 50
STAGES = ("sparse", "dense", "fused")
LONG_CHARACTERS = 1200
"""Of a document with a last third that is worth a question."""
_LENGTHS = range(8, 31)  # of a sentence: fewer name nothing, and more are no sentence


class Retrieval:
    """nDCG@10, recall@50 and reciprocal rank of the results; reciprocal rank of each stage, from its own places.
    second look: the results stand in another order than fusion left them in, so a reranker has looked at them. found:
    something was found that counts as evidence. first: the reciprocal rank in the results. shown: that in what users
    are shown, who ask for no number of results and look at no stage. quoted: all texts that they are shown stand in
    the document that is named beside them, by its title. characters: of these texts."""

    WORST: ClassVar[Mapping[str, float]] = dict.fromkeys(
        ("ndcg@10", "recall@50", *STAGES, "second look", "found", "first", "shown", "quoted"), 0.0
    )
    SCORES: ClassVar[frozenset[str]] = frozenset({*WORST, "characters"})

    def __init__(self) -> None:
        self._documents: dict[str, tuple[str, str]] = {}

    def examples(self, suite: Named, mode: Mode, places: Places) -> list[Example]:
        found = []
        for name in suite.suite.collections:
            collection, size = sources.load(SOURCES[name], places.data, places.manuals), suite.size(mode)
            self._documents |= {one.id: (one.title, _words(one.text)) for one in collection.documents}
            queries = chosen(collection.queries, size, lambda query: query.id)
            for slice_, of in ((QUESTIONS, queries), (AS_USERS, queries[: size // 2])):
                found += [
                    Example(
                        f"{slice_}-{query.id}",
                        {"collection": name, "query": query.text},
                        {"judgements": collection.judgements[query.id]},
                        (slice_, name),
                    )
                    for query in of
                ]
            found += [
                Example(
                    f"{LATER_PARTS}-{document}",
                    {"collection": name, "query": sentence},
                    {"judgements": {document: 1}},
                    (LATER_PARTS, name),
                )
                for document, sentence in chosen(_late_sentences(collection), size // 4, lambda one: one[0])
            ]
        return found

    async def ask(self, example: Example, stack: Stack) -> dict[str, Any]:
        collection, query = example.ask["collection"], example.ask["query"]
        if AS_USERS in example.slices:
            answer = await stack.search(collection, query)
            return {
                "results": [{name: one[name] for name in ("document", "title", "text")} for one in answer["results"]]
            }
        answer = await stack.search(collection, query, DEPTH)
        results = [
            {"document": one["document"]} | {stage: (one["stages"][stage] or {}).get("rank") for stage in STAGES}
            for one in answer["results"]
        ]
        return {"results": results, "evidence": answer["evidence"], "index": answer["index"]["version"]}

    def score(self, example: Example, output: dict[str, Any]) -> dict[str, float]:
        wanted, results = example.expected["judgements"], output["results"]
        if AS_USERS in example.slices:
            right = (place for place, one in enumerate(results, start=1) if one["document"] in wanted)
            quoted = all(self._stands(one) for one in results)
            characters = float(sum(len(one["text"]) for one in results))
            return {"shown": _reciprocal(_least(right)), "quoted": float(quoted), "characters": characters}
        documents = list(dict.fromkeys(one["document"] for one in results))
        figures = evaluate({example.id: wanted}, {example.id: documents})
        if LATER_PARTS in example.slices:
            return {"ndcg@10": figures.mean("ndcg@10")}
        right = [one for one in results if one["document"] in wanted]
        stages = {stage: _reciprocal(_least(one[stage] for one in right if one[stage])) for stage in STAGES}
        ranks = [one["fused"] or 0 for one in results]
        others = {"second look": float(ranks != sorted(ranks)), "found": float(output["evidence"])}
        metrics = {"ndcg@10": "ndcg@10", "recall@50": "recall@50", "first": "mrr"}
        return {name: figures.mean(metric) for name, metric in metrics.items()} | stages | others

    def _stands(self, result: Mapping[str, str]) -> bool:
        title, text = self._documents.get(result["document"], ("", ""))
        return result["title"] == title and bool(result["text"]) and _words(result["text"]) in text


def _late_sentences(collection: Collection) -> Iterator[tuple[str, str]]:
    """Id and a whole sentence of each long document, of its middle or its last third: questions are mostly about the
    first lines of one, and what becomes of the others shows in none."""
    long = (document for document in collection.documents if len(document.text) >= LONG_CHARACTERS)
    for place, document in enumerate(long):
        third = len(document.text) // 3
        part = document.text[2 * third :] if place % 2 else document.text[third : 2 * third]
        _, *there = sentences(part)  # the first one begins anywhere
        if not place % 2:
            there = there[:-1]  # and the last one ends anywhere
        if whole := [" ".join(words) for one in there if len(words := one.split()) in _LENGTHS]:
            yield document.id, whole[-1]


def _words(text: str) -> str:
    return " ".join(text.split())


def _least(ranks: Iterator[int]) -> int | None:
    return min(ranks, default=None)


def _reciprocal(rank: int | None) -> float:
    return 1 / rank if rank else 0.0
