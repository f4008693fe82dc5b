"""Training of the cross-encoder: listwise, resumable, the best checkpoint by held-out questions.

One step reads a few questions, each with the passage that answers it and hard negatives, and raises the right one's
share in the softmax over them. What a step reads follows from seed and step alone, so a run that was cut off goes on
where its last checkpoint stands and ends as if it had not been.
"""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from sentence_transformers import CrossEncoder
from tokenizers import Tokenizer

from stack.rag.hits import min_max
from stack.rag.training.metrics import reciprocal_gain
from stack.rag.training.model import new_model, pair_tokenizer, score
from stack.rag.training.pairs import Candidates
from stack.settings import Settings

CHECKPOINT, BEST, LOG = "checkpoint.pt", "best.pt", "log.jsonl"

_HARDNESS = 0.05
"""How much higher a candidate's cosine must be for it to be drawn e times as often."""


class TrainingSettings(Settings):
    seed: int = Field(20, ge=0)
    """Of everything random: the order of questions and the draw of negatives."""
    layers: int = Field(4, ge=1, le=6)
    """How many of the encoder's six layers are kept, from below."""
    start: Literal["late-interaction", "first-token"] = "late-interaction"
    """What the score is before any training: late interaction, or a new layer on the first token that knows nothing."""
    steps: int = Field(800, ge=1)
    """Updates of the weights."""
    questions: int = Field(8, ge=1)
    """Questions a step."""
    negatives: int = Field(7, ge=1)
    """Wrong passages a question."""
    max_tokens: int = Field(128, ge=32, le=512)
    """Of a pair; more costs time in proportion, and few passages of the training data are longer."""
    learning_rate: float = Field(5e-5, gt=0)
    """At its peak, which is reached after the first twentieth of the steps; it falls to zero in a line from there."""
    head_rate: float = Field(1e-3, gt=0)
    """The same for the head, which starts from nothing."""
    evaluate_every: int = Field(100, ge=1)
    """Steps between two looks at the held-out questions; a checkpoint is written at each."""
    evaluate_questions: int = Field(200, ge=1)
    """How many of them."""
    evaluate_depth: int = Field(20, ge=2)
    """How many candidates of each are put in order."""
    threads: int = Field(2, ge=1)
    """Threads of torch."""


def train(candidates: Candidates, held_out: Candidates, encoder: Path, settings: TrainingSettings, out: Path) -> Path:
    """Train, or go on with the run in the folder `out`. Gives the file of the best weights.

    `candidates` are learnt from, `held_out` choose the checkpoint. Raises ValueError when `out` holds a run with other
    settings.
    """
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    torch.use_deterministic_algorithms(True)
    model, tokenizer = new_model(encoder, settings.layers, settings.start), pair_tokenizer(encoder, settings.max_tokens)
    optimiser = _optimiser(model, settings)
    out.mkdir(parents=True, exist_ok=True)
    step, best = _resume(out, model, optimiser, settings)
    looked = step if best >= 0 else -1
    losses: list[float] = []
    began, read = time.monotonic(), 0
    while step <= settings.steps:
        if step != looked and (step % settings.evaluate_every == 0 or step == settings.steps):
            found = held_out_gain(model, tokenizer, held_out, settings)
            if found["chosen by"] > best:
                best = found["chosen by"]
                _write(out / BEST, {"model": model.state_dict(), "step": step, "held_out": found})
            rate = read / (time.monotonic() - began)
            _log(out, {"step": step, **found, "loss": float(np.mean(losses or [0])), "pairs_per_second": rate})
            losses, began, read = [], time.monotonic(), 0
            state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step, "best": best}
            _write(out / CHECKPOINT, state | {"settings": settings.model_dump()})
        if step == settings.steps:
            break
        _set_rates(optimiser, step, settings)
        losses.append(_step(model, tokenizer, optimiser, candidates, step, settings))
        read += settings.questions * (1 + settings.negatives)
        step += 1
    return out / BEST


