"""Trains the language model's LoRA adapter for tier 3: one token, yes or no, on the training part only.

Needs the `train` dependency group. About twenty minutes of one core with AMX.
"""

import json
import random
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy, pad
from transformers import AutoModelForCausalLM, AutoTokenizer

from stack.moderation.judge_prompt import NO, YES, messages
from stack.moderation.training.data import Part, Sample

# vLLM's CPU code for adapters gathers their matrices once for every token: at rank 8 a judgement costs five times as
# much as without an adapter. Cut to rank 1 after training, it judges nearly as well.
SERVED_RANK = 1
MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
MAX_TEXT_TOKENS = 80  # of a text while training; serving allows more
# How many texts of a source and label one epoch sees: hard negatives of the toxic texts' own source more than once.
REPEATS = {("rtp", False): 2, ("pairs", False): 2}
LIMITS = {"imdb": 200, "xsum": 150, "bbq": 60, "boolq": 30, "nq": 30, "fiqa": 30}


def curriculum(samples: Sequence[Sample], part: Part, seed: int) -> list[Sample]:
    """The texts of one epoch: all of the toxic sources, a few of the clean ones, shuffled."""
    rng = random.Random(seed)
    here = [s for s in samples if s.part == part]
    chosen = [s for s in here if s.source not in LIMITS for _ in range(REPEATS.get((s.source, s.abusive), 1))]
    for source, limit in LIMITS.items():
        chosen += rng.sample(pool, min(limit, len(pool))) if (pool := [s for s in here if s.source == source]) else []
    rng.shuffle(chosen)
    return chosen


class Judge:
    """The model with its adapter, asked as the engine asks it."""

    def __init__(self, model: Path, adapter: Path | None = None, dtype: torch.dtype = torch.bfloat16) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(model)
        self.model = AutoModelForCausalLM.from_pretrained(model, dtype=dtype)
        if adapter:
            self.model = PeftModel.from_pretrained(self.model, str(adapter))
        self.yes, self.no = (self.tokenizer.encode(word, add_special_tokens=False)[0] for word in (YES, NO))

    def prompt(self, text: str) -> list[int]:
        """Token ids of the whole prompt, the text cut to MAX_TEXT_TOKENS."""
        ids = self.tokenizer.encode(text, add_special_tokens=False)[:MAX_TEXT_TOKENS]
        chat = messages(self.tokenizer.decode(ids))
        rendered = self.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        return self.tokenizer.encode(rendered, add_special_tokens=False)

    def logits(self, prompts: Sequence[list[int]]) -> torch.Tensor:
        """The logits of the answer's first token, float32 [n, vocabulary]."""
        longest = max(map(len, prompts))
        ids = torch.stack([pad(torch.tensor(p), (longest - len(p), 0)) for p in prompts])
        mask = torch.stack([pad(torch.ones(len(p), dtype=torch.long), (longest - len(p), 0)) for p in prompts])
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        causal = self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model
        hidden = causal.model(input_ids=ids, attention_mask=mask, position_ids=positions).last_hidden_state[:, -1]
        return causal.lm_head(hidden).float()  # of two dimensions: with three, torch copies the head for each prompt

    @torch.no_grad()
    def probabilities(self, texts: Sequence[str], batch: int = 16) -> np.ndarray:
        """P(yes) among yes and no for each text, float64[n]."""
        self.model.eval()
        prompts = [self.prompt(text) for text in texts]
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        found = np.zeros(len(texts))
        for start in range(0, len(order), batch):
            here = order[start : start + batch]
            logits = self.logits([prompts[i] for i in here])
            found[here] = torch.sigmoid(logits[:, self.yes] - logits[:, self.no]).double().numpy()
        return found


