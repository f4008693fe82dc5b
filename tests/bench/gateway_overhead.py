"""What the gateway itself costs: its own time a request and its requests a second of one core, in front of an engine
that answers at once. With --against the same of another checkout, both in turn, so that the machine's moods cancel out.

    .venv/bin/python tests/bench/gateway_overhead.py --against ../other-checkout

Processor time is the gateway's own, so that client and engine, which share the machine, do not count.
"""

import argparse
import asyncio
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import psutil
import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

sys.path.insert(0, str(Path(__file__).parents[1] / "service"))

from fake_services import serving
from gateway_process import free_port, wait_until

ROOT = Path(__file__).parents[2]
KEY = "key-of-bench"
CHAT = "/v1/chat/completions"
EVENTS = 24  # of an answer, about one a token

LIMITS = {"requests_per_minute": 10**6, "burst": 10**5, "concurrent": 1000, "tokens_per_minute": 10**9}


def engine() -> Starlette:
    """Streams an answer without a pause."""
    delta = {"id": "x", "object": "chat.completion.chunk", "model": "tiny"}
    pieces = [delta | {"choices": [{"index": 0, "delta": {"content": " word"}}]} for _ in range(EVENTS)]
    usage = {"prompt_tokens": 200, "completion_tokens": EVENTS}
    lines = [*map(json.dumps, pieces), json.dumps(delta | {"choices": [], "usage": usage}), "[DONE]"]
    events = [f"data: {line}\n\n".encode() for line in lines]

    async def completions(request: Request) -> Response:
        await request.body()

        async def stream():
            for event in events:
                yield event

        return StreamingResponse(stream(), media_type="text/event-stream")

    async def readyz(_: Request) -> Response:
        return JSONResponse({})

    return Starlette(routes=[Route(CHAT, completions, methods=["POST"]), Route("/readyz", readyz)])


def config(engine_url: str, port: int, limits: bool) -> dict[str, Any]:
    tenant = {"name": "bench", "assistants": ["desk"]} | ({"limits": LIMITS} if limits else {})
    rules = "You are the assistant at the reading desk of a public library. " * 10
    messages = [{"role": "system", "content": rules}, {"role": "user", "content": "{{ question }}"}]
    return {
        "schema": 1,
        "listen": {"port": port},
        "upstream": {"base_url": engine_url, "ready_url": f"{engine_url}/readyz", "model": "tiny"},
        "telemetry": {"log_level": "info", "latency_buckets": [0.1, 1, 10]},
        "tenants": [tenant],
        "assistants": {"desk": {"description": "", "messages": messages}},
    }


@dataclass(frozen=True)
class Gateway:
    """A running gateway."""

    name: str
    process: psutil.Process
    url: str

    @property
    def cpu_seconds(self) -> float:
        times = self.process.cpu_times()
        return times.user + times.system

    def own_time(self) -> dict[float, float]:
        """Requests so far by the upper bound of their own time in seconds."""
        text = httpx.get(f"{self.url}/metrics", trust_env=False).text
        found = re.findall(r'gateway_overhead_seconds_bucket\{.*?le="([^"]+)".*?\} (\S+)', text)
        return {float(bound): float(count) for bound, count in found}


@contextmanager
def running(name: str, root: Path, engine_url: str, limits: bool) -> Iterator[Gateway]:
    """A gateway of the checkout at `root`."""
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        file = Path(folder) / "gateway.yaml"
        file.write_text(yaml.safe_dump(config(engine_url, port, limits)))
        file.with_name("keys.json").write_text(json.dumps({"bench": sha256(KEY.encode()).hexdigest()}))
        with file.with_name("log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "stack.gateway", "--config", str(file)], cwd=root, stdout=log, stderr=log
            )
        gateway = Gateway(name, psutil.Process(process.pid), f"http://127.0.0.1:{port}")
        try:
            wait_until(lambda: _is_ready(gateway.url), f"the gateway of {root}", seconds=20)
            yield gateway
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=10)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


