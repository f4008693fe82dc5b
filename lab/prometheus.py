"""The HTTP API of a Prometheus server."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from lab.promql import QueryError


class PrometheusUnreachable(Exception):
    """No usable answer from the server; the message names its address."""


class PrometheusSlow(PrometheusUnreachable):
    """No answer within the time given to it."""


@dataclass(frozen=True)
class Sample:
    """One element of an instant vector; `labels` includes `__name__` where there is one."""

    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True)
class Series:
    """One element of a matrix; `points` are (unix seconds, value), oldest first."""

    labels: Mapping[str, str]
    points: tuple[tuple[float, float], ...]


class Prometheus:
    """The server at `url`. Every method raises QueryError or PrometheusUnreachable."""

    def __init__(self, url: str, timeout_seconds: float = 10) -> None:
        self._url = url.rstrip("/")
        self._timeout = timeout_seconds
        # Never through a proxy of the environment: the server is on this machine.
        self._client = httpx.Client(timeout=timeout_seconds, trust_env=False)

    def __enter__(self) -> "Prometheus":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def query(self, expression: str, time: float | None = None) -> list[Sample]:
        """The value of `expression` at `time` (unix seconds; default: now); a scalar is one sample."""
        kind, result = self._ask("query", query=expression, time=time)
        if kind == "matrix":
            raise QueryError("the expression is a window of samples: put rate(…) or max_over_time(…) around it")
        if kind == "string":
            raise QueryError("the expression is a text, not a number")
        if kind == "scalar":
            return [Sample({}, float(result[1]))]
        return [Sample(element["metric"], float(element["value"][1])) for element in result]

    def query_range(self, expression: str, start: float, end: float, step: float) -> list[Series]:
        """The values of `expression` every `step` seconds from `start` to `end` (unix seconds)."""
        return _matrix(self._ask("query_range", query=expression, start=start, end=end, step=step)[1])

    def samples(self, window: str, time: float) -> list[Series]:
        """The samples as scraped that a window such as `up[60s]` holds at `time` (unix seconds)."""
        kind, result = self._ask("query", query=window, time=time)
        if kind != "matrix":
            raise QueryError(f"not a window of samples such as up[60s]: {window}")
        return _matrix(result)

    def firing(self) -> list[Mapping[str, str]]:
        """The alerts that fire: their labels and annotations together."""
        body = self._get("alerts")
        return [{**alert["labels"], **alert["annotations"]} for alert in body["alerts"] if alert["state"] == "firing"]

    def names(self) -> frozenset[str]:
        """The metrics that the server has samples of."""
        return frozenset(self._get("label/__name__/values"))

    def _get(self, endpoint: str) -> Any:
        try:
            return self._client.get(f"{self._url}/api/v1/{endpoint}").raise_for_status().json()["data"]
        except (httpx.HTTPError, ValueError, KeyError) as problem:
            raise PrometheusUnreachable(f"no answer from Prometheus at {self._url}: {problem!r}") from problem

    def _ask(self, endpoint: str, **parameters: str | float | None) -> tuple[str, Any]:
        form = {key: str(value) for key, value in parameters.items() if value is not None}
        try:
            answer = self._client.post(f"{self._url}/api/v1/{endpoint}", data=form)
            body = answer.json()
        except httpx.ReadTimeout as problem:
            raise PrometheusSlow(f"Prometheus at {self._url} did not answer within {self._timeout:g} s") from problem
        except (httpx.HTTPError, ValueError) as problem:
            raise PrometheusUnreachable(f"no answer from Prometheus at {self._url}: {problem!r}") from problem
        if body.get("errorType") in ("bad_data", "execution", "timeout", "canceled"):
            raise QueryError(body["error"])
        if answer.status_code != 200 or body.get("status") != "success":
            raise PrometheusUnreachable(f"Prometheus at {self._url} answered {answer.status_code}: {body}")
        return body["data"]["resultType"], body["data"]["result"]


def _matrix(result: list[dict[str, Any]]) -> list[Series]:
    return [
        Series(element["metric"], tuple((float(time), float(value)) for time, value in element["values"]))
        for element in result
    ]
