"""supervisord's event listener: writes what happens to processes into the run, and ends the run at its time box.

Protocol: https://supervisord.org/events.html#event-listeners-and-event-notifications
"""

import re
import sys
import time
from pathlib import Path

from supervisor.childutils import listener

from lab.run import Run
from lab.runtime.control import client, tail

WORTH_TELLING = {"PROCESS_STATE_EXITED", "PROCESS_STATE_FATAL", "PROCESS_STATE_BACKOFF", "PROCESS_STATE_RUNNING"}


def tell(run: Run, kind: str, fields: dict[str, str]) -> None:
    """One process event into the run's events; exit_status is -1 when a signal ended the process."""
    name, state = fields["processname"], kind.removeprefix("PROCESS_STATE_").lower()
    status = exit_status(run, name) if state in ("exited", "backoff", "fatal") else None
    run.event("process", service=name, state=state, pid=int(fields.get("pid", 0)), exit_status=status)


def exit_status(run: Run, name: str) -> int | None:
    """How a program ended last, from supervisord's log: its interface tells of the process that was started since."""
    log = tail(run.logs / "supervisord.log", lines=200)
    found = re.findall(rf"exited: {re.escape(name)} \((?:exit status (\d+)|terminated by)", log)
    return (int(found[-1]) if found[-1] else -1) if found else None


def main() -> None:
    run = Run(Path(sys.argv[1]))
    while True:
        headers, payload = listener.wait(sys.stdin, sys.stdout)
        kind = headers["eventname"]
        if kind in WORTH_TELLING:
            tell(run, kind, dict(field.split(":", 1) for field in payload.split()))
        listener.ok(sys.stdout)
        if time.time() > run.info.ends:
            run.event("time_box", seconds=run.info.time_box_seconds)
            client(run).supervisor.shutdown()
            return  # what ends now ends for that reason


if __name__ == "__main__":
    main()
