"""The manifest of a model folder: which files, how long, which SHA-256."""

import hashlib
import json
from pathlib import Path

MANIFEST = "manifest.json"


class ModelError(Exception):
    """A model folder is missing, incomplete or damaged."""


def write_manifest(folder: Path) -> None:
    """Describe every file of `folder` in its manifest; written last, so a folder that has one was finished."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != MANIFEST)
    entries = {path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)} for path in files}
    (folder / MANIFEST).write_text(json.dumps({"schema": 1, "files": entries}, indent=1) + "\n")


def verify(folder: Path) -> None:
    """Compare every file with the manifest; raises ModelError that names the first one that differs, and the mend."""
    mend = f"remove {folder} and run `make drill` again"
    try:
        files = json.loads((folder / MANIFEST).read_text())["files"]
        entries = {name: (entry["bytes"], entry["sha256"]) for name, entry in files.items()}
    except FileNotFoundError:
        raise ModelError(f"no model at {folder}: run `make drill`, which prepares it") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ModelError(f"{folder / MANIFEST} is not a manifest: {mend}") from None
    for name, (length, digest) in entries.items():
        path = folder / name
        if not path.is_file():
            raise ModelError(f"{path} is missing: {mend}")
        if (size := path.stat().st_size) != length:
            raise ModelError(f"{path} has {size:,} bytes instead of {length:,}: {mend}")
        if _sha256(path) != digest:
            raise ModelError(f"{path} is not the file that was prepared (its SHA-256 differs): {mend}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
