"""Files out of Debian packages, without root: apt-get downloads, dpkg-deb unpacks in a folder of ours."""

import shutil
from pathlib import Path

from lab.provision.work import StepFailed, Work


def is_available() -> bool:
    """Whether this machine has the package tools of Debian."""
    return all(shutil.which(tool) for tool in ("apt-get", "dpkg-deb"))


def unpack(work: Work, package: str, into: Path) -> None:
    """Unpack `package` in `into`, in the version that this system would install. Raises StepFailed."""
    download = work.checkout.scratch / package
    download.mkdir(parents=True)
    if not work.attempt("apt-get", "download", package, cwd=download):
        # The package lists are missing or too old. A private copy needs no root and changes nothing outside.
        own = _private_lists(work.checkout.scratch / "apt")
        work.attempt("apt-get", *own, "update")  # fails when one source of many is broken; it may be one we don't need
        work.run("apt-get", *own, "download", package, cwd=download)
    packages = sorted(download.glob("*.deb"))
    if not packages:
        raise StepFailed(f"apt-get downloaded no package {package} to {download}; see {work.log}")
    into.mkdir(parents=True, exist_ok=True)
    work.run("dpkg-deb", "-x", packages[0], into)


def _private_lists(folder: Path) -> list[str]:
    for part in ("state/lists/partial", "cache/archives/partial"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    settings = {"Dir::State": folder / "state", "Dir::Cache": folder / "cache", "APT::Sandbox::User": "root"}
    return [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
