"""The command `python3 lab/bootstrap.py`: sets up what is missing or stale; can be run again at any time."""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from lab.provision.checkout import Checkout, exclusive
from lab.provision.checks import Unfit, check_disk, check_machine
from lab.provision.display import Display
from lab.provision.schedule import make_all
from lab.provision.step import Step
from lab.provision.steps import STEPS, with_needs
from lab.provision.work import Children

ROOT = Path(__file__).resolve().parent.parent.parent


def main(arguments: list[str]) -> int:
    """Returns the exit status: 0 set up, 1 a step failed, 2 this machine is unfit, 130 interrupted."""
    chosen = _parser().parse_args(arguments)
    checkout = Checkout(ROOT)
    if chosen.list:
        print(listing(checkout))
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill ends like Ctrl-C
    try:
        return set_up(with_needs(chosen.only), checkout)
    except Unfit as problem:
        print(problem, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped; nothing was left running. Run the same command again to go on.", file=sys.stderr)
        return 130


def set_up(steps: Sequence[Step], checkout: Checkout) -> int:
    """Make the steps that are not done; returns the exit status. Raises Unfit before anything is touched."""
    if all(step.is_done(checkout) for step in steps):
        print("The set-up is up to date.")
        return 0
    check_machine()
    with exclusive(checkout, _say) as lock:
        missing = [step for step in steps if not step.is_done(checkout)]  # another run may have made some meanwhile
        if missing:
            check_disk(missing, checkout)
            _say(f"Setting up {', '.join(step.name for step in missing)} in {checkout.root}")
            failures = make_all(missing, checkout, Children(lock), Display(missing, sys.stdout))
            return _conclude(missing, failures)
    _say("The set-up is up to date.")
    return 0


def _conclude(steps: Sequence[Step], failures: dict[str, str]) -> int:
    optional = {step.name for step in steps if step.optional}
    for name, why in failures.items():
        print(f"\n{name} {'could not be had (the lab works without)' if name in optional else 'failed'}: {why}")
    if failures.keys() - optional:
        print("\nThe set-up is not complete. What is done is kept: run the same command again to go on.")
        return 1
    _say("The set-up is complete.")
    return 0


def listing(checkout: Checkout) -> str:
    """One line a step: its name, whether it is done, what it makes."""
    states = {step: "done" if step.is_done(checkout) else "to do" for step in STEPS}
    return "\n".join(f"{step.name:<11}{state:<7}{step.what}" for step, state in states.items())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lab/bootstrap.py", description="Set up this checkout for drills.")
    names = [step.name for step in STEPS]
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        choices=names,
        metavar="STEP",
        help=f"this step and what it needs; may be given more than once: {', '.join(names)}",
    )
    parser.add_argument("--list", action="store_true", help="show the steps and whether they are done")
    return parser


def _say(text: str) -> None:
    print(text, flush=True)
