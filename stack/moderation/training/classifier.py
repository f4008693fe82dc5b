"""Trains the classifier on MiniLM vectors, and takes hatesonar's numbers out of its ONNX file."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression, Ridge

from stack.moderation.attributes import ATTRIBUTES, CATEGORIES
from stack.moderation.classifiers import HATESONAR, MINILM
from stack.moderation.encoder import Encoder
from stack.moderation.normalise import Vocabulary, normalise
from stack.moderation.training.data import DATA, Sample, fingerprint

# Clean texts of one other source, of the training part: enough to know what is clean, few enough not to be the lesson.
CLEAN_OF_A_SOURCE = 350
# Slurs are the lists' work; frames with and without them must not drown the rest. The few same-source negatives count.
WEIGHTS = {("slurs", True): 0.3, ("slurs", False): 0.3, ("rtp", False): 3.0, ("pairs", False): 3.0}
INVERSE_REGULARISATION = 1.0
LIKE_TOXIC = ("rtp", "pairs", "imdb", "xsum")  # sources of clean texts that have the toxic ones' form


def lesson(samples: Sequence[Sample]) -> list[Sample]:
    """The training part, with at most CLEAN_OF_A_SOURCE texts of each clean source, chosen by fingerprint."""
    taken: dict[str, int] = {}
    kept: list[Sample] = []
    for sample in sorted(samples, key=lambda s: fingerprint(s.text)):
        if sample.part != "train":
            continue
        if sample.source not in ("rtp", "pairs", "slurs"):
            taken[sample.source] = taken.get(sample.source, 0) + 1
            if taken[sample.source] > CLEAN_OF_A_SOURCE:
                continue
        kept.append(sample)
    return kept


def fit(vectors: np.ndarray, samples: Sequence[Sample]) -> tuple[np.ndarray, float]:
    """Weights float32 [384] and bias of a logistic regression over `vectors` [n, 384]."""
    model = LogisticRegression(C=INVERSE_REGULARISATION, max_iter=5000)
    weights = [WEIGHTS.get((s.source, s.abusive), 1.0) for s in samples]
    model.fit(vectors, [s.abusive for s in samples], sample_weight=weights)
    return model.coef_[0].astype(np.float32), float(model.intercept_[0])


def train_minilm(samples: Sequence[Sample], vocabulary: Vocabulary, data: Path = DATA, path: Path = MINILM) -> int:
    """Train on the training part and write `path`; how many texts it was trained on."""
    chosen = lesson(samples)
    vectors = Encoder(data).vectors([normalise(s.text, vocabulary=vocabulary).text for s in chosen])
    weights, bias = fit(vectors, chosen)
    encoder = hashlib.sha256(Encoder.file(data).read_bytes()).hexdigest()
    np.savez(path, weights=weights, bias=np.float32(bias), encoder_sha256=np.array(encoder))
    return len(chosen)


def train_attributes(samples: Sequence[Sample], data: Path = DATA, path: Path = ATTRIBUTES) -> int:
    """Train the four attributes on toxic texts with their shares and on clean ones of like form; how many texts."""
    chosen = [s for s in lesson(samples) if s.attributes or (s.source in LIKE_TOXIC and not s.abusive)]
    vectors = Encoder(data).vectors([s.text for s in chosen])
    targets = np.array([[(s.attributes or {}).get(name, 0.0) for name in CATEGORIES] for s in chosen])
    model = Ridge(alpha=1.0).fit(vectors, targets)
    weights, bias = model.coef_.astype(np.float32), model.intercept_.astype(np.float32)
    np.savez(path, names=np.array(list(CATEGORIES)), weights=weights, bias=bias)
    return len(chosen)


def extract_hatesonar(data: Path = DATA, path: Path = HATESONAR) -> int:
    """Write the vocabulary and numbers of hatesonar's ONNX file to `path`; how many words it knows."""
    import onnx

    model = onnx.load(data / "hatesonar/model/model.onnx")
    nodes = {
        node.op_type: {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute} for node in model.graph.node
    }
    idf = next(onnx.numpy_helper.to_array(t) for t in model.graph.initializer if t.name == "idfcst")
    words, linear = nodes["TfIdfVectorizer"]["pool_strings"], nodes["LinearClassifier"]
    np.savez_compressed(
        path,
        vocabulary=np.frombuffer(b"\n".join(words), dtype=np.uint8),
        idf=idf.astype(np.float32),
        weights=np.array(linear["coefficients"], dtype=np.float32).reshape(3, len(words)),
        bias=np.array(linear["intercepts"], dtype=np.float32),
    )
    return len(words)
