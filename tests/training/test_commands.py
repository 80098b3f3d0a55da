"""The three commands: what they print and leave, and the words and exit status of everything that goes wrong."""

from __future__ import annotations

import importlib
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from hope_ref.__main__ import main
from hope_ref.training import Outcome, Run, files
from hope_ref.training.loop import Trainer

pytestmark = pytest.mark.usefixtures("no_curve")

Command = Callable[..., int]


@pytest.fixture
def command() -> Command:
    def run(name: str, *arguments: object) -> int:
        try:
            return main([name, *(str(one) for one in arguments)])
        except SystemExit as ended:  # the parser's
            return int(str(ended.code))

    return run


@pytest.fixture
def config(toys: SimpleNamespace, toy_text: Path, tmp_path: Path) -> Path:
    path = tmp_path / "toy.json"
    path.write_text(toys.run(toy_text).to_json())
    return path


def test_train_evaluate_generate(
    command: Command, config: Path, toy_text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "run"
    given = tmp_path / "given"
    options = ("--steps", 6, "--lr", 0.02, "--seed", 3, "--weights", given)
    assert command("train", "--config", config, *options, "--out", out) == 0
    printed = capsys.readouterr().out
    assert "step      6 of 6" in printed
    assert ", validation" in printed
    assert f"next: python -m hope_ref evaluate {out}" in printed
    held = files.held_run(out)
    assert held is not None
    assert (held.training.steps, held.training.lr, held.text) == (6, 0.02, str(toy_text))
    assert (held.training.seed, held.config.seed) == (3, 3)

    assert command("evaluate", out) == 0
    printed = capsys.readouterr().out
    assert "this model after 6 steps, in windows of 16 bytes" in printed
    assert "carried" not in printed
    assert command("evaluate", out / "checkpoint-00000006.pt", "--text", toy_text, "--carry") == 0
    assert "its state carried through the text" in capsys.readouterr().out

    (tmp_path / "short.txt").write_bytes(toy_text.read_bytes()[:200])
    assert command("generate", given, "--prompt", "hope ", "--count", 12) == 0
    written = [capsys.readouterr().out]
    for extra in ((), ("--seed", 5), ("--adapt", tmp_path / "short.txt")):
        assert command("generate", out, "--prompt", "hope ", "--count", 12, *extra) == 0
        written.append(capsys.readouterr().out)
    assert all(text.startswith("hope ") for text in written)
    assert written[0] == written[1] != written[2]


def test_train_resume(
    command: Command,
    config: Path,
    tmp_path: Path,
    whole_run: tuple[Path, Outcome],
    toys: SimpleNamespace,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, advance = tmp_path / "run", Trainer.advance

    def interrupted(trainer: Trainer, caught: list[int]) -> object:
        found = advance(trainer, caught)
        if trainer.step == 7:
            os.kill(os.getpid(), signal.SIGINT)
        return found

    monkeypatch.setattr(Trainer, "advance", interrupted)
    assert command("train", "--config", config, "--out", out) == 130
    error = capsys.readouterr().err
    assert "SIGINT after 7 of 12 steps" in error
    assert f"go on with --resume --out {out}" in error
    monkeypatch.undo()
    assert command("train", "--out", out) == 2
    assert "error: out must be a folder without a run" in capsys.readouterr().err
    assert command("train", "--out", out, "--resume", "--steps", 99) == 2
    assert "got steps 99 instead of 12" in capsys.readouterr().err
    assert command("train", "--out", out, "--resume", "--quiet") == 0
    assert "step" not in capsys.readouterr().out.splitlines()[0].split("12 steps")[0]
    ours = torch.load(out / "checkpoint-00000012.pt", weights_only=True)["model"]
    assert toys.same_bits(ours, toys.weights(whole_run[1]))
    assert toys.told(out) == toys.told(whole_run[0])


def test_train_until_it_diverges(
    command: Command,
    config: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "hope_ref.training.processes.cross_entropy", lambda logits, _: logits.sum() * torch.nan
    )
    assert command("train", "--config", config, "--out", tmp_path / "run") == 3
    error = capsys.readouterr().err
    assert "after 0 steps the loss or its gradient is not finite (loss nan)" in error
    assert "checkpoint-00000000.pt" in error


def test_describe_trains_nothing(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert command("train", "--preset", "760m", "--describe", "--out", out) == 0
    text, _, sizes = capsys.readouterr().out.rpartition("\n\n")
    assert Run.from_json(text).config.width == 1024
    assert sizes.startswith("751,139,168 parameters; with gradients and AdamW's moments 12.02 GB")
    assert not out.exists()


BAD = [
    (("train", "--text", "nowhere.txt"), "text must be a file that exists, got '{here}/nowhere.txt'"),
    (
        ("train", "--text", "/dev/null"),
        "got '/dev/null', which is a pipe or a device: save it as a file first",
    ),
    (("train", "--text", "{tmp}"), "text must be a file that exists, got '{tmp}', which is a folder"),
    (("train", "--text", "{tmp}/empty.txt"), "at least 1 byte, got 'empty.txt' with 0"),
    (("train", "--config", "nowhere.json"), "config must be a file that can be read, got 'nowhere.json'"),
    (("train", "--config", "{tmp}/unknown.json"), "unknown.json: unknown name stepps; known:"),
    (("train", "--config", "{tmp}/nested.json"), "nested.json: unknown key stepps; known: steps"),
    (("train", "--config", "{tmp}/empty.txt"), "empty.txt must be JSON"),
    (("train", "--config", "{tmp}/older.json"), "older.json: run must be one of this version"),
    (("train", "--vocabulary", "64"), "vocabulary must be >= 256 for bytes, got 64"),
    (("train", "--blocks", "0"), "blocks must be an integer >= 1, got 0"),
    (("train", "--learning_rate", "1"), "unrecognized arguments: --learning_rate 1"),
    (("train", "--lr", "fast"), "lr must be a number, got fast"),
    (("train", "--steps", "-3"), "steps must be an integer >= 1, got -3"),
    (("train", "--device", "cuda"), "device must be one that this machine has ('cpu'), got 'cuda'"),
    (("train", "--resume"), "out must be a folder with a run to resume, got '{tmp}/run' without one"),
    (("train", "--preset", "760m"), "large must be given to train 751,139,168 parameters"),
    (("evaluate", "{tmp}"), "checkpoint must be a file or a folder with checkpoints"),
    (("evaluate", "{tmp}/alone"), "checkpoint must have run.json beside it to be evaluated"),
    (
        ("evaluate", "{tmp}/cut.pt"),
        "checkpoint must be whole and one of hope_ref: {tmp}/cut.pt must be a whole file of torch.save",
    ),
    (("evaluate", "{whole}", "--text", "nowhere"), "text must be a file that exists, got 'nowhere'"),
    (("evaluate", "{whole}", "--text", "/dev/null"), "got '/dev/null', which is a pipe or a device"),
    (("evaluate", "{whole}", "--device", "mps"), "device must be one that this machine has"),
    (("generate", "nowhere.pt"), "checkpoint must be a file that exists, got 'nowhere.pt'"),
    (("generate", "{whole}", "--prompt", ""), "prompt must have at least 1 byte, got none"),
    (("generate", "{whole}", "--count", "0"), "count must be an integer >= 1, got 0"),
    (("generate", "{whole}", "--temperature", "-1"), "temperature must be >= 0, got min -1"),
    (("generate", "{whole}", "--adapt", "{tmp}/empty.txt"), "at least 1 byte, got 'empty.txt' with 0"),
]


@pytest.mark.skipif(
    torch.cuda.is_available() or torch.backends.mps.is_available(), reason="a device is there"
)
@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_what_is_wrong_is_named_and_nothing_is_left(
    arguments: tuple[str, ...],
    message: str,
    command: Command,
    tmp_path: Path,
    whole_run: tuple[Path, Outcome],
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "unknown.json").write_text(json.dumps({"stepps": 3}))
    (tmp_path / "older.json").write_text(json.dumps({"blocks": 2, "mixer_options": {}}))
    (tmp_path / "nested.json").write_text(json.dumps({"training": {"stepps": 3}}))
    whole = whole_run[0]
    whole_run[1].model.save(tmp_path / "alone")
    (tmp_path / "cut.pt").write_bytes((whole / "checkpoint-00000012.pt").read_bytes()[:5000])
    here = {"tmp": tmp_path, "whole": whole, "here": Path.cwd()}
    words = [word.format(**here) for word in arguments]
    if words[0] == "train":
        words += ["--out", str(tmp_path / "run")]
    before = sorted(tmp_path.rglob("*"))
    assert command(*words) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ")
    assert message.format(**here) in printed.err
    assert printed.out == ""
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["train", "evaluate", "generate"])
def test_help_is_there_for_every_option(name: str) -> None:
    module = importlib.import_module(f"hope_ref.training.{name}_command")
    parser = module.parser("it")
    assert all(action.help for action in parser._actions)
    assert "%%" not in parser.format_help()


def test_a_folder_that_cannot_be_made(
    command: Command, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "run", tmp_path / ("x" * 300)):
        assert command("train", "--config", config, "--out", out) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: out must be a folder")
        assert error.count("\n") == 1
    assert (tmp_path / "file").read_text() == ""
