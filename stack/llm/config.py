"""The engine's configuration: every flag that vLLM is started with, and nothing that it is not."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from stack.service.config import Name
from stack.settings import Protected, Settings

# Boundaries of vLLM's latency histograms in seconds: its own start at 0.3 s, and an objective must be a boundary to
# be counted exactly.
REQUEST_SECONDS = [0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 8, 10, 15, 20, 30, 60]
FIRST_TOKEN_SECONDS = [0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 8, 10, 15, 20, 30, 60]
TOKEN_SECONDS = [0.01, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2, 5]


class Listen(Settings):
    """Where the engine answers."""

    host: Literal["127.0.0.1", "::1", "localhost"] = Field("127.0.0.1", description="loopback only")
    port: int = Field(8101, ge=1024, le=65535, description="vLLM's OpenAI-compatible API and its /metrics")
    ready_port: int = Field(8102, ge=1024, le=65535, description="the launcher's /readyz and canary metrics")


class Model(Settings):
    """Which weights are served."""

    path: Path = Field(description="model folder with its manifest; relative to the configuration file")
    served_name: str = Field("smollm2-135m-instruct", description="the name that requests use")
    canaries: Path | None = Field(None, description="reference answers; None takes those of this model")


class Adapters(Settings):
    """LoRA adapters, served beside the model. They cost time in every request, the more the higher their rank."""

    modules: dict[Name, Path] = Field(
        default_factory=dict,
        description="folders by the name that requests use; relative to the configuration file",
    )
    rank: Literal[1, 8, 16, 32, 64] = Field(8, description="the largest rank of an adapter")


class Engine(Settings):
    """Scheduler, cache and numerics of vLLM; a name here is vLLM's flag with underscores."""

    enforce_eager: bool = Field(True, description="no torch.compile, which takes three times as long to be ready")
    dtype: Literal["bfloat16", "float32"] = Field("bfloat16", description="numeric type of weights and activations")
    max_model_len: int = Field(4096, ge=256, le=8192, description="longest prompt plus answer, in tokens")
    max_num_seqs: int = Field(16, ge=1, le=256, description="requests that decode in one step")
    max_num_batched_tokens: int = Field(2048, ge=16, le=16384, description="tokens of one step, prefill and decode")
    max_num_queued_reqs: int | None = Field(None, ge=1, description="longest queue before 503; None is unbounded")
    kv_cache_memory_bytes: int = Field(
        256 * 2**20, ge=2**24, le=4 * 2**30, description="KV cache; this model takes 22.5 KiB a token"
    )
    kv_cache_dtype: Literal["auto", "fp8_e4m3", "fp8_e5m2"] = Field("auto", description="numeric type of the KV cache")
    block_size: Literal[16, 32, 64, 128] = Field(32, description="tokens of a KV block, the grain of prefix reuse")
    enable_prefix_caching: bool = Field(True, description="reuse the KV blocks of a prompt's beginning")
    enable_chunked_prefill: bool = Field(True, description="split long prompts over steps")
    long_prefill_token_threshold: int = Field(0, ge=0, description="a prompt longer than this counts as long; 0 is off")
    scheduling_policy: Literal["fcfs", "priority"] = Field("fcfs", description="order of the waiting queue")
    stream_interval: int = Field(1, ge=1, le=64, description="tokens between two chunks of a stream")
    seed: int = Field(0, ge=0, description="seed of sampling")

    @model_validator(mode="after")
    def _step_holds_every_sequence(self) -> "Engine":
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise ValueError(
                "max_num_batched_tokens must be at least max_num_seqs: each running request takes one token"
            )
        return self


class Process(Settings):
    """How the engine's processes use the machine."""

    omp_threads_bind: str = Field(
        "auto", pattern=r"^(auto|nobind|\d+(-\d+)?)$", description="cores of the model's threads"
    )
    memory_utilization: float = Field(0.3, gt=0, le=0.95, description="share of the machine's memory it may plan with")
    preload_allocators: bool = Field(True, description="preload Intel OpenMP and tcmalloc where they are installed")


class LLMConfig(Settings):
    """`llm.yaml`."""

    schema_: Literal[1] = Field(1, alias="schema")
    listen: Listen = Protected(Listen())
    model: Model = Protected()
    adapters: Adapters = Adapters()
    engine: Engine = Engine()
    process: Process = Process()

    def arguments(self, folder: Path) -> list[str]:
        """vLLM's command line, less the interpreter; relative paths count from `folder`."""
        flags: dict[str, Any] = self.engine.model_dump(exclude_none=True)
        flags |= {
            "model": folder / self.model.path,
            "served_model_name": self.model.served_name,
            "host": self.listen.host,
            "port": self.listen.port,
            "gpu_memory_utilization": self.process.memory_utilization,  # on the CPU: share of RAM, despite the name
            "generation_config": "vllm",  # sampling defaults come from the gateway alone
            "disable_uvicorn_access_log": True,
        }
        if self.adapters.modules:
            flags |= {
                "enable_lora": True,
                "max_loras": len(self.adapters.modules),
                "max_lora_rank": self.adapters.rank,
            }
        words = [part for name, value in flags.items() for part in _flag(name.replace("_", "-"), value)]
        if self.adapters.modules:
            words += ["--lora-modules", *(f"{name}={folder / path}" for name, path in self.adapters.modules.items())]
        return [*words, "--custom-histogram-buckets", _buckets()]


def _flag(name: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    return [f"--{name}", str(value)]


def _buckets() -> str:
    import json

    return json.dumps(
        {
            "request_latency": REQUEST_SECONDS,
            "time_to_first_token": FIRST_TOKEN_SECONDS,
            "inter_token_latency": TOKEN_SECONDS,
        }
    )
