"""Configuration of a collection: its documents, its two indexes, how it is searched, what is checked."""

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from stack.rag import sources
from stack.rag.config.stages import (
    ChunkSettings,
    DenseOnly,
    DenseSettings,
    FusionSettings,
    RerankSettings,
    SparseOnly,
    SparseSettings,
)
from stack.service.config import Name
from stack.settings import Settings, nearest

Slot = Literal["blue", "green"]
Verdict = Literal["refuse", "warn", "ignore"]
NO_SOURCE = "empty"


class Access(Settings):
    tenant: Literal["*"] | Name = "*"
    """The tenant that the documents belong to; "*" is every tenant."""
    groups: tuple[Name, ...] = ()
    """Only callers who are in one of them may see the documents; none: all callers of the tenant."""


class Index(Settings):
    """What an index is built with. Whatever changes here makes another version."""

    encoder: Name
    """Alias of the encoder of the passages; its tokenizer also cuts the chunks."""
    chunk: ChunkSettings | None = ChunkSettings()
    """How documents are cut; null leaves each in one piece."""
    sparse: SparseSettings | None = SparseSettings()
    """The index of words; null builds none."""
    dense: DenseSettings | None
    """The index of vectors; null builds none."""

    @model_validator(mode="after")
    def _something(self) -> "Index":
        if self.sparse is None and self.dense is None:
            raise ValueError("sparse and dense are both null: nothing could be searched")
        return self


class Query(Settings):
    """How a collection is searched."""

    encoder: Name
    """Alias of the encoder of the queries."""
    sparse_depth: int = Field(100, ge=1, le=10000)
    """How many passages the search by words gives to fusion."""
    dense_depth: int = Field(100, ge=1, le=10000)
    """How many passages the search by vectors gives to fusion."""
    fusion: FusionSettings
    """How both lists become one."""
    rerank: RerankSettings
    """What sorts the first of them again."""
    results: int = Field(5, ge=1, le=1000)
    """Passages that a search gives unless the caller says how many, and that an answer can be made from."""
    no_evidence_below: float | None = Field(None, ge=-1, le=1)
    """Similarity of the nearest passage under which nothing counts as found and a question gets the refusal; null
    takes what is found."""


class ManifestChecks(Settings):
    """What of an index's manifest is compared with what queries are made with. refuse: the collection is not
    served then; warn: the log tells; ignore: nobody looks. Vectors of another dimension are always refused."""

    encoder: Verdict = "refuse"
    """That queries and passages are encoded by the same model."""
    prefix: Verdict = "refuse"
    """That the encoder of the queries has the prefixes that the passages were encoded with."""
    max_tokens: Verdict = "refuse"
    """That both are cut off at the same length."""
    normalise: Verdict = "refuse"
    """That both are scaled to length 1, or neither."""
    analyser: Verdict = "refuse"
    """That the words of queries and passages go through the same steps."""
    settings: Verdict = "refuse"
    """That the index was built with the settings that this file has for its slot."""
    corpus: Verdict = "refuse"
    """That the index was built from the documents as they are now."""


class CanaryQuestion(Settings):
    question: str = Field(min_length=1, max_length=2000)
    """What is asked."""
    document: str = Field(min_length=1, max_length=200)
    """Id of the document that must be found."""


class Canary(Settings):
    """Questions whose answer is known, asked again and again; their share found is a metric of each stage."""

    every_seconds: float = Field(30, ge=1, le=86400)
    """Pause between two rounds."""
    depth: int = Field(10, ge=1, le=1000)
    """The document has to be among the first so many."""
    tenant: Name = "canary"
    """Whom the questions are asked for."""
    groups: tuple[Name, ...] = ()
    """And in which groups."""
    questions: tuple[CanaryQuestion, ...] = ()
    """The questions."""
    file: Path | None = None
    """More of them: a JSON line {"question": …, "document": …} each. Relative to this file."""

    @model_validator(mode="after")
    def _asks(self) -> "Canary":
        if not self.questions and self.file is None:
            raise ValueError("neither questions nor file: there is nothing to ask")
        return self


class Collection(Settings):
    description: str = Field("", max_length=500)
    """What is in it."""
    source: str
    """Where its documents come from: a collection that `stack/rag/sources` knows, or only from callers (empty)."""
    access: Access = Access()
    """Who may see the documents of the source."""
    editors: tuple[Name, ...] = ()
    """Groups whose members may write and delete documents of their own tenant over HTTP. Nobody, unless named."""
    operators: tuple[Name, ...] = ()
    """Groups whose members may also write documents for every tenant, and build and switch indexes. Nobody, unless
    named."""
    indexes: dict[Slot, Index] = Field(min_length=1)
    """The slots: one is searched, the other is built into."""
    active: Slot
    """The slot that is searched. A switch while running holds until this key is changed."""
    rebuild: Literal["stale", "missing"] = "stale"
    """What is built at start: an index that is missing or was made from other documents or settings (stale), or only
    one that is missing."""
    query: Query
    """How it is searched."""
    manifest_checks: ManifestChecks = ManifestChecks()
    """What must be the same on both sides."""
    canary: Canary | None = None
    """Questions with known answers; null asks none."""

    @field_validator("source")
    @classmethod
    def _known_source(cls, source: str) -> str:
        known = (*sources.NAMES, NO_SOURCE)
        if source not in known:
            raise ValueError(f"unknown source '{source}'; {nearest(source, known)}")
        return source

    @model_validator(mode="after")
    def _coherent(self) -> "Collection":
        problems = []
        if self.active not in self.indexes:
            problems.append(f"active: '{self.active}' is not among the indexes; add indexes.{self.active}")
        for slot, index in self.indexes.items():
            for leg, absent in (("sparse", DenseOnly), ("dense", SparseOnly)):
                if getattr(index, leg) is None and not isinstance(self.query.fusion, absent):
                    problems.append(f"indexes.{slot}.{leg}: null, but query.fusion {self.query.fusion.kind} needs it")
        if problems:
            raise ValueError("\n".join(problems))
        return self
