"""A model and a text so small that a whole training takes a second."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hope_ref.config import HopeConfig, Mixer
from hope_ref.training import Outcome, Run, TrainingSettings

ROOT = Path(__file__).parents[2]
DRIVER = """
import sys
from hope_ref.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def toy_run(
    text: Path | str, blocks: int = 1, mixer: Mixer = "self_modifying_titans", **training: Any
) -> Run:
    """A run of a second: one block of width 8, 16 tokens, 4 sequences."""
    sizes = {"width": 8, "heads": 2, "memory_chunk_size": 16, "projection_chunk_size": 16}
    config = HopeConfig(**sizes, blocks=blocks, mixer=mixer, levels_chunk_sizes=(16, 64))
    settings = {
        "steps": 12,
        "batch": 4,
        "tokens": 16,
        "lr": 1e-2,
        "device": "cpu",
        "log_every": 1,
        "checkpoint_every": 5,
        "evaluate_every": 6,
        "evaluate_bytes": 40,
    }
    return Run(config, TrainingSettings(**{**settings, **training}), text=str(text))


def weights(outcome: Outcome) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in outcome.model.named_parameters()}


def same_bits(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def told(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics, without what no second run repeats: times."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("seconds", "tokens_per_second")} for line in lines]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "MPLCONFIGDIR": "/tmp"}


def call(*arguments: object, before: Callable[[], None] | None = None) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", DRIVER, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=600,
        cwd=ROOT,
        env=environment(),
        preexec_fn=before,
    )


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Bits are the same with as many threads as in the processes that the tests start: one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", autouse=True)
def signals_are_heard() -> Iterator[None]:
    """Tests send signals to themselves; a shell that starts them in the background ignores Ctrl-C, nohup a hang-up."""
    heard = {signal.SIGINT: signal.default_int_handler}
    if hasattr(signal, "SIGHUP"):
        heard[signal.SIGHUP] = signal.SIG_DFL
    before = {number: signal.signal(number, handler) for number, handler in heard.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def no_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs draw no picture, which takes as long as their steps; `whole_run` has one."""
    monkeypatch.setattr("hope_ref.training.files.draw_curve", lambda folder: None)


@pytest.fixture(scope="session")
def toy_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About 2,000 bytes that repeat themselves."""
    path = tmp_path_factory.mktemp("text") / "toy.txt"
    path.write_text(
        "".join(f"abcabd {number % 7} hope and memory. " for number in range(80)), encoding="utf-8"
    )
    return path


@pytest.fixture(scope="session")
def whole_run(toy_text: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """The toy run in one piece: what every interrupted one must equal."""
    from hope_ref.training import train

    folder = tmp_path_factory.mktemp("whole") / "run"
    return folder, train(toy_run(toy_text), folder)


@pytest.fixture(scope="session")
def toys() -> SimpleNamespace:
    """The helpers of this file: test modules cannot import each other."""
    return SimpleNamespace(
        run=toy_run,
        weights=weights,
        same_bits=same_bits,
        told=told,
        call=call,
        environment=environment,
        driver=DRIVER,
        root=ROOT,
    )
