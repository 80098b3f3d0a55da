"""Notebook 06's figures: the numbers they show, found in another way, and what captions and prose say of them."""

from __future__ import annotations

import numpy as np
import pytest

from hope_ref.teaching.gallery import titans as gallery


def test_shares_are_the_sum_over_the_writes_of_momentum() -> None:
    data = gallery.surprise_outlasts_its_token_data()
    for (alpha, mu), share in data.share.items():
        wanted = [sum(mu**r * alpha ** (n - r) for r in range(n + 1)) for n in range(len(share))]
        np.testing.assert_allclose(share, wanted, rtol=0, atol=1e-12)
    assert 4 <= data.share[0.9, 0.8].argmax() <= 6
    assert 2.6 < data.share[0.9, 0.8].max() < 2.8
    assert 4.9 < data.share[1.0, 0.8][-1] < 5


def test_what_is_stored_of_a_surprise_is_a_geometric_sum() -> None:
    data = gallery.token_after_the_surprise_data()
    since = np.arange(len(data.own)) - data.at
    for mu, share in data.surprise.items():
        wanted = np.where(since >= 0, 0.1 * sum(mu**r * (since >= r) for r in range(len(share))), 0.0)
        np.testing.assert_allclose(share, wanted, rtol=0, atol=1e-12)
    np.testing.assert_allclose(data.own[1:], data.surprise[0.9][:-1], rtol=0, atol=1e-12)  # one token later
    np.testing.assert_allclose(data.own, data.alone, rtol=0, atol=1e-12)


def test_the_surprise_is_mixed_into_a_similar_key_as_literal_outer_products_say() -> None:
    """Only the two new pairs have gradients: e kᵀ each, the second one measured on what the first has left."""
    data = gallery.token_after_the_surprise_data()
    first, following = np.array([1.0, 0.0]), np.array([0.6, 0.8])
    memory, momentum = np.zeros((2, 2)), np.zeros((2, 2))  # rows: the surprise's value, the next token's
    for t in range(len(data.mixed)):
        slope = np.zeros((2, 2))
        if t == data.at:
            slope = np.outer(memory @ first - [1, 0], first)
        if t == data.at + 1:
            slope = np.outer(memory @ following - [0, 1], following)
        momentum = 0.9 * momentum - 0.1 * slope
        memory = memory + momentum
        assert data.mixed[t] == pytest.approx((memory @ following)[0], abs=1e-12)


def test_answers_to_a_repeated_pair_come_to_rest_where_the_formula_says() -> None:
    data = gallery.cost_of_forgetting_data()
    for (alpha, mu), share in data.answers.items():
        rho = (1 - alpha) * (1 - mu) / data.etas
        x, b = 0.0, 0.0
        for t in range(len(share)):
            b = mu * b - data.etas * (x - 1)
            x = alpha * x + b
            assert share[t] == pytest.approx(x, abs=1e-12)
        assert share[-1] == pytest.approx(1 / (1 + rho), abs=2e-3)
    assert 1.3 < data.answers[1.0, 0.8].max() < 1.4


def test_an_mlp_memory_of_one_pair_rests_where_its_gradient_balances_forgetting() -> None:
    """At rest (1 - α) W = -η ∇ℓ for both weights: with W1 = r a ᵀ/‖r‖, only the hidden units' own equation is left."""
    data = gallery.cost_of_forgetting_data()
    assert data.edge == pytest.approx(np.sqrt(2) / 2)
    for rho, share in zip(data.rho, data.alive, strict=True):
        if share < 1e-3 or rho == 0:
            continue
        # W1 = (r / ρ)(1 - share) aᵀ answers r with share = (1 - share) ‖a‖²/ρ: the features must have this norm
        square = share * rho / (1 - share)
        # W2 k = (1/ρ)(W1ᵀ r)(1 - share) ⊙ σ′ = (2 / ρ²)(1 - share)² a ⊙ σ′(W2 k), a = σ(W2 k), unit by unit
        gain = 2 * (1 - share) ** 2 / rho**2
        grid = np.linspace(1e-3, 6, 200_000)
        gate = 1 / (1 + np.exp(-grid))
        balance = gain * grid * gate * gate * (1 + grid * (1 - gate)) - grid
        roots = grid[:-1][np.diff(np.sign(balance)) != 0]
        assert len(roots) >= 1
        # units rest at one of the balanced values or at zero: ‖a‖² is a whole number of them
        squares = [(z / (1 + np.exp(-z))) ** 2 for z in roots]
        assert min(abs(square / one - round(square / one)) for one in squares if one > 1e-6) < 0.05
    assert (data.alive[data.rho < 0.85] > 0.15).all()
    assert (data.alive[data.rho > 0.87] < 1e-3).all()


