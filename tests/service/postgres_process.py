"""A PostgreSQL server of the tests' own: a fresh cluster in a folder in /tmp, on a free port of loopback."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg
import pytest
from gateway_process import free_port, wait_until

DEBIAN = Path("/usr/lib/postgresql")


def binaries() -> Path | None:
    """The folder of initdb and postgres: Debian's newest, else the one on PATH; None where there is none."""
    versions = sorted(DEBIAN.glob("*/bin/initdb"), key=lambda path: float(path.parents[1].name))
    found = versions[-1] if versions else shutil.which("initdb")
    return Path(found).parent if found else None


def _somebody() -> str:
    known = {user.pw_name for user in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


def _as_somebody() -> list[str]:
    """What goes before a command: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return []
    user = pwd.getpwnam(_somebody())
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


@dataclass
class Postgres:
    """A cluster that can be stopped and started; trusts whoever comes over loopback."""

    bin: Path
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="moderation-pg-")))
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/postgres"

    def initialise(self) -> None:
        if os.geteuid() == 0:
            os.chown(self.folder, pwd.getpwnam(_somebody()).pw_uid, -1)
        command = [str(self.bin / "initdb"), "-D", str(self.folder / "data"), "-U", "postgres", "-A", "trust"]
        command += ["-E", "UTF8", "--locale=C", "--no-sync"]
        subprocess.run([*_as_somebody(), *command], check=True, capture_output=True, cwd="/", timeout=60)

    def start(self) -> None:
        command = [str(self.bin / "postgres"), "-D", str(self.folder / "data"), "-p", str(self.port)]
        command += ["-h", "127.0.0.1", "-k", str(self.folder)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([*_as_somebody(), *command], stdout=log, stderr=log, cwd="/")
        wait_until(self.answers, f"PostgreSQL answers: {(self.folder / 'log').read_text()[-500:]}", seconds=30)

    def answers(self) -> bool:
        try:
            with psycopg.connect(host="127.0.0.1", port=self.port, user="postgres", connect_timeout=2):
                return True
        except psycopg.OperationalError:
            return False

    def crash(self) -> None:
        """All its processes end at once and tidy up nothing; the next start recovers from the log."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(timeout=30)

    def hang(self) -> None:
        """No process of it does anything until `go_on`; connections stay open."""
        for process in self._processes():
            process.suspend()

    def go_on(self) -> None:
        """Undo `hang`."""
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):  # one that was at its end
                process.resume()

    def _processes(self) -> list[psutil.Process]:
        assert self.process
        postmaster = psutil.Process(self.process.pid)
        return [postmaster, *postmaster.children(recursive=True)]

    def remove(self) -> None:
        if self.process and self.process.poll() is None:
            self.go_on()
            self.crash()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """A server for the tests of a module; they are skipped where PostgreSQL is not installed."""
    folder = binaries()
    if folder is None:
        pytest.skip("no PostgreSQL on this machine: install the package postgresql")
    server = Postgres(folder)
    try:
        server.initialise()
        server.start()
        yield server
    finally:
        server.remove()
