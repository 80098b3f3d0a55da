"""Notebook 09's figures: the numbers they show, found in another way."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hope_ref.teaching.gallery import m3 as gallery


def test_weights_by_age_are_those_of_closed_sums() -> None:
    data = gallery.two_clocks_data(every=5, steps=43)
    gradients = np.random.default_rng(0).normal(size=43)[::-1]  # newest first, as the weights
    fast = slow = 0.0
    oldest_first = gradients[::-1]
    for g in oldest_first:
        fast = 0.9 * fast + 0.1 * g
    for start in range(0, 40, 5):
        slow = 0.9 * slow + 0.1 * oldest_first[start : start + 5].sum()
    assert data.fast @ gradients == pytest.approx(fast, abs=1e-14)
    assert data.slow @ gradients == pytest.approx(slow, abs=1e-14)
    np.testing.assert_array_equal(data.slow[:3], 0)  # the open window


def _quintic(s: np.ndarray) -> np.ndarray:
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return s


@pytest.mark.slow
def test_the_old_task_follows_two_singular_values() -> None:
    data = gallery.old_task_data()
    for clock, moves in (("fast", data.steps), ("slow", data.steps // data.every)):
        old = 0.9**moves
        np.testing.assert_allclose(data.held[clock], old, rtol=0, atol=1e-12)
        # Code adds 1e-7 to ‖m‖, which a steep part of the polynomial lifts 485-fold.
        np.testing.assert_allclose(data.acts[clock], _quintic(old / np.hypot(old, 1 - old)), atol=1e-4)
    soon = data.steps[: len(data.noisy)]
    assert data.noisy[soon <= 25].min() > 0.6, "at first the noise changes nothing"
    assert np.abs(data.noisy[soon >= 60]).max() < 0.2, "then A drowns in it"
    assert data.acts["fast"][: len(soon)][soon >= 60][0] > 0.6, "where without noise it still acts in full"


def test_two_tasks_share_no_direction() -> None:
    a, b = gallery.two_tasks(8, 3)
    np.testing.assert_allclose(a.T @ b, 0, atol=1e-15)
    np.testing.assert_allclose(a @ b.T, 0, atol=1e-15)
    assert np.linalg.norm(a) == pytest.approx(1)


@pytest.mark.slow
def test_the_scale_of_the_loss() -> None:
    data = gallery.loss_scale_data()
    small = 10_000 * data.scales < 1.5  # up to 1e-4
    assert data.start == pytest.approx(21.01, abs=0.01)
    assert (data.final["gradient"][small] > 1e7).all()
    assert data.final["update"].max() < 1.5
    assert data.final["none"].max() < 3
    assert 1 < data.final["gradient"][data.scales == 1] < 2
    assert (data.final["gradient"][data.scales > 5] > 10).all(), "for large losses it hardly moves"


def test_outvoted_is_a_sum_of_signs() -> None:
    """Five quintic steps from ±1 end at ±0.6964: a literal loop with signs gives the same path."""
    size = float(_quintic(np.array(1.0)))
    for slow_weight, path in gallery.outvoted_data().path.items():
        w, m1, m2, window, vote = 1.0, 0.0, 0.0, 0.0, 0.0
        for step, got in enumerate(path[1:], start=1):
            g = w
            m1 = 0.9 * m1 + 0.1 * g
            w = w - 0.05 * size * (np.sign(m1) + slow_weight * vote)
            window += g
            if step % 10 == 0:
                m2, window = 0.9 * m2 + 0.1 * window, 0.0
                vote = float(np.sign(m2))
            assert got == pytest.approx(w, abs=1e-3), (slow_weight, step)


@pytest.mark.parametrize("name", ["Adam", "SGD with momentum", "M3, a = 0.1"])
def test_the_batched_race_equals_one_run_of_an_optimiser(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve steps of one rate and one seed with torch.optim or M3, with a scheduler, against the batch of two of each."""
    monkeypatch.setattr(gallery, "STEPS", 12)
    rates = np.array([0.01, 0.03])
    together = gallery.run(name, rates, (5, 6), every=3)[1, 1]
    teacher, student, x = gallery.teacher_and_student(6)
    target = [torch.from_numpy(w) for w in teacher]
    weights = [torch.nn.Parameter(torch.from_numpy(w.copy())) for w in student]
    make = {
        "Adam": lambda: torch.optim.Adam(weights, lr=0.03),
        "SGD with momentum": lambda: torch.optim.SGD(weights, lr=0.03, momentum=0.9),
        "M3, a = 0.1": lambda: gallery.in_torch.M3(weights, lr=0.03, slow_every=3, slow_weight=0.1),
    }[name]
    optimiser = make()
    inputs = torch.from_numpy(x)
    for step in range(12):
        optimiser.param_groups[0]["lr"] = 0.03 * (1 - step / 12)
        optimiser.zero_grad()
        batch = inputs[step * 64 : (step + 1) * 64]
        answer = torch.tanh(batch @ weights[0].T) @ weights[1].T
        wanted = torch.tanh(batch @ target[0].T) @ target[1].T
        (((answer - wanted) ** 2).sum(1).mean() / 2).backward()
        optimiser.step()
    fresh = inputs[-512:]
    wanted = torch.tanh(fresh @ target[0].T) @ target[1].T
    error = ((torch.tanh(fresh @ weights[0].T) @ weights[1].T - wanted) ** 2).sum() / (wanted**2).sum()
    assert together == pytest.approx(float(error.detach()), rel=1e-9)


@pytest.mark.slow
def test_what_the_notebook_says_about_the_race() -> None:
    data = gallery.race_data()
    median = {name: float(np.median(final)) for name, final in data.final.items()}
    assert median["Muon-like"] < 0.8 * median["Adam"] < 0.6 * median["SGD with momentum"]
    assert 0.6 < median["M3, a = 0"] / median["Muon-like"] < 1.6
    assert median["M3, a = 0.1"] < 1.1 * median["M3, a = 0"]
    assert median["M3, a = 1"] == max(median.values())
    for name, rate in data.rate.items():
        assert gallery.RACE_RATES[0] < rate < gallery.RACE_RATES[-1], (
            f"{name}: the best rate lies inside the grid"
        )