def _step(
    model: CrossEncoder,
    tokenizer: Tokenizer,
    optimiser: torch.optim.Optimizer,
    candidates: Candidates,
    step: int,
    settings: TrainingSettings,
) -> float:
    """One update; gives the loss."""
    model.train()
    groups = list(groups_of(candidates, step, settings))
    pairs = [(candidates.questions[i], candidates.passages[row]) for i, rows in groups for row in rows]
    logits = score(model, tokenizer, pairs).view(len(groups), -1)
    loss = torch.nn.functional.cross_entropy(logits, torch.zeros(len(groups), dtype=torch.long))
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    optimiser.zero_grad()
    return loss.item()


def groups_of(candidates: Candidates, step: int, settings: TrainingSettings) -> Iterator[tuple[int, np.ndarray]]:
    """What `step` reads: a question, and rows of its passages, the right one first.

    Every question comes once before any comes twice. Among its candidates the higher ones are drawn more often.
    """
    usable = np.flatnonzero(candidates.negative.sum(axis=1) >= settings.negatives)
    for place in range(step * settings.questions, (step + 1) * settings.questions):
        epoch, position = divmod(place, len(usable))
        i = int(np.random.default_rng([settings.seed, epoch]).permutation(usable)[position])
        wrong = np.flatnonzero(candidates.negative[i])
        noise = np.random.default_rng([settings.seed, epoch, i]).gumbel(size=len(wrong))
        order = np.argsort(-(candidates.cosine[i, wrong] / _HARDNESS + noise), kind="stable")
        drawn = candidates.rows[i, wrong[order[: settings.negatives]]]
        yield i, np.concatenate([candidates.right[i : i + 1], drawn])


@torch.inference_mode()
def held_out_gain(
    model: CrossEncoder, tokenizer: Tokenizer, held_out: Candidates, settings: TrainingSettings
) -> dict[str, float]:
    """Mean nDCG@10 on the held-out questions: the cosine alone, the model alone, both in equal parts.

    The checkpoint is chosen by the mean of the last two: the model will be mixed, and should not lean on it.
    """
    model.eval()
    sample = np.random.default_rng(settings.seed).permutation(len(held_out.questions))[: settings.evaluate_questions]
    gains = []
    for i in sample:
        rows = held_out.rows[i][held_out.rows[i] >= 0][: settings.evaluate_depth]
        pairs = [(held_out.questions[i], held_out.passages[row]) for row in rows]
        own, cosine = score(model, tokenizer, pairs).numpy(), held_out.cosine[i, : len(rows)]
        right = rows == held_out.right[i]
        mixed = (min_max(own) + min_max(cosine)) / 2
        gains.append([reciprocal_gain(scores, right) for scores in (cosine, own, mixed)])
    cosine, alone, mixed = np.mean(gains, axis=0).tolist()
    return {"cosine": cosine, "alone": alone, "mixed": mixed, "chosen by": (alone + mixed) / 2}


def _optimiser(model: CrossEncoder, settings: TrainingSettings) -> torch.optim.Optimizer:
    encoder, head = model[0].parameters(), model[1].parameters()
    groups = [
        {"params": [p for p in encoder if p.requires_grad], "peak": settings.learning_rate},
        {"params": list(head), "peak": settings.head_rate},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, weight_decay=0.01, fused=True)


def _set_rates(optimiser: torch.optim.Optimizer, step: int, settings: TrainingSettings) -> None:
    warm_up = max(1, settings.steps // 20)
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] * min((step + 1) / warm_up, 1 - step / settings.steps)


def _resume(
    out: Path, model: CrossEncoder, optimiser: torch.optim.Optimizer, settings: TrainingSettings
) -> tuple[int, float]:
    """The step to go on with and the best held-out value so far; loads the checkpoint in `out` where there is one."""
    if not (out / CHECKPOINT).exists():
        return 0, -1.0
    state = torch.load(out / CHECKPOINT, weights_only=True)
    if state["settings"] | {"threads": 0} != settings.model_dump() | {"threads": 0}:
        raise ValueError(f"{out} holds a run with other settings; choose another folder, or remove this one")
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    return state["step"], state["best"]


def _write(path: Path, state: dict) -> None:
    """Whole or not at all."""
    torch.save(state, path.with_suffix(".part"))
    os.replace(path.with_suffix(".part"), path)


def _log(out: Path, entry: dict) -> None:
    line = json.dumps({key: round(value, 5) for key, value in entry.items()})
    print(line, flush=True)
    with (out / LOG).open("a", encoding="utf-8") as file:
        file.write(line + "\n")
