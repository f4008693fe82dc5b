"""The digest of the code: what a proof stops speaking of when it changes, and what it does not care about."""

import subprocess
import sys
from pathlib import Path

import pytest

from lab import code
from lab.paths import ROOT
from lab.runtime.services import SERVICES


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


def digest(*services, of=code.code_digest):
    code._digest.cache_clear()
    return of(services)


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
        "lab/cli.py", "requirements/workers.lock",
    ],
)  # fmt: skip
def test_a_change_of_anything_else_is_not(checkout, changed):
    before = digest("llm", "gateway")
    write(checkout, changed, "2\n")
    assert digest("gateway", "llm") == before
    assert digest("gateway", "llm", "rag") != before


def test_what_is_asked_without_the_load_generator_does_not_change_with_it(checkout):
    before = digest("llm", of=code.stack_digest)
    write(checkout, "loadtests/user.py", "2\n")
    assert digest("llm", of=code.stack_digest) == before
    write(checkout, "stack/llm/app.py", "2\n")
    assert digest("llm", of=code.stack_digest) != before


@pytest.mark.parametrize("service", SERVICES)
def test_every_module_of_the_stack_that_a_service_imports_is_in_its_digest(service):
    module = SERVICES[service].module
    main = f"{module}.__main__" if (ROOT / module.replace(".", "/")).is_dir() else module
    script = (
        f"import sys, {main}\n"
        "print(*(getattr(module, '__file__', None) for module in list(sys.modules.values())), sep='\\n')"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {path for line in done.stdout.splitlines() if (path := Path(line)).is_relative_to(ROOT / "stack")}
    its_own = ROOT / "stack" / service
    assert its_own / ("canary.py" if service == "llm" else "app.py") in loaded
    others_metrics = {ROOT / "stack/telemetry/metrics" / f"{name}.py" for name in SERVICES}
    assert loaded - others_metrics <= set(code.covered({service}))
