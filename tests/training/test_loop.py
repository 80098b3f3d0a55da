"""The loop: what is stopped goes on bit for bit, every optimiser learns, and nothing is lost when something goes wrong."""

from __future__ import annotations

import math
import os
import random
import signal
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from hope_ref.parallel.ops import flushed_denormals
from hope_ref.training import Outcome, files, optimizers, train
from hope_ref.training.loop import Trainer
from hope_ref.training.processes import noted_signals

pytestmark = pytest.mark.usefixtures("no_curve")

KINDS: dict[str, dict[str, Any]] = {
    "adamw": {},
    "m3, scheduled": {"optimizer": "m3", "continuum": "scheduled", "slow_every": 3},
    "adamw, scheduled, bfloat16": {"continuum": "scheduled", "precision": "bfloat16", "schedule": "cosine"},
    "float64, no clip": {"precision": "float64", "clip": 0, "recompute": True},
}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_given_back(number: int) -> None:
    def own(*_: Any) -> None:
        raise AssertionError("nobody sends one here")

    before = signal.signal(number, own)
    try:
        with noted_signals():
            assert signal.getsignal(number) is not own
        assert signal.getsignal(number) is own
    finally:
        signal.signal(number, before)


def test_one_step_is_what_pytorch_does_by_hand(toys: SimpleNamespace, toy_text: Path, tmp_path: Path) -> None:
    from hope_ref.training import data

    run = toys.run(toy_text, steps=3, clip=0.01, weight_decay=0.0)
    found = train(run, tmp_path)
    run, parts = data.prepared(run)
    model = run.model()
    optimizer = torch.optim.AdamW(model.parameters(), betas=run.training.betas, weight_decay=0.0)
    with flushed_denormals():
        for step in range(3):
            windows = data.batch(run, parts, step)
            optimizer.zero_grad()
            share = model(windows[:, :-1])[0].log_softmax(-1)
            loss = -share.gather(-1, windows[:, 1:, None]).mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.01)
            optimizer.param_groups[0]["lr"] = optimizers.learning_rate(run.training, step)
            optimizer.step()
    assert found.loss == pytest.approx(loss.item(), rel=1e-6)
    theirs = dict(model.named_parameters())
    for name, weight in toys.weights(found).items():
        torch.testing.assert_close(weight, theirs[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "stops"),
    [
        ("m3, scheduled", (6, 11)),  # a level, then a level and M3 are halfway
        pytest.param("m3, scheduled", (1, 4), marks=pytest.mark.slow),
        *(pytest.param(kind, (3, 10), marks=pytest.mark.slow) for kind in KINDS if kind != "m3, scheduled"),
    ],
)
def test_a_run_stopped_anywhere_goes_on_bit_for_bit(
    kind: str, stops: tuple[int, ...], toys: SimpleNamespace, toy_text: Path, tmp_path: Path
) -> None:
    run = toys.run(toy_text, **KINDS[kind])
    whole = train(run, tmp_path / "whole")
    assert whole.status == "done"
    for stop in stops:
        folder = tmp_path / f"stopped-{stop}"
        paused = train(run, folder, until=stop)
        assert (paused.status, paused.step) == ("paused", stop)
        torch.manual_seed(99)  # whatever happens in between
        again = train(run, folder, resume=True)
        assert (again.status, again.step) == ("done", 12)
        assert toys.same_bits(toys.weights(again), toys.weights(whole)), stop
        assert toys.told(folder) == toys.told(tmp_path / "whole")
        one, other = (files.load_checkpoint(tmp_path / name) for name in (folder.name, "whole"))
        assert str(one["optimizer"]) == str(other["optimizer"])
        assert torch.equal(one["random"]["torch"], other["random"]["torch"])


def test_stopped_at_every_step_in_a_row(toys: SimpleNamespace, toy_text: Path, tmp_path: Path) -> None:
    run = toys.run(toy_text, steps=6)
    whole = train(run, tmp_path / "whole")
    for step in range(1, 7):
        found = train(run, tmp_path / "parts", until=step, resume=True)
        assert found.step == step
    assert toys.same_bits(toys.weights(found), toys.weights(whole))
    assert toys.told(tmp_path / "parts") == toys.told(tmp_path / "whole")


