"""The traffic log: what a search was like, for the drift monitor; its vector and scores, never its words."""

import base64
import time
from pathlib import Path

import numpy as np

from stack.rag.config import Traffic
from stack.rag.pipeline import Found
from stack.service.audit import Audit


class TrafficLog:
    """Writes in a thread of its own."""

    def __init__(self, config: Traffic, folder: Path) -> None:
        """A relative file name counts from `folder`. Raises OSError on a bad path."""
        self._wanted = config.file is not None
        if config.file is not None:
            (folder / config.file).parent.mkdir(parents=True, exist_ok=True)
        self._lines = Audit(config, folder)
        self.writing = self._lines.writing

    def write(self, collection: str, tenant: str, found: Found) -> None:
        """One search."""
        if not self._wanted:
            return
        vector = None if found.vector is None else base64.b64encode(found.vector.astype(np.float16).tobytes()).decode()
        self._lines.write(
            {
                "at": round(time.time(), 3),
                "collection": collection,
                "tenant": tenant,
                "vector": vector,
                "dense": round(found.nearest or 0.0, 5),
                "sparse": round(float(found.sparse.scores[0]), 4) if len(found.sparse) else 0.0,
                "evidence": found.evidence,
            }
        )
