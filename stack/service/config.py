"""Settings that every service has."""

import ipaddress
from typing import Annotated, Literal

from pydantic import AnyHttpUrl, Field, model_validator

from stack.settings import Settings

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
Identifier = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$")]
Seconds = Annotated[float, Field(gt=0, le=3600)]
LogLevel = Literal["debug", "info", "warning", "error"]


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Listen(Settings):
    host: str = "127.0.0.1"
    """Address to listen on; a loopback address unless allow_remote is true."""
    port: int = Field(ge=1, le=65535)
    """TCP port."""
    allow_remote: bool = False
    """True lets `host` be an address that other machines reach. No TLS here: put a proxy in front."""

    @model_validator(mode="after")
    def _loopback(self) -> "Listen":
        if not self.allow_remote and not _is_loopback(self.host):
            raise ValueError(
                f"host {self.host} is no loopback address; use 127.0.0.1, or set allow_remote: true "
                "to let other machines in"
            )
        return self


class Upstream(Settings):
    base_url: AnyHttpUrl
    """The engine; its routes are below /v1."""
    ready_url: AnyHttpUrl
    """Answers 200 while the engine is ready to serve."""
    model: str = Field(min_length=1)
    """The engine's name of the model."""


class Logs(Settings):
    log_level: LogLevel = "info"
    """The least level that is logged; requests are logged at info."""
