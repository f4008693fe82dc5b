"""What the tests of the load generator stand on: a server that answers in every bad way, and Locust processes."""

import asyncio
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from loadtests.plan import Arrival, Header, Plan
from loadtests.rows import Rows, read_rows

CHECKOUT = Path(__file__).parents[2]
KEY = "sk-acme-0123456789"


class BadServer:
    """An HTTP server whose answer depends on the request's `model`; it counts what it gets."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.heads: list[str] = []
        self.connections = 0
        self.in_flight = 0
        self.most_in_flight = 0
        self.left_early = 0
        self._gate: list[asyncio.Event] = []
        self._loop = asyncio.new_event_loop()
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        assert self._listening.wait(5)

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._cancel_all(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    @staticmethod
    async def _cancel_all() -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def host(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        start = asyncio.start_server(self._connection, "127.0.0.1", 0, backlog=1024)
        self.port = self._loop.run_until_complete(start).sockets[0].getsockname()[1]
        self._listening.set()
        self._loop.run_forever()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = next(int(line.split(":")[1]) for line in head.splitlines() if "length" in line.lower())
                body = json.loads(await reader.readexactly(length))
                self.heads.append(head)
                self.requests.append(body)
                self.in_flight += 1
                self.most_in_flight = max(self.most_in_flight, self.in_flight)
                try:
                    await getattr(self, f"_{body['model']}")(reader, writer)
                finally:
                    self.in_flight -= 1
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _fast(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._begin(writer)
        for delta in ({"role": "assistant", "content": ""}, {"content": "Yes, "}, {"content": "it is."}):
            self._event(writer, {"choices": [{"index": 0, "delta": delta}]})
            await asyncio.sleep(0.01)
        self._event(writer, {"choices": [], "usage": {"prompt_tokens": 20, "completion_tokens": 5}})
        self._event(writer, "[DONE]")
        await asyncio.sleep(0.01)  # the end of the response is a packet of its own
        writer.write(b"0\r\n\r\n")

    async def _slow(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.3)
        await self._fast(reader, writer)

    async def _gated(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Holds requests until five are there together."""
        self._gate.append(asyncio.Event())
        mine = self._gate[-1]
        if len(self._gate) == 5:
            for event in self._gate:
                event.set()
            self._gate.clear()
        await mine.wait()
        await self._fast(reader, writer)

    async def _busy(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = json.dumps({"error": {"message": "too many in flight", "code": "overloaded"}}).encode()
        head = f"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)

    async def _cut(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._begin(writer)
        self._event(writer, {"choices": [{"index": 0, "delta": {"content": "Yes"}}]})
        await writer.drain()
        raise ConnectionResetError

    async def _refused_midway(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._begin(writer)
        self._event(writer, {"choices": [{"index": 0, "delta": {"content": "Yes"}}]})
        self._event(writer, {"error": {"message": "the answer took too long", "code": "timeout"}})
        writer.write(b"0\r\n\r\n")

    async def _without_done(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._begin(writer)
        self._event(writer, {"choices": [{"index": 0, "delta": {"content": "Yes"}}]})
        writer.write(b"0\r\n\r\n")

    async def _gibberish(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._begin(writer)
        self._event(writer, "{not json")
        writer.write(b"0\r\n\r\n")

    async def _one_long_line(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._begin(writer)
        while not reader.at_eof():
            writer.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
            await writer.drain()

    async def _whole(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answer = {
            "choices": [{"message": {"content": "Yes."}}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 2},
        }
        body = json.dumps(answer).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)

    async def _endless(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._begin(writer)
        while not reader.at_eof():
            self._event(writer, {"choices": [{"index": 0, "delta": {"content": "and "}}]})
            await asyncio.sleep(0.05)
        self.left_early += 1

    async def _silent(self, reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()
        self.left_early += 1

    async def _hang_up(self, _: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        raise ConnectionResetError

    @staticmethod
    def _begin(writer: asyncio.StreamWriter) -> None:
        head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(head.encode())

    @staticmethod
    def _event(writer: asyncio.StreamWriter, event: dict[str, Any] | str) -> None:
        text = f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n".encode()
        writer.write(b"%x\r\n%s\r\n" % (len(text), text))


def plan_of(models: list[str], gap: float = 0.01, **header: Any) -> Plan:
    """One arrival every `gap` seconds, which asks for the next of `models`."""
    fields: dict[str, Any] = {
        "user": "reading_desk", "shape": "steady", "rate": 100.0, "seconds": 60.0, "seed": 1,
        "split": "practice", "requests": len(models),
    }  # fmt: skip
    bodies = [
        {"model": model, "stream": True, "messages": [{"role": "user", "content": f"Question {i}?"}]}
        for i, model in enumerate(models)
    ]
    arrivals = tuple(
        Arrival(i=i, offset=round(i * gap, 3), tenant="acme", path="/v1/chat/completions", body=body)
        for i, body in enumerate(bodies)
    )
    return Plan(Header(**{**fields, **header}), arrivals)


class Generator:
    """Starts Locust processes in a folder of their own, and ends those that a test left running."""

    def __init__(self, folder: Path, server: BadServer) -> None:
        self.rows = folder / "rows.jsonl"
        self.plan = folder / "plan.jsonl"
        self.keys = folder / "keys.json"
        self.keys.write_text(json.dumps({"acme": KEY}))
        self._folder = folder
        self._server = server
        self._started: list[subprocess.Popen[bytes]] = []

    def start(
        self, *options: str, host: str | None = None, before: Callable[[], None] | None = None
    ) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--keys", str(self.keys)]
        command += ["--host", host or self._server.host, *options]
        log = (self._folder / f"log{len(self._started)}").open("wb")
        streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": subprocess.STDOUT}
        process = subprocess.Popen(command, cwd=CHECKOUT, preexec_fn=before, **streams)
        self._started.append(process)
        return process

    def start_plan(self, plan: Plan, *options: str, **more: Any) -> subprocess.Popen[bytes]:
        plan.write(self.plan)
        return self.start("--headless", *self.files, *options, **more)

    def run(self, plan: Plan, *options: str, **more: Any) -> Rows:
        """The rows of a run that must come to its end and succeed."""
        process = self.start_plan(plan, *options, **more)
        assert process.wait(30) == 0, self.log()
        return read_rows(self.rows)

    @property
    def files(self) -> list[str]:
        return ["--plan", str(self.plan), "--rows", str(self.rows)]

    def log(self, number: int = -1) -> str:
        number %= len(self._started)
        return (self._folder / f"log{number}").read_text()

    def stop(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.wait(5)


def wait_for(what: Callable[[], Any], seconds: float = 15) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
