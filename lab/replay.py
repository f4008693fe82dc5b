"""Questions to recordings of metrics: each is loaded into a Prometheus of its own, which lives for a second.

So any PromQL can be asked, and it means there what it means in a drill.
"""

import re
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from lab.paths import tool
from lab.prometheus import Prometheus, PrometheusSlow, PrometheusUnreachable, Sample
from lab.promql import QueryError, read
from lab.recording import Points, Recording, RecordingError
from stack.lifeline import die_with_parent

# Recordings end about half an hour apart, so that a query with less reach than that sees only one of them, and
# they are moved by full minutes, since Prometheus aligns the steps of a subquery to the clock. It stores time in
# blocks that begin at full two hours: four recordings share one, for one write.
_FIRST_END_MS = 222_225 * 7_200_000 + 1_500_000
_APART_MS = 1_800_000
_MINUTE_MS = 60_000
MAX_REACH_SECONDS = 1_000
MAX_SECONDS = 600

_QUERY_SECONDS = 5  # kept here: the server looks at its own limit too seldom to hold it
_LOOKBACK = "5s"  # without a scrape for this long a series is gone; the usual 5 min would show it to the end
_START_SECONDS = 10
_OLD_MS = 2_000  # a series that is there within two scrapes of its job's first is older than the recording
_COUNTER = re.compile(r".+_(total|bucket|sum|count)")


class Replay:
    """Several recordings in one Prometheus that lives as long as the `with` block.

    Counters, buckets, sums and counts start at 0 with their recording: what a process had counted before
    tells for how long it had been up, and nothing else. Only `metrics` are loaded where given, for speed.
    Entering raises RecordingError, lab.paths.ToolMissing or PrometheusUnreachable.
    """

    def __init__(self, recordings: Mapping[str, Recording], metrics: frozenset[str] | None = None) -> None:
        for name, recording in recordings.items():
            if recording.seconds > MAX_SECONDS:
                raise RecordingError(
                    f"{name}: {recording.seconds:.0f} s is longer than the {MAX_SECONDS} s of a replay"
                )
        self._recordings = dict(recordings)
        self._metrics = metrics
        self._ends_ms = {
            name: _FIRST_END_MS + i * _APART_MS + recording.end_ms % _MINUTE_MS
            for i, (name, recording) in enumerate(recordings.items())
        }
        self._server: subprocess.Popen[bytes] | None = None
        self._client: Prometheus | None = None

    def __enter__(self) -> "Replay":
        self._folder = tempfile.TemporaryDirectory(prefix="replay-", ignore_cleanup_errors=True)
        try:
            self._import(Path(self._folder.name))
            self._client = Prometheus(self._start(Path(self._folder.name)), _QUERY_SECONDS)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._client:
            self._client.__exit__()
        if self._server:
            self._server.kill()  # its storage is thrown away
            self._server.wait()
        self._folder.cleanup()

    def query(self, name: str, expression: str, before_end_ms: int = 0) -> list[Sample]:
        """The value of `expression` in the recording `name`, at its end or so long before it.

        What could point into another recording is refused: `offset`, `@`, long windows. Raises QueryError or
        PrometheusUnreachable.
        """
        parts = read(expression)
        if parts.operators & {"offset", "@"}:
            raise QueryError("offset and @ have no meaning here: recordings are evaluated at moments of their own")
        if parts.reach_seconds > MAX_REACH_SECONDS:
            raise QueryError(f"the windows of the query add up to more than {MAX_REACH_SECONDS} s")
        if self._client is None:
            raise ValueError("queries are answered inside the `with` block only")
        try:
            return self._client.query(expression, (self._ends_ms[name] - before_end_ms) / 1000)
        except PrometheusSlow as problem:
            raise QueryError(f"the query takes more than {_QUERY_SECONDS} s") from problem

    def _import(self, folder: Path) -> None:
        """Turn the recordings into a block of Prometheus' storage in `folder`/data."""
        text = folder / "samples.txt"
        with text.open("w", encoding="utf-8") as file:
            for name, recording in self._recordings.items():
                self._write(recording, self._ends_ms[name] - recording.end_ms, file)
            file.write("# EOF\n")
        command = [tool("promtool"), "tsdb", "create-blocks-from", "openmetrics", "-q", text, folder / "data"]
        done = subprocess.run(command, capture_output=True, text=True, preexec_fn=die_with_parent)
        if done.returncode != 0:
            raise RecordingError(f"promtool did not take the recordings: {done.stderr.strip()[-500:]}")

    def _write(self, recording: Recording, shift_ms: int, file: IO[str]) -> None:
        first_ms = _first_samples_ms(recording)
        for labels, points in recording.series:
            metric = labels["__name__"]
            if self._metrics is not None and metric not in self._metrics:
                continue
            selector = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items() if key != "__name__")
            counted = points
            if _COUNTER.fullmatch(metric):
                counted = _from_zero(points, is_old=points[0][0] - first_ms[labels["job"]] < _OLD_MS)
            for when, value in counted:
                file.write(f"{metric}{{{selector}}} {value!r} {(when + shift_ms) / 1000:.3f}\n")

    def _start(self, folder: Path) -> str:
        """Start the server on a port of its own choice; the URL that it answers on."""
        (folder / "prometheus.yml").write_text("global: {}\n", encoding="utf-8")
        log = folder / "log"
        with log.open("wb") as output:
            self._server = subprocess.Popen(
                [
                    tool("prometheus"),
                    f"--config.file={folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    "--storage.tsdb.retention.time=100y",
                    "--web.listen-address=127.0.0.1:0",
                    f"--query.lookback-delta={_LOOKBACK}",
                    "--query.max-samples=5000000",
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=die_with_parent,
            )
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self._server.poll() is None:
            said = log.read_text(encoding="utf-8", errors="replace")
            address = re.search(r"Listening on.* address=(127\.0\.0\.1:[0-9]+)", said)
            if address and "ready to receive web requests" in said:
                return f"http://{address[1]}"
            time.sleep(0.01)
        raise PrometheusUnreachable(f"the Prometheus of a replay did not start: {_complaint(log)}")


def _first_samples_ms(recording: Recording) -> dict[str, int]:
    """When each job was first scraped with success, which gives series besides `up`."""
    first: dict[str, int] = {}
    for labels, points in recording.series:
        if labels["__name__"] != "up":
            first[labels["job"]] = min(points[0][0], first.get(labels["job"], points[0][0]))
    return first


def _from_zero(points: Points, is_old: bool) -> Points:
    """The counter `points` as increases since the recording's start, across restarts of the process.

    A series that was not yet there at the first scrape (`is_old` False) was born with its first event.
    """
    previous = points[0][1]
    base = -previous if is_old else 0.0
    counted = []
    for when, value in points:
        if value < previous:
            base += previous
        previous = value
        counted.append((when, base + value))
    return tuple(counted)


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _complaint(log: Path) -> str:
    """The first line of a log of Prometheus that tells of an error, or its last line."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() or ["it said nothing"]
    return next((line for line in lines if re.search(r"[Ee]rror|err=", line)), lines[-1])
