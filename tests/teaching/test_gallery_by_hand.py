"""Figures to move by hand: the numbers of every setting, found in another way, and what captions and words say of them."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from hope_ref.reference.continuum_memory import random_levels
from hope_ref.teaching import layout
from hope_ref.teaching.gallery import by_hand_clocks as clocks
from hope_ref.teaching.gallery import by_hand_writes as writes
from hope_ref.teaching.interactive import explorers

HAND = explorers()
POSITIONS = {
    name: {control.argument: control.positions for control in explorer.controls}
    for name, explorer in HAND.items()
}


def numbers(words: str) -> list[float]:
    """Every number of a text, in order."""
    return [float(found.replace("−", "-")) for found in re.findall(r"−?\d+(?:\.\d+)?", words)]


# --- write ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("eta", POSITIONS["write"]["eta"])
def test_a_write_is_one_number_and_a_resting_point(eta: float) -> None:
    for alpha in POSITIONS["write"]["alpha"]:
        data = writes.write_data(eta, alpha)
        factors = (alpha * (1 - eta), alpha - eta, alpha - 2 * eta)
        for course, factor in zip(data.courses.values(), factors, strict=True):
            answer, answers = 0.0, [0.0]
            for _ in range(12):  # what is left of the answer, and what is written
                answer = factor * answer + eta
                answers.append(answer)
            np.testing.assert_allclose(course.answers, answers, rtol=1e-12, atol=1e-12)
            assert course.factor == pytest.approx(factor, abs=1e-12)
            assert course.rest == pytest.approx(factor * course.rest + eta, rel=1e-12)


@pytest.mark.parametrize("eta", POSITIONS["write"]["eta"])
def test_words_of_a_write_are_its_data(eta: float) -> None:
    for alpha in POSITIONS["write"]["alpha"]:
        words = writes.write_words(writes.write_data(eta, alpha))
        said = numbers(words)
        assert said[:2] == [eta, alpha]
        for factor, part in zip(
            (alpha * (1 - eta), alpha - eta, alpha - 2 * eta), words.split(": ")[1:], strict=True
        ):
            found = numbers(part)
            assert found[0] == pytest.approx(factor, abs=0.0051)
            assert "−0.00" not in part
            if abs(factor) > 1 + 1e-12:
                assert "it diverges" in part
            elif abs(factor) > 1 - 1e-12:
                assert "it swings for ever" in part
            else:
                assert found[1] == pytest.approx(eta / (1 - factor), abs=0.0051)


def test_what_the_still_picture_says_of_writes() -> None:
    rests = {
        setting: [course.rest for course in writes.write_data(*setting).courses.values()]
        for setting in writes.WRITE_SETTINGS
    }
    for eta in (0.25, 1.0, 1.5):
        assert rests[eta, 1.0] == pytest.approx([1, 1, 0.5])
    assert [rests[eta, 0.8][0] for eta in (0.25, 1.0, 1.5)] == pytest.approx([0.625, 1, 1.07], abs=0.005)
    assert [rests[eta, 0.8][1] for eta in (0.25, 1.0, 1.5)] == pytest.approx([0.56, 0.83, 0.88], abs=0.005)


def test_labels_are_moved_apart_and_stay_inside() -> None:
    for places in ([1.0, 1.0, 0.5], [2.6, 2.6, 2.6], [0.0, 0.01, 2.0], [2.0, -0.7, 1.9]):
        moved = layout.spread(places, 0.3, -0.5, 2.5)
        assert np.diff(sorted(moved)).min() > 0.3 - 1e-9
        assert min(moved) >= -0.5
        assert max(moved) <= 2.5
    assert layout.spread([0.0, 1.0, 2.0], 0.3, -0.5, 2.5) == [0.0, 1.0, 2.0]


# --- stability -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", POSITIONS["stability"]["step"])
@pytest.mark.parametrize("objective", POSITIONS["stability"]["objective"])
def test_regions_are_where_the_formula_has_them(step: str, objective: str) -> None:
    for alpha in POSITIONS["stability"]["alpha"]:
        data = writes.region_data(step, objective, alpha, points=13)
        square, eta = np.meshgrid(data.squares, data.etas, indexing="ij")
        taken = {"explicit": eta, "implicit": eta / (1 + eta * square), "normalized": eta / (square + 1e-6)}[
            step
        ]
        factor = alpha - {"dot": 1, "l2": 2, "l2_without_half": 3}[objective] * taken * square
        np.testing.assert_allclose(data.factor, factor, rtol=1e-9, atol=1e-9)
        value = eta if step == "normalized" else eta * square
        np.testing.assert_array_equal(data.kinds() == 0, value > writes.edge(step, objective, alpha))
        words = writes.region_words(data)
        shares = [100 * ((factor >= 0) & (factor < 1)).mean(), 100 * ((factor < 0) & (factor > -1)).mean()]
        assert numbers(words)[-3:-1] == pytest.approx(shares, abs=0.51)
        assert ("diverge nowhere" in words) == (data.kinds() > 0).all()
        if (data.kinds() == 0).any():
            last = numbers(words)[-4]
            assert value[data.kinds() == 0].min() > 0.99 * last
            assert value[data.kinds() > 0].max() < 1.01 * last


def test_what_the_still_picture_says_of_regions() -> None:
    edges = [writes.edge(*setting) for setting in writes.REGION_SETTINGS]
    assert edges == pytest.approx([2, np.inf, 2, 0.9, 9, 0.9])


def test_a_word_stands_where_there_is_room() -> None:
    mask = np.zeros((20, 30), dtype=bool)
    mask[2:9, 5:26] = True
    row, column, room = writes.middle(mask)
    assert (row, room) == (5, 11 / 3)
    assert column == 15
    narrow = np.zeros((5, 30), dtype=bool)
    narrow[2] = True
    assert writes.middle(narrow)[2] == 1


# --- chunk size ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("chunk_size", "eta"), [(1, 1.0), (12, 0.5), (16, 1.0), (48, 0.25), (64, 1.0)])
def test_recall_equals_a_literal_loop(chunk_size: int, eta: float) -> None:
    data = clocks.chunk_size_data(chunk_size, eta)
    rng = np.random.default_rng(0)
    keys = rng.normal(size=(16, 32))
    keys /= np.sqrt((keys**2).sum(1, keepdims=True))
    values = rng.normal(size=(16, 8))
    order = np.concatenate([rng.permutation(16) for _ in range(4)])

    def run(size: int, looks: bool) -> tuple[np.ndarray, np.ndarray]:
        memory, errors, outputs = np.zeros((8, 32)), [1.0], []
        for t, pair in enumerate(order):
            if t % size == 0:
                frozen = memory
            missing = values[pair] - (frozen @ keys[pair] if looks else 0)
            memory = memory + eta * missing[:, None] * keys[pair]
            errors.append(np.linalg.norm(memory @ keys.T - values.T) / np.linalg.norm(values))
            outputs.append(memory @ keys[order[-1 - t]])
        return np.array(errors), np.array(outputs)

    said = numbers(clocks.chunk_size_words(data))
    ends = []
    for name, looks in (("½‖M k − v‖²", True), ("−⟨M k, v⟩", False)):
        (errors, outputs), (base, one) = run(chunk_size, looks), run(1, looks)
        np.testing.assert_allclose(data.recall[name], errors, rtol=1e-9)
        moved = np.abs(outputs - one).max() / np.abs(one).max()
        assert data.moved[name] == pytest.approx(moved, abs=1e-12)
        ends.append((errors[-1], base[-1], moved))
    (l2, base, l2_moved), (dot, _, dot_moved) = ends
    np.testing.assert_allclose(data.recall[clocks.TOKEN_BY_TOKEN][-1], base, rtol=1e-9)
    assert said[:2] == [chunk_size, eta]
    assert said[2:5] == [64, 4, 16]
    assert said[6:9] == pytest.approx([l2, dot, base], abs=0.0051)
    assert said[10:] == pytest.approx([100 * l2_moved, 100 * dot_moved], abs=0.51)


def test_what_the_still_picture_says_of_chunk_sizes() -> None:
    ends = {
        setting: [curve[-1] for curve in clocks.chunk_size_data(*setting).recall.values()]
        for setting in clocks.CHUNK_SIZE_SETTINGS
    }
    for setting, wanted in (
        ((1, 1.0), 0.12),
        ((8, 1.0), 0.19),
        ((16, 1.0), 1.3),
        ((32, 1.0), 5.5),
        ((32, 0.25), 0.44),
    ):
        assert ends[setting][1] == pytest.approx(wanted, abs=0.05 if wanted > 1 else 0.005)
    for size in (1, 8, 16, 32, 64):
        assert ends[size, 1.0][2] == pytest.approx(4.2, abs=0.05)
    data = clocks.chunk_size_data(64, 1.0)
    np.testing.assert_allclose(data.recall["½‖M k − v‖²"], data.recall["−⟨M k, v⟩"], rtol=1e-12)
    assert ends[32, 0.25][0] == pytest.approx(ends[32, 0.25][1], abs=0.02), "where single tokens end, too"


# --- clocks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", POSITIONS["clocks"]["variant"])
def test_levels_move_at_the_ends_of_their_chunks_only(variant: str) -> None:
    for first, second, third in ((1, 1, 1), (1, 4, 3), (3, 2, 1), (3, 1, 3), (16, 1, 3), (16, 4, 1)):
        data = clocks.frequencies_data(first, second, third, variant)
        assert data.sizes == (first, first * second, first * second * third)
        for size, moved, distance in zip(data.sizes, data.moved, data.distance, strict=True):
            assert np.flatnonzero(moved).tolist() == [t for t in range(48) if (t + 1) % size == 0]
            assert (np.diff(distance)[~moved] == 0).all()
        words = clocks.frequencies_words(data)
        for part, size in zip(words.split(";"), data.sizes, strict=True):
            count = 48 // size
            said = {0: "never moved", 1: f"moved once, first after token {size}"}
            assert f"(C = {size}) {said.get(count, f'moved {count} times, first after token {size}')}" in part


@pytest.mark.parametrize(("first", "second", "third"), [(4, 2, 2), (8, 3, 4)])
def test_distances_equal_autograd(first: int, second: int, third: int) -> None:
    """Sequential levels, each a leaf of its own: gradients of its summed loss, at the chunk's end."""
    data = clocks.frequencies_data(first, second, third)
    levels = random_levels(4, 3, 0)
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(48, 4)))
    weights = [[torch.tensor(w).requires_grad_() for w in (level.w1, level.w2)] for level in levels]
    starts = [[w.detach().clone() for w in pair] for pair in weights]
    losses, far = [torch.zeros(()), torch.zeros(()), torch.zeros(())], np.zeros((3, 49))
    for t in range(48):
        z = x[t]
        for index, level in enumerate(levels):
            w1, w2 = weights[index]
            n = z / (z.square().mean() + 1e-6).sqrt()
            branch = w1 @ torch.nn.functional.silu(w2 @ n)
            losses[index] = losses[index] + 0.5 * (branch - torch.from_numpy(level.value) @ n).square().sum()
            z = (z + branch).detach()
        for index, size in enumerate(data.sizes):
            if (t + 1) % size == 0:
                slopes = torch.autograd.grad(losses[index], weights[index])
                moved = [w.detach() - 0.01 * s for w, s in zip(weights[index], slopes, strict=True)]
                weights[index], losses[index] = [w.requires_grad_() for w in moved], torch.zeros(())
            gone = sum(((w - s) ** 2).sum() for w, s in zip(weights[index], starts[index], strict=True))
            whole = sum((s**2).sum() for s in starts[index])
            far[index, t + 1] = (gone / whole).sqrt().item()
    np.testing.assert_allclose(data.distance, far, rtol=1e-9, atol=1e-15)


def test_what_the_still_picture_says_of_clocks() -> None:
    counts = [
        clocks.frequencies_data(*setting).moved.sum(1).tolist() for setting in clocks.FREQUENCY_SETTINGS
    ]
    assert counts == [[48, 48, 48], [48, 12, 3], [12, 6, 3], [6, 2, 1], [6, 2, 0], [24, 8, 2]]
    for setting in clocks.FREQUENCY_SETTINGS[1:3]:
        ends = clocks.frequencies_data(*setting).distance[:, -1]
        assert ends.max() < 1.5 * ends.min(), "they come about as far"
    nested = clocks.frequencies_data(2, 3, 4, "nested")
    fast, middle = (np.diff(row) for row in nested.distance[:2])
    assert middle[23] < 0
    assert middle[47] < 0
    assert fast[5::6].mean() < 0.5 * fast[1::2].clip(0).mean(), "falls back, or climbs less"
