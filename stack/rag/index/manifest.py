"""What an index version was made from, written beside it, and how that is compared with what queries are made with."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from stack.rag.config.collections import Index, ManifestChecks
from stack.rag.encoders import Encoder
from stack.rag.hits import RetrievalError
from stack.rag.store import Key
from stack.settings import Settings

MANIFEST = "manifest.json"


class EncoderFacts(Settings):
    """The encoder of the passages."""

    alias: str
    fingerprint: str
    weights: str
    dimension: int
    query_prefix: str
    passage_prefix: str
    max_tokens: int
    normalise: bool

    @classmethod
    def of(cls, encoder: Encoder) -> "EncoderFacts":
        """Of an encoder that is open."""
        settings = encoder.settings
        return cls(
            alias=encoder.alias,
            fingerprint=encoder.fingerprint,
            weights=encoder.weights,
            dimension=encoder.dimension,
            query_prefix=settings.query_prefix,
            passage_prefix=settings.passage_prefix,
            max_tokens=settings.max_tokens,
            normalise=settings.normalise,
        )


class Manifest(Settings):
    """`manifest.json`. `files` has the SHA-256 of every other file of the version, in hex."""

    schema_version: Literal[1] = Field(1, alias="schema")
    version: str
    collection: str
    encoder: EncoderFacts
    settings: Index
    analyser: str | None
    corpus: str
    documents: int
    passages: int
    truncated_passages: float = Field(description="share of the passages that the encoder cut off")
    truncated_tokens: float = Field(description="share of their tokens that it did not see")
    built_at: datetime
    files: dict[str, str]

    def write(self, folder: Path) -> None:
        """Into `folder`."""
        text = self.model_dump_json(by_alias=True, indent=1)
        (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> Manifest:
    """Of the version in `folder`. Raises RetrievalError."""
    path = folder / MANIFEST
    try:
        return Manifest.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as problem:
        raise RetrievalError(f"{path}: cannot be read ({problem})") from problem
    except ValidationError as problem:
        first = problem.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        text = f"{path}: no manifest that this program understands ({where}: {first['msg']})"
        raise RetrievalError(text) from problem


def corpus_hash(content: Mapping[Key, str]) -> str:
    """SHA-256 over the documents, in hex: which there are, and what is in them. Not who may see them."""
    digest = hashlib.sha256()
    for (tenant, name), text in sorted(content.items()):
        digest.update(json.dumps([tenant, name, text]).encode())
    return digest.hexdigest()


def version_of(settings: Index, fingerprint: str, corpus: str) -> str:
    """The name of the version that these make: the same ones, the same name. `fingerprint` is the encoder's."""
    return digest_of([settings.model_dump(mode="json", exclude={"encoder"}), fingerprint, corpus])[:16]


def analyser_hash(settings: Index) -> str | None:
    """Of the steps that the passages' words go through; None without an index of words."""
    return digest_of(settings.sparse.analyser.model_dump(mode="json")) if settings.sparse else None


def digest_of(value: Any) -> str:
    """SHA-256 of a value of JSON types, in hex."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Mismatch:
    """Something that differs between an index and what it is searched with. `check` is its key in the configuration."""

    check: str
    text: str

    def __str__(self) -> str:
        return self.text


def mismatches(
    manifest: Manifest, settings: Index, own: Encoder, corpus: str, encoders: Mapping[str, Encoder]
) -> list[Mismatch]:
    """What differs. `settings` and the encoder `own` are the slot's; `encoders` are those that queries go through."""
    return [
        *_built_otherwise(manifest, settings, own, corpus),
        *_analysed_otherwise(manifest.settings),
        *(found for key, encoder in encoders.items() for found in _encoded_otherwise(manifest.encoder, encoder, key)),
    ]


def _built_otherwise(manifest: Manifest, settings: Index, own: Encoder, corpus: str) -> Iterator[Mismatch]:
    was, now = manifest.settings.model_dump(mode="json"), settings.model_dump(mode="json")
    changed = [key for key in now if key != "encoder" and now[key] != was[key]]
    if own.fingerprint != manifest.encoder.fingerprint:  # under whatever alias
        changed.insert(0, "encoder")
    if changed:
        yield Mismatch("settings", f"it was built with another setting of {', '.join(changed)}")
    if manifest.corpus != corpus:
        yield Mismatch("corpus", "it was built from other documents")


def _analysed_otherwise(settings: Index) -> Iterator[Mismatch]:
    sparse = settings.sparse
    if sparse and sparse.query_analyser not in (None, sparse.analyser):
        yield Mismatch("analyser", "the words of queries go through other steps than those of the passages")


def _encoded_otherwise(facts: EncoderFacts, encoder: Encoder, key: str) -> Iterator[Mismatch]:
    mine = EncoderFacts.of(encoder)
    if mine.dimension != facts.dimension:
        text = f"{key} '{encoder.alias}' makes vectors of {mine.dimension} numbers, the index holds {facts.dimension}"
        yield Mismatch("dimension", text)
    pairs = {
        "encoder": (mine.weights, facts.weights),
        "prefix": ((mine.query_prefix, mine.passage_prefix), (facts.query_prefix, facts.passage_prefix)),
        "max_tokens": (mine.max_tokens, facts.max_tokens),
        "normalise": (mine.normalise, facts.normalise),
    }
    for check, (is_, was) in pairs.items():
        if is_ != was:
            shown = f"another model than '{facts.alias}'" if check == "encoder" else f"{is_!r}, the index {was!r}"
            what = "is" if check == "encoder" else f"has {check}"
            yield Mismatch(check, f"{key} '{encoder.alias}' {what} {shown}")


def refused(checks: ManifestChecks, found: Sequence[Mismatch]) -> list[Mismatch]:
    """Those that must not be served."""
    return [one for one in found if _verdict(checks, one) == "refuse"]


def warned(checks: ManifestChecks, found: Sequence[Mismatch]) -> list[Mismatch]:
    """Those that are only told."""
    return [one for one in found if _verdict(checks, one) == "warn"]


def _verdict(checks: ManifestChecks, mismatch: Mismatch) -> str:
    # Nothing can be compared across dimensions, so that is no matter of configuration.
    return "refuse" if mismatch.check == "dimension" else getattr(checks, mismatch.check)
