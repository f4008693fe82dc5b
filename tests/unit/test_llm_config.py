"""`llm.yaml` and the command line that it becomes."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.paths import ROOT
from stack.llm.config import Engine, LLMConfig
from stack.llm.manifest import ModelError
from stack.llm.serve import require_adapters, start_engine
from stack.settings import ConfigError, load, parse

SHIPPED = ROOT / "stack/config/llm.yaml"
FOLDER = Path("/srv/run/applied")


def config(**parts: Any) -> LLMConfig:
    return parse(yaml.safe_dump({"model": {"path": "weights"}, **parts}), LLMConfig, "llm.yaml")


def flags(made: LLMConfig, folder: Path = FOLDER) -> dict[str, str | None]:
    """The command line as {flag: value}; None for a flag alone. Each flag stands once."""
    found: dict[str, str | None] = {}
    name = ""
    for part in made.arguments(folder):
        if part.startswith("--"):
            assert part not in found
            name, found[part] = part, None
        else:
            assert found[name] is None
            found[name] = part
    return found


def problem(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text, LLMConfig, "llm.yaml")
    return str(caught.value)


def test_the_shipped_file_is_the_healthy_default():
    made = load(SHIPPED, LLMConfig)
    assert flags(made)["--enforce-eager"] is None
    assert made.engine.kv_cache_memory_bytes == 256 * 2**20
    assert (SHIPPED.parent / made.model.path).resolve() == ROOT / ".cache/models/smollm2-135m-instruct"


def test_every_key_of_the_engine_is_a_flag_of_the_same_name():
    """Bug: a key that no flag comes of can be changed without any effect."""
    given = flags(config(engine={"max_num_queued_reqs": 5}))
    for name in Engine.model_fields:
        flag = name.replace("_", "-")
        assert f"--{flag}" in given or f"--no-{flag}" in given


def test_values_reach_the_command_line_as_written():
    given = flags(config(engine={"max_num_seqs": 24, "dtype": "float32", "scheduling_policy": "priority"}))
    assert (given["--max-num-seqs"], given["--dtype"], given["--scheduling-policy"]) == ("24", "float32", "priority")


@pytest.mark.parametrize("name", ["enforce-eager", "enable-prefix-caching", "enable-chunked-prefill"])
@pytest.mark.parametrize("value", [True, False])
def test_a_switch_is_a_flag_or_its_opposite(name, value):
    given = flags(config(engine={name.replace("-", "_"): value}))
    assert (f"--{name}" in given, f"--no-{name}" in given) == (value, not value)


def test_what_is_not_set_is_not_said():
    assert "--max-num-queued-reqs" not in flags(config())


def test_the_engine_answers_where_the_file_says_and_only_there():
    given = flags(config(listen={"host": "127.0.0.1", "port": 23456, "ready_port": 23457}))
    assert (given["--host"], given["--port"]) == ("127.0.0.1", "23456")
    assert "host" in problem("model: {path: w}\nlisten: {host: 0.0.0.0}\n")


def test_a_relative_path_counts_from_the_file_and_an_absolute_one_stands():
    assert flags(config(model={"path": "../weights"}))["--model"] == str(FOLDER / "../weights")
    assert flags(config(model={"path": "/srv/weights"}))["--model"] == "/srv/weights"


def test_requests_name_the_model_as_the_file_does():
    assert flags(config(model={"path": "w", "served_name": "tiny"}))["--served-model-name"] == "tiny"


def test_sampling_comes_from_the_gateway_and_not_from_the_models_folder():
    """Bug: a generation_config.json beside the weights changes temperatures without a word in any configuration."""
    assert flags(config())["--generation-config"] == "vllm"


def test_the_share_of_memory_is_given_under_the_name_that_vllm_reads():
    assert flags(config(process={"memory_utilization": 0.4}))["--gpu-memory-utilization"] == "0.4"


def test_histograms_start_below_vllms_own():
    buckets = json.loads(flags(config())["--custom-histogram-buckets"])
    assert set(buckets) == {"request_latency", "time_to_first_token", "inter_token_latency"}
    for bounds in buckets.values():
        assert bounds == sorted(set(bounds))
        assert bounds[0] <= 0.05


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("engine: {max_num_seq: 8}", "llm.yaml: engine.max_num_seq: unknown key; did you mean 'max_num_seqs'?"),
        ("engine: {max_num_seqs: many}", "llm.yaml: engine.max_num_seqs: expected a whole number, got 'many'"),
        ("engine: {max_num_seqs: 0}", "llm.yaml: engine.max_num_seqs"),
        ("engine: {enforce_eager: 1}", "llm.yaml: engine.enforce_eager: expected true or false, got 1"),
        ("engine: {block_size: 48}", "llm.yaml: engine.block_size"),
        ("engine: {kv_cache_memory_bytes: 1}", "llm.yaml: engine.kv_cache_memory_bytes"),
        ("engine: {kv_cache_memory_bytes: .inf}", "llm.yaml: engine.kv_cache_memory_bytes"),
        ("process: {omp_threads_bind: all}", "llm.yaml: process.omp_threads_bind"),
        ("process: {memory_utilization: 1.5}", "llm.yaml: process.memory_utilization"),
        ("listen: {port: 80}", "llm.yaml: listen.port"),
        ("schema: 2", "llm.yaml: schema"),
        ("moddel: {}", "llm.yaml: moddel: unknown key; did you mean 'model'?"),
    ],
)
def test_a_wrong_key_or_value_is_named_with_its_path(text, said):
    assert said in problem(f"model: {{path: weights}}\n{text}\n")


def test_a_model_is_required():
    assert "llm.yaml: model: missing" in problem("schema: 1\n")


def test_a_step_must_hold_a_token_of_every_sequence():
    """Bug: vLLM itself refuses this half a minute later, in a traceback."""
    text = "model: {path: w}\nengine: {max_num_seqs: 64, max_num_batched_tokens: 32}\n"
    assert "max_num_batched_tokens must be at least max_num_seqs" in problem(text)


def test_without_adapters_nothing_of_them_is_switched_on():
    """It would cost every token of ordinary answers."""
    assert [flag for flag in flags(config()) if "lora" in flag] == []


def test_adapters_are_served_under_their_names():
    given = flags(config(adapters={"modules": {"moderator": "../judge"}, "rank": 1}))
    assert given["--enable-lora"] is None
    assert (given["--max-loras"], given["--max-lora-rank"]) == ("1", "1")
    assert given["--lora-modules"] == "moderator=/srv/run/applied/../judge"


def test_an_adapter_that_is_not_there_is_named_before_the_engine_starts(tmp_path):
    made = config(adapters={"modules": {"moderator": "nowhere"}})
    with pytest.raises(ModelError, match=r"adapter moderator: .*nowhere holds no adapter_config\.json"):
        require_adapters(made, tmp_path)


@pytest.mark.parametrize("eager", [True, False])
def test_an_eager_engine_compiles_nothing_while_it_serves(monkeypatch: pytest.MonkeyPatch, eager: bool) -> None:
    """Bug: the first request for log probabilities made everybody wait until a kernel was compiled."""
    environment: dict[str, str] = {}
    monkeypatch.delenv("TORCHDYNAMO_DISABLE", raising=False)
    monkeypatch.setattr("stack.llm.serve.subprocess.Popen", lambda command, env, stdin: environment.update(env))
    start_engine(config(engine={"enforce_eager": eager}), FOLDER)
    assert environment.get("TORCHDYNAMO_DISABLE") == ("1" if eager else None)
