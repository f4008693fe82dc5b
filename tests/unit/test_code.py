"""The digest of the code: what a proof stops speaking of when it changes, and what it does not care about."""

import pytest

from lab import code


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    for name in ("llm", "gateway", "rag"):
        write(tmp_path, f"stack/{name}/app.py")
        write(tmp_path, f"stack/config/{name}.yaml")
        write(tmp_path, f"stack/telemetry/metrics/{name}.py")
    shared = ["stack/settings.py", "stack/telemetry/logs.py", "stack/telemetry/metrics/registry.py"]
    for name in (*shared, "loadtests/user.py", "requirements/lab.lock"):
        write(tmp_path, name)
    monkeypatch.setattr(code, "ROOT", tmp_path)
    return tmp_path


def write(folder, name, text="1\n"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def digest(*services):
    code._digest.cache_clear()
    return code.code_digest(services)


@pytest.mark.parametrize(
    "changed",
    [
        "stack/llm/app.py", "stack/config/llm.yaml", "stack/gateway/deep/er.py", "stack/settings.py",
        "stack/telemetry/logs.py", "stack/telemetry/metrics/llm.py", "stack/telemetry/metrics/registry.py",
        "loadtests/user.py", "loadtests/new.py", "requirements/lab.lock",
    ],
)  # fmt: skip
def test_a_change_of_what_the_services_run_with_is_another_digest(checkout, changed):
    before = digest("llm", "gateway")
    write(checkout, changed, "2\n")
    assert digest("llm", "gateway") != before


@pytest.mark.parametrize(
    "changed",
    [
        "stack/rag/app.py", "stack/config/rag.yaml", "stack/telemetry/metrics/rag.py", "stack/llm/app.pyc", "README.md",
        "lab/cli.py",
    ],
)  # fmt: skip
def test_a_change_of_anything_else_is_not(checkout, changed):
    before = digest("llm", "gateway")
    write(checkout, changed, "2\n")
    assert digest("gateway", "llm") == before
    assert digest("gateway", "llm", "rag") != before
