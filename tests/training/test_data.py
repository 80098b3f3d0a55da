"""Windows from (seed, step) alone; shares of processes that make up the whole; every byte evaluated once."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hope_ref.tasks.text import Split
from hope_ref.training import data


def test_windows_are_stretches_of_the_training_text(toys: SimpleNamespace, toy_text: Path) -> None:
    run, parts = data.prepared(toys.run(toy_text))
    raw = toy_text.read_bytes()
    found = data.batch(run, parts, 3)
    assert found.shape == (4, 17)
    assert found.dtype == torch.int64
    training = raw[: len(raw) - 2 * (len(raw) // 20)]
    assert bytes(parts.train) == training
    assert all(bytes(row.tolist()) in training for row in found)


def test_no_window_is_of_validation_or_test(toys: SimpleNamespace, toy_text: Path) -> None:
    run, _ = data.prepared(toys.run(toy_text))
    parts = Split(*(np.full(60, letter, np.uint8) for letter in b"abc"))
    assert {letter for step in range(9) for letter in data.batch(run, parts, step).unique().tolist()} == {
        ord("a")
    }


def test_a_step_needs_no_step_before_it(toys: SimpleNamespace, toy_text: Path) -> None:
    run, parts = data.prepared(toys.run(toy_text))
    assert torch.equal(data.batch(run, parts, 7), data.batch(run, parts, 7))
    assert not torch.equal(data.batch(run, parts, 7), data.batch(run, parts, 8))
    assert not torch.equal(data.batch(run, parts, 7), data.batch(run.changed(seed=1), parts, 7))


def test_the_shares_of_processes_are_the_whole(toys: SimpleNamespace, toy_text: Path) -> None:
    run, parts = data.prepared(toys.run(toy_text))
    shares = [data.batch(run, parts, 5, rank, 2) for rank in (0, 1)]
    assert torch.equal(torch.cat(shares), data.batch(run, parts, 5))


@pytest.mark.parametrize("size", [2, 16, 17, 18, 33, 100, 161])
def test_every_byte_but_the_first_is_predicted_once(size: int) -> None:
    text = np.arange(size, dtype=np.uint8)
    found = list(data.pieces(text, 16, 3))
    assert all(len(piece) <= 3 for piece in found)
    rows = [row for piece in found for row in piece]
    assert torch.cat([row[1:] for row in rows]).tolist() == list(range(1, size))
    assert all(row[1:].tolist() == (row[:-1] + 1).tolist() for row in rows)


def test_a_text_that_has_changed_is_refused(toys: SimpleNamespace, toy_text: Path, tmp_path: Path) -> None:
    run, _ = data.prepared(toys.run(toy_text))
    assert len(run.sha256) == 64
    other = tmp_path / "other.txt"
    other.write_bytes(toy_text.read_bytes() + b"!")
    with pytest.raises(
        ValueError, match=r"text must be the one that the run was started with .* got other.txt"
    ):
        data.prepared(run.changed(text=str(other)))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "at least 1 byte"),
        (b"ab", "leave every part a byte"),
        (b"a" * 39, "at least 17 bytes to train on"),
    ],
)
def test_a_text_too_short_is_refused(raw: bytes, message: str, toys: SimpleNamespace, tmp_path: Path) -> None:
    path = tmp_path / "short.txt"
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=message):
        data.prepared(toys.run(path))


def test_python_s_own_text_is_the_default(toys: SimpleNamespace) -> None:
    run, parts = data.prepared(toys.run("x").changed(text=None))
    assert len(parts.train) > 300_000
    assert run.sha256
