"""A service as a program of a run: the configuration that it starts with is noted, then this process becomes it.

Whoever starts a service starts it so, also supervisord by itself when one has crashed: `applied/` tells what is to run,
these notes tell what does.
"""

import hashlib
import os
import sys
from pathlib import Path

from lab.run import Run


def note(run: Run, service: str) -> None:
    """Write into the run's events what `service` is configured with as it starts."""
    run.event("launch", service=service, configuration=_digest(run, service))


def outdated(run: Run) -> list[str]:
    """The services that were started with another configuration than the one in `applied/`."""
    noted = {event["service"]: event["configuration"] for event in run.events("launch")}
    return [name for name in run.info.services if noted.get(name) != _digest(run, name)]


def _digest(run: Run, service: str) -> str:
    return hashlib.sha256((run.applied / f"{service}.yaml").read_bytes()).hexdigest()


def main() -> None:
    folder, service, *command = sys.argv[1:]
    note(Run(Path(folder)), service)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
