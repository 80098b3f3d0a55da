"""Notebook 07's figures: the numbers they show, found in another way, and what captions and prose say of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hope_ref.teaching.gallery import chunks as gallery


@pytest.mark.parametrize("chunk_size", [1, 3, 4])
def test_two_clocks_by_perturbation_equal_the_index_sets(chunk_size: int) -> None:
    data = gallery.clocks_of_a_chunk_data(chunk_size=chunk_size)
    for t in range(16):
        start = max(n for n in range(t + 1) if n % chunk_size == 0)
        assert set(np.flatnonzero(data.generated[t])) == {*range(start), t}
        assert set(np.flatnonzero(data.outputs[t])) == set(range(t + 1))
        assert set(np.flatnonzero(data.printed[t])) == set(range(min(16, start + chunk_size)))


def test_three_ways_agree_where_nothing_underflows() -> None:
    alpha = torch.rand(9, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.5
    wanted = [[float(alpha[s + 1 : t + 1].prod()) if s <= t else 0.0 for s in range(9)] for t in range(9)]
    for name, table in gallery.three_ways(alpha).items():
        np.testing.assert_allclose(table.numpy(), wanted, rtol=0, atol=1e-14, err_msg=name)


def test_what_the_figure_says_about_decays() -> None:
    data = gallery.decays_three_ways_data()
    quotient, late, early = data.errors.values()
    assert early.max() < 1e-6
    assert np.isfinite(early).all()
    assert np.isinf(quotient[data.alpha < 0.19]).all()
    assert np.isinf(late[data.alpha < 0.23]).all()
    assert quotient[data.alpha > 0.3].max() < 1e-6
    assert late[data.alpha > 0.3].max() < 1e-5
    near = (data.alpha > 0.19) & (data.alpha < 0.22)
    assert 1e-3 < quotient[near].max() < 1, "loses its digits near 0.2"


def test_frozen_differences_equal_literal_loops() -> None:
    """The matrix memory at C = 4 and the MLP memory at C = 64, written out with autograd's gradients."""
    data = gallery.outputs_move_data()
    rng = np.random.default_rng(0)
    q, k, v = (torch.from_numpy(gallery.unit_keys(64, 16, rng)) for _ in range(3))
    eta, alpha = rng.uniform(0.1, 0.4, 64), rng.uniform(0.95, 1.0, 64)
    w2 = torch.from_numpy(2 * np.linalg.qr(rng.normal(size=(32, 16)))[0])

    def matrix(weights: list[torch.Tensor], z: torch.Tensor) -> torch.Tensor:
        return weights[0] @ z

    def mlp(weights: list[torch.Tensor], z: torch.Tensor) -> torch.Tensor:
        return z + weights[0] @ torch.nn.functional.silu(weights[1] @ z)

    def run(answer, weights: list[torch.Tensor], size: int) -> np.ndarray:  # type: ignore[no-untyped-def]
        rows = []
        for t in range(64):
            if t % size == 0:
                frozen = [w.clone().requires_grad_() for w in weights]
            slopes = torch.autograd.grad(0.5 * ((answer(frozen, k[t]) - v[t]) ** 2).sum(), frozen)
            weights = [alpha[t] * w - eta[t] * g for w, g in zip(weights, slopes, strict=True)]
            rows.append(answer(weights, q[t]).numpy())
        return np.array(rows)

    zeros = torch.zeros(16, 16, dtype=torch.float64)
    cases = (
        ("½‖M k − v‖², matrix", matrix, [zeros], 4),
        ("½‖M(k) − v‖², MLP", mlp, [torch.zeros(16, 32, dtype=torch.float64), w2], 64),
    )
    for name, answer, weights, size in cases:
        one, many = run(answer, weights, 1), run(answer, weights, size)
        place = data.chunk_sizes.tolist().index(size)
        wanted = np.abs(many - one).max() / np.abs(one).max()
        assert data.difference[name][place] == pytest.approx(wanted, abs=1e-12)


def test_what_the_figure_says_about_outputs() -> None:
    data = gallery.outputs_move_data()
    solve, dot, matrix, mlp = data.difference.values()
    assert solve.max() < 1e-12
    assert dot.max() < 1e-12
    assert matrix[1] == pytest.approx(0.063, abs=0.005)
    assert matrix[-1] == pytest.approx(0.37, abs=0.01)
    assert mlp[1] == pytest.approx(0.006, abs=0.001)
    assert mlp[-1] == pytest.approx(0.094, abs=0.005)


def test_recall_error_is_one_for_an_empty_memory() -> None:
    keys, values = np.eye(3), np.arange(6.0).reshape(3, 2)
    assert gallery.recall_error(np.zeros((2, 3)), keys, values) == pytest.approx(1)
    assert gallery.recall_error(values.T, keys, values) == 0


def test_a_chunk_of_whole_rounds_is_a_power_of_one_matrix() -> None:
    """n rounds in a chunk multiply the errors on all pairs by I - n η K Kᵀ, in whatever order they came."""
    data = gallery.chunk_as_batch_data()
    for eta, frozen in data.frozen.items():
        for size in (16, 32, 64, 128):
            errors = []
            for seed in range(8):
                rng = np.random.default_rng(seed)
                keys, values = gallery.unit_keys(16, 32, rng), rng.normal(size=(16, 8))
                step = np.eye(16) - eta * (size // 16) * keys @ keys.T
                left = np.linalg.matrix_power(step, 128 // size) @ values
                errors.append(np.linalg.norm(left) / np.linalg.norm(values))
            place = data.chunk_sizes.tolist().index(size)
            assert frozen[place] == pytest.approx(np.mean(errors), rel=1e-9)
        assert frozen[-1] == pytest.approx(data.linear[eta], rel=1e-12)
        np.testing.assert_allclose(data.exact[eta], frozen[0], rtol=1e-10)


def test_what_the_notebook_says_about_batches() -> None:
    data = gallery.chunk_as_batch_data()
    fast, slow = data.frozen[0.5], data.frozen[0.125]
    assert data.exact[0.5][0] == pytest.approx(0.16, abs=0.01)
    assert data.exact[0.125][0] == pytest.approx(0.49, abs=0.01)
    assert fast[4] < 1.2 * fast[0] < 1 < fast[5] < fast[6]
    assert slow[:7] == pytest.approx(slow[0], rel=0.07)
    assert slow[7] == pytest.approx(0.73, abs=0.01)
