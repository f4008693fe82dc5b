"""Whether another service, such as the engine, is ready, asked again and again."""

import asyncio
import logging
from typing import Protocol

import httpx
from prometheus_client import Gauge
from pydantic import AnyHttpUrl

from stack.service.errors import NotReady, ServiceError

log = logging.getLogger(__name__)


class Asked(Protocol):
    """A service that tells whether it is ready: 200 at this address while it is."""

    @property
    def ready_url(self) -> AnyHttpUrl | str: ...


class Readiness:
    """Asks again and again whether a service is ready; `reasons` says why not, empty when it is."""

    _SILENCES = 3  # a busy machine answers late; only that many times in a row means "not ready"

    def __init__(self, upstream: Asked, client: httpx.AsyncClient, gauge: Gauge, who: str = "engine") -> None:
        self._url = str(upstream.ready_url)
        self._who = who
        self._client = client
        self._gauge = gauge
        self._silences = self._SILENCES
        self.reasons: list[str] = [f"{who}: not asked yet"]

    def require(self, error: type[ServiceError] = NotReady) -> None:
        """Raises `error` while the service is not ready."""
        if self.reasons:
            raise error(f"not ready: {'; '.join(self.reasons)}")

    async def watch(self) -> None:
        """Run for ever."""
        while True:
            before = self.reasons
            self.reasons = await self._ask()
            self._gauge.set(not self.reasons)
            if bool(before) != bool(self.reasons):
                fields = {"upstream": self._who, "ready": not self.reasons, "reasons": self.reasons}
                log.info("readiness changed", extra=fields)
            await asyncio.sleep(0.25 if self.reasons else 1.0)

    async def _ask(self) -> list[str]:
        try:
            response = await self._client.get(self._url, timeout=2.0)
        except httpx.ConnectError:
            return [f"{self._who}: nothing listens at {self._url}"]
        except httpx.HTTPError:
            self._silences += 1
            return [f"{self._who}: {self._url} does not answer"] if self._silences >= self._SILENCES else self.reasons
        self._silences = 0
        if response.status_code == httpx.codes.OK:
            return []
        return [f"{self._who}: {self._url} answered {response.status_code}: {response.text[:200]}"]
