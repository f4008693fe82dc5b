"""Whether a question that the collection cannot answer is refused."""

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from stack.evals.example import Example, chosen
from stack.evals.stack_client import Held, Places, Stack
from stack.evals.suite import Mode, Named
from stack.evals.tasks.retrieval import SOURCES
from stack.rag import sources

OTHER = {"manuals": "articles"}
"""Whose questions a collection cannot answer: the manuals', of the rest. Encyclopedia and articles are too alike."""
_NOTHING = re.compile(r"\b(no|not|nothing|none|cannot|can't|don't|unable)\b", re.IGNORECASE)


class Refusal:
    """right: a question about another collection got the refusal (no passage in the prompt), which takes no
    language model, so many can be asked; what moderation holds back got none. told: the refusal says that there is
    nothing. That something is found for those that can be answered is for the task `retrieval`."""

    SCORES: ClassVar[frozenset[str]] = frozenset({"right", "told"})
    WORST: ClassVar[Mapping[str, float]] = {"right": 0.0}

    def examples(self, suite: Named, mode: Mode, places: Places) -> list[Example]:
        found = []
        for name in suite.suite.collections:
            queries = sources.load(SOURCES[OTHER.get(name, "manuals")], places.data, places.manuals).queries
            found += [
                Example(f"{name}-{query.id}", {"collection": name, "question": query.text}, {}, (name,))
                for query in chosen(queries, suite.size(mode), lambda query: query.id)
            ]
        return found

    async def ask(self, example: Example, stack: Stack) -> dict[str, Any]:
        try:
            answer = await stack.ask(example.ask["collection"], example.ask["question"], max_tokens=1)
        except Held:
            return {"refused": True, "held": True}
        return {"refused": not answer["citations"], "text": answer["choices"][0]["message"]["content"]}

    def score(self, example: Example, output: dict[str, Any]) -> dict[str, float]:
        right = {"right": float(output["refused"] and "held" not in output)}
        if output["refused"] and "text" in output:
            return right | {"told": float(_NOTHING.search(output["text"]) is not None)}
        return right
