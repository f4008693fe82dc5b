"""What must hold before the set-up starts. Each check raises Unfit with what to do about it."""

import importlib.util
import platform
import shutil
import sys
from collections.abc import Callable, Iterable

from lab.provision.checkout import Checkout
from lab.provision.step import Step


class Unfit(Exception):
    """This machine cannot be set up as it is."""


def check_platform(system: str, machine: str) -> None:
    if (system, machine) != ("Linux", "x86_64"):
        raise Unfit(f"The pinned builds are for Linux on x86_64; this is {system} on {machine}.")


def check_venv(find: Callable[[str], object] = importlib.util.find_spec) -> None:
    """Debian leaves `venv` and `ensurepip` out of its plain Python."""
    missing = [module for module in ("venv", "ensurepip") if find(module) is None]
    if missing:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise Unfit(
            f"{sys.executable} lacks the module {' and '.join(missing)}, with which environments are made.\n"
            f"On Debian and Ubuntu: apt install python{version}-venv"
        )


def check_disk(steps: Iterable[Step], checkout: Checkout) -> None:
    """Room for what the given steps make, on the file system of `.cache`."""
    needed = sum(step.gigabytes for step in steps)
    free = shutil.disk_usage(checkout.cache).free / 1e9
    if free < needed:
        raise Unfit(
            f"The set-up needs about {needed:.1f} GB in {checkout.cache}, and {free:.1f} GB are free.\n"
            "Make room, or make .cache a link to a folder on a larger disk."
        )


def check_machine() -> None:
    """All that does not depend on what is to be made."""
    check_platform(platform.system(), platform.machine())
    check_venv()
