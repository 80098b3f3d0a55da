"""The chunk form itself: long chunks, hard decays, and its pieces."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hope_ref.parallel import chunks


def literal(
    phi: np.ndarray,
    u: np.ndarray,
    eta: np.ndarray,
    alpha: np.ndarray,
    state: np.ndarray,
    q: np.ndarray,
    erase: str,
) -> tuple[np.ndarray, np.ndarray]:
    outputs = []
    for t in range(len(phi)):
        erased = {"before_decay": state, "after_decay": alpha[t] * state, "none": 0 * state}[erase] @ phi[t]
        state = alpha[t] * state + np.outer(eta[t] * (u[t] - erased), phi[t])
        outputs.append(state @ q[t])
    return np.array(outputs), state


def draw(length: int, seed: int = 0, least_alpha: float = 0.0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    phi = rng.normal(size=(length, 6))
    return {
        "q": rng.normal(size=(length, 6)),
        "phi": phi / np.linalg.norm(phi, axis=1, keepdims=True),
        "u": rng.normal(size=(length, 4)),
        "eta": rng.uniform(0, 1.99, size=length),
        "alpha": rng.uniform(least_alpha, 1, size=length),
        "state": rng.normal(size=(4, 6)),
    }


@pytest.mark.parametrize("erase", chunks.ERASE)
@pytest.mark.parametrize("least_alpha", [0.0, 0.9])
@pytest.mark.parametrize("chunk_size", [2, 64, 256])
def test_relative_error_is_tiny_up_to_256_tokens(erase: str, least_alpha: float, chunk_size: int) -> None:
    arguments = draw(300, least_alpha=least_alpha)
    want, want_state = literal(**arguments, erase=erase)
    got, got_state = chunks.recurrence(
        **{n: torch.from_numpy(a) for n, a in arguments.items()}, chunk_size=chunk_size, erase=erase
    )
    assert np.abs(got.numpy() - want).max() <= 1e-12 * np.abs(want).max()
    assert np.abs(got_state.numpy() - want_state).max() <= 1e-12 * np.abs(want_state).max()


@pytest.mark.parametrize("erase", chunks.ERASE)
def test_alpha_zero_erases_and_gradients_stay_finite(erase: str) -> None:
    arguments = draw(20)
    arguments["alpha"][[0, 7, 8, 19]] = 0.0
    want, want_state = literal(**arguments, erase=erase)
    given = {n: torch.from_numpy(a).requires_grad_() for n, a in arguments.items()}
    got, got_state = chunks.recurrence(**given, chunk_size=8, erase=erase)
    np.testing.assert_allclose(got.detach().numpy(), want, rtol=0, atol=1e-12)
    np.testing.assert_allclose(got_state.detach().numpy(), want_state, rtol=0, atol=1e-12)
    (got.sum() + got_state.sum()).backward()
    for name, tensor in given.items():
        assert tensor.grad is not None
        assert torch.isfinite(tensor.grad).all(), name


def test_decays_are_products_of_retentions_and_causal() -> None:
    alpha = np.random.default_rng(1).uniform(0.1, 1, size=5)
    decay = chunks.decays(torch.from_numpy(alpha))
    for t in range(5):
        assert float(decay.gamma[t]) == pytest.approx(np.prod(alpha[: t + 1]), rel=1e-12)
        assert float(decay.gamma_before[t]) == pytest.approx(np.prod(alpha[:t]), rel=1e-12)
        for s in range(5):
            want = np.prod(alpha[s + 1 : t + 1]) if s <= t else 0.0
            want_before = np.prod(alpha[s + 1 : t]) if s < t else 0.0
            assert float(decay.ratio[t, s]) == pytest.approx(want, rel=1e-12)
            assert float(decay.ratio_before[t, s]) == pytest.approx(want_before, rel=1e-12)


def test_the_two_orders_of_decay_and_erase_differ() -> None:
    arguments = {n: torch.from_numpy(a) for n, a in draw(10).items()}
    before, _ = chunks.recurrence(**arguments, chunk_size=4, erase="before_decay")
    after, _ = chunks.recurrence(**arguments, chunk_size=4, erase="after_decay")
    assert (before - after).abs().max() > 1e-2


def test_unknown_erase_is_named() -> None:
    arguments = {n: torch.from_numpy(a) for n, a in draw(3).items()}
    with pytest.raises(
        ValueError, match="erase must be one of 'before_decay', 'after_decay', 'none', got 'both'"
    ):
        chunks.recurrence(**arguments, chunk_size=4, erase="both")


def test_compiles_without_looking_at_values() -> None:
    """Under torch.compile the values are not looked at: no graph break from a check."""
    from hope_ref.parallel import checks

    def step(x: torch.Tensor) -> torch.Tensor:
        checks.values(x=x)
        return x + 1

    compiled = torch.compile(step, backend="eager", fullgraph=True)
    assert torch.equal(compiled(torch.zeros(3)), torch.ones(3))


@pytest.mark.parametrize("erase", chunks.ERASE)
def test_a_chunk_of_tiny_retentions_has_finite_gradients(erase: str) -> None:
    """Their logarithms add up to far beyond what exp can hold, with either sign."""
    arguments = {
        **draw(20),
        "alpha": np.full(20, 1e-29),
    }  # just above the floor
    given = {n: torch.from_numpy(a).requires_grad_() for n, a in arguments.items()}
    got, got_state = chunks.recurrence(**given, chunk_size=20, erase=erase)
    want, want_state = literal(**arguments, erase=erase)
    np.testing.assert_allclose(got.detach().numpy(), want, rtol=0, atol=1e-12)
    np.testing.assert_allclose(got_state.detach().numpy(), want_state, rtol=0, atol=1e-12)
    (got.sum() + got_state.sum()).backward()
    for name, tensor in given.items():
        assert tensor.grad is not None
        assert torch.isfinite(tensor.grad).all(), name


@pytest.mark.parametrize("erase", chunks.ERASE)
def test_many_erasures_do_not_cost_the_later_tokens_their_digits(erase: str) -> None:
    """200 tokens of α = 0, then 0.999: differences of sums near -14000 would be wrong by 1e-12 to 1e-11."""
    arguments = {**draw(256), "alpha": np.where(np.arange(256) < 200, 0.0, 0.999)}
    want, want_state = literal(**arguments, erase=erase)
    got, got_state = chunks.recurrence(
        **{n: torch.from_numpy(a) for n, a in arguments.items()}, chunk_size=256, erase=erase
    )
    assert np.abs(got.numpy() - want).max() <= 1e-13 * np.abs(want).max()
    assert np.abs(got_state.numpy() - want_state).max() <= 1e-13 * np.abs(want_state).max()


def test_some_states_may_keep_what_others_forget() -> None:
    """``keeping``: n states with α = 1 before the one that α acts on, with chunks of one token and of several."""
    for length in (1, 4):
        alpha = torch.rand(2, 1, length, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        both = chunks.decays(alpha, keeping=2)
        forgets, keeps = chunks.decays(alpha), chunks.decays(torch.ones_like(alpha))
        for mixed, last, first in zip(both, forgets, keeps, strict=True):
            assert mixed.shape[1] == 3
            assert torch.equal(mixed[:, 2:], last)
            assert torch.equal(mixed[:, :2], first.expand_as(mixed[:, :2]))


# --- retentions of exactly 0 ------------------------------------------------------------------------------------------

ZEROS = {
    "one": (2,),
    "first": (0,),
    "last": (5,),
    "neighbours": (2, 3),
    "apart": (0, 2, 5),
    "all": tuple(range(6)),
}
zeros = pytest.mark.parametrize("places", ZEROS.values(), ids=ZEROS)


def products(alpha: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The four decays as products, factor by factor."""
    count, one = alpha.shape[-1], torch.ones_like(alpha[0])

    def between(start: int, end: int) -> torch.Tensor:
        value = one
        for r in range(start, end):
            value = value * alpha[r]
        return value

    def table(before: int) -> torch.Tensor:
        rows = [
            [between(s + 1, t + 1 - before) if s <= t - before else 0 * one for s in range(count)]
            for t in range(count)
        ]
        return torch.stack([torch.stack(row) for row in rows])

    gamma, gamma_before = (
        torch.stack([between(0, t + 1 - before) for t in range(count)]) for before in (0, 1)
    )
    return gamma, gamma_before, table(0), table(1)


