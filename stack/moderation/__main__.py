"""Starts the moderation service: `python -m stack.moderation --config FILE`."""

import sys

from stack.moderation.app import build
from stack.moderation.config import ModerationConfig
from stack.service.main import run

_HELP = """
Decides whether texts are allowed, and keeps the queue of those that people decide.

  POST /v1/moderations               {"input": "a text"} or {"input": ["several", "texts"]}; OpenAI's answer and more
  GET  /v1/reviews                   how many items there are, and a page of them
  GET  /v1/reviews/ID                one item with its text and history
  POST /v1/reviews/lease             {"reviewer": "ana", "limit": 5}: the next items, for a while
  POST /v1/reviews/ID/decision       {"lease": "…", "outcome": "allow"}
  POST /v1/reviews/ID/renew|release  {"lease": "…"}
  GET  /healthz /readyz /metrics /openapi.json

Every key of the configuration is described in stack/moderation/config.py.
"""

if __name__ == "__main__":
    sys.exit(run("moderation", ModerationConfig, build, _HELP))
