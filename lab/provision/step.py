"""A step of the set-up, and the stamp by which a later run knows that it is done and still up to date."""

import hashlib
import json
import os
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lab.provision.checkout import Checkout
from lab.provision.work import StepFailed, Work


@dataclass(frozen=True)
class Step:
    """One thing that the set-up makes: a folder, from input files. Paths are relative to the checkout."""

    name: str
    what: str  # one line for people
    build: Callable[[Work], None]  # makes `folder`, which is not there when it is called
    folder: str
    products: tuple[str, ...]  # what must exist in the folder for the step to count as done
    gigabytes: float  # disk space it takes, temporary files included
    inputs: tuple[str, ...] = ()  # files; a change in one makes the step stale
    after: tuple[str, ...] = ()  # steps that must be done before
    optional: bool = False  # its failure is a warning
    version: int = 1  # raised when `build` changes so that what it made before is stale

    def fingerprint(self, checkout: Checkout) -> str:
        """Hash of all that the result depends on, and of the place: environments do not survive a move."""
        digest = hashlib.sha256(f"{self.name} {self.version} {checkout.root}\n".encode())
        for name in self.inputs:
            digest.update(hashlib.sha256(_content(checkout.root / name)).digest())
        return digest.hexdigest()

    def is_done(self, checkout: Checkout) -> bool:
        """Whether an earlier run finished this step from the same inputs, and nothing has vanished since."""
        stamp = self._stamp(checkout)
        made = (checkout.root / self.folder / product for product in self.products)
        return (
            stamp.is_file() and stamp.read_text() == self.fingerprint(checkout) and all(path.exists() for path in made)
        )

    def clear(self, checkout: Checkout) -> None:
        """Forget an earlier result; the stamp first, lest an interrupt leave one beside a broken folder."""
        self._stamp(checkout).unlink(missing_ok=True)
        checkout.discard(checkout.root / self.folder)

    def make(self, work: Work) -> None:
        """Build the result, then stamp it; raises StepFailed."""
        fingerprint = self.fingerprint(work.checkout)  # as it is now: an input may change while we build
        folder = work.checkout.root / self.folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        self.build(work)
        for product in self.products:
            if not (folder / product).exists():
                raise StepFailed(f"{folder / product} is missing after the build; see {work.log}")
        self._write_stamp(work.checkout, fingerprint)

    def _stamp(self, checkout: Checkout) -> Path:
        return checkout.stamps / self.name

    def _write_stamp(self, checkout: Checkout, fingerprint: str) -> None:
        stamp = self._stamp(checkout)
        stamp.parent.mkdir(parents=True, exist_ok=True)
        unfinished = stamp.with_suffix(".new")
        unfinished.write_text(fingerprint)
        os.replace(unfinished, stamp)


def _content(path: Path) -> bytes:
    """What counts of an input file; of pyproject.toml, what an editable install reads and no more."""
    if not path.is_file():
        return b""
    if path.name != "pyproject.toml":
        return path.read_bytes()
    tables = tomllib.loads(path.read_text())
    used = [tables.get("project"), tables.get("build-system"), tables.get("tool", {}).get("hatch")]
    return json.dumps(used, sort_keys=True).encode()
