"""Texts whose right answer is known: questions with the document that answers them, comments with a verdict.

Files of JSON Lines, `{"text": …, "document": …}` or `{"text": …, "violating": …}`, that the stack's own tools write
(`python -m stack.rag.sources`, `python -m stack.moderation.training`); the set-up does it.
"""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from loadtests import LoadError
from loadtests.questions import SPLITS, split_of


class Expected(BaseModel):
    """What a right answer is: for the grader and the generator's metrics, never sent."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    document: str | None = Field(None, description="id of the document that should be found")
    violating: bool | None = Field(None, description="whether the text breaks the rules")


class Labelled(Expected):
    """One text with its label."""

    text: str = Field(min_length=1, max_length=20_000)
    split: str | None = Field(None, description="the split that it belongs to; else its hash decides")

    @model_validator(mode="after")
    def _has_a_label(self) -> "Labelled":
        if self.document is None and self.violating is None:
            raise ValueError("a label is missing: document or violating")
        if self.split not in {None, *SPLITS}:
            raise ValueError(f"unknown split {self.split!r}; one of: {', '.join(SPLITS)}")
        return self

    @property
    def expected(self) -> Expected:
        return Expected(document=self.document, violating=self.violating)


def load_labelled(folder: Path, name: str, split: str) -> list[Labelled]:
    """The texts of `split` in `folder`/`name`.jsonl, in the file's order. Raises LoadError."""
    if split not in SPLITS:
        raise LoadError(f"unknown split {split!r}; one of: {', '.join(SPLITS)}")
    path = folder / f"{name}.jsonl"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        raise LoadError(f"{path}: cannot read the labelled texts ({problem}); the set-up writes them") from problem
    found = [_read(line, f"{path}: line {number}") for number, line in enumerate(lines, start=1)]
    if chosen := [item for item in found if (item.split or split_of(item.text)) == split]:
        return chosen
    raise LoadError(f"{path}: no text for the split {split!r}")


def _read(line: str, where: str) -> Labelled:
    try:
        fields: dict[str, Any] = json.loads(line)
        return Labelled.model_validate(fields)
    except (ValueError, ValidationError) as problem:
        raise LoadError(f"{where}: no labelled text: {problem}") from problem