async def ask(url: str, requests: int, at_once: int) -> list[float]:
    """Seconds that each of so many streamed answers took. The client is bare, to leave the machine to the gateway."""
    body = json.dumps(
        {"model": "desk", "messages": [{"role": "user", "content": "Is it so?"}], "stream": True}
    ).encode()
    where = httpx.URL(url)
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {len(body)}\r\n\r\n"
    seconds: list[float] = []

    async def caller(number: int) -> None:
        reader, writer = await asyncio.open_connection(where.host, where.port)
        for _ in range(number):
            began = time.perf_counter()
            writer.write(head.encode() + body)
            answer = await reader.readuntil(b"0\r\n\r\n")
            seconds.append(time.perf_counter() - began)
            assert answer.startswith(b"HTTP/1.1 200"), answer[:300]
        writer.close()

    await asyncio.gather(*(caller(requests // at_once) for _ in range(at_once)))
    return seconds


@dataclass(frozen=True)
class Overhead:
    """Of one gateway in one round."""

    own_p50: float
    own_p99: float
    per_core: float
    """Requests a second of processor time."""
    added_p50: float
    """Seconds that a single caller waits longer than with a direct call."""


def measure(gateway: Gateway, engine_url: str, requests: int) -> Overhead:
    asyncio.run(ask(gateway.url, 64, 16))
    before, cpu = gateway.own_time(), gateway.cpu_seconds
    asyncio.run(ask(gateway.url, requests, 16))
    used = gateway.cpu_seconds - cpu
    own = {bound: count - before.get(bound, 0.0) for bound, count in gateway.own_time().items()}
    alone, direct = asyncio.run(ask(gateway.url, 200, 1)), asyncio.run(ask(engine_url, 200, 1))
    return Overhead(quantile(own, 0.5), quantile(own, 0.99), requests // 16 * 16 / used, median(alone) - median(direct))


def quantile(counts: dict[float, float], share: float) -> float:
    """As Prometheus estimates it from a histogram."""
    wanted, below, bound_below = share * counts[float("inf")], 0.0, 0.0
    for bound, count in sorted(counts.items()):
        if count >= wanted:
            return bound_below + (bound - bound_below) * (wanted - below) / max(1.0, count - below)
        below, bound_below = count, bound
    raise ValueError("a histogram ends with +Inf")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="measure this one too, in turn")
    parser.add_argument("--limits", action="store_true", help="measure once more with all limits of a tenant set")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--requests", type=int, default=240, help="a round")
    options = parser.parse_args()
    kinds = [("this", ROOT, False)]
    kinds += [("with limits", ROOT, True)] if options.limits else []
    kinds += [("other", options.against, False)] if options.against else []
    with ExitStack() as stack:
        engine_url = stack.enter_context(serving(engine()))
        gateways = [stack.enter_context(running(name, root, engine_url, limits)) for name, root, limits in kinds]
        rounds = []
        for number in range(options.rounds):
            in_turn = gateways if number % 2 else gateways[::-1]  # who comes first finds the machine otherwise
            rounds.append({gateway.name: measure(gateway, engine_url, options.requests) for gateway in in_turn})
    for name, _, _ in kinds:
        found = [one[name] for one in rounds]
        print(
            f"{name:12} own time p50 {1000 * median(o.own_p50 for o in found):.2f} ms, "
            f"p99 {1000 * median(o.own_p99 for o in found):.2f} ms; "
            f"{median(o.per_core for o in found):.0f} requests/s of a core; "
            f"adds {1000 * median(o.added_p50 for o in found):.2f} ms to a single call"
        )
    for name, _, _ in kinds[:-1] if options.against else []:
        ratios = sorted(one[name].per_core / one["other"].per_core for one in rounds)
        print(f"{name} / other, requests/s of a core: {ratios[0]:.3f} {median(ratios):.3f} {ratios[-1]:.3f}")


if __name__ == "__main__":
    main()
