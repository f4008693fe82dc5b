"""One digest over the code that a proof speaks of: services, load generator, locked packages."""

import hashlib
from functools import cache

from lab.paths import ROOT

COVERED = ("stack", "loadtests", "requirements")


@cache
def code_digest() -> str:
    """SHA-256 over names and contents of the covered files of this checkout."""
    digest = hashlib.sha256()
    files = (path for name in COVERED for path in (ROOT / name).rglob("*"))
    kept = [p for p in files if p.is_file() and p.suffix in (".py", ".yaml", ".yml", ".json", ".lock")]
    for path in sorted(kept):
        digest.update(f"{path.relative_to(ROOT).as_posix()}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    return digest.hexdigest()
