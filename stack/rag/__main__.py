"""Starts the retrieval service: `python -m stack.rag --config FILE`."""

import logging
import os
import sys
from typing import NoReturn

from stack.rag.app import create_app
from stack.rag.config import RagConfig
from stack.service.main import run

_HELP = """
The retrieval service finds passages and answers questions from them.

  POST /v1/search        {"collection": …, "query": …, "limit": …}
  POST /v1/ask           {"collection": …, "question": …, "stream": …}   OpenAI's chat completion, with citations
  GET  /v1/collections
  GET  /healthz /readyz /metrics /openapi.json

Callers are told apart by the headers X-Tenant and X-Groups, which the gateway sets; without them nothing is found.
Every key of the configuration is described in stack/rag/config/. Collections are loaded and indexes built at the
first start; /readyz tells how far that is. By hand: python -m stack.rag.index --help

Try it:

  python -m stack.rag
  curl http://127.0.0.1:8105/v1/search -H 'X-Tenant: demo' -H 'Content-Type: application/json' \\
    -d '{"collection": "encyclopedia", "query": "is a whale a fish"}'
"""


def main() -> NoReturn:
    """Serve until stopped."""
    try:
        status = run("rag", RagConfig, create_app, _HELP)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    logging.shutdown()
    sys.stdout.flush()
    # Not in order: a thread that builds an index may be inside of a model, which must not be torn down under it.
    # A build that is killed goes on at the next start.
    os._exit(status)


if __name__ == "__main__":
    main()
