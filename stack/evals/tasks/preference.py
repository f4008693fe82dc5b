"""Which answers a judging model prefers: those of the release, or the baseline's."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, ClassVar

from stack.evals.example import Example, chosen
from stack.evals.judge import PREFERENCE, Pair, compare
from stack.evals.stack_client import Held, Places, Stack
from stack.evals.suite import Mode, Named
from stack.evals.tasks.retrieval import SOURCES
from stack.rag import sources
from stack.rag.sources.questions import answers

KNOWN, SEEN = "labelled", "release"


class Preference:
    """preferred: 1 where the release's answer is better, .5 for a tie. agreed: of pairs whose better answer is known,
    whether the judge finds it. length: characters that the release's answer has more."""

    SCORES: ClassVar[frozenset[str]] = frozenset({"preferred", "agreed", "length"})
    WORST: ClassVar[Mapping[str, float]] = {"preferred": 0.0, "agreed": 0.0}

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._attempts = 1

    def examples(self, suite: Named, mode: Mode, places: Places) -> list[Example]:
        (name,) = suite.suite.collections
        judge = suite.suite.judge
        assert judge is not None, "suites of this task have one"
        self._attempts = judge.attempts
        collection = sources.load(SOURCES[name], places.data, places.manuals)
        self._texts = {document.id: document.text for document in collection.documents}
        said = {
            query: answer for query, answer in answers(SOURCES[name], places.data).items() if isinstance(answer, str)
        }
        queries = [query for query in chosen(collection.queries, 10_000, lambda query: query.id) if query.id in said]
        documents = {query.id: next(iter(collection.judgements[query.id])) for query in queries}
        found = [
            Example(
                f"{SEEN}-{query.id}",
                {"collection": name, "question": query.text},
                {"document": documents[query.id]},
                (SEEN,),
            )
            for query in queries[: suite.size(mode)]
        ]
        pairs = queries[-judge.labelled - 1 :]
        for place, (query, other) in enumerate(pairwise(pairs)):
            right, wrong = said[query.id], said[other.id]
            first, second = (right, wrong) if place % 2 else (wrong, right)
            found.append(
                Example(
                    f"{KNOWN}-{query.id}",
                    {"question": query.text, "first": first, "second": second},
                    {"document": documents[query.id], "choice": "first" if place % 2 else "second"},
                    (KNOWN,),
                )
            )
        return found

    async def ask(self, example: Example, stack: Stack) -> dict[str, Any]:
        evidence = self._texts[example.expected["document"]]
        if KNOWN in example.slices:
            pair = Pair(example.ask["question"], evidence, example.ask["first"], example.ask["second"])
        else:
            text = await self._answer(example, stack)
            pair = Pair(example.ask["question"], evidence, text, stack.before.get(example.id, text))
        verdict = await compare(stack, pair, self._attempts)
        return {
            "text": pair.first,
            "other": pair.second,
            "choice": verdict.choice,
            "known": example.expected.get("choice"),
            "failures": verdict.failures,
        }

    async def _answer(self, example: Example, stack: Stack) -> str:
        """What the release says; nothing where moderation holds it back."""
        try:
            answer = await stack.ask(example.ask["collection"], example.ask["question"])
        except Held:
            return ""
        return answer["choices"][0]["message"]["content"]

    def score(self, example: Example, output: dict[str, Any]) -> dict[str, float]:
        if KNOWN in example.slices:
            return {"agreed": float(output["choice"] == example.expected["choice"])}
        longer = float(len(output["text"]) - len(output["other"]))
        return {"preferred": PREFERENCE[output["choice"]], "length": longer}
