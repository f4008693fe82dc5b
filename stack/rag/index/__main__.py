"""Builds, looks at and switches indexes by hand: `python -m stack.rag.index …`."""

import argparse
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from stack.rag.config import RagConfig
from stack.rag.config.collections import Slot
from stack.rag.hits import RetrievalError
from stack.rag.index.manifest import read_manifest
from stack.rag.index.opened import NotBuilt, open_index
from stack.rag.live import LiveCollection
from stack.rag.parts import Parts
from stack.service.main import DEFAULTS
from stack.settings import ConfigError, load, nearest
from stack.telemetry.metrics import RagMetrics

_HELP = """
  build   load the collection's source where it is not loaded, and build the slot's index from the documents of now;
          what was encoded before is not encoded again
  list    what each slot holds
  verify  read every file of a slot's index and compare it with its manifest, and that with the configuration
  switch  search that slot from now on; a running service follows within a second

Exit status: 0 done, 1 it could not be done, 2 the configuration or the command is refused.
"""


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("bm25s").setLevel(logging.WARNING)
    try:
        config = load(options.config, RagConfig)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    names = list(config.collections) if options.collection is None else [options.collection]
    for name in names:
        if name not in config.collections:
            print(f"unknown collection '{name}'; {nearest(name, config.collections)}", file=sys.stderr)
            return 2
    try:
        parts = Parts.of(config, options.config.resolve().parent, RagMetrics())
        for name in names:
            options.run(LiveCollection(name, parts), options.slot)
    except RetrievalError as problem:
        print(f"{name}: {problem}".replace("--config FILE", f"--config {options.config}"), file=sys.stderr)
        return 1
    return 0


def build(live: LiveCollection, slot: Slot | None) -> None:
    """The command of that name."""
    slot = slot or live.settings.active
    show = _Progress(f"building index {slot} of {live.name}")
    live.load_source(lambda done, there_are: show("documents loaded", done, there_are))
    built = live.build_only(slot, show)
    manifest = built.manifest
    clear = "\r\x1b[K" if sys.stdout.isatty() else ""
    print(
        f"{clear}{live.name}: index {slot} {built.outcome}: version {manifest.version}, "
        f"{manifest.passages:,} passages of {manifest.documents:,} documents, {built.seconds:.1f} s"
    )


def list_(live: LiveCollection, _: Slot | None) -> None:
    """The command of that name."""
    state = live.versions.state()
    active = live.versions.active(live.settings.active)
    for slot in sorted({*live.settings.indexes, *state.slots}):
        mark = "searched" if slot == active else ""
        if slot not in state.slots:
            print(f"{live.name}  {slot:5}  {'not built':16}  {mark}")
            continue
        manifest = read_manifest(live.versions.path(state.slots[slot]))
        print(
            f"{live.name}  {slot:5}  {manifest.version}  {mark:8}  {manifest.passages:,} passages, encoder "
            f"{manifest.encoder.alias}, built {manifest.built_at:%Y-%m-%d %H:%M:%S} UTC"
        )


def verify(live: LiveCollection, slot: Slot | None) -> None:
    """The command of that name."""
    for one in [slot] if slot else sorted(live.settings.indexes):
        try:
            live.check(open_index(live.versions, one))
        except NotBuilt as problem:
            if slot:
                raise
            print(problem)
            continue
        print(f"{live.name}: index {one} is whole and fits the configuration")


def switch(live: LiveCollection, slot: Slot | None) -> None:
    """The command of that name."""
    if slot is None:
        raise RetrievalError("switch: say to which, --slot blue or --slot green")
    live.switch(slot)
    print(f"{live.name}: index {slot} is searched from now on")


class _Progress:
    """One line that is written again and again; a line a second where standard output is no terminal."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._told = float("-inf")

    def __call__(self, kind: str, done: int, there_are: int) -> None:
        line = f"{self._what}: {done:,} of {there_are:,} {kind}"
        if sys.stdout.isatty():
            print(f"\r{line}\x1b[K", end="", flush=True)
        elif monotonic() - self._told >= 1:
            print(line, flush=True)
            self._told = monotonic()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m stack.rag.index",
        description="Builds, looks at and switches the indexes of collections.",
        epilog=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run: Callable[[LiveCollection, Slot | None], None]
    for name, run in (("build", build), ("list", list_), ("verify", verify), ("switch", switch)):
        command = commands.add_parser(name)
        command.set_defaults(run=run)
        command.add_argument("--config", type=Path, default=DEFAULTS / "rag.yaml", metavar="FILE")
        command.add_argument("--collection", metavar="NAME", help="one of the configuration's; all when absent")
        command.add_argument("--slot", choices=("blue", "green"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