def test_what_a_run_leaves(whole_run: tuple[Path, Outcome], toys: SimpleNamespace) -> None:
    folder, outcome = whole_run
    names = {one.name for one in folder.iterdir()}
    checkpoints = {"checkpoint-00000010.pt", "checkpoint-00000012.pt"}
    assert names == checkpoints | {"run.json", "metrics.jsonl", "loss.png"}
    lines = toys.told(folder)
    assert [line["step"] for line in lines] == list(range(1, 13))
    assert [line["step"] for line in lines if "validation_bits_per_byte" in line] == [6, 12]
    assert lines[-1]["loss"] == outcome.loss
    assert lines[-1]["bits_per_byte"] == pytest.approx(outcome.loss / math.log(2))
    assert outcome.checkpoint == folder / "checkpoint-00000012.pt"
    assert files.held_run(folder).sha256  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "kind", [kind if kind == "adamw" else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]
)
def test_every_optimiser_learns_the_toy_text(
    kind: str, toys: SimpleNamespace, toy_text: Path, tmp_path: Path
) -> None:
    many = {"steps": 60, "evaluate_every": 60, "checkpoint_every": 60, **KINDS[kind]}
    train(toys.run(toy_text, **many), tmp_path)
    lines = toys.told(tmp_path)
    assert lines[0]["loss"] > 5.3  # log 256 = 5.545
    assert lines[-1]["loss"] < 3.6
    assert lines[-1]["validation_bits_per_byte"] < 3.6 / math.log(2)


@pytest.mark.parametrize("mixer", ["softmax_attention", "gated_delta_rule"])
def test_the_baselines_train_in_the_same_loop(
    mixer: str, toys: SimpleNamespace, toy_text: Path, tmp_path: Path
) -> None:
    outcome = train(toys.run(toy_text, mixer=mixer, steps=3), tmp_path)
    assert outcome.status == "done"


