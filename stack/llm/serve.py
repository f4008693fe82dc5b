"""Starts vLLM from `llm.yaml` and says that it is ready only when it answers the canary prompts rightly.

`python -m stack.llm.serve --config FILE`, in the engine's environment. /readyz and the canary's metrics are on
`listen.ready_port`. Exit codes: vLLM's own when it ends; 2 bad configuration or model; 3 wrong answers (do not start
it again: it would answer wrongly again).
"""

import argparse
import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from prometheus_client import generate_latest

from stack.lifeline import child_environment
from stack.llm.canary import REFERENCES, Canary, ask_all, load_references
from stack.llm.config import LLMConfig
from stack.llm.manifest import ModelError, verify
from stack.settings import ConfigError, load
from stack.telemetry.metrics import CanaryMetrics

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # the engine is on this machine
BAD_CONFIGURATION, WRONG_ANSWERS = 2, 3
STOP_SECONDS = 10

log = logging.getLogger("stack.llm")


class Readiness:
    """The state behind /readyz: `reason` says why not, None means ready."""

    def __init__(self) -> None:
        self.reason: str | None = "the engine is starting"
        self.metrics = CanaryMetrics()

    def refuse(self, reason: str) -> None:
        self.reason = reason
        self.metrics.ready.set(0)

    def accept(self) -> None:
        self.reason = None
        self.metrics.ready.set(1)


def require_adapters(config: LLMConfig, folder: Path) -> None:
    """Raises ModelError for an adapter that is not there: vLLM would say so half a minute later."""
    for name, path in config.adapters.modules.items():
        if not (folder / path / "adapter_config.json").is_file():
            raise ModelError(f"adapter {name}: {folder / path} holds no adapter_config.json; correct adapters.modules")


def serve_readiness(readiness: Readiness, host: str, port: int) -> ThreadingHTTPServer:
    """Answer GET /readyz (200, or 503 with the reason) and /metrics in a thread; raises OSError: the port is taken."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._send(200, generate_latest(readiness.metrics.registry))
            elif self.path == "/readyz":
                reason = readiness.reason
                self._send(503 if reason else 200, (reason or "ready").encode())
            else:
                self._send(404, b"only /readyz and /metrics are here")

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Scrapes come every second: not worth a line."""

    server = ThreadingHTTPServer((host, port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def start_engine(config: LLMConfig, folder: Path) -> subprocess.Popen[bytes]:
    """vLLM as a child that dies with this process, its own children included."""
    environment = child_environment(os.environ) | {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_OMP_THREADS_BIND": config.process.omp_threads_bind,
    }
    if config.engine.enforce_eager:
        # vLLM compiles some of its sampler even so, when a request first asks for log probabilities: everybody then
        # waits for seconds, in the middle of serving, and for ever where there is no C++ compiler.
        environment["TORCHDYNAMO_DISABLE"] = "1"
    if config.process.preload_allocators and (libraries := _preloads()):
        environment["LD_PRELOAD"] = ":".join(libraries)
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *config.arguments(folder)]
    log.info("starting %s", " ".join(command[1:]))
    return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)


def _preloads() -> list[str]:
    """Intel OpenMP from the environment's wheel and tcmalloc, where installed: 5 to 10 % more tokens a second."""
    tcmalloc = "libtcmalloc_minimal.so.4"
    candidates = [Path(sys.prefix) / "lib/libiomp5.so", Path(sys.prefix).parent / "tcmalloc" / tcmalloc]
    system = [Path("/usr/lib/x86_64-linux-gnu") / tcmalloc, Path("/usr/lib/aarch64-linux-gnu") / tcmalloc]
    return [str(path) for path in candidates + system if path.is_file()][:2]


def wait_healthy(url: str, engine: subprocess.Popen[bytes]) -> bool:
    """True when the engine answers /health, False when it ended before."""
    while engine.poll() is None:
        try:
            with _DIRECT.open(f"{url}/health", timeout=2):
                return True
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    return False


def judge(config: LLMConfig, url: str, canaries: list[Canary], metrics: CanaryMetrics) -> str | None:
    """None when every canary that fits was answered as the reference, else what was wrong."""
    fitting = [c for c in canaries if c.prompt_tokens + len(c.answer) <= config.engine.max_model_len]
    mismatches = asyncio.run(ask_all(url, config.model.served_name, fitting))
    metrics.mismatches.inc(len(mismatches))
    for m in mismatches:
        log.error("canary of %d tokens: %s: expected %s, got %s", m.prompt_tokens, m.reason, m.expected, m.got)
    if mismatches:
        return (
            f"{len(mismatches)} of {len(fitting)} canary prompts were not answered as the reference model answers them"
        )
    return None


def run(config: LLMConfig, folder: Path, canaries: list[Canary]) -> int:
    """Start the engine, judge it, stay until it ends; the exit code as in the module's docstring."""
    started = time.monotonic()
    readiness = Readiness()
    try:
        serve_readiness(readiness, config.listen.host, config.listen.ready_port)
    except OSError as problem:
        log.error("port %d is taken (%s): choose another listen.ready_port", config.listen.ready_port, problem.strerror)
        return BAD_CONFIGURATION
    engine = start_engine(config, folder)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: engine.terminate())
    try:
        url = f"http://{config.listen.host}:{config.listen.port}"
        if wait_healthy(url, engine):
            wrong = judge(config, url, canaries, readiness.metrics)
            if engine.poll() is None and wrong:
                log.error("stopping the engine: %s", wrong)
                readiness.refuse(wrong)
                return WRONG_ANSWERS
            readiness.metrics.start_seconds.set(time.monotonic() - started)
            log.info("ready after %.1f s", time.monotonic() - started)
            readiness.accept()
        code = engine.wait()
        readiness.refuse(f"the engine ended with code {code}")
        return code if code >= 0 else 128 - code
    finally:
        stop(engine)


def stop(engine: subprocess.Popen[bytes]) -> None:
    """End the engine: asked first, killed after STOP_SECONDS."""
    if engine.poll() is None:
        engine.terminate()
        try:
            engine.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            engine.kill()
            engine.wait()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m stack.llm.serve", description=__doc__)
    parser.add_argument(
        "--config", type=Path, required=True, help="the engine's configuration, as stack/config/llm.yaml"
    )
    path = parser.parse_args().config.resolve()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for each canary says nothing
    try:
        config = load(path, LLMConfig)
        verify(path.parent / config.model.path)
        require_adapters(config, path.parent)
        canaries = load_references(path.parent / config.model.canaries if config.model.canaries else REFERENCES)
    except (ConfigError, ModelError, OSError, ValueError) as problem:
        log.error("%s", problem)
        return BAD_CONFIGURATION
    return run(config, path.parent, canaries)


if __name__ == "__main__":
    sys.exit(main())
