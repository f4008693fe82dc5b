"""API keys. The file holds their SHA-256 only, so that it gives nobody a key."""

import hmac
import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, RootModel

from stack.gateway.errors import InvalidKey
from stack.settings import ConfigError, load


def _digest(value: Any) -> str:
    # The message must not quote the value: who writes the key itself into the file would find it in a log.
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-f]{64}", value):
        raise ValueError("expected the SHA-256 of the API key, 64 hex digits in lower case")
    return value


class KeyFile(RootModel[dict[str, Annotated[str, BeforeValidator(_digest)]]]):
    """{tenant: SHA-256 of its API key in hex}."""


class Keys:
    """Tells the tenant by its API key."""

    def __init__(self, digests: Mapping[str, str]) -> None:
        self._digests = dict(digests)

    @classmethod
    def load(cls, path: Path, tenants: Iterable[str]) -> "Keys":
        """The keys of these tenants. Raises ConfigError; keys of further tenants in the file are left out."""
        digests = load(path, KeyFile).root
        problems = [
            f"{path.name}: tenant '{name}' has no key; add \"{name}\": the SHA-256 of its API key in hex"
            for name in tenants
            if name not in digests
        ]
        if problems:
            raise ConfigError(path, problems)
        return cls({name: digests[name] for name in tenants})

    def tenant_of(self, authorization: str | None) -> str:
        """The tenant of an `Authorization` header's bearer key. Raises InvalidKey."""
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise InvalidKey("no API key; send the header 'Authorization: Bearer KEY'")
        digest = sha256(key.strip().encode("latin-1")).hexdigest()
        found = None
        # Every key is compared, in constant time: how long it takes tells nothing about the keys.
        for tenant, known in self._digests.items():
            if hmac.compare_digest(digest, known):
                found = tenant
        if found is None:
            raise InvalidKey("this API key belongs to no tenant; check it for a slip, or ask for a new one")
        return found
