"""Starts the gateway: `python -m stack.gateway --config FILE`."""

import argparse
import logging
import resource
import socket
import sys
from pathlib import Path

from stack.gateway.app import create_app
from stack.gateway.audit import Audit
from stack.gateway.auth import Keys
from stack.gateway.config import GatewayConfig
from stack.service.main import listen, serve
from stack.settings import ConfigError, load
from stack.telemetry.logs import configure_logs

DEFAULT_CONFIG = Path(__file__).parents[1] / "config" / "gateway.yaml"

_OTHER_FILES = 256  # listening socket, logs, idle connections

_HELP = f"""
The gateway is the one door to the engine, to retrieval and to moderation:

  POST /v1/chat/completions   `model` is an assistant's name; with "stream": true as server-sent events
  POST /v1/prompts/render     same body; the messages that the engine would get
  GET  /v1/models             the caller's assistants
  POST /v1/search             passages of a `collection` for a `query`
  POST /v1/ask                an answer to a `question` from a `collection`, with citations; "stream": true as above
  POST /v1/moderations        what moderation says of `input`
  GET  /healthz /readyz /metrics /openapi.json

Every key of the configuration is described in stack/gateway/config/; the healthy one is
{DEFAULT_CONFIG.relative_to(Path(__file__).parents[2])}. Callers send `Authorization: Bearer KEY`.
The keys file beside the configuration holds the SHA-256 of each tenant's key:

  printf %s "$KEY" | sha256sum          ->  keys.json: {{"demo": "<64 hex digits>"}}

Try it:

  python -m stack.gateway --config my/gateway.yaml --check
  python -m stack.gateway --config my/gateway.yaml
  curl http://127.0.0.1:8100/v1/chat/completions -H "Authorization: Bearer $KEY" \\
    -d '{{"model": "reading-desk", "messages": [{{"role": "user", "content": "Is a whale a fish?"}}]}}'

Logs are JSON lines on standard output. SIGTERM stops it within three seconds.
Exit status: 0 stopped, 1 the port is taken, 2 the configuration is refused.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run until stopped; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m stack.gateway",
        description="The gateway between callers and the services of the stack.",
        epilog=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config",
        type=Path,
        default=DEFAULT_CONFIG,
        metavar="FILE",
        help="its YAML (default: the healthy one)",
    )
    parser.add_argument("--check", action="store_true", help="validate configuration and keys file, then exit")
    options = parser.parse_args(arguments)
    try:
        config = load(options.config, GatewayConfig)
        keys = Keys.load(options.config.parent / config.keys_file, [tenant.name for tenant in config.tenants])
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    if options.check:
        print(f"{options.config}: valid")
        return 0
    try:
        listener = listen(config.listen.host, config.listen.port)
    except OSError as error:
        where = f"{config.listen.host}:{config.listen.port}"
        print(
            f"gateway: cannot listen on {where}: {error.strerror}; set listen.port to a free port",
            file=sys.stderr,
        )
        return 1
    try:
        audit = Audit(config.audit, options.config.parent)
    except OSError as error:
        print(f"gateway: cannot write the audit trail to {config.audit.file}: {error.strerror}", file=sys.stderr)
        return 2
    return _serve(config, keys, audit, listener)


def _serve(config: GatewayConfig, keys: Keys, audit: Audit, listener: socket.socket) -> int:
    configure_logs("gateway", config.telemetry.log_level)
    _raise_file_limit(2 * config.limits.in_flight + _OTHER_FILES)
    serve(create_app(config, keys, audit), listener, backlog=max(2048, 2 * config.limits.in_flight))
    return 0


def _raise_file_limit(files: int) -> None:
    """Two sockets a request in flight may be more than the usual 1,024 open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = files if hard == resource.RLIM_INFINITY else min(files, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < files:
        logging.getLogger("stack.gateway").warning(
            "too few open files for limits.in_flight; raise them with ulimit -n",
            extra={"files_needed": files, "files_allowed": allowed},
        )


if __name__ == "__main__":
    sys.exit(main())
