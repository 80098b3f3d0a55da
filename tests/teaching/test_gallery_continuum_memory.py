"""Notebook 08's figures: the numbers they show, found in another way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hope_ref.experiments import experiment
from hope_ref.teaching.gallery import continuum_memory as gallery
from hope_ref.teaching.gallery.experiments import found


def test_clocks_count_and_ages_are_saw_teeth() -> None:
    data = gallery.level_clocks_data()
    for level, size in enumerate(data.sizes):
        np.testing.assert_array_equal(np.flatnonzero(data.moves[level]), np.arange(size - 1, 256, size))
        assert np.isnan(data.age[level, :size]).all()
        np.testing.assert_array_equal(data.age[level, size:], 1 + np.arange(size, 256) % size)


def test_an_echo_begins_with_the_next_chunk() -> None:
    for size, change in gallery.echoes_data().change.items():
        for t, row in enumerate(change):
            heard = np.flatnonzero(row > 1e-12)
            boundary = -(-(t + 1) // size) * size
            np.testing.assert_array_equal(heard, [t, *range(boundary, 36)])
            np.testing.assert_array_equal(row[:t], 0)
        assert change.min(where=change > 0, initial=1) > 1e-5, "visible in the figure"


def test_factors_are_those_of_literal_steps() -> None:
    """One chunk of 64 equal inputs, written out for one weight row along n: W n is one number a, wanted 1."""
    data = gallery.chunk_steps_data()
    for place, s in enumerate(data.strength):
        apart = []
        for a in (0.0, 2.0):
            explicit = a + sum(s / 64 * (1 - a) for _ in range(64))
            # argmin_b Σ ½ (b - u)² + 64/(2 s) (b - a)², u = 1 - a
            implicit = a if s == 0 else (64 * (1 - a) + 64 / s * a) / (64 + 64 / s)
            apart.append((explicit, implicit))
        for rule, one, two in zip(("gd", "dgd"), *apart, strict=True):
            assert data.factor[rule][place] == pytest.approx((two - one) / 2, abs=1e-12)


def test_what_is_left_of_a_trained_level() -> None:
    data = gallery.chunk_steps_data()
    np.testing.assert_array_equal(data.left["gd"], 1)
    assert (np.diff(data.left["dgd"]) < 0).all()
    assert 0.17 < data.left["dgd"][10] < 0.24
    assert 0.05 < data.left["dgd"][20] < 0.09
    # The first chunk by a linear solve: (I + η Σ φ φᵀ) Wᵀ = W_tᵀ for each of the two weights.
    rng = np.random.default_rng(4)
    (level,) = gallery.random_levels(16, 1, 4)
    fresh, n = (
        F.rms_norm(torch.from_numpy(rng.normal(size=(c, 16))), (16,), eps=1e-6).numpy() for c in (256, 64)
    )
    weights = []
    for w, inputs in ((level.w1, _silu(n @ level.w2.T)), (level.w2, n)):
        system = np.eye(inputs.shape[1]) + 0.1 / 64 * sum(np.outer(row, row) for row in inputs)
        weights.append(w @ np.linalg.inv(system))
    after = _silu(fresh @ weights[1].T) @ weights[0].T
    before = _silu(fresh @ level.w2.T) @ level.w1.T
    assert data.left["dgd"][1] == pytest.approx(np.linalg.norm(after) / np.linalg.norm(before), rel=1e-10)


def _silu(z: np.ndarray) -> np.ndarray:
    return F.silu(torch.from_numpy(z)).numpy()


@pytest.mark.slow
def test_recall_follows_the_rate_and_not_the_clock() -> None:
    data = gallery.recall_by_age_data()
    for rate in gallery.RATES:
        courses = np.stack([data.recall[size, rate] for size in gallery.SIZES])
        assert np.ptp(courses, axis=0).max() < 0.03
    newest = [data.recall[1, rate][0] for rate in gallery.RATES]
    np.testing.assert_allclose(newest, [0.63, 0.25, 0.073], atol=0.02)
    oldest = [data.recall[1, rate][-1] for rate in gallery.RATES]
    assert oldest[2] > 1.5 * oldest[0]


def test_recall_equals_a_literal_loop_with_autograd() -> None:
    """Two lanes, two tasks, chunks of 4, sixteen tokens each: plain PyTorch, gradients of the summed loss."""
    got = gallery.recall(4, (0.5, 0.01), 5, 2, 16, 2)[1]
    rng = np.random.default_rng(0)
    (drawn,) = gallery.random_levels(5, 1, 0)
    values = [torch.from_numpy(np.linalg.qr(rng.normal(size=(2, 5, 5))).Q) for _ in range(2)]
    streams = [torch.from_numpy(rng.normal(size=(2, 16, 5))) for _ in range(2)]
    fresh = F.rms_norm(torch.from_numpy(rng.normal(size=(2, 256, 5))), (5,), eps=1e-6)
    products, squares = np.zeros(2), np.zeros(2)
    for lane in range(2):
        w = [torch.zeros(5, 20, dtype=torch.float64), torch.from_numpy(drawn.w2)]
        for value, x in zip(values, streams, strict=True):
            for chunk in x[lane].split(4):
                w = [p.detach().requires_grad_() for p in w]
                n = F.rms_norm(chunk, (5,), eps=1e-6)
                loss = ((F.silu(n @ w[1].T) @ w[0].T - n @ value[lane].T) ** 2).sum() / 2
                slopes = torch.autograd.grad(loss, w)
                w = [p - 0.01 * g for p, g in zip(w, slopes, strict=True)]
        answer = (F.silu(fresh[lane] @ w[1].T) @ w[0].T).detach()
        for age, value in enumerate(reversed(values)):
            wanted = fresh[lane] @ value[lane].T
            products[age] += float((answer * wanted).sum())
            squares[age] += float((wanted**2).sum())
    np.testing.assert_allclose(got, products / squares, rtol=0, atol=1e-12)


def test_what_the_notebook_says_of_the_records() -> None:
    """If new records change the answer, the notebook's section 8 has to change."""
    said = experiment("continual").sentence(found("continual"))
    assert said.endswith("bits on text.")
    assert "forgets less: none" in said
    assert "better" not in experiment("digits").sentence(found("digits"))
