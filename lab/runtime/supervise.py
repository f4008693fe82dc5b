"""The process at the top of a run: supervisord, whose children die with it however it ends.

`python -m lab.runtime.supervise -c supervisord.conf`. supervisord forks its children in this process, so the hook is
inherited by all of them, also by programs that are not Python.
"""

import signal
import sys

from supervisor.options import ServerOptions
from supervisor.supervisord import main

from stack.lifeline import tie_forks

_set_signals = ServerOptions.setsignals


def _set_signals_but_hangup(options: ServerOptions) -> None:
    """A closed terminal is no reason to start all anew, as supervisord does."""
    _set_signals(options)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


if __name__ == "__main__":
    tie_forks()
    ServerOptions.setsignals = _set_signals_but_hangup
    sys.exit(main(sys.argv[1:]))
