"""Whether answers say what the documents say, and cite them."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from stack.evals.example import Example, chosen
from stack.evals.stack_client import Held, Places, Stack
from stack.evals.suite import Mode, Named
from stack.evals.tasks.retrieval import SOURCES
from stack.evals.text import contains, likeness, support
from stack.rag import sources
from stack.rag.sources.collection import Collection
from stack.rag.sources.questions import answers

KNOWN = "known"
"""Examples whose answer has words that can be looked for."""
WHOLE, STREAMED = "whole", "streamed"
_ENDED = re.compile(r"[.!?…\])\"'”]\s*$")
_CITED = re.compile(r"\[(\d{1,2})\]")
_WRITTEN_NAME = re.compile(r"[\w.-]*(?:[a-z]\.[a-z]|_|--)[\w.-]*[\w]", re.IGNORECASE)
"""A name that is not one plain word: core.hooksPath, --name-only, SQLITE_OMIT_DISKIO."""


class Answers:
    """evidence: the document that has the answer was in the prompt. fact: the known answer stands in the text.
    cited: the text names a passage that was in the prompt. cited_right: one that is of the document that has the
    answer, and none that was not in the prompt. supported: share of the text's words that stand in the passages of
    the prompt. likeness: of the text to a sentence of the right document. complete: it was not cut off, and ends as
    a sentence or a citation does. held: moderation kept it back. passages: that it may cite. Tokens as the engine
    counted them; an answer that failed has none, and does not make the others look cheaper."""

    WORST: ClassVar[Mapping[str, float]] = dict.fromkeys(
        ("evidence", "fact", "cited", "cited_right", "supported", "likeness", "complete"), 0.0
    )
    SCORES: ClassVar[frozenset[str]] = frozenset({*WORST, "held", "passages", "prompt_tokens", "answer_tokens"})

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def examples(self, suite: Named, mode: Mode, places: Places) -> list[Example]:
        found = []
        for name in suite.suite.collections:
            collection = sources.load(SOURCES[name], places.data, places.manuals)
            self._texts |= {document.id: document.text for document in collection.documents}
            known = list(_known(collection, answers(SOURCES[name], places.data)))
            for place, (query, question, expected) in enumerate(chosen(known, suite.size(mode), lambda one: one[0])):
                ask = {"collection": name, "question": question}
                found.append(Example(query, ask, expected, _slices(name, expected, (WHOLE, STREAMED)[place % 2])))
        return found

    async def ask(self, example: Example, stack: Stack) -> dict[str, Any]:
        """Every other one as a stream: both ways lead to users."""
        collection, question = example.ask["collection"], example.ask["question"]
        try:
            if STREAMED in example.slices:
                answer = await stack.ask_streamed(collection, question)
                text, finish = answer["text"], answer["finish"]
            else:
                answer = await stack.ask(collection, question)
                (choice,) = answer["choices"]
                text, finish = choice["message"]["content"], choice["finish_reason"]
        except Held as held:
            nothing = {"text": "", "citations": [], "prompt_tokens": 0, "answer_tokens": 0, "finish": "held"}
            return nothing | {"held": str(held)}
        return {
            "text": text,
            "finish": finish,
            "citations": [[citation["number"], citation["document"]] for citation in answer["citations"]],
            "prompt_tokens": answer["usage"]["prompt_tokens"],
            "answer_tokens": answer["usage"]["completion_tokens"],
        }

    def score(self, example: Example, output: dict[str, Any]) -> dict[str, float]:
        text, by_number = output["text"], dict(output["citations"])
        held = "held" in output
        numbers, documents = {int(number) for number in _CITED.findall(text)}, list(by_number.values())
        named = {by_number[number] for number in numbers & by_number.keys()}
        passages = [self._texts[document] for document in documents if document in self._texts]
        fact = example.expected["answer"]
        return ({} if fact is None else {"fact": float(contains(text, fact))}) | {
            "evidence": float(example.expected["document"] in documents),
            "cited": float(bool(named)),
            "cited_right": float(example.expected["document"] in named and numbers <= by_number.keys()),
            "supported": support(_CITED.sub("", text), passages) if passages else 0.0,
            "likeness": likeness(_CITED.sub("", text), self._texts[example.expected["document"]]),
            "complete": float(output["finish"] == "stop" and _ENDED.search(text) is not None),
            "held": float(held),
            "passages": float(len(documents)),
            "prompt_tokens": float(output["prompt_tokens"]),
            "answer_tokens": float(output["answer_tokens"]),
        }


def _known(collection: Collection, said: Mapping[str, str | bool]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Id and question of each query whose answer is known, with its document and that answer; None where the answer is
    yes or no, which half of all wrong texts have in them."""
    titles = {document.id: document.title for document in collection.documents}
    for query in collection.queries:
        (document, *_) = collection.judgements[query.id]
        if collection.name == "manuals":
            name = _WRITTEN_NAME.findall(titles[document].rpartition(": ")[2])
            if len(name) == 1:
                yield query.id, f"{query.text}: what is it for?", {"document": document, "answer": name[0]}
        elif (answer := said.get(query.id)) is not None:
            told = answer if isinstance(answer, str) else None
            yield query.id, query.text, {"document": document, "answer": told}


def _slices(collection: str, expected: Mapping[str, Any], way: str) -> tuple[str, ...]:
    return (collection, way) if expected["answer"] is None else (collection, way, KNOWN)