@zeros
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_decays_and_their_derivatives_at_retentions_of_zero(
    places: tuple[int, ...], dtype: torch.dtype
) -> None:
    """∂γ_t/∂α_r is the product of the others, also where α_r is 0, and 0 only where another one is."""
    rng = np.random.default_rng(3)
    alpha = torch.tensor(rng.uniform(0.3, 1, size=6), dtype=dtype)
    alpha[list(places)] = 0
    bound = 1e-13 if dtype == torch.float64 else 1e-5
    for got, want in zip(chunks.decays(alpha), products(alpha), strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=bound)
    got, want = (torch.func.jacrev(f)(alpha) for f in (lambda a: tuple(chunks.decays(a)), products))
    for mine, theirs in zip(got, want, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=bound)
    by_each = torch.stack([jacobian.flatten(0, -2).abs().amax(0) for jacobian in want]).amax(0)
    assert by_each[list(places)].min() > 0.1, "each of them has a derivative"


@zeros
@pytest.mark.parametrize("erase", chunks.ERASE)
@pytest.mark.parametrize("chunk_size", [1, 2, 3, 6])
def test_the_gradient_by_retentions_of_zero(places: tuple[int, ...], erase: str, chunk_size: int) -> None:
    """Results are linear in each retention, so the loop at α_t = 0 and at 1 gives its derivative without an error of its own."""
    arguments = draw(6)
    arguments["alpha"][list(places)] = 0.0
    rng = np.random.default_rng(1)
    by_output, by_state = rng.normal(size=(6, 4)), rng.normal(size=(4, 6))

    def value(alpha: np.ndarray) -> float:
        y, state = literal(**(arguments | {"alpha": alpha}), erase=erase)
        return float((by_output * y).sum() + (by_state * state).sum())

    given = {n: torch.from_numpy(a).requires_grad_() for n, a in arguments.items()}
    y, state = chunks.recurrence(**given, chunk_size=chunk_size, erase=erase)
    ((torch.from_numpy(by_output) * y).sum() + (torch.from_numpy(by_state) * state).sum()).backward()
    assert given["alpha"].grad is not None
    for place in range(6):
        low, high = (np.where(np.arange(6) == place, end, arguments["alpha"]) for end in (0.0, 1.0))
        slope = value(high) - value(low)
        assert abs(float(given["alpha"].grad[place]) - slope) <= 1e-11 * max(1.0, abs(slope)), place
        assert abs(slope) > 1e-3, "it has a derivative"
