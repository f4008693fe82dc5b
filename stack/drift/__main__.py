"""Starts the drift monitor: `python -m stack.drift --config FILE`."""

import sys

from stack.drift.app import build
from stack.drift.config import DriftConfig
from stack.service.main import run

_HELP = """
Compares windows of searches with a reference from a time when all was well, and tells Prometheus.

  GET  /v1/windows                   the windows that were compared, with every distance
  GET  /healthz /readyz /metrics /openapi.json

Every key of the configuration is described in stack/drift/config.py.
"""

if __name__ == "__main__":
    sys.exit(run("drift", DriftConfig, build, _HELP))
