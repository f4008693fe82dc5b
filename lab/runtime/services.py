"""The services that a run may consist of: one entry each says how it is started, asked and scraped."""

import sys
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from lab.paths import CACHE
from stack.drift.config import DriftConfig
from stack.gate.config import GateConfig
from stack.gateway.config import GatewayConfig
from stack.llm.config import LLMConfig
from stack.moderation.config import ModerationConfig
from stack.rag.config import RagConfig

ENGINE_PYTHON = CACHE / "engine/bin/python"


@dataclass(frozen=True)
class Service:
    """Ports are names of `lab.run.Ports`. `jobs` are Prometheus' scrape jobs with the port of each."""

    config: type[BaseModel]
    module: str
    ready_port: str
    ready_seconds: float  # to be given to a start before it counts as failed
    jobs: dict[str, str]
    python: Path = Path(sys.executable)
    exit_codes: str = "0,2"  # after which starting again would end the same way; 2: the configuration is bad
    stop_seconds: int = 10


SERVICES = {
    "llm": Service(
        LLMConfig,
        "stack.llm.serve",
        ready_port="ready",
        ready_seconds=240,
        jobs={"llm": "llm", "llm-canary": "ready"},
        python=ENGINE_PYTHON,
        exit_codes="0,2,3",  # 3: the engine answers wrongly
        stop_seconds=20,
    ),
    # Its first start on a machine embeds whole collections.
    "rag": Service(RagConfig, "stack.rag", ready_port="rag", ready_seconds=600, jobs={"rag": "rag"}),
    "moderation": Service(
        ModerationConfig,
        "stack.moderation",
        ready_port="moderation",
        ready_seconds=60,
        jobs={"moderation": "moderation"},
    ),
    "drift": Service(DriftConfig, "stack.drift", ready_port="drift", ready_seconds=60, jobs={"drift": "drift"}),
    # Its first round on a machine embeds whole collections.
    "gate": Service(GateConfig, "stack.gate", ready_port="gate", ready_seconds=600, jobs={"gate": "gate"}),
    "gateway": Service(
        GatewayConfig, "stack.gateway", ready_port="gateway", ready_seconds=30, jobs={"gateway": "gateway"}
    ),
}