def test_a_loss_that_is_not_finite_ends_the_run_before_it_spoils_the_weights(
    toys: SimpleNamespace, toy_text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, advance = toys.run(toy_text), Trainer.advance
    expected = toys.weights(train(run, tmp_path / "good", until=3))

    def poisoned(trainer: Trainer, caught: list[int]) -> Any:
        if trainer.step == 3:
            hook = trainer.model.norm.register_hook(lambda gradient: gradient * math.nan)
            found = advance(trainer, caught)
            hook.remove()
            return found
        return advance(trainer, caught)

    monkeypatch.setattr(Trainer, "advance", poisoned)
    outcome = train(run, tmp_path / "bad")
    assert (outcome.status, outcome.step) == ("diverged", 3)
    assert toys.same_bits(toys.weights(outcome), expected)
    assert outcome.checkpoint.exists()
    assert [line["step"] for line in toys.told(tmp_path / "bad")] == [1, 2, 3]
    monkeypatch.undo()
    assert train(run, tmp_path / "bad", resume=True).status == "done"


def test_a_loss_that_is_infinite_is_seen_even_with_a_finite_gradient(
    toys: SimpleNamespace, toy_text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hope_ref.training import processes

    exact = processes.cross_entropy
    monkeypatch.setattr(processes, "cross_entropy", lambda *given: exact(*given) + math.inf)
    outcome = train(toys.run(toy_text), tmp_path)
    assert (outcome.status, outcome.step) == ("diverged", 0)


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_ctrl_c_finishes_the_step_and_writes_a_checkpoint(
    number: int,
    toys: SimpleNamespace,
    toy_text: Path,
    tmp_path: Path,
    whole_run: tuple[Path, Outcome],
) -> None:
    before = signal.getsignal(number)

    def report(record: dict[str, Any]) -> None:
        if record["step"] == 3:
            os.kill(os.getpid(), number)

    outcome = train(toys.run(toy_text), tmp_path, report=report)
    assert (outcome.status, outcome.step, outcome.signal) == ("interrupted", 3, number)
    assert outcome.checkpoint.exists()
    assert signal.getsignal(number) is before
    again = train(toys.run(toy_text), tmp_path, resume=True)
    assert toys.same_bits(toys.weights(again), toys.weights(whole_run[1]))


def test_ctrl_c_twice_ends_at_once(toys: SimpleNamespace, toy_text: Path, tmp_path: Path) -> None:
    def report(record: dict[str, Any]) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(toys.run(toy_text), tmp_path, report=report)
    assert [one.name for one in files.checkpoints(tmp_path)] == ["checkpoint-00000000.pt"]


def test_a_run_in_a_thread_leaves_the_signals_alone(
    toys: SimpleNamespace, toy_text: Path, tmp_path: Path
) -> None:
    found: list[Outcome] = []
    thread = threading.Thread(target=lambda: found.append(train(toys.run(toy_text, steps=2), tmp_path)))
    thread.start()
    thread.join()
    assert found[0].status == "done"


def test_a_folder_is_not_written_over(toys: SimpleNamespace, toy_text: Path, tmp_path: Path) -> None:
    run = toys.run(toy_text)
    train(run, tmp_path, until=2)
    before = {one.name: one.read_bytes() for one in tmp_path.iterdir()}
    with pytest.raises(ValueError, match="out must be a folder without a run"):
        train(run, tmp_path)
    with pytest.raises(
        ValueError, match=r"run must be the one that .* got lr 0.5 instead of 0.01; width 16 instead of 8"
    ):
        train(run.changed(lr=0.5, width=16), tmp_path, resume=True)
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == before
    train(
        run.changed(log_every=2, checkpoint_every=3, device="auto"), tmp_path, resume=True
    )  # these may change


def test_a_run_killed_before_its_first_checkpoint(
    toys: SimpleNamespace, toy_text: Path, tmp_path: Path
) -> None:
    run = toys.run(toy_text)
    (tmp_path / "run.json").write_text(run.to_json())
    with pytest.raises(ValueError, match="steps 5 instead of 12"):
        train(run.changed(steps=5), tmp_path, resume=True)


def test_a_finished_run_may_be_resumed(
    whole_run: tuple[Path, Outcome], toys: SimpleNamespace, toy_text: Path
) -> None:
    folder, whole = whole_run
    again = train(toys.run(toy_text), folder, resume=True)
    assert (again.status, again.step) == ("done", 12)
    assert math.isnan(again.loss)
    assert toys.same_bits(toys.weights(again), toys.weights(whole))
    assert len(toys.told(folder)) == 12


@pytest.mark.parametrize("flushed", [False, True])
def test_denormals_are_left_as_they_were(flushed: bool) -> None:
    tiny = torch.tensor(1e-310, dtype=torch.float64)
    if not torch.set_flush_denormal(flushed):
        pytest.skip("this processor does not flush denormals")
    try:
        with flushed_denormals():
            assert float(tiny / 2) == 0
        assert (float(tiny / 2) == 0) == flushed
    finally:
        torch.set_flush_denormal(False)


def test_the_curve_is_drawn_now_and_then(
    toys: SimpleNamespace, toy_text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Path] = []
    monkeypatch.setattr(files, "draw_curve", drawn.append)
    train(toys.run(toy_text, steps=4, checkpoint_every=2), tmp_path / "seldom")
    assert len(drawn) == 1  # at its end
    monkeypatch.setattr("hope_ref.training.loop.CURVE_SECONDS", 0.0)
    train(toys.run(toy_text, steps=4, checkpoint_every=2), tmp_path / "often")
    assert len(drawn) == 1 + 2 + 1


def test_random_numbers_go_on_where_they_were(toys: SimpleNamespace, toy_text: Path, tmp_path: Path) -> None:
    def drawing(into: list[float]) -> Any:
        return lambda _: into.extend([torch.rand(()).item(), random.random(), np.random.rand()])  # noqa: NPY002

    whole: list[float] = []
    parts: list[float] = []
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    run = toys.run(toy_text, steps=5)
    train(run, tmp_path / "whole", report=drawing(whole))
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    train(run, tmp_path / "parts", until=2, report=drawing(parts))
    random.seed(2)
    train(run, tmp_path / "parts", resume=True, report=drawing(parts))
    assert parts == whole
