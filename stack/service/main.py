"""The command line of a service: `python -m stack.NAME --config FILE`."""

import argparse
import logging
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import uvicorn
from starlette.types import ASGIApp

from stack.settings import ConfigError, Settings, load
from stack.telemetry.logs import configure_logs

DEFAULTS = Path(__file__).parents[1] / "config"
STOPPED, PORT_TAKEN, REFUSED = 0, 1, 2
STOP_SECONDS = 1  # for open answers to end by themselves after SIGTERM

C = TypeVar("C", bound=Settings)


def run(
    name: str,
    model: type[C],
    build: Callable[[C, Path], ASGIApp],
    help_: str,
    arguments: list[str] | None = None,
) -> int:
    """Serve until stopped; returns the exit status: 0 stopped, 1 the port is taken, 2 the configuration is refused.

    `model` has `listen` and `telemetry.log_level`. `build` makes the application from the configuration and the folder
    that its relative paths count from; it raises ConfigError for what only shows then, such as a missing file.
    """
    default = DEFAULTS / f"{name}.yaml"
    parser = argparse.ArgumentParser(
        prog=f"python -m stack.{name}", description=help_, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, default=default, metavar="FILE", help="its YAML (default: healthy)")
    parser.add_argument("--check", action="store_true", help="validate the configuration, then exit")
    options = parser.parse_args(arguments)
    try:
        config = load(options.config, model)
    except ConfigError as error:
        return _refused(error)
    if options.check:
        print(f"{options.config}: valid")
        return STOPPED
    try:
        listener = listen(config.listen.host, config.listen.port)
    except OSError as error:
        where = f"{config.listen.host}:{config.listen.port}"
        print(f"{name}: cannot listen on {where}: {error.strerror}; set listen.port to a free port", file=sys.stderr)
        return PORT_TAKEN
    configure_logs(name, config.telemetry.log_level)
    try:
        app = build(config, options.config.resolve().parent)
    except ConfigError as error:
        return _refused(error)
    serve(app, listener)
    return STOPPED


def _refused(error: ConfigError) -> int:
    print(error, file=sys.stderr)
    return REFUSED


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; raises OSError when the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because the event loop switches Nagle's delay off for such sockets only.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    return listener


def serve(app: ASGIApp, listener: socket.socket, backlog: int = 2048) -> None:
    """Serve `app` until SIGTERM or SIGINT; logs must have been configured."""
    # uvicorn raises the signal once more after it has stopped; then this ends the process with status 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http="httptools",
            ws="none",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=backlog,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
    )
    host, port = listener.getsockname()[:2]
    logging.getLogger("stack.service").info("starting", extra={"host": host, "port": port})
    server.run(sockets=[listener])
