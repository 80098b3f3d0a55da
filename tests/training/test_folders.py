"""A run's folder is its own: whose files are touched, who holds it, what a failed start leaves; and runs that travel."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from selection import some_slow

from hope_ref.__main__ import main
from hope_ref.training import Outcome, evaluate, files, folders, train, trained
from hope_ref.training.loop import Trainer, fingerprint
from hope_ref.training.optimizers import learning_rate

pytestmark = pytest.mark.usefixtures("no_curve")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- whose files are touched ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["metrics.jsonl", "loss.png", "run.json", "checkpoint-00000003.pt"])
def test_a_folder_with_somebodys_files_is_refused_and_left_as_it_is(
    name: str, toys: SimpleNamespace, toy_text: Path, tmp_path: Path
) -> None:
    for own in (name, "notes.txt", ".mine.part"):
        (tmp_path / own).write_text('{"epoch": 1}\n')
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=rf"without files of the names that a run writes, .* with {name}"):
        train(toys.run(toy_text), tmp_path)
    assert contents(tmp_path) == before
    with pytest.raises(ValueError, match=r"checkpoint|run"):
        train(toys.run(toy_text), tmp_path, resume=True)
    assert contents(tmp_path) == before


def test_other_files_in_the_folder_stay(toys: SimpleNamespace, toy_text: Path, tmp_path: Path) -> None:
    for own in ("notes.txt", ".mine.part", ".metrics.part", "checkpoint-1.pt"):
        (tmp_path / own).write_text("mine")
    before = contents(tmp_path)
    (tmp_path / ".run.json.abc.part").write_text("a run's own, half written")
    train(toys.run(toy_text, steps=2), tmp_path)
    after = contents(tmp_path)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {
        "run.json",
        "metrics.jsonl",
        "checkpoint-00000000.pt",
        "checkpoint-00000002.pt",
    }


def test_lines_that_are_no_records_stay_in_the_metrics(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n# a note\n{"step": 5}\n[1]\n{"step": 2, "x": "\xff"}\n{"step": 3')
    files.drop_after(path, 2)
    assert path.read_bytes() == b'{"step": 1}\n# a note\n[1]\n{"step": 2, "x": "\xff"}\n'


# --- who holds it -----------------------------------------------------------------------------------------------


def test_a_second_training_is_told_who_holds_the_folder(
    toys: SimpleNamespace, toy_text: Path, tmp_path: Path
) -> None:
    run, told = toys.run(toy_text, steps=3), []

    def report(record: dict[str, Any]) -> None:
        for resume in (False, True):
            with pytest.raises(ValueError, match="out must be") as refused:
                train(run, tmp_path, resume=resume)
            told.append(str(refused.value))

    train(run, tmp_path, report=report)
    assert all(f"held by process {os.getpid()} on " in line for line in told[1::2])
    assert all("resume it, or name another" in line for line in told[::2])
    assert not list(tmp_path.glob(".run.*"))
    train(run, tmp_path, resume=True)


@pytest.mark.slow
def test_of_two_processes_one_resumes_the_run(toys: SimpleNamespace, toy_text: Path, tmp_path: Path) -> None:
    run = toys.run(toy_text, steps=40)
    train(run, tmp_path / "run", until=1)
    words = [sys.executable, "-c", toys.driver, "train", "--resume", "--out", str(tmp_path / "run")]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(words, cwd=toys.root, env=toys.environment(), **pipes) as first:
        assert first.stdout is not None
        first.stdout.readline()
        first.send_signal(signal.SIGSTOP)  # it holds the folder, however slow the second is
        try:
            second = toys.call("train", "--resume", "--out", tmp_path / "run")
        finally:
            first.send_signal(signal.SIGCONT)
        _, error = first.communicate(timeout=600)
    assert first.returncode == 0, error
    assert second.returncode == 2
    assert f"held by process {first.pid} on " in second.stderr
    assert [line["step"] for line in toys.told(tmp_path / "run")] == list(range(1, 41))


def test_the_lock_of_a_process_that_is_gone_is_taken_over_and_said_to_be(
    toys: SimpleNamespace, toy_text: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = toys.run(toy_text, steps=2)
    train(run, tmp_path, until=1)
    (tmp_path / folders.LOCK).write_text("")
    (tmp_path / folders.HOLDER).write_text("process 99999999 on elsewhere\n")
    with caplog.at_level(logging.WARNING, logger="hope_ref"):
        assert train(run, tmp_path, resume=True).status == "done"
    assert "was held by process 99999999 on elsewhere" in caplog.text
    assert "taken over" in caplog.text


# --- what a start that fails leaves -----------------------------------------------------------------------------

FAILURES = {
    f"{where}-{type(error).__name__}": (where, error)
    for where in ("advance", "state")
    for error in (MemoryError("no"), OSError("disk full"), KeyboardInterrupt())
}


@pytest.mark.parametrize(
    ("where", "error"), some_slow(FAILURES, {"advance-OSError", "state-KeyboardInterrupt"})
)
def test_a_start_that_fails_leaves_nothing_behind(
    where: str,
    error: BaseException,
    toys: SimpleNamespace,
    toy_text: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    before = sorted(tmp_path.rglob("*"))

    def failing(*_: Any) -> None:
        raise error

    monkeypatch.setattr(Trainer, where, failing)
    for out in (tmp_path, tmp_path / "deep" / "run"):
        with pytest.raises(type(error)):
            train(toys.run(toy_text), out)
        assert sorted(tmp_path.rglob("*")) == before
    monkeypatch.undo()
    assert train(toys.run(toy_text, steps=1), tmp_path).status == "done"


def test_what_fails_after_the_first_step_stays(
    toys: SimpleNamespace, toy_text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance = Trainer.advance

    def failing(trainer: Trainer, caught: list[int]) -> Any:
        if trainer.step == 2:
            raise MemoryError("no")
        return advance(trainer, caught)

    monkeypatch.setattr(Trainer, "advance", failing)
    with pytest.raises(MemoryError):
        train(toys.run(toy_text), tmp_path)
    monkeypatch.undo()
    assert files.last_step(tmp_path) == 0
    assert train(toys.run(toy_text), tmp_path, resume=True).step == 12


@pytest.mark.parametrize(
    ("option", "value", "part"),
    [
        ("--seed", 10**23, "seed must be < 2**63"),
        ("--batch", 10**12, "batch or tokens must be smaller: at least"),
        ("--vocabulary", 10**20, "vocabulary must be of a model that some memory can hold"),
        ("--width", 10**9, "width, hidden and vocabulary must be of a model"),
        ("--blocks", 10**9, "large must be given"),
    ],
)
def test_what_no_machine_can_do_is_refused_at_once(
    option: str, value: int, part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", option, str(value), "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert part in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


# --- signals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["SIGHUP", pytest.param("SIGTERM", marks=pytest.mark.slow)])
def test_every_wish_to_stop_finishes_the_step(
    name: str, toys: SimpleNamespace, toy_text: Path, tmp_path: Path, whole_run: tuple[Path, Outcome]
) -> None:
    number = getattr(signal, name)
    outcome = train(toys.run(toy_text), tmp_path, report=lambda _: os.kill(os.getpid(), number))
    assert (outcome.status, outcome.signal, outcome.step) == ("interrupted", number, 1)
    again = train(toys.run(toy_text), tmp_path, resume=True)
    assert toys.same_bits(toys.weights(again), toys.weights(whole_run[1]))


def test_what_nohup_ignores_does_not_stop_a_training(
    toys: SimpleNamespace, toy_text: Path, tmp_path: Path
) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        run = toys.run(toy_text, steps=2)
        assert train(run, tmp_path, report=lambda _: os.kill(os.getpid(), signal.SIGHUP)).status == "done"
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asked_twice_a_command_ends_with_one_line(
    number: int,
    toys: SimpleNamespace,
    toy_text: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "toy.json").write_text(toys.run(toy_text).to_json())
    advance = Trainer.advance

    def impatient(trainer: Trainer, caught: list[int]) -> Any:
        if trainer.step == 6:
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)
        return advance(trainer, caught)

    monkeypatch.setattr(Trainer, "advance", impatient)
    out = tmp_path / "run"
    assert (
        main(["train", "--config", str(tmp_path / "toy.json"), "--out", str(out), "--quiet"]) == 128 + number
    )
    error = capsys.readouterr().err
    assert error == (
        f"{signal.Signals(number).name} twice: ended at once; go on from checkpoint-00000005.pt with --resume --out {out}\n"
    )
    assert not list(out.glob(".run.*"))


@pytest.mark.slow
def test_a_terminal_that_is_gone_does_not_stop_a_training(
    toys: SimpleNamespace, toy_text: Path, tmp_path: Path
) -> None:
    (tmp_path / "toy.json").write_text(toys.run(toy_text).to_json())
    reader, writer = os.pipe()
    os.close(reader)
    words = ["train", "--config", str(tmp_path / "toy.json"), "--out", str(tmp_path / "run")]
    done = subprocess.run(
        [sys.executable, "-c", toys.driver, *words],
        stdout=writer,
        stderr=subprocess.PIPE,
        cwd=toys.root,
        env=toys.environment(),
        timeout=600,
    )
    os.close(writer)
    assert files.last_step(tmp_path / "run") == 12
    assert b"Traceback" not in done.stderr


# --- runs that travel -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["named", "beside", pytest.param("inside", marks=pytest.mark.slow)])
def test_a_run_goes_on_with_the_same_bytes_elsewhere(
    how: str, toys: SimpleNamespace, toy_text: Path, tmp_path: Path, whole_run: tuple[Path, Outcome]
) -> None:
    text, out = tmp_path / "toy.txt", tmp_path / "before" / "run"
    shutil.copy(toy_text, text)
    train(toys.run(text), out, until=5)
    moved = tmp_path / "after"
    shutil.move(tmp_path / "before", moved)
    place = {
        "named": tmp_path / "renamed.txt",
        "beside": moved / "toy.txt",
        "inside": moved / "run" / "toy.txt",
    }[how]
    shutil.move(text, place)
    words = ["train", "--resume", "--quiet", "--out", str(moved / "run")]
    assert main([*words, *(["--text", str(place)] if how == "named" else [])]) == 0
    assert toys.same_bits(
        toys.weights(SimpleNamespace(model=trained(moved / "run", "cpu").model)), toys.weights(whole_run[1])
    )
    held = files.held_run(moved / "run")
    assert held is not None
    assert held.text == str(place)


def test_other_bytes_are_refused_under_the_old_name_and_any_other(
    toys: SimpleNamespace, toy_text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, other = tmp_path / "toy.txt", tmp_path / "other.txt"
    shutil.copy(toy_text, text)
    other.write_bytes(toy_text.read_bytes() + b"!")
    train(toys.run(text, steps=3), tmp_path / "run", until=1)
    words = ["train", "--resume", "--quiet", "--out", str(tmp_path / "run")]
    assert main([*words, "--text", str(other)]) == 2
    assert "text must be the one that the run was started with" in capsys.readouterr().err
    shutil.move(other, text)
    assert main(words) == 2
    assert "text must be the one that the run was started with" in capsys.readouterr().err
    text.unlink()
    assert main(words) == 2
    assert "which is not there: name it with --text" in capsys.readouterr().err


def test_a_model_given_away_works_at_the_receivers(
    toys: SimpleNamespace, toy_text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, model = tmp_path / "secret folder" / "toy.txt", tmp_path / "model"
    text.parent.mkdir()
    shutil.copy(toy_text, text)
    (tmp_path / "toy.json").write_text(toys.run(text, steps=2).to_json())
    words = ["train", "--config", str(tmp_path / "toy.json"), "--quiet"]
    assert main([*words, "--out", str(tmp_path / "run"), "--weights", str(model)]) == 0
    assert "secret" not in (model / "run.json").read_text()
    other = tmp_path / "other.txt"
    other.write_bytes(toy_text.read_bytes()[:400])
    shutil.move(text, tmp_path / "kept.txt")
    for place in (model, tmp_path / "run"):
        worth = evaluate(trained(place, "cpu"), other)
        assert worth.bigram is None
        assert worth.gzip is None
        assert math.isfinite(worth.model)
        capsys.readouterr()
        assert main(["evaluate", str(place), "--text", str(other)]) == 0
        printed = capsys.readouterr().out
        assert "are left out" in printed
        assert "gzip, which" not in printed
        assert main(["evaluate", str(place)]) == 2
        assert "which is not there: name it with --text" in capsys.readouterr().err
        assert main(["generate", str(place), "--count", "3"]) == 0
    shutil.copy(toy_text, model / "toy.txt")
    assert evaluate(trained(model, "cpu")).gzip is not None


@pytest.mark.parametrize("where", ["run", "mine", "file", "file/model"])
def test_weights_go_over_nothing_but_a_model(
    where: str, toys: SimpleNamespace, toy_text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "toy.json").write_text(toys.run(toy_text, steps=1).to_json())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text('{"port": 80}')
    (tmp_path / "file").write_text("mine")
    before = contents(tmp_path)
    words = ["train", "--config", str(tmp_path / "toy.json"), "--quiet", "--out", str(tmp_path / "run")]
    assert main([*words, "--weights", str(tmp_path / where)]) == 2
    assert capsys.readouterr().err.startswith("error: weights must be ")
    assert contents(tmp_path) == before
    assert main([*words, "--weights", str(tmp_path / "model")]) == 0
    shutil.rmtree(tmp_path / "run")
    assert main([*words, "--weights", str(tmp_path / "model")]) == 0  # over the model of another time


# --- more steps, and a start from weights -----------------------------------------------------------------------


def test_a_run_that_is_over_goes_on_with_a_schedule_of_its_own(
    toys: SimpleNamespace, toy_text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "toy.json").write_text(toys.run(toy_text, steps=4, checkpoint_every=3).to_json())
    first = ["train", "--config", str(tmp_path / "toy.json"), "--quiet", "--out"]
    more = ["train", "--resume", "--quiet", "--steps", "9", "--lr", "0.004", "--schedule", "cosine", "--out"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for out in (whole, parts):
        assert main([*first, str(out)]) == 0
    halfway = torch.load(whole / "checkpoint-00000004.pt", weights_only=True)
    assert main([*more, str(whole)]) == 0
    extended = files.held_run(whole)
    assert extended is not None
    assert (extended.training.steps, extended.training.schedule_start) == (9, 4)
    rates = [line["lr"] for line in toys.told(whole)]
    own = replace(extended.training, steps=5, schedule_start=0)
    assert rates[4:] == pytest.approx([learning_rate(own, step) for step in range(5)])
    assert rates[4] > rates[3]
    # Stopped anywhere, it goes on bit for bit; killed before its first own step, it still knows what was wanted.
    held = files.held_run(parts)
    assert held is not None
    run = held.extended(9, lr=0.004, schedule="cosine")
    assert train(run, parts, resume=True, until=4).status == "paused"
    assert files.held_run(parts) == replace(run, sha256=extended.sha256)
    assert train(run, parts, resume=True, until=6).status == "paused"
    assert main(["train", "--resume", "--quiet", "--out", str(parts)]) == 0
    assert toys.told(parts) == toys.told(whole)
    ours, theirs = (trained(out, "cpu").model for out in (parts, whole))
    assert toys.same_bits(dict(ours.named_parameters()), dict(theirs.named_parameters()))
    assert halfway["step"] == 4
    # What is not over has a schedule already.
    capsys.readouterr()
    train(run.extended(12), parts, resume=True, until=10)
    assert main([*more[:4], "20", "--out", str(parts)]) == 2
    assert "got steps 20 instead of 12" in capsys.readouterr().err


def test_a_run_begins_with_the_weights_of_another(
    toys: SimpleNamespace,
    toy_text: Path,
    tmp_path: Path,
    whole_run: tuple[Path, Outcome],
    capsys: pytest.CaptureFixture[str],
) -> None:
    source, out = whole_run[0], tmp_path / "run"
    (tmp_path / "other.txt").write_bytes(bytes(reversed(toy_text.read_bytes())))
    words = ["train", "--from", str(source), "--quiet", "--out"]
    assert (
        main(
            [
                *words,
                str(out),
                "--text",
                str(tmp_path / "other.txt"),
                "--steps",
                "4",
                "--checkpoint_every",
                "2",
            ]
        )
        == 0
    )
    run = files.held_run(out)
    assert run is not None
    assert run.start == fingerprint(whole_run[1].model)
    assert run.config == whole_run[1].model.config
    rates = [line["lr"] for line in toys.told(out)]
    assert rates == pytest.approx([learning_rate(run.training, step) for step in range(4)])
    # Stopped at once and resumed, it is the same run; without its first checkpoint it is refused.
    start = trained(source, "cpu").model
    parts = tmp_path / "parts"
    assert train(run, parts, start=start, until=1).status == "paused"
    loaded = torch.load(parts / "checkpoint-00000000.pt", weights_only=True)["model"]
    assert toys.same_bits(loaded, toys.weights(whole_run[1]))
    train(run, parts, resume=True)
    assert toys.told(parts) == toys.told(out)
    lost = tmp_path / "lost"
    lost.mkdir()
    (lost / "run.json").write_text(run.to_json())
    with pytest.raises(ValueError, match="start must be the model that this run began with, got none"):
        train(run, lost, resume=True)
    # Its configuration is the weights'.
    capsys.readouterr()
    assert main([*words, str(tmp_path / "wide"), "--width", "16"]) == 2
    assert "width must be that of the model to start from, 8, got 16" in capsys.readouterr().err
    assert main([*words, str(out), "--resume"]) == 2
    assert "from must not be given with resume" in capsys.readouterr().err
    whole_run[1].model.save(tmp_path / "alone")
    assert main(["train", "--from", str(tmp_path / "alone"), "--describe"]) == 0
    assert json.loads(capsys.readouterr().out.rpartition("\n\n")[0])["config"]["width"] == 8


# --- metrics for TensorBoard ------------------------------------------------------------------------------------


def test_metrics_go_to_tensorboard_too(
    toys: SimpleNamespace,
    toy_text: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "toy.json").write_text(toys.run(toy_text, steps=2).to_json())
    words = [
        "train",
        "--config",
        str(tmp_path / "toy.json"),
        "--quiet",
        "--tensorboard",
        "--out",
        str(tmp_path / "run"),
    ]
    monkeypatch.setattr("hope_ref.training.train_command.find_spec", lambda name: None)
    assert main(words) == 2
    assert "tensorboard must be installed" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    points: list[tuple[str, float, int]] = []
    opened: list[tuple[Path, int]] = []

    def board(folder: Path, step: int) -> SimpleNamespace:
        opened.append((folder, step))
        return SimpleNamespace(add_scalar=lambda *point: points.append(point), flush=lambda: None)

    monkeypatch.setattr("hope_ref.training.train_command.find_spec", lambda name: name)
    monkeypatch.setattr("hope_ref.training.train_command.board_in", board)
    assert main(words) == 0
    assert opened == [(tmp_path / "run" / "tensorboard", 1)]
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert sorted(points) == sorted(
        (name, value, line["step"]) for line in lines for name, value in line.items() if name != "step"
    )


# --- weights that are not finite --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command", [["evaluate"], ["generate", "--temperature", "0"], ["train", "--resume", "--out"]]
)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_named(
    value: float,
    command: list[str],
    toys: SimpleNamespace,
    toy_text: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    train(toys.run(toy_text, steps=2), tmp_path, until=1)
    last = files.checkpoints(tmp_path)[-1]
    content = torch.load(last, weights_only=True)
    content["model"]["embedding"][0, 0] = value
    torch.save(content, last)
    assert main([*command, str(tmp_path)]) == 2
    assert "embedding must be finite, got NaN or infinite entries" in capsys.readouterr().err
