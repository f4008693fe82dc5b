"""Where a set-up keeps its things in a checkout, and the lock that lets one set-up at a time touch them."""

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Checkout:
    """The folders of one checkout."""

    root: Path

    @property
    def cache(self) -> Path:
        return self.root / ".cache"

    @property
    def stamps(self) -> Path:
        return self.cache / "stamps"

    @property
    def logs(self) -> Path:
        return self.cache / "logs"

    @property
    def scratch(self) -> Path:
        """Temporary files of the children; in here, so that what a killed child leaves is found again."""
        return self.cache / "tmp"

    @property
    def trash(self) -> Path:
        """What a new build replaces: moved here at once and removed meanwhile (a minute on some disks)."""
        return self.cache / "trash"

    def discard(self, path: Path) -> None:
        """Move `path` to the trash if it exists; where `.cache` is on another disk, remove it on the spot."""
        if not (path.exists() or path.is_symlink()):
            return
        self.trash.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(dir=self.trash))
        try:
            path.rename(place / path.name)
        except OSError as problem:
            if problem.errno != errno.EXDEV:
                raise
            shutil.rmtree(path)


@contextmanager
def exclusive(checkout: Checkout, say: Callable[[str], None]) -> Iterator[int]:
    """Hold the set-up lock of the checkout, waiting for another run that has it; gives its descriptor."""
    checkout.cache.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(checkout.cache / "bootstrap.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode().strip() or "unknown"
            say(f"Another set-up is at work in this checkout (process {holder}); waiting for its end.")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)
