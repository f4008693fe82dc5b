"""Configuration of a run: healthy defaults, merged with a scenario's patches; what a learner changed; what may run."""

import difflib
import hashlib
import json
import os
import secrets
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from lab.paths import ROOT
from lab.run import Ports, Run, local_url
from lab.runtime.services import SERVICES
from lab.scenario import Scenario
from stack.settings import ConfigError, changed_paths, parse, protected_changes, read_yaml

DEFAULTS = ROOT / "stack/config"
UPWARDS = "../../"  # how a default names something outside its folder
MOST_THREADS = 64  # that an encoder may be configured with: stack/rag/config/stages.py


def merge_patch(target: Any, patch: Any) -> Any:
    """JSON Merge Patch (RFC 7396): mappings merge, null removes a key, anything else replaces."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def defaults(services: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The healthy configuration of these services, as shipped."""
    paths = {service: DEFAULTS / f"{service}.yaml" for service in services}
    return {service: read_yaml(path.read_text("utf-8"), path.name) for service, path in paths.items()}


def patched(configs: Mapping[str, dict[str, Any]], patch: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """`configs` by service with the merge patches of those that `patch` names."""
    return {name: merge_patch(config, patch.get(name, {})) for name, config in configs.items()}


def healthy(scenario: Scenario) -> dict[str, dict[str, Any]]:
    """The configuration of the site before the incident."""
    return patched(defaults(scenario.public.services), scenario.layer("site"))


def broken(scenario: Scenario) -> dict[str, dict[str, Any]]:
    """The configuration that the learner finds."""
    return patched(healthy(scenario), scenario.layer("fault"))


def placed(configs: Mapping[str, dict[str, Any]], ports: Ports) -> dict[str, dict[str, Any]]:
    """`configs` with the addresses and paths of one run: what a learner may not touch."""
    there = places(configs, ports)
    return {name: merge_patch(_absolute(config), there[name]) for name, config in configs.items()}


def places(services: Collection[str], ports: Ports) -> dict[str, dict[str, Any]]:
    """Addresses and paths of one run of `services`, by service: merge patches that come after everything else."""
    engine = {"base_url": local_url(ports.llm), "ready_url": local_url(ports.ready, "/readyz")}
    return {
        "llm": {"listen": {"port": ports.llm, "ready_port": ports.ready}},
        "rag": {
            "listen": {"port": ports.rag},
            "storage": {"indexes": "../rag"},
            "answerer": engine,
            "audit": {"file": "../audit/answers.jsonl"},
            "traffic": {"file": "../traffic/searches.jsonl"} if "drift" in services else None,  # else nobody reads it
        },
        "moderation": {
            "listen": {"port": ports.moderation},
            "tier3": {"upstream": local_url(ports.llm)},
            "review": {"url": "sqlite:///../moderation/review.sqlite"},
        },
        "drift": {
            "listen": {"port": ports.drift},
            "traffic": "../traffic/searches.jsonl",
            "reference": {"file": "../traffic/reference.npz"},
        },
        "gate": {"listen": {"port": ports.gate}},
        "gateway": {
            "listen": {"port": ports.gateway},
            "upstream": engine,
            "retrieval": {"base_url": local_url(ports.rag)},
            "moderation": {"base_url": local_url(ports.moderation)},
            "keys_file": "../keys/hashed.json",
            "audit": {"file": "../audit/prompts.jsonl"},
        },
    }


def _absolute(config: Any) -> Any:
    """`config` with its paths, which count from the folder of the defaults, made good for any folder."""
    if isinstance(config, Mapping):
        return {key: _absolute(value) for key, value in config.items()}
    if isinstance(config, list):
        return [_absolute(value) for value in config]
    if isinstance(config, str) and config.startswith(UPWARDS):
        return str((DEFAULTS / config).resolve())
    return config


def on_all_cores(rag: Mapping[str, Any]) -> dict[str, Any]:
    """Retrieval's configuration with every core for encoders that do not say how many: to encode whole collections."""
    encoders = rag.get("encoders")
    if not isinstance(encoders, Mapping) or not all(isinstance(encoder, Mapping) for encoder in encoders.values()):
        return dict(rag)  # validation will tell
    threads = {"threads": min(os.cpu_count() or 1, MOST_THREADS)}
    return {**rag, "encoders": {name: {**threads, **encoder} for name, encoder in encoders.items()}}


def write(configs: Mapping[str, dict[str, Any]], folder: Path) -> None:
    """One readable YAML file for each service."""
    for name, config in configs.items():
        (folder / f"{name}.yaml").write_text(_as_yaml(config), encoding="utf-8")


def read(folder: Path, services: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The files of `folder` as written, not yet validated; raises ConfigError."""
    return {name: read_yaml(_text_of(folder / f"{name}.yaml"), f"{name}.yaml") for name in services}


def _text_of(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        again = f"copy it from {path.parent.with_name('applied')}"
        raise ConfigError(path, [f"{path.name}: missing; {again}"]) from None
    except UnicodeDecodeError as problem:
        raise ConfigError(path, [f"{path.name}: byte {problem.start} is not valid UTF-8"]) from None


def effective(folder: Path, services: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The configuration that the files of `folder` amount to, defaults of absent keys included; raises ConfigError."""
    return amounting_to(read(folder, services))


def amounting_to(configs: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """`configs` with the defaults of absent keys; raises ConfigError."""
    return {
        name: parse(json.dumps(config), SERVICES[name].config, f"{name}.yaml").model_dump(mode="json", by_alias=True)
        for name, config in configs.items()
    }


def validate(configs: Mapping[str, dict[str, Any]], original: Mapping[str, dict[str, Any]]) -> None:
    """Raises ConfigError with every problem: not valid for its service, or a protected key differs from `original`."""
    problems = []
    for name, config in configs.items():
        source, model = f"{name}.yaml", SERVICES[name].config
        try:
            parse(json.dumps(config), model, source)  # JSON is YAML
        except ConfigError as problem:
            problems += problem.problems
        problems += [
            f"{source}: {path}: belongs to the lab and may not be changed (it was {_at(original[name], path)})"
            for path in sorted(protected_changes(model, original[name], config))
        ]
    if problems:
        raise ConfigError("workspace", problems)


def changed_services(old: Mapping[str, dict[str, Any]], new: Mapping[str, dict[str, Any]]) -> list[str]:
    """The services whose configuration differs in substance, not only in layout."""
    return [name for name in old if changed_paths(old[name], new[name])]


def diff(old: Path, new: Path, services: Iterable[str]) -> str:
    """Unified diff of the configuration files of two folders; empty when they say the same, in whatever layout."""
    lines: list[str] = []
    for name in services:
        before, after = (_in_one_layout(folder / f"{name}.yaml") for folder in (old, new))
        lines += difflib.unified_diff(before, after, f"{old.name}/{name}.yaml", f"{new.name}/{name}.yaml", lineterm="")
    return "\n".join(lines)


def _in_one_layout(path: Path) -> list[str]:
    text = _text_of(path)
    try:
        return _as_yaml(read_yaml(text, path.name)).splitlines()
    except ConfigError:  # shown as it is until it can be read
        return text.splitlines()


def tenants(configs: Mapping[str, dict[str, Any]]) -> set[str]:
    return {tenant["name"] for tenant in configs["gateway"]["tenants"]}


def make_keys(tenants: set[str], run: Run) -> None:
    """Fresh API keys: clear for the load generator and the learner, hashed for the gateway."""
    keys = {tenant: f"lab-{secrets.token_urlsafe(18)}" for tenant in sorted(tenants)}
    hashed = {tenant: hashlib.sha256(key.encode()).hexdigest() for tenant, key in keys.items()}
    run.keys_file.touch(mode=0o600)
    run.keys_file.write_text(json.dumps(keys))
    (run.folder / "keys/hashed.json").write_text(json.dumps(hashed))


class _Dumper(yaml.SafeDumper):
    """Long texts as block scalars, plain lists on one line, others indented: files that a person edits."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        return super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # Unicode's other line breaks survive only as escapes: PyYAML reads them back as spaces.
    style = '"' if any(sign in text for sign in "\x85\u2028\u2029") else "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _list(dumper: yaml.SafeDumper, items: list[Any]) -> yaml.SequenceNode:
    flow = not any(isinstance(item, dict | list) or "\n" in str(item) for item in items)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=flow)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(list, _list)


def _as_yaml(config: dict[str, Any]) -> str:
    return yaml.dump(config, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def _at(config: Any, path: str) -> Any:
    for part in path.split("."):
        config = config.get(part) if isinstance(config, Mapping) else None
    return config
