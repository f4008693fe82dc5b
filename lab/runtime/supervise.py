"""The process at the top of a run: supervisord, whose children die with it however it ends.

`python -m lab.runtime.supervise -c supervisord.conf`. supervisord forks its children in this process, so the hook is
inherited by all of them, also by programs that are not Python.
"""

import os
import signal
import sys

from supervisor.supervisord import main

from stack.lifeline import die_with_parent

if __name__ == "__main__":
    os.register_at_fork(after_in_child=die_with_parent)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a closed terminal is no reason to stop, or to start all anew
    sys.exit(main(sys.argv[1:]))
