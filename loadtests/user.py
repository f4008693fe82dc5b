"""The Locust user: follows a plan, in open or closed loop, and records what became of each request."""

import gc
import ipaddress
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import gevent
from gevent.event import Event
from gevent.pool import Group
from geventhttpclient import HTTPClient
from geventhttpclient.response import HTTPParseError, HTTPResponse
from locust import User, task
from locust.exception import StopUser

from loadtests import LoadError
from loadtests.metrics import Meters
from loadtests.plan import Arrival, Plan, Share
from loadtests.rows import End, Exchange, Row
from loadtests.writer import RowsWriter

MAX_ANSWER_BYTES = 4 * 1024 * 1024  # of one response, headers included
WIND_UP_SECONDS = 1.5  # to end every request still in flight when a run stops
TRY_AGAIN_SECONDS = 1.0  # after which a caller of a closed loop who was not served asks again


@dataclass(frozen=True)
class Start:
    """The zero of a run's clock, and the same moment on the wall clock in unix seconds."""

    monotonic: float
    wall: float

    @classmethod
    def in_seconds(cls, seconds: float) -> "Start":
        return cls(time.monotonic() + seconds, time.time() + seconds)

    def now(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.monotonic


def loopback(host: str) -> tuple[str, int]:
    """The name and port in a base URL such as http://127.0.0.1:8100.

    Raises LoadError for anything but plain HTTP to this machine: load never goes to others by mistake.
    """
    try:
        url = urlsplit(host)
        name, port = url.hostname or "", url.port or 80
        local = name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        local = False
    if not local:
        raise LoadError(f"host {host!r}: not this machine; the generator only sends to 127.0.0.1, ::1 or localhost")
    if url.scheme != "http" or url.path not in ("", "/") or url.query or url.username:
        raise LoadError(f"host {host!r}: expected no more than a scheme, a name and a port: http://127.0.0.1:8100")
    return name, port


class Caller:
    """Sends requests to one host over pooled connections and reads their answers; never waits for a free one.

    `keys` holds the API key of each tenant, `tag` starts each request's id, `connections` is the most that
    can be in flight at once.
    """

    def __init__(self, host: str, keys: Mapping[str, str], tag: str, connections: int) -> None:
        name, port = loopback(host)
        self._keys = keys
        self._tag = tag
        # No timeouts of its own: the one of the whole request covers connecting and every read.
        self._http = HTTPClient(name, port, concurrency=connections, connection_timeout=None, network_timeout=None)

    def request_id(self, arrival: Arrival) -> str:
        return f"{self._tag}-{arrival.i}"

    def ask(self, exchange: Exchange, clock: Callable[[], float]) -> None:
        """Sends the request and fills `exchange` until its answer is complete.

        Raises what the socket and the parser raise, ValueError for a stream that cannot be read.
        """
        arrival = exchange.arrival
        headers = {
            "Authorization": f"Bearer {self._keys[arrival.tenant]}",
            "Content-Type": "application/json",
            "X-Request-ID": exchange.request_id,
        }
        response = self._http.request("POST", arrival.path, body=json.dumps(arrival.body), headers=headers)
        try:
            exchange.status = response.status_code
            _limit(response)
            if response.status_code != 200:
                exchange.fail("http_error", _refusal(response), clock())
            elif "text/event-stream" in str(response.get("content-type", "")):
                for event in _events(response):
                    exchange.take(event, clock())
                exchange.succeed(clock())
                _read_rest(response)
            else:
                answer = json.loads(response.read())
                exchange.take_whole(answer, clock())
                exchange.succeed(clock())
        finally:
            response.release()


class Run:
    """One run of a plan, or of this process's share of it.

    `follow` runs in a greenlet of its own, which is stopped by `stop` and never killed: however the run ends,
    the requests in flight get their rows and the file its end line. `report` is told of every row.
    """

    def __init__(
        self,
        plan: Plan,
        share: Share,
        start: Start,
        caller: Caller,
        meters: Meters,
        rows: RowsWriter | None,
        report: Callable[[str, Row], None],
        *,
        drain_seconds: float,
        timeout_seconds: float,
    ) -> None:
        self.sent = 0
        self.error: str | None = None
        self._header = plan.header
        self._arrivals = share.arrivals(plan)
        self._concurrency = share.concurrency(plan)
        self._start = start
        self._caller = caller
        self._meters = meters
        self._rows = rows
        self._report = report
        self._drain_seconds = drain_seconds
        self._timeout_seconds = timeout_seconds
        self._stopping = Event()
        self._in_flight = Group()

    @property
    def whole(self) -> bool:
        """Whether the run went as planned: no error on this side, and an open plan sent to its end."""
        all_sent = self._header.mode == "closed" or self.sent == len(self._arrivals)
        return self.error is None and all_sent and not self._stopping.is_set()

    def stop(self) -> None:
        """Makes `follow` wind up: nothing more is sent, what is in flight becomes `unfinished`."""
        self._stopping.set()

    def follow(self) -> None:
        """Sends every arrival, waits for the answers as long as `drain_seconds`, and writes the rows."""
        # The plan is thousands of objects that stay: the collector must not go through them again and again
        # while requests are due.
        gc.collect()
        gc.freeze()
        if self._header.mode == "open":
            self._send_when_due()
        else:
            self._keep_in_flight()
        drained = gevent.spawn(self._in_flight.join)
        gevent.wait([drained, self._stopping], timeout=self._drain_seconds, count=1)
        self._in_flight.kill(timeout=WIND_UP_SECONDS)
        drained.kill()
        if self._rows and not self.error:
            end = End(planned=len(self._arrivals), sent=self.sent, seconds=round(max(0.0, self._start.now()), 6))
            self._guard(lambda rows: rows.close(end))

    def _send_when_due(self) -> None:
        for arrival in self._arrivals:
            if self._stopping.wait(max(0.0, arrival.offset - self._start.now())):
                return
            self._in_flight.spawn(self._one, arrival, arrival.offset)

    def _keep_in_flight(self) -> None:
        """Each of `concurrency` lanes sends the next request when its last one is over, and a little later where that
        one was not served: else a service that is being restarted would be asked all of the plan within seconds."""
        if self._stopping.wait(max(0.0, -self._start.now())):
            return
        arrivals = iter(self._arrivals)
        used_up = Event()
        for _ in range(self._concurrency):
            self._in_flight.spawn(self._lane, arrivals, used_up)
        gevent.wait([used_up, self._stopping], timeout=self._header.seconds, count=1)

    def _lane(self, arrivals: Iterator[Arrival], used_up: Event) -> None:
        while not self._stopping.is_set() and self._start.now() < self._header.seconds:
            arrival = next(arrivals, None)
            if arrival is None:
                break
            if self._one(arrival).outcome != "ok":
                self._stopping.wait(TRY_AGAIN_SECONDS)
        used_up.set()

    def _one(self, arrival: Arrival, due: float | None = None) -> Row:
        """One request from its sending to its row; `due` is now where the plan names no moment."""
        sent = self._start.now()
        intended = sent if due is None else due
        exchange = Exchange(arrival, self._caller.request_id(arrival), intended, sent)
        self.sent += 1
        self._meters.sent(self._header.user, sent - intended)
        limit = gevent.Timeout(self._timeout_seconds)
        try:
            with limit:
                self._caller.ask(exchange, self._start.now)
        except gevent.Timeout as timeout:
            if timeout is not limit:
                raise
            exchange.fail("timeout", f"not done {self._timeout_seconds:g} s after it was sent", self._start.now())
        except Exception as problem:  # whatever a server sends, the request gets its row
            began = exchange.status is not None
            exchange.fail(
                "stream_error" if began else "connection_error",
                f"{type(problem).__name__}: {problem}",
                self._start.now(),
            )
        finally:
            row = exchange.row()
            self._record(row, arrival)
        return row

    def _record(self, row: Row, arrival: Arrival) -> None:
        self._meters.ended(self._header.user, row, arrival.expected)
        self._report(self._header.user, row)
        if self._rows and not self.error:
            self._guard(lambda rows: rows.write(row))

    def _guard(self, write: Callable[[RowsWriter], None]) -> None:
        try:
            write(self._rows)
        except LoadError as problem:
            self.error = str(problem)
            self.stop()


class PlanUser(User):
    """Owns the arrival loop of its process. There is one, because a plan has one clock."""

    @task
    def follow(self) -> None:
        self.environment.session.follow()
        raise StopUser


def _limit(response: HTTPResponse) -> None:
    """Makes reading `response` raise ValueError past MAX_ANSWER_BYTES, even within a line without end."""
    feed, left = response.feed, MAX_ANSWER_BYTES

    def counted(data: bytes) -> None:
        nonlocal left
        left -= len(data)
        if left < 0:
            raise ValueError(f"the answer is longer than {MAX_ANSWER_BYTES} bytes")
        feed(data)

    response.feed = counted


def _events(response: HTTPResponse) -> Iterator[dict[str, Any]]:
    """The events of a stream of chat completion chunks until its [DONE]; without one it is broken."""
    while line := response.readline(b"\n"):
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            return
        event = json.loads(data)
        if not isinstance(event, dict):
            raise ValueError("the stream holds an event that is no object")
        if "error" in event:
            raise ValueError(f"the stream says: {_message(event['error'])}")
        yield event
    raise ValueError("the stream ended before its [DONE]")


def _read_rest(response: HTTPResponse) -> None:
    """Reads what follows the [DONE], so that the connection can be used again."""
    with gevent.Timeout(1.0, False), suppress(OSError, HTTPParseError, ValueError):
        response.read()


def _refusal(response: HTTPResponse) -> str:
    """What an answer other than 200 says, in OpenAI's shape or any other."""
    body = b""
    with gevent.Timeout(1.0, False), suppress(OSError, HTTPParseError):
        body = response.read(4096)
    try:
        said = _message(json.loads(body)["error"])
    except (ValueError, LookupError, TypeError):
        said = body.decode(errors="replace").strip()
    return f"HTTP {response.status_code}: {said}"


def _message(error: object) -> str:
    return str(error.get("message", error)) if isinstance(error, dict) else str(error)
