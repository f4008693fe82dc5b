"""A window of a drill's metrics, sample by sample as Prometheus scraped them, in one small file."""

import gzip
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from lab.prometheus import Prometheus, Series

SCHEMA = 1
_SCRAPES_MS = 2_500  # two scrapes and a bit
MAX_BYTES = 64 << 20  # of a recording once unpacked

# What says nothing about a drill, or says which process it was: start times, versions, the scrape itself.
_NOISE = re.compile(
    r".+_created|python_.+|scrape_.+|ALERTS|ALERTS_FOR_STATE|"
    r"process_(start_time_seconds|virtual_memory_bytes|open_fds|max_fds|network_.+)"
)

Points = tuple[tuple[int, float], ...]

OneSeries = tuple[dict[str, str], Points]


class RecordingError(Exception):
    """A recording that cannot be made or used; the message names the file and what is wrong."""


@dataclass(frozen=True)
class Recording:
    """Samples of `series` (labels; points as milliseconds, value) between `start_ms` and `end_ms` (unix)."""

    start_ms: int
    end_ms: int
    series: tuple[OneSeries, ...]

    @property
    def seconds(self) -> float:
        """The length of the recorded window."""
        return (self.end_ms - self.start_ms) / 1000

    @property
    def metrics(self) -> frozenset[str]:
        """The names that have at least one sample."""
        return frozenset(labels["__name__"] for labels, _ in self.series)


def loaded_ms(recording: Recording) -> tuple[int, int]:
    """When load was on, in milliseconds before the recording's end: first and last request sent, else all of it."""
    sent = [points for labels, points in recording.series if labels["__name__"] == "loadgen_offered_total"]
    rises = [when for points in sent for (_, low), (when, high) in pairwise(points) if high > low]
    if not rises:
        return recording.end_ms - recording.start_ms, 0
    return recording.end_ms - min(rises), recording.end_ms - max(rises)


def record(prometheus_url: str, start: float, end: float, jobs: Sequence[str], out_path: Path) -> Recording:
    """Write what `jobs` exposed from `start` to `end` (unix seconds) to `out_path`, and return it.

    Instances are renamed to their job and a number, since a port differs from run to run. Raises
    RecordingError when a job was not scraped during the whole window, PrometheusUnreachable when there is no
    server.
    """
    start_ms, end_ms = round(start * 1000), round(end * 1000)
    if end_ms <= start_ms:
        raise RecordingError(f"{out_path}: the window must end after it starts")
    found: list[OneSeries] = []
    with Prometheus(prometheus_url, timeout_seconds=60) as prometheus:
        for job in jobs:
            series = prometheus.samples(f"{{job={json.dumps(job)}}}[{end_ms - start_ms}ms]", end_ms / 1000)
            if not _covers(series, start_ms, end_ms):
                raise RecordingError(f"{out_path}: job {job!r} was not scraped during the whole window")
            found += _kept(series)
    recording = Recording(start_ms, end_ms, _sorted(found))
    save(recording, out_path)
    return recording


def save(recording: Recording, path: Path) -> None:
    """Write `recording` to `path`; the same recording always gives the same bytes."""
    path.write_bytes(_packed(recording))


def load(path: Path) -> Recording:
    """The recording at `path`. Raises RecordingError."""
    try:
        with gzip.open(path) as file:
            text = file.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise ValueError(f"it unpacks to more than {MAX_BYTES} bytes")
        document = json.loads(text)
        if document["schema"] != SCHEMA:
            raise ValueError(f"its schema is {document['schema']}, this version reads {SCHEMA}")
        return Recording(document["start_ms"], document["end_ms"], _sorted(_unpacked(document["groups"])))
    except (OSError, EOFError, ValueError, KeyError, TypeError) as problem:
        raise RecordingError(f"{path}: not a recording of metrics that can be read: {problem!r}") from problem


def _sorted(series: Iterable[OneSeries]) -> tuple[OneSeries, ...]:
    return tuple(sorted(series, key=lambda one: sorted(one[0].items())))


def _covers(series: Iterable[Series], start_ms: int, end_ms: int) -> bool:
    """Whether scrapes were tried from start to end; `up` tells, which is there when a scrape fails too."""
    times = [round(when * 1000) for one in series if one.labels["__name__"] == "up" for when, _ in one.points]
    return bool(times) and min(times) - start_ms < _SCRAPES_MS and end_ms - max(times) < _SCRAPES_MS


def _kept(series: Iterable[Series]) -> list[OneSeries]:
    kept = [one for one in series if not _NOISE.fullmatch(one.labels["__name__"])]
    instances = sorted({one.labels["instance"] for one in kept if "instance" in one.labels})
    found = []
    for one in kept:
        labels = dict(one.labels)
        if "instance" in labels:
            labels["instance"] = f"{labels['job']}-{instances.index(labels['instance'])}"
        found.append((labels, tuple((round(when * 1000), value) for when, value in one.points)))
    return found


def _packed(recording: Recording) -> bytes:
    """Gzipped JSON: the time stamps of a scrape once for all of its series, and the values of a series as one
    string, which also holds NaN and infinities."""
    groups: dict[tuple[int, ...], list[Any]] = defaultdict(list)
    for labels, points in recording.series:
        times, values = zip(*points, strict=True)
        groups[times].append([labels, " ".join(_number(value) for value in values)])
    document = {
        "schema": SCHEMA,
        "start_ms": recording.start_ms,
        "end_ms": recording.end_ms,
        "groups": [{"times_ms": times, "series": series} for times, series in groups.items()],
    }
    return gzip.compress(json.dumps(document, separators=(",", ":")).encode(), mtime=0)


def _unpacked(groups: list[dict[str, Any]]) -> Iterable[OneSeries]:
    for group in groups:
        for labels, values in group["series"]:
            yield labels, tuple(zip(group["times_ms"], map(float, values.split()), strict=True))


def _number(value: float) -> str:
    """The shortest text that reads back as the same float."""
    return repr(value).removesuffix(".0")