def train(
    judge: Judge,
    epochs: Sequence[Sequence[Sample]],
    seed: int = 0,
    rate: float = 4e-4,
    batch: int = 16,
    rank: int = 8,
    report: Callable[[str], None] = print,
    after_epoch: Callable[[int], None] = lambda number: None,
) -> None:
    """Give `judge` an adapter and train it; one list of texts an epoch. The rate falls linearly to nothing."""
    torch.manual_seed(seed)
    layers = judge.model.config.num_hidden_layers
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        target_modules=MODULES,
        layers_to_transform=list(range(layers // 3, layers)),  # the lower third stays: a third less to compute and keep
        task_type="CAUSAL_LM",
    )
    judge.model = get_peft_model(judge.model, config, autocast_adapter_dtype=False)
    trained = [p for p in judge.model.parameters() if p.requires_grad]
    # Steps of 4e-4 vanish in bfloat16, and float32 inside the model takes several times as long: keep copies to step.
    masters = [p.detach().float().clone().requires_grad_() for p in trained]
    optimiser = torch.optim.AdamW(masters, lr=rate, weight_decay=0.01)
    total = sum(-(-len(epoch) // batch) for epoch in epochs)
    step = 0
    for number, epoch in enumerate(epochs):
        judge.model.train()
        for chunk in batches(judge, epoch, batch, seed + number):
            for group in optimiser.param_groups:
                group["lr"] = rate * min(1, (step + 1) / 10) * (1 - step / total)
            target = torch.tensor([judge.yes if sample.abusive else judge.no for sample in chunk])
            loss = cross_entropy(judge.logits([judge.prompt(sample.text) for sample in chunk]), target)
            loss.backward()
            for master, parameter in zip(masters, trained, strict=True):
                master.grad, parameter.grad = parameter.grad.float(), None
            torch.nn.utils.clip_grad_norm_(masters, 1.0)
            optimiser.step()
            for master, parameter in zip(masters, trained, strict=True):
                parameter.data.copy_(master)
            step += 1
            if step % 10 == 0:
                report(f"step {step} of {total}: loss {loss.item():.3f}")
        after_epoch(number)


def batches(judge: Judge, samples: Sequence[Sample], size: int, seed: int) -> list[list[Sample]]:
    """Batches of texts of about the same length, in random order."""
    rng = random.Random(seed)
    shuffled = list(samples)
    rng.shuffle(shuffled)
    window = size * 8
    found: list[list[Sample]] = []
    for start in range(0, len(shuffled), window):
        near = sorted(shuffled[start : start + window], key=lambda s: len(judge.prompt(s.text)))
        found += [near[i : i + size] for i in range(0, len(near), size)]
    rng.shuffle(found)
    return found


def save(judge: Judge, folder: Path) -> None:
    """The adapter alone, cut to rank SERVED_RANK, in bfloat16, as peft and vLLM read it."""
    with tempfile.TemporaryDirectory() as temporary:
        judge.model.save_pretrained(temporary, safe_serialization=True)
        config = json.loads((Path(temporary) / "adapter_config.json").read_text())
        weights = load_file(Path(temporary) / "adapter_model.safetensors")
    scale = config["lora_alpha"] / config["r"]
    cut = {}
    for name in weights:
        if ".lora_A." in name:
            partner = name.replace(".lora_A.", ".lora_B.")
            cut[name], cut[partner] = nearest(weights[partner].float() @ weights[name].float() * scale, SERVED_RANK)
    config |= {"r": SERVED_RANK, "lora_alpha": SERVED_RANK, "base_model_name_or_path": "smollm2-135m-instruct"}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    save_file(cut, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def nearest(change: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The matrices A [rank, in] and B [out, rank], bfloat16, whose product B·A is nearest to `change` [out, in]."""
    left, singular, right = torch.svd_lowrank(change, q=rank + 7, niter=4)
    root = singular[:rank].sqrt()
    down, up = (right[:, :rank] * root).T, left[:, :rank] * root
    return down.contiguous().bfloat16(), up.contiguous().bfloat16()
