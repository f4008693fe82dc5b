"""The release gate's configuration file, every key of it, and that of a release."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from stack.rag.config.stages import (
    DenseSettings,
    EncoderSettings,
    FlatIndex,
    FusionSettings,
    SparseSettings,
)
from stack.service.config import Listen, Logs, Name, Seconds
from stack.settings import Protected, Settings

Source = Literal["boolq", "disflqa", "pubmedqa", "manuals"]  # of stack.rag.sources
Measure = Literal["ndcg@10", "recall@50", "mrr"]  # of stack.rag.evaluate


class Release(Settings):
    """How a release searches: what the gate has to know of it. A file of `releases`."""

    about: str
    """What changed, as its author says."""
    encoder: EncoderSettings
    """Of the passages."""
    query_encoder: EncoderSettings | None = None
    """Of the queries; null is the passages' own."""
    sparse: SparseSettings = SparseSettings()
    """The search by words."""
    dense: DenseSettings = FlatIndex(kind="flat")
    """The search by vectors."""
    fusion: FusionSettings
    """How both lists become one."""


class Storage(Settings):
    data: Path
    """Folder of the unpacked packages with data sets. Relative to this file."""
    manuals: Path
    """Folder of the unpacked packages with manuals. Relative to this file."""
    vectors: Path
    """Folder of the vectors that were computed before. Relative to this file."""
    releases: Path
    """Folder of the releases, NAME.yaml each; paths in them count from that folder. Relative to this file."""
    in_service: Name
    """The release that all others are compared with."""


class Suite(Settings):
    source: Source
    """The collection whose questions are asked, and what is searched for them. boolq: questions as people typed them
    into a search engine, in passages of an encyclopedia. disflqa: the same as they are spoken, with their slips.
    pubmedqa: titles of medical papers, in their abstracts. manuals: headings, in sections of manuals."""
    questions: int = Field(ge=2, le=100_000)
    """How many of them, chosen by the hash of their ids; all where there are fewer."""
    measure: Measure = "ndcg@10"
    """What is compared."""


class Means(Settings):
    kind: Literal["means"]
    """Blocks a candidate whose mean lies below that of the release in service by more than the tolerance."""
    tolerance: float = Field(ge=0, le=1)
    """How much worse it may be."""


class Paired(Settings):
    kind: Literal["paired"]
    """Blocks by the 95 % interval of the paired differences."""
    tolerance: float = Field(ge=0, le=1)
    """How much worse it may be."""
    blocks_when: Literal["loss_is_shown", "loss_is_possible"]
    """loss_is_shown: the whole interval lies beyond the tolerance. loss_is_possible: a part of it does, so that a
    candidate about which too little is known does not pass."""


Rule = Annotated[Means | Paired, Field(discriminator="kind")]


class GateConfig(Settings):
    """`gate.yaml`."""

    schema_version: Literal[1] = Field(alias="schema")
    """Version of this format."""
    listen: Listen = Protected()
    """Where verdicts and metrics are."""
    telemetry: Logs = Logs()
    """Its log."""
    storage: Storage = Protected()
    """Where everything is."""
    suite: Suite
    """What candidates are asked."""
    rule: Rule
    """When a candidate is blocked."""
    every_seconds: Seconds = 5.0
    """How often the folder of the releases is looked at; a change in it begins another round."""
