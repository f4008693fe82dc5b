"""What suites are made of: an example to ask, and the row that is kept of it."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeVar

Failure = Literal["stack", "judge", "way"]
T = TypeVar("T")


@dataclass(frozen=True)
class Example:
    """`ask` is what the stack gets, `expected` what a right answer is, `slices` the parts it counts in."""

    id: str
    ask: dict[str, Any]
    expected: dict[str, Any] = field(default_factory=dict)
    slices: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Of everything in it; 16 hexadecimal digits of SHA-256."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Row:
    """What came of an example. `scores` is empty where it failed: `error` says why, and it counts as worst."""

    suite: str
    example: str
    key: str
    """Of what it was made with: configuration, code, weights and the example itself."""
    digest: str
    """Of the example: what was asked, and what a right answer is."""
    slices: tuple[str, ...]
    ask: dict[str, Any]
    output: dict[str, Any]
    scores: dict[str, float]
    seconds: float
    error: str | None = None
    failed: Failure | None = None
    """What failed: the stack, a judging model, or the way to the stack, which says nothing about a release."""
    refusals: int = 0
    """How often the stack said "not now" before it answered."""


def chosen(items: Iterable[T], most: int, name: Any = str) -> list[T]:
    """At most `most` of `items`, by the hash of `name(item)`: of fewer, the same ones are left."""
    return sorted(items, key=lambda item: hashlib.sha256(f"chosen {name(item)}".encode()).digest())[:most]
