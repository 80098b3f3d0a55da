"""Files are whole or not there: writing that fails half way, checkpoints kept and damaged, metrics after a kill."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import numpy as np
import pytest
import torch

from hope_ref.training import files, folders


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files.write_text(path, "before")

    def fails(error: Exception) -> Any:
        def filled(file: IO[bytes]) -> None:
            file.write(b"half")
            raise error

        return filled

    with pytest.raises(OSError, match=r"cannot write .*file: no space"):
        files.write(path, fails(OSError("no space")))
    with pytest.raises(OSError, match=r"cannot write .*file: PytorchStreamWriter"):
        files.write(path, fails(RuntimeError("PytorchStreamWriter failed")))  # torch's word for a full disk
    with pytest.raises(KeyboardInterrupt):
        files.write(path, fails(KeyboardInterrupt()))  # type: ignore[arg-type]
    assert path.read_text() == "before"
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_what_a_killed_process_left_is_swept_away(tmp_path: Path) -> None:
    for name in (".checkpoint-00000001.pt.77.part", "notes.part", "loss.png"):
        (tmp_path / name).write_text("x")
    folders.sweep(tmp_path)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["loss.png", "notes.part"]


def content(toys: SimpleNamespace, **training: Any) -> dict[str, Any]:
    """All parts of a checkpoint, empty but for its run."""
    return {"run": toys.run("x", **training).to_json(), "model": {}, "optimizer": {}, "random": {}}


def test_the_last_two_checkpoints_are_kept(toys: SimpleNamespace, tmp_path: Path) -> None:
    for step in (0, 5, 10, 200):
        files.save_checkpoint(tmp_path, step, content(toys, steps=200))
    assert [one.name for one in files.checkpoints(tmp_path)] == [
        "checkpoint-00000010.pt",
        "checkpoint-00000200.pt",
    ]
    assert files.load_checkpoint(tmp_path)["step"] == 200
    assert files.load_checkpoint(tmp_path / "checkpoint-00000010.pt")["run"] == toys.run("x", steps=200)


def test_a_checkpoint_that_is_none_is_refused(toys: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a folder with checkpoints, got .* without any"):
        files.load_checkpoint(tmp_path)
    with pytest.raises(ValueError, match="must be a file that exists"):
        files.load_checkpoint(tmp_path / "nothing.pt")
    for step in (1, 2):
        last = files.save_checkpoint(tmp_path, step, {**content(toys), "model": {"w": torch.ones(999)}})
    raw = last.read_bytes()
    for size in (0, 1, 100, len(raw) // 2, len(raw) - 1):
        last.write_bytes(raw[:size])
        with pytest.raises(
            ValueError,
            match=r"must be whole .*00002\.pt must be .*; checkpoint-00000001\.pt beside it is older: move checkpoint-00000002\.pt away",
        ):
            files.load_checkpoint(last)
    torch.save([1, 2], last)
    with pytest.raises(ValueError, match=r"must be one of format 2 of hope_ref, got .*00002\.pt'$"):
        files.load_checkpoint(last)
    torch.save({"format": 1, "run": "{}"}, last)
    older = r"of format 2 of hope_ref, got .*, of format 1, an earlier version's: train it anew$"
    with pytest.raises(ValueError, match=older):
        files.load_checkpoint(last)


def test_random_states_come_back_through_a_file(tmp_path: Path) -> None:
    def drawn() -> list[Any]:
        numbers = [random.random(), random.gauss(), np.random.rand(), np.random.randn()]  # noqa: NPY002
        return [*numbers, torch.rand(()).item()]

    np.random.seed(3)  # noqa: NPY002
    random.seed(3)
    drawn()  # leaves a second normal number in store, in both
    torch.save(files.random_states(), tmp_path / "states")
    first = drawn()
    drawn()
    files.set_random_states(torch.load(tmp_path / "states", weights_only=True))
    assert drawn() == first


def test_metrics_after_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    files.drop_after(path, 3)  # nothing there yet
    assert path.read_text() == ""
    for step in range(1, 6):
        files.append_line(path, {"step": step, "loss": 1 / step})
    with path.open("a") as file:
        file.write('{"step": 6, "lo')  # killed while it wrote
    assert [line["step"] for line in files.read_lines(path)] == [1, 2, 3, 4, 5]
    files.drop_after(path, 3)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3]
    files.append_line(path, {"step": 4})
    assert len(files.read_lines(path)) == 4


def test_the_curve_is_drawn_whatever_there_is(tmp_path: Path) -> None:
    sizes = []
    for record in ({}, {"step": 1, "bits_per_byte": 7.0}, {"step": 2, "validation_bits_per_byte": 6.0}):
        files.append_line(tmp_path / files.METRICS, record)
        files.draw_curve(tmp_path)
        raw = (tmp_path / files.CURVE).read_bytes()
        assert raw.startswith(b"\x89PNG")
        sizes.append(len(raw))
    assert sizes == sorted(set(sizes))  # each has more to show


def test_a_line_that_does_not_fit_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.jsonl"
    files.append_line(path, {"step": 1})
    before = path.read_bytes()

    class Full:
        def __init__(self) -> None:
            self.file = os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND), "ab", buffering=0)

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def write(self, line: bytes) -> int:
            return self.file.write(line[:5])  # the disk takes this much

    monkeypatch.setattr("builtins.open", lambda *_, **__: Full(), raising=True)
    with pytest.raises(OSError, match=r"cannot write .*metrics.jsonl: only a part of the line fits"):
        files.append_line(path, {"step": 2})
    monkeypatch.undo()
    assert path.read_bytes() == before
