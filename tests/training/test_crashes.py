"""Processes that are killed, interrupted, or meet a full disk: the run goes on bit for bit.

HOPE_REF_KILLS=20 kills more often than the five times of every day.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest

from hope_ref.__main__ import main
from hope_ref.training import Outcome, Run, files, train, trained

pytestmark = pytest.mark.usefixtures("no_curve")

KILLS = int(os.environ.get("HOPE_REF_KILLS", "5"))
STEPS = 12 * KILLS


@pytest.fixture(scope="module")
def config(toys: SimpleNamespace, toy_text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "run.json"
    run = toys.run(toy_text, steps=STEPS, checkpoint_every=2, continuum="scheduled", optimizer="m3")
    path.write_text(run.to_json())
    return path


def started(toys: SimpleNamespace, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", toys.driver, "train", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=toys.root,
        env=toys.environment(),
    )


def weights_of(folder: Path) -> dict[str, object]:
    return dict(trained(folder, "cpu").model.named_parameters())


@pytest.fixture(scope="module")
def whole(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    train(Run.from_json(config.read_text()), folder)
    return folder


@pytest.mark.slow
def test_killed_again_and_again(config: Path, whole: Path, toys: SimpleNamespace, tmp_path: Path) -> None:
    seed = int(time.time())
    print(f"seed {seed}, {KILLS} kills")
    moments, out, killed_at = random.Random(seed), tmp_path / "run", []
    for _ in range(KILLS):
        go_on = ["--resume"] if (out / "run.json").exists() else ["--config", str(config)]
        process = started(toys, "--out", out, "--quiet", *go_on)
        newest = files.checkpoints(out)
        deadline = time.monotonic() + 60
        while files.checkpoints(out) == newest and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)  # until it trains
        time.sleep(moments.uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        killed_at.append(
            (process.returncode, files.checkpoints(out)[-1].name, files.load_checkpoint(out)["step"])
        )
    print(killed_at)
    assert sum(code == -signal.SIGKILL for code, _, _ in killed_at) >= 3, (
        killed_at
    )  # a fast machine may finish
    last = started(toys, "--out", out, "--quiet", "--resume")
    assert last.wait(120) == 0, last.communicate()
    last.communicate()
    assert toys.same_bits(weights_of(out), weights_of(whole))
    assert toys.told(out) == toys.told(whole)
    assert {one.name for one in out.iterdir()} == {one.name for one in whole.iterdir()}


@pytest.mark.slow
def test_ctrl_c_in_a_process_of_its_own(
    config: Path, whole: Path, toys: SimpleNamespace, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    process = started(toys, "--config", config, "--out", out)
    assert process.stdout is not None
    process.stdout.readline()  # the first step is done
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=600)
    assert process.returncode == 130
    assert "SIGINT after" in error
    assert "Traceback" not in error
    step = files.load_checkpoint(out)["step"]
    assert 1 <= step < STEPS
    assert toys.told(out)[-1]["step"] == step
    train(Run.from_json(config.read_text()), out, resume=True)
    assert toys.same_bits(weights_of(out), weights_of(whole))


@pytest.mark.parametrize(
    "what", ["checkpoint-00000010.pt", pytest.param("metrics.jsonl", marks=pytest.mark.slow)]
)
def test_a_full_disk_loses_nothing(
    what: str,
    toys: SimpleNamespace,
    toy_text: Path,
    tmp_path: Path,
    whole_run: tuple[Path, Outcome],
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, out = (
        toys.run(toy_text, checkpoint_every=5 if what.startswith("checkpoint") else 100),
        tmp_path / "run",
    )
    train(run, out, until=9 if what == "metrics.jsonl" else 5)
    before = {one.name: one.read_bytes() for one in out.iterdir()}
    room = {"checkpoint-00000010.pt": 20_000, "metrics.jsonl": len(before["metrics.jsonl"]) + 500}[what]
    assert room > len(before["run.json"])

    import_module(
        "hope_ref.training.train_command"
    )  # now: Python leaves a half written .pyc where there is no room
    before_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before_limit[1]))
    try:
        status = main(["train", "--resume", "--quiet", "--out", str(out)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before_limit)
    error = capsys.readouterr().err
    assert status == 1, error
    assert error.startswith(f"error: cannot write {out / what}: ")
    assert "go on with --resume" in error
    assert "Traceback" not in error
    after = {one.name: one.read_bytes() for one in out.iterdir()}
    assert after.keys() == before.keys()
    assert all(after[name] == before[name] for name in before if name.startswith(("checkpoint", "run")))
    assert all(line.endswith(b"}") for line in after["metrics.jsonl"].splitlines())
    again = train(run, out, resume=True)
    assert toys.same_bits(toys.weights(again), toys.weights(whole_run[1]))
    assert toys.told(out) == toys.told(whole_run[0])
