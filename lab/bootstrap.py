"""Sets up everything that a drill needs, in this checkout alone: `python3 lab/bootstrap.py`.

Runs on a bare system Python, before anything is installed. An old Python must get a message from this
file, not a syntax error, so it is written for all; the work is in `lab.provision`, which the right one reads.
"""

import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
WANTED = (3, 11)  # what the pinned builds in requirements/*.lock are made for


def find_python(version, which=shutil.which):
    """The path of an installed Python of this version, or None."""
    found = which(f"python{version[0]}.{version[1]}")
    if found is None:
        return None
    # Version managers put names on PATH that only say that the version is not active: ask it.
    question = [found, "-c", "import sys; print(*sys.version_info[:2])"]
    asked = subprocess.Popen(question, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    answer = asked.communicate()[0].decode()
    return found if answer.split() == [str(part) for part in version] else None


def wrong_python_message(running):
    wanted = ".".join(map(str, WANTED))
    return (
        f"The pinned packages are built for Python {wanted}. This is Python {running[0]}.{running[1]}, "
        f"and there is no working python{wanted} on PATH.\n"
        "On Debian 12: apt install python3 python3-venv"
    )


def main(arguments):
    """Do the set-up under the wanted Python; returns the exit status."""
    if sys.version_info[:2] != WANTED:
        python = find_python(WANTED)
        if python is None:
            print(wrong_python_message(sys.version_info), file=sys.stderr)
            return 2
        os.execv(python, [python, os.path.abspath(__file__), *arguments])
    from lab.provision.main import main as provision

    return provision(arguments)


if __name__ == "__main__":
    sys.path[0] = ROOT  # not lab/, whose modules would hide those of the standard library that have the same name
    sys.exit(main(sys.argv[1:]))
