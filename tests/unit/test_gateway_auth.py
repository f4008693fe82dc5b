"""API keys and their file."""

import json
from hashlib import sha256
from pathlib import Path

import pytest

from stack.gateway.auth import Keys
from stack.gateway.errors import InvalidKey
from stack.settings import ConfigError


def digest(key: str) -> str:
    return sha256(key.encode("latin-1")).hexdigest()


KEYS = Keys({"demo": digest("k1"), "other": digest("k2"), "accented": digest("cl\xe9")})


@pytest.mark.parametrize(
    ("header", "tenant"),
    [("Bearer k1", "demo"), ("bearer k2", "other"), ("Bearer  k1 ", "demo"), ("Bearer cl\xe9", "accented")],
)
def test_a_bearer_key_tells_its_tenant(header: str, tenant: str) -> None:
    assert KEYS.tenant_of(header) == tenant


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "k1", "Basic k1", "Bearer k3", f"Bearer {digest('k1')}"]
)
def test_anything_else_is_an_invalid_key(header: str | None) -> None:
    with pytest.raises(InvalidKey):
        KEYS.tenant_of(header)


def write(tmp_path: Path, content: object) -> Path:
    file = tmp_path / "keys.json"
    file.write_text(json.dumps(content))
    return file


def test_keys_of_tenants_that_the_configuration_does_not_know_open_nothing(tmp_path: Path) -> None:
    file = write(tmp_path, {"demo": digest("k1"), "gone": digest("k2")})
    keys = Keys.load(file, ["demo"])
    assert keys.tenant_of("Bearer k1") == "demo"
    with pytest.raises(InvalidKey):
        keys.tenant_of("Bearer k2")


def test_a_tenant_without_a_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"keys\.json: tenant 'other' has no key"):
        Keys.load(write(tmp_path, {"demo": digest("k1")}), ["demo", "other"])


def test_a_key_written_out_in_the_file_is_refused_and_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        Keys.load(write(tmp_path, {"demo": "my-plain-key"}), ["demo"])
    assert str(caught.value) == "keys.json: demo: expected the SHA-256 of the API key, 64 hex digits in lower case"


def test_a_keys_file_that_is_no_mapping_or_absent_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected keys and values"):
        Keys.load(write(tmp_path, ["x"]), ["demo"])
    with pytest.raises(ConfigError, match="No such file"):
        Keys.load(tmp_path / "none.json", ["demo"])
