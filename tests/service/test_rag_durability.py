"""Loading and building under kill -9: whenever it strikes, the next run ends with what an undisturbed one makes."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from gateway_process import ROOT, free_port
from rag_process import index_command, rag_config

KILLS = 8


def command(config: Path) -> list[str]:
    return [sys.executable, "-m", "stack.rag.index", "build", "--config", str(config)]


def written(folder: Path, **storage: str) -> Path:
    folder.mkdir()
    config = rag_config("http://127.0.0.1:1", free_port(), folder, folder / "vectors")
    config["storage"] |= storage
    books = config["collections"]["books"]
    books["source"] = "disflqa"
    books["indexes"]["blue"]["chunk"] = {"max_tokens": 200}  # few passages: encoding them is most of the time
    file = folder / "rag.yaml"
    file.write_text(json.dumps(config))
    return file


def files(config: Path) -> dict[str, str]:
    folder = config.parent / "indexes/books"
    state = json.loads((folder / "slots.json").read_text())
    return json.loads((folder / state["slots"]["blue"] / "manifest.json").read_text())["files"]


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A configuration whose index was built in one go, and the seconds that this took once all was encoded."""
    config = written(tmp_path_factory.mktemp("rag") / "left-alone")
    assert index_command(config, "build").returncode == 0
    shutil.rmtree(config.parent / "indexes")
    since = time.monotonic()
    assert index_command(config, "build").returncode == 0
    return config, time.monotonic() - since


def test_killed_again_and_again_it_ends_with_the_same_index(left_alone: tuple[Path, float], tmp_path: Path) -> None:
    alone, seconds = left_alone
    # The vectors are there, so that the kills strike loading, cutting, writing and switching, not only encoding.
    config = written(tmp_path / "killed", vectors=str(alone.parent / "vectors"))
    moments = random.Random(1)
    for _ in range(KILLS):
        process = subprocess.Popen(command(config), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(moments.uniform(0.3, 1.0) * seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
        slots = config.parent / "indexes/books/slots.json"
        if slots.exists():  # whatever is in a slot is whole
            assert index_command(config, "verify", "--slot", "blue").returncode == 0
            shutil.rmtree(config.parent / "indexes")
    done = index_command(config, "build")
    assert done.returncode == 0, done.stderr
    assert files(config) == files(alone)
    left = [path.name for path in (config.parent / "indexes/books").iterdir() if path.is_dir()]
    assert len(left) == 1
