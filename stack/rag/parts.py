"""What all collections of a service share: the store, the kept vectors, the encoders."""

import threading
from dataclasses import dataclass
from pathlib import Path

from stack.rag.config import RagConfig
from stack.rag.config.stages import EncoderSettings
from stack.rag.encoders import EmbeddingCache, Encoder, open_encoder
from stack.rag.hits import RetrievalError
from stack.rag.store import Store
from stack.telemetry.metrics import RagMetrics


class Encoders:
    """The configuration's encoders, each opened when it is first needed."""

    def __init__(self, settings: dict[str, EncoderSettings], folder: Path) -> None:
        self._settings = settings
        self._folder = folder
        self._open: dict[str, Encoder] = {}
        self._lock = threading.Lock()

    def get(self, alias: str) -> Encoder:
        """The encoder of that alias. Raises RetrievalError."""
        with self._lock:
            if alias not in self._open:
                self._open[alias] = open_encoder(alias, self._settings[alias], self._folder)
            return self._open[alias]

    def of_fingerprint(self, fingerprint: str, likely: str) -> Encoder:
        """The encoder that made vectors with this fingerprint; `likely` is looked at first. Raises RetrievalError."""
        for alias in sorted(self._settings, key=lambda alias: alias != likely):
            if self.get(alias).fingerprint == fingerprint:
                return self.get(alias)
        raise RetrievalError(
            f"late interaction needs the encoder '{likely}' as it was when the index was built, and none of the "
            "configuration's encoders is it; add it again, or build the index again"
        )


@dataclass(frozen=True)
class Parts:
    """What all collections of a service share."""

    config: RagConfig
    folder: Path
    store: Store
    cache: EmbeddingCache
    encoders: Encoders
    metrics: RagMetrics

    @classmethod
    def of(cls, config: RagConfig, folder: Path, metrics: RagMetrics) -> "Parts":
        """Paths of `config` count from `folder`. Raises RetrievalError."""
        indexes = folder / config.storage.indexes
        try:
            indexes.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise RetrievalError(f"{indexes}: cannot keep indexes here ({problem.strerror})") from problem
        url = config.storage.database or f"sqlite:///{(indexes / 'documents.sqlite').resolve()}"
        cache = EmbeddingCache(folder / config.storage.vectors)
        return cls(config, folder, Store(url), cache, Encoders(config.encoders, folder), metrics)
