"""Starts the release gate: `python -m stack.gate --config FILE`."""

import logging
import sys

from stack.gate.app import build
from stack.gate.config import GateConfig
from stack.service.main import run

_HELP = """
Evaluates candidate releases of retrieval against the one in service, and says which may follow it.

  GET  /v1/verdicts                  what the last round says of each candidate
  GET  /healthz /readyz /metrics /openapi.json

Every key of the configuration is described in stack/gate/config.py.
"""

if __name__ == "__main__":
    logging.getLogger("bm25s").setLevel(logging.WARNING)  # the library asks for DEBUG, and each round builds indexes
    sys.exit(run("gate", GateConfig, build, _HELP))