def test_weights_that_have_nearly_faded_grow_exactly_below_the_edge() -> None:
    data = gallery.cost_of_forgetting_data()
    below = data.rho < data.edge
    np.testing.assert_allclose(data.dying[below], data.alive[below], rtol=0, atol=1e-3)
    assert np.abs(data.dying[~below]).max() < 1e-3


def test_surprises_equal_the_reference_loop() -> None:
    from hope_ref.reference import titans as reference

    k, v = gallery.changing_stream(3, 5, 4, 2)
    w2 = 2 * np.linalg.qr(np.random.default_rng(0).normal(size=(7, 5)))[0]
    for weights in ((np.zeros((5, 5)),), (np.zeros((5, 7)), w2)):
        got = gallery.surprises(weights, k[None], v[None], 0.3, 0.95, 0.6)[0]
        state = reference.start(*weights)
        for t in range(len(k)):
            assert got[t] == pytest.approx(
                np.linalg.norm(reference.memory_read(state.weights, k[t]) - v[t]), abs=1e-12
            )
            _, state = reference.titans(k[t : t + 1], k[t : t + 1], v[t : t + 1], 0.3, 0.95, 0.6, state)


def test_a_round_holds_every_pair_once_and_the_values_change_half_way() -> None:
    k, v = gallery.changing_stream(0, 16, 8, 3)
    rounds = [
        {(*key, *value) for key, value in zip(k[i : i + 8], v[i : i + 8], strict=True)}
        for i in range(0, 48, 8)
    ]
    assert all(len(one) == 8 for one in rounds)
    assert rounds[0] == rounds[1] == rounds[2]
    assert rounds[3] == rounds[4] == rounds[5]
    assert not rounds[2] & rounds[3]
    assert {tuple(key) for key in k[:8]} == {tuple(key) for key in k[40:]}
    k, _ = gallery.changing_stream(0, 16, 8, 1, common=0.9)
    cosines = (k[:8] @ k[:8].T)[np.triu_indices(8, 1)]
    assert 0.7 < cosines.mean() < 0.9


@pytest.mark.slow
def test_what_the_notebook_says_about_the_change() -> None:
    data = gallery.change_of_the_stream_data()
    at, matrix, mlp = data.rounds, data.matrix, data.mlp
    assert matrix["forgetting"][at] < matrix["both"][at] < matrix["neither"][at] < matrix["momentum"][at]
    better = matrix["forgetting"] < matrix["neither"]
    better[0] = False  # nothing is learned yet, nothing to forget
    assert better.nonzero()[0].tolist() == [at, at + 1, at + 2], "softens the blow for three rounds"
    assert mlp["forgetting"][-1] == pytest.approx(np.sqrt(2), abs=0.03)
    assert 0.9 < mlp["both"][at - 1] < 1.1
    for curves in (matrix, mlp):
        np.testing.assert_allclose(curves["same reach"], curves["neither"], rtol=0.05)


@pytest.mark.slow
def test_best_rates_lie_inside_the_grid() -> None:
    for common, pays in ((0.0, False), (0.9, True)):
        found = gallery.best_rates_data(common)
        for mu, surprise in found.items():
            inside = 0 < surprise.argmin() < len(gallery.RATES) - 1
            assert inside or (common == 0 and mu == 0)
        ratio = min(found[0.8].min(), found[0.9].min()) / found[0.0].min()
        assert (ratio < 0.75) if pays else (ratio > 0.9)
