"""A service of the stack as a process of its own, over the folder of a test."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import yaml
from gateway_process import ROOT, free_port, wait_until
from openapi_document import schemathesis


class ServiceProcess:
    """`python -m stack.NAME` with `fields` as its configuration, at a port that is free."""

    def __init__(self, name: str, folder: Path, fields: dict[str, Any]) -> None:
        port = free_port()
        self.folder, self.url = folder, f"http://127.0.0.1:{port}"
        file = folder / f"{name}.yaml"
        file.write_text(yaml.safe_dump(fields | {"listen": {"host": "127.0.0.1", "port": port}}))
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"stack.{name}", "--config", file],
            cwd=ROOT, env=dict(os.environ), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", trust_env=False)

    def metric(self, name: str) -> float | None:
        """The value of the series written so, labels included; None where there is none."""
        lines = [line for line in self.get("/metrics").text.splitlines() if line.startswith(f"{name} ")]
        return float(lines[0].rpartition(" ")[2]) if lines else None

    def wait_for(self, path: str, seconds: float) -> None:
        """Until a request for `path` succeeds."""

        def succeeds() -> bool:
            try:
                return self.get(path).status_code == httpx.codes.OK
            except httpx.HTTPError:
                return False

        wait_until(succeeds, f"{path} answers", seconds)

    def stop(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=10)

    def assert_keeps_its_document(self) -> None:
        """No server error and no undocumented answer to whatever schemathesis makes of the OpenAPI document."""
        how = ["--max-examples", "15", "--checks", "all", "--phases", "coverage,fuzzing"]
        schemathesis(f"{self.url}/openapi.json", self.folder, *how)
