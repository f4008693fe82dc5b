"""Whether a question that the collection cannot answer is refused, and one that it can answer is not."""

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
    """right: a question about another collection got the refusal (no passage in the prompt), and for one about this the
    search found something that counts. That takes no language model, so many can be asked. told: the refusal says that
    there is nothing."""

    SCORES: ClassVar[frozenset[str]] = frozenset({"right", "told"})
    WORST: ClassVar[Mapping[str, float]] = {"right": 0.0}

    def examples(self, suite: Named, mode: Mode, places: Places) -> list[Example]:
        names = suite.suite.collections
        others = {name: OTHER.get(name, "manuals") for name in names}
        asked = {
            name: sources.load(SOURCES[name], places.data, places.manuals).queries
            for name in {*names, *others.values()}
        }
        found = []
        for name in names:
            for about, slice_ in ((name, "answerable"), (others[name], "unanswerable")):
                found += [
                    Example(
                        f"{name}-{query.id}",
                        {"collection": name, "question": query.text},
                        {"refused": about != name},
                        (slice_, name),
                    )
                    for query in chosen(asked[about], suite.size(mode), lambda query: query.id)
                ]
        return found

    async def ask(self, example: Example, stack: Stack) -> dict[str, Any]:
        collection, question = example.ask["collection"], example.ask["question"]
        if not example.expected["refused"]:
            return {"refused": not (await stack.search(collection, question, limit=1))["evidence"]}
        try:
            answer = await stack.ask(collection, question, max_tokens=1)
        except Held:
            return {"refused": True, "held": True}
        return {"refused": not answer["citations"], "text": answer["choices"][0]["message"]["content"]}

    def score(self, example: Example, output: dict[str, Any]) -> dict[str, float]:
        right = {"right": float(output["refused"] is example.expected["refused"])}
        if output["refused"] and "text" in output:
            return right | {"told": float(_NOTHING.search(output["text"]) is not None)}
        return right
