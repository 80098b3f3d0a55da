"""Notebook 13's figures: the clocks against schedules and the library's table, the twins against literal loops."""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import numpy as np
import pytest

from hope_ref.laboratory.anatomy import anatomy
from hope_ref.reference.delta_rule import delta_rule
from hope_ref.teaching.exercises import e13
from hope_ref.teaching.gallery import levels as gallery


def test_every_clock_ticks_by_its_schedule() -> None:
    """What a read sees moves after tick i exactly if C divides i; inside, all but the MLP move at every tick."""
    every = {
        "M_memory": 1,
        "M_k": 8,
        "level 1": 16,
        "level 2": 32,
        "attention": 1,
        "Titans' memory": 1,
        "Adam's mean": 1,
        "M3's slow momentum": 16,
    }
    rows = gallery.clocks_data()
    assert set(rows) == {*every, "MLP"}
    ticks = np.arange(1, gallery.LENGTH + 1)
    for name, size in every.items():
        np.testing.assert_array_equal(rows[name].seen, ticks % size == 0, err_msg=name)
        assert rows[name].inside.all(), name
    assert not rows["MLP"].inside.any()
    assert not rows["MLP"].seen.any()
    assert [name for name, row in rows.items() if row.clock == "step"] == [
        "Adam's mean",
        "M3's slow momentum",
    ]
    assert [name for name, row in rows.items() if row.anew] == ["attention"]


def test_measured_frequencies_are_those_of_the_table() -> None:
    rows = gallery.clocks_data()
    said = {row.name.split(",")[0]: row.frequency for row in anatomy("hope", config=gallery.SMALL)}
    for name in ("M_memory", "M_k", "level 1", "level 2"):
        assert gallery.measured(rows[name]) == said[name]
    assert gallery.measured(rows["attention"]) == math.inf
    assert gallery.measured(rows["M3's slow momentum"]) == anatomy("m3", slow_every=16)[-1].frequency


def test_the_riddle_has_every_lane_once_and_equal_ones_on_different_clocks() -> None:
    rows = gallery.clocks_data()
    shown = [rows[name] for name in gallery.RIDDLE.values()]
    keys = {(row.clock, row.anew, row.seen.tobytes()) for row in shown}
    assert len(keys) == len(gallery.RIDDLE)
    for drawing in (gallery.clocks_unnamed(rows), gallery.clocks(rows)):
        assert len(drawing.figure.axes[0].get_yticks()) == 0
        plt.close(drawing.figure)
    for name in gallery.RIDDLE.values():
        assert name not in gallery.clocks_unnamed(rows).alt
    plt.close("all")


def test_the_words_beside_the_lanes_are_the_measured_ones() -> None:
    rows = gallery.clocks_data()
    drawing = gallery.clocks(rows)
    words = [text.get_text() for text in drawing.figure.axes[0].texts]
    for name, said in (
        ("attention", "∞"),
        ("M_k", "1 / 8 tokens"),
        ("MLP", "0"),
        ("Adam's mean", "1 / step"),
    ):
        assert words[words.index(name) + 1] == said
    plt.close(drawing.figure)


def test_the_table_of_the_exercise_says_what_the_library_says() -> None:
    rules = {
        "attention": ("softmax_attention", 0, "none"),
        "Titans' memory": ("titans", 1, "B"),
        "HOPE's M_k": ("self_modifying_titans", 1, "Delta Gradient Descent"),
        "level 1": ("continuum_memory", 0, "one gradient step"),
        "level 2": ("continuum_memory", 1, "one gradient step"),
        "MLP": ("mlp", 0, "the outer optimiser"),
        "Adam's mean": ("adam", 0, "β m + (1 − β)"),
        "M3's slow momentum": ("m3", -1, "β₃ m² + (1 − β₃)"),
    }
    contexts = {"tokens": "token", "tokens, targets of its own": "its own answer"}
    for name, (_, context, _) in e13.TABLE.items():
        what, index, rule = rules[name]
        row = anatomy(what)[index]
        assert rule in row.rule
        assert contexts.get(context, context) in row.context


def test_twins_are_what_they_are_called() -> None:
    """Two of them again, by literal loops; the plain delta rule is read after the write."""
    data = gallery.left_open_data()
    rng = np.random.default_rng(3)
    k, q, v = (rng.normal(size=(64, 8)) for _ in range(3))
    k, q, v = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (k, q, v))
    after, before, fast = np.zeros((3, 64, 8))
    memory, other = np.zeros((8, 8)), np.zeros((8, 8))
    for t in range(64):
        before[t] = memory @ q[t]
        memory = memory - 0.5 * np.outer(memory @ k[t] - v[t], k[t])
        other = other - 0.9 * np.outer(other @ k[t] - v[t], k[t])
        after[t], fast[t] = memory @ q[t], other @ q[t]
    np.testing.assert_allclose(delta_rule(q, k, v, 0.5)[0], after, rtol=0, atol=1e-12)
    for twin, name in ((before, "read before the write,\nnot after it"), (fast, "step 0.9,\nnot 0.5")):
        assert data[name] == pytest.approx(np.linalg.norm(after - twin) / np.linalg.norm(after))
    assert data["computed in chunks,\nnot in a loop"] < 1e-12


def test_the_words_of_left_open_are_the_numbers() -> None:
    data, drawing = gallery.left_open_data(), gallery.left_open()
    for name, distance in data.items():
        assert f"{100 * distance:.0f}" in drawing.alt, name
    assert sorted(data.values())[1] > 0.3
    plt.close(drawing.figure)
