"""The process at the top of a run: supervisord, whose children die with it however it ends.

`python -m lab.runtime.supervise -c supervisord.conf`. supervisord forks its children in this process, so the hook is
inherited by all of them, also by programs that are not Python.
"""

import signal
import sys
from contextlib import suppress
from pathlib import Path

from supervisor.options import ServerOptions
from supervisor.supervisord import main

from lab.runtime.programs import STACK_NICENESS
from stack.lifeline import tie_forks

_set_signals = ServerOptions.setsignals


def _set_signals_but_hangup(options: ServerOptions) -> None:
    """A closed terminal is no reason to start all anew, as supervisord does."""
    _set_signals(options)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def stand_back() -> None:
    """Give way to the load generator, which lives in another session.

    Where the kernel groups processes by session, `nice` ranks a process within its group only, and each group gets the
    same share: the group itself has to be ranked (sched(7), "The autogroup feature"). Needs no privilege.
    """
    with suppress(OSError):  # no such kernel
        Path("/proc/self/autogroup").write_text(str(STACK_NICENESS))


if __name__ == "__main__":
    tie_forks()
    stand_back()
    ServerOptions.setsignals = _set_signals_but_hangup
    sys.exit(main(sys.argv[1:]))
