"""Who may see what: the one place that decides it, and the only way from a row of an index to its text.

A document is visible iff its tenant is "*" or the caller's, and its groups are empty or have one in common with the
caller's. Whoever does not say who he is sees nothing. The rights are the store's of now, not those of the time when
the index was built: a document that was deleted or closed is gone at once.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stack.rag.sources.collection import PUBLIC
from stack.rag.store import Key, Rights
from stack.service.errors import ServiceError

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_MOST_GROUPS = 64
_MASKS = 256  # of so many callers; n bytes each


class NoIdentity(ServiceError):
    """The caller does not say, or not clearly, who it is."""

    status, type, code = 401, "authentication_error", "no_identity"


class AccessViolation(Exception):
    """A stage brought up a row that the caller may not see. Nothing of it was read."""


@dataclass(frozen=True)
class Identity:
    """Whom a request speaks for."""

    tenant: str
    groups: frozenset[str] = frozenset()

    def may_see(self, tenant: str, groups: frozenset[str]) -> bool:
        """The rule, for a document of that tenant and those groups."""
        return tenant in (PUBLIC, self.tenant) and (not groups or not groups.isdisjoint(self.groups))


def identity(tenants: Sequence[str], groups: Sequence[str]) -> Identity:
    """From the values of the headers X-Tenant and X-Groups (names with commas between). Raises NoIdentity."""
    if len(tenants) != 1 or not _NAME.fullmatch(tenants[0]):
        raise NoIdentity("the header X-Tenant must hold the name of one tenant; the gateway sets it")
    names = [name.strip() for name in ",".join(groups).split(",") if name.strip()]
    if len(names) > _MOST_GROUPS or not all(_NAME.fullmatch(name) for name in names):
        raise NoIdentity(f"the header X-Groups must hold at most {_MOST_GROUPS} names with commas between them")
    return Identity(tenants[0], frozenset(names))


@dataclass(frozen=True)
class Passage:
    """A chunk of a document as an index version holds it."""

    chunk: str
    document: str
    title: str
    text: str


class Access:
    """The passages of one index version under the rights of one moment; `owners` has the document of each row."""

    def __init__(self, passages: Sequence[Passage], owners: Sequence[Key], rights: Rights) -> None:
        self.rights = rights
        self._passages = passages
        classes: dict[tuple[str, frozenset[str]], int] = {}
        codes = {key: classes.setdefault((key[0], groups), len(classes)) for key, groups in rights.groups.items()}
        nobody = len(classes)  # the class of rows whose document is gone
        self._class_of_row = np.fromiter((codes.get(key, nobody) for key in owners), np.int32, len(owners))
        self._classes = classes
        self._documents = Counter(codes.values())
        self._masks: dict[Identity, np.ndarray] = {}

    def view(self, caller: Identity) -> "View":
        """What this caller may see."""
        mask = self._masks.get(caller)
        if mask is None:
            visible = [caller.may_see(tenant, groups) for tenant, groups in self._classes]
            mask = np.array([*visible, False])[self._class_of_row]
            mask.setflags(write=False)
            if len(self._masks) >= _MASKS:
                self._masks.clear()
            self._masks[caller] = mask
        return View(mask, self._passages)

    def documents(self, caller: Identity) -> int:
        """How many documents this caller may see."""
        return sum(self._documents[code] for kind, code in self._classes.items() if caller.may_see(*kind))


class View:
    """One caller's part of an index: `allowed` bool[n] is for the searches, `passages` is the way to the text."""

    __slots__ = ("_passages", "allowed")

    def __init__(self, allowed: np.ndarray, passages: Sequence[Passage]) -> None:
        self.allowed = allowed
        self._passages = passages

    def passages(self, rows: np.ndarray) -> list[Passage]:
        """The passages of these rows, in their order. Raises AccessViolation."""
        if not self.allowed[rows].all():
            raise AccessViolation("a search brought up rows outside of the caller's rights")
        return [self._passages[row] for row in rows]
