"""Titans against autograd loops, torch.optim, finite differences and the rules that it contains."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from hope_ref.reference import chunks
from hope_ref.reference.delta_rule import delta_rule, gated_delta_rule
from hope_ref.reference.titans import TitansState, memory_gradients, memory_read, start, titans

D, H = 4, 6
KINDS = ["matrix", "perceptron"]
every_kind = pytest.mark.parametrize("kind", KINDS)
PER_TOKEN = ("q", "k", "v", "eta", "alpha", "mu")
GRID = [(C, T) for C in (1, 2, 4) for T in sorted({1, C - 1, C, C + 1, 2 * C + 1} - {0})]


def weights(kind: str, seed: int = 0) -> tuple[np.ndarray, ...]:
    """A matrix with d_v = 3, or a perceptron with a hidden layer that is not as wide as its input."""
    rng = np.random.default_rng(seed)
    if kind == "matrix":
        return (rng.normal(size=(3, D)),)
    return rng.normal(size=(D, H)) / 2, rng.normal(size=(H, D))


def tokens(kind: str, length: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Unit keys and queries; gates over their whole range."""
    rng = np.random.default_rng(seed)
    q, k = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in rng.normal(size=(2, length, D)))
    return {
        "q": q,
        "k": k,
        "v": rng.normal(size=(length, 3 if kind == "matrix" else D)),
        "eta": rng.uniform(0.05, 0.25, size=length),
        "alpha": rng.uniform(0.5, 1, size=length),
        "mu": rng.uniform(0.1, 0.9, size=length),
    }


def torch_read(weights: Any, z: torch.Tensor) -> torch.Tensor:
    """The memory again, in PyTorch's own layers."""
    if len(weights) == 1:
        return torch.nn.functional.linear(z, weights[0])
    w1, w2 = weights
    linear, silu = torch.nn.functional.linear, torch.nn.functional.silu
    return z + linear(silu(linear(z, w2)), w1)


def torch_slopes(weights: Any, k: np.ndarray, v: np.ndarray) -> list[torch.Tensor]:
    leaves = [w.detach().clone().requires_grad_() for w in weights]
    loss = 0.5 * (torch_read(leaves, torch.from_numpy(k)) - torch.from_numpy(v)).square().sum()
    return list(torch.autograd.grad(loss, leaves))


# --- the gradients by hand ----------------------------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize("seed", [0, 1])
def test_gradients_equal_autograd_and_finite_differences(kind: str, seed: int) -> None:
    ours, rng = weights(kind, seed), np.random.default_rng(seed + 9)
    k, v = rng.normal(size=D), rng.normal(size=len(ours[0]))
    got = memory_gradients(ours, k, v)
    for mine, theirs in zip(got, torch_slopes([torch.from_numpy(w) for w in ours], k, v), strict=True):
        np.testing.assert_allclose(mine, theirs.numpy(), rtol=0, atol=1e-12)
    h = 1e-5
    for place, weight in enumerate(ours):
        for index in np.ndindex(weight.shape):
            losses = []
            for step in (h, -h):
                nudged = [w.copy() for w in ours]
                nudged[place][index] += step
                losses.append(0.5 * np.sum((memory_read(tuple(nudged), k) - v) ** 2))
            assert got[place][index] == pytest.approx((losses[0] - losses[1]) / (2 * h), abs=1e-8)


def test_reads_equal_pytorch() -> None:
    for kind in KINDS:
        ours, z = weights(kind), np.random.default_rng(3).normal(size=D)
        want = torch_read([torch.from_numpy(w) for w in ours], torch.from_numpy(z))
        np.testing.assert_allclose(memory_read(ours, z), want.numpy(), rtol=0, atol=1e-13)


# --- the whole rule -----------------------------------------------------------------------------------------------


def autograd_loop(
    first: tuple[np.ndarray, ...], chunk_size: int, **a: np.ndarray
) -> tuple[list[np.ndarray], list[torch.Tensor], list[torch.Tensor]]:
    """All states in a list, the boundary looked up in it, every gradient by autograd: shares no line with the library."""
    states = [[torch.from_numpy(w) for w in first]]
    momentum = [torch.zeros_like(w) for w in states[0]]
    outputs = []
    for t in range(len(a["k"])):
        slopes = torch_slopes(states[t - t % chunk_size], a["k"][t], a["v"][t])
        momentum = [a["mu"][t] * b - a["eta"][t] * g for b, g in zip(momentum, slopes, strict=True)]
        states.append([a["alpha"][t] * w + b for w, b in zip(states[-1], momentum, strict=True)])
        outputs.append(torch_read(states[-1], torch.from_numpy(a["q"][t])).numpy())
    return outputs, states[-1], momentum


@every_kind
@pytest.mark.parametrize(("chunk_size", "length"), GRID)
def test_equals_an_autograd_loop(kind: str, chunk_size: int, length: int) -> None:
    a, first = tokens(kind, length), weights(kind)
    y, state = titans(**a, state=start(*first), chunk_size=chunk_size)
    outputs, want, momentum = autograd_loop(first, chunk_size, **a)
    np.testing.assert_allclose(y, outputs, rtol=0, atol=1e-11)
    assert state.position == length
    for got, expected in ((state.weights, want), (state.momentum, momentum)):
        for mine, theirs in zip(got, expected, strict=True):
            np.testing.assert_allclose(mine, theirs.numpy(), rtol=0, atol=1e-11)


@every_kind
@pytest.mark.parametrize("mu", [0.0, 0.7])
def test_without_forgetting_it_is_sgd_with_momentum(kind: str, mu: float) -> None:
    """PyTorch keeps buf' = μ buf + g and subtracts η buf: for a constant η that is -B."""
    a, first = tokens(kind, 9), weights(kind)
    given = {"eta": 0.2, "alpha": 1.0, "mu": mu}
    _, state = titans(a["q"], a["k"], a["v"], **given, state=start(*first))
    parameters = [torch.from_numpy(w.copy()).requires_grad_() for w in first]
    optimiser = torch.optim.SGD(parameters, lr=0.2, momentum=mu)
    for k, v in zip(a["k"], a["v"], strict=True):
        optimiser.zero_grad()
        (0.5 * (torch_read(parameters, torch.from_numpy(k)) - torch.from_numpy(v)).square().sum()).backward()
        optimiser.step()
    for mine, theirs in zip(state.weights, parameters, strict=True):
        np.testing.assert_allclose(mine, theirs.detach().numpy(), rtol=0, atol=1e-12)


# --- what it contains ---------------------------------------------------------------------------------------------


def test_matrix_memory_without_momentum_and_forgetting_is_the_delta_rule() -> None:
    a, (first,) = tokens("matrix", 11), weights("matrix")
    given = {n: a[n] for n in ("q", "k", "v", "eta")}
    y, state = titans(**given, alpha=1, mu=0, state=start(first))
    want, memory = delta_rule(**given, memory=first)
    np.testing.assert_allclose(y, want, rtol=0, atol=1e-14)
    np.testing.assert_allclose(state.weights[0], memory, rtol=0, atol=1e-14)


def test_without_momentum_it_erases_before_it_decays() -> None:
    """M_t = α M - η (M k - v) kᵀ: the recurrence that erases before the decay, not the gated delta rule."""
    a, (first,) = tokens("matrix", 11), weights("matrix")
    y, state = titans(**{**a, "mu": 0}, state=start(first))
    memory = first
    for t in range(11):
        error = memory @ a["k"][t] - a["v"][t]
        memory = a["alpha"][t] * memory - a["eta"][t] * np.outer(error, a["k"][t])
    np.testing.assert_allclose(state.weights[0], memory, rtol=0, atol=1e-13)
    want, _ = chunks.recurrence(a["q"], a["k"], a["v"], a["eta"], a["alpha"], first)
    np.testing.assert_allclose(y, want, rtol=0, atol=1e-13)
    gated, _ = gated_delta_rule(**{n: x for n, x in a.items() if n != "mu"}, memory=first)
    assert np.abs(y - gated).max() > 1e-2


@pytest.mark.parametrize("chunk_size", [1, 3, 11])
def test_a_matrix_memory_is_the_recurrence_with_momentum(chunk_size: int) -> None:
    """With u = v - M_b k given, Titans erases nothing else: chunk by chunk, and in the exact chunk form."""
    a, (first,) = tokens("matrix", 11), weights("matrix")
    y, state = titans(**a, state=start(first), chunk_size=chunk_size)
    for form in (chunks.momentum_recurrence, chunks.chunk_momentum_recurrence):
        memory, momentum, outputs = first, np.zeros_like(first), []
        for begin in range(0, 11, chunk_size):
            part = {n: x[begin : begin + chunk_size] for n, x in a.items()}
            u = part["v"] - part["k"] @ memory.T
            gates = (part["eta"], part["alpha"], part["mu"])
            some, memory, momentum = form(part["q"], part["k"], u, *gates, memory, momentum, erase="none")
            outputs.append(some)
        np.testing.assert_allclose(np.concatenate(outputs), y, rtol=0, atol=1e-12)
        np.testing.assert_allclose(memory, state.weights[0], rtol=0, atol=1e-12)
        np.testing.assert_allclose(momentum, state.momentum[0], rtol=0, atol=1e-12)


def test_in_one_chunk_without_momentum_it_is_the_papers_closed_form() -> None:
    """M_T = β_T M_0 - Σ_s η_s (β_T/β_s) ∇ℓ(M_0; k_s, v_s), β the product of the retentions."""
    for kind in KINDS:
        a, first = tokens(kind, 7), weights(kind)
        _, state = titans(**{**a, "mu": 0}, state=start(*first), chunk_size=7)
        beta = np.cumprod(a["alpha"])
        want = [beta[-1] * w for w in first]
        for s in range(7):
            slopes = torch_slopes([torch.from_numpy(w) for w in first], a["k"][s], a["v"][s])
            want = [
                w - a["eta"][s] * beta[-1] / beta[s] * g.numpy() for w, g in zip(want, slopes, strict=True)
            ]
        for mine, theirs in zip(state.weights, want, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-12)


def test_an_empty_second_layer_answers_with_the_query_and_learns_w1_first() -> None:
    """W1 = 0: M is the identity and nothing comes back through W1, so W2 stays put for one token and then moves."""
    a, (w1, w2) = tokens("perceptron", 2), weights("perceptron")
    first = start(np.zeros_like(w1), w2)
    np.testing.assert_array_equal(memory_read(first.weights, a["q"][0]), a["q"][0])
    one = {n: x[:1] for n, x in a.items()} | {"alpha": 1}
    _, after = titans(**one, state=first)
    np.testing.assert_array_equal(after.weights[1], w2)
    assert np.abs(after.weights[0]).max() > 1e-2
    _, later = titans(**{n: x[1:] for n, x in a.items()} | {"alpha": 1}, state=after)
    assert np.abs(later.weights[1] - w2).max() > 1e-3


def test_an_empty_first_layer_stays_empty() -> None:
    """W2 = 0 gives σ(0) = 0, so W1 learns nothing at first: only W2 can move."""
    a, (w1, w2) = tokens("perceptron", 1), weights("perceptron")
    _, state = titans(**{**a, "alpha": 1}, state=start(w1, np.zeros_like(w2)))
    np.testing.assert_array_equal(state.weights[0], w1)
    assert np.abs(state.weights[1]).max() > 1e-3


@every_kind
def test_momentum_goes_on_writing_when_nothing_is_learned(kind: str) -> None:
    """After one lesson η = 0: B fades by μ and is added again at each token, so μ/(1 - μ) more of it in the end."""
    a, first = tokens(kind, 1), weights(kind)
    lesson = {**a, "alpha": 1.0, "mu": 0.5}
    _, one = titans(**lesson, state=start(*first))
    idle = {n: np.repeat(a[n], 60, 0) for n in ("q", "k", "v")}
    _, state = titans(**idle, eta=0, alpha=1, mu=0.5, state=one)
    for before, learned, end in zip(first, one.weights, state.weights, strict=True):
        np.testing.assert_allclose(end - before, 2 * (learned - before), rtol=0, atol=1e-13)


def test_a_chunk_multiplies_the_error_of_a_repeated_pair_by_one_minus_c_eta() -> None:
    a, (first,) = tokens("matrix", 1), weights("matrix")
    repeated = {n: np.repeat(a[n], 8, 0) for n in ("q", "k", "v")}
    error = first @ a["k"][0] - a["v"][0]
    for chunk_size, factor in ((1, (1 - 0.3) ** 8), (4, (1 - 4 * 0.3) ** 2), (8, 1 - 8 * 0.3)):
        _, state = titans(**repeated, eta=0.3, alpha=1, mu=0, state=start(first), chunk_size=chunk_size)
        np.testing.assert_allclose(
            state.weights[0] @ a["k"][0] - a["v"][0], factor * error, rtol=0, atol=1e-13
        )


# --- promises -----------------------------------------------------------------------------------------------------


def states_equal(got: TitansState, want: TitansState) -> None:
    assert got.position == want.position
    for ours, theirs in zip(got[:3], want[:3], strict=True):
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one, other)


@every_kind
@pytest.mark.parametrize("chunk_size", [1, 3, 4])
@pytest.mark.parametrize("cuts", [(c,) for c in range(10)] + [(2, 5), (1, 2, 3, 4, 5, 6, 7, 8), (3, 3, 6)])
def test_any_split_gives_the_same_to_the_last_bit(kind: str, chunk_size: int, cuts: tuple[int, ...]) -> None:
    a, state = tokens(kind, 9), start(*weights(kind))
    want, want_state = titans(**a, state=state, chunk_size=chunk_size)
    parts = []
    for begin, end in zip((0, *cuts), (*cuts, 9), strict=True):
        part = {n: x[begin:end] for n, x in a.items()}
        y, state = titans(**part, state=state, chunk_size=chunk_size)
        parts.append(y)
    np.testing.assert_array_equal(np.concatenate(parts), want)
    states_equal(state, want_state)


@every_kind
@pytest.mark.parametrize("chunk_size", [1, 4])
@pytest.mark.parametrize("name", PER_TOKEN)
def test_causal(kind: str, chunk_size: int, name: str) -> None:
    a = tokens(kind, 9)
    changed = {**a, name: a[name].copy()}
    changed[name][5] = changed[name][5] * 0.5
    y, _ = titans(**a, state=start(*weights(kind)), chunk_size=chunk_size)
    other, _ = titans(**changed, state=start(*weights(kind)), chunk_size=chunk_size)
    np.testing.assert_array_equal(other[:5], y[:5])
    assert np.abs(other[5] - y[5]).max() > 1e-6


@every_kind
def test_no_tokens_change_nothing(kind: str) -> None:
    _, state = titans(**tokens(kind, 3), state=start(*weights(kind)), chunk_size=2)
    y, after = titans(**tokens(kind, 0), state=state, chunk_size=2)
    assert y.shape == (0, len(weights(kind)[0]))
    states_equal(after, state)


@every_kind
def test_nothing_that_was_given_is_changed(kind: str) -> None:
    a, state = tokens(kind, 5), start(*weights(kind))
    kept = [x.copy() for x in (*a.values(), *state.weights, *state.momentum)]
    titans(**a, state=state, chunk_size=2)
    for now, then in zip((*a.values(), *state.weights, *state.momentum), kept, strict=True):
        np.testing.assert_array_equal(now, then)


@every_kind
@pytest.mark.parametrize("chunk_size", [2, 9])
def test_the_chunk_size_is_part_of_the_model(kind: str, chunk_size: int) -> None:
    y, _ = titans(**tokens(kind, 9), state=start(*weights(kind)))
    other, _ = titans(**tokens(kind, 9), state=start(*weights(kind)), chunk_size=chunk_size)
    assert np.abs(y - other).max() > 1e-2


def test_a_perceptron_that_overflows_is_seen_to() -> None:
    a = tokens("perceptron", 6)
    with np.errstate(all="ignore"):
        y, _ = titans(**{**a, "eta": 1e150}, state=start(*weights("perceptron")))
    assert not np.isfinite(y[-1]).any()


# --- bad input ----------------------------------------------------------------------------------------------------

MATRIX = np.ones((3, D))
W1, W2 = weights("perceptron")
GOOD = tokens("matrix", 2) | {"state": start(MATRIX)}
DEEP = tokens("perceptron", 2) | {"state": start(W1, W2)}


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (start, (), r"weights must be a tuple \(memory,\) or \(w1, w2\), got 0 of them"),
        (start, (W1, W2, W1), r"weights must be a tuple \(memory,\) or \(w1, w2\), got 3 of them"),
        (start, (W1[0],), r"weights\[0\] must have shape \(d_v, d_k\), got \(6,\)"),
        (start, (W1, W2.T), r"weights\[1\] must have shape \(6, 4\), got \(4, 6\)"),
        (start, (MATRIX.astype(np.float32),), r"weights\[0\] must be float64 \(or integers\), got dtype float32"),
        (start, (MATRIX * np.nan,), r"weights\[0\] must be finite, got 12 NaN or infinite entries"),
        (memory_read, ((MATRIX,), np.ones(3)), r"z must have shape \(4,\), got \(3,\)"),
        (memory_read, (MATRIX, np.ones(4)), r"weights must be a tuple \(memory,\) or \(w1, w2\), got ndarray"),
        (memory_gradients, ((W1, W2), np.ones(6), np.ones(4)), r"k must have shape \(4,\), got \(6,\)"),
        (memory_gradients, ((MATRIX,), np.ones(4), np.ones(4)), r"v must have shape \(3,\), got \(4,\)"),
    ],
)  # fmt: skip
def test_bad_memories(function: Any, arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        function(*arguments)


@pytest.mark.parametrize(
    ("good", "change", "message"),
    [
        (GOOD, {"k": np.ones((2, 3))}, r"k must have shape \(T, 4\), got \(2, 3\)"),
        (GOOD, {"q": np.ones((3, 4))}, r"q must have shape \(2, 4\), got \(3, 4\)"),
        (GOOD, {"v": np.ones((2, 4))}, r"v must have shape \(2, 3\), got \(2, 4\)"),
        (DEEP, {"v": np.ones((2, 3))}, r"v must have shape \(2, 4\), got \(2, 3\)"),
        (GOOD, {"v": np.full((2, 3), np.inf)}, "v must be finite, got 6 NaN or infinite entries"),
        (GOOD, {"q": GOOD["q"].astype(np.float32)}, r"q must be float64 \(or integers\), got dtype float32"),
        (GOOD, {"eta": -0.3}, r"eta must be >= 0, got min -0\.3"),
        (GOOD, {"eta": np.ones(3)}, r"eta must have shape \(2,\), got \(3,\)"),
        (GOOD, {"alpha": 1.2}, r"alpha must be <= 1, got max 1\.2"),
        (GOOD, {"alpha": -0.2}, r"alpha must be >= 0, got min -0\.2"),
        (GOOD, {"mu": 1.2}, r"mu must be <= 1, got max 1\.2"),
        (GOOD, {"mu": [0.5, -0.5]}, r"mu must be >= 0, got min -0\.5"),
        (GOOD, {"chunk_size": 0}, "chunk_size must be an integer >= 1, got 0"),
        (GOOD, {"state": MATRIX}, r"state must be a TitansState \(see start\), got ndarray"),
        (GOOD, {"state": start(MATRIX)._replace(momentum=(MATRIX.T,))}, r"state\.momentum must have shapes \(\(3, 4\),\), got \(\(4, 3\),\)"),
        (DEEP, {"state": start(W1, W2)._replace(boundary=(W1,))}, r"state\.boundary must have shapes \(\(4, 6\), \(6, 4\)\), got \(\(4, 6\),\)"),
        (GOOD, {"state": start(MATRIX)._replace(weights=(MATRIX * np.nan,))}, r"state\.weights\[0\] must be finite, got 12"),
        (GOOD, {"state": start(MATRIX)._replace(position=-1)}, r"state\.position must be an integer >= 0, got -1"),
        (GOOD, {"state": start(MATRIX)._replace(position=0.5)}, r"state\.position must be an integer >= 0, got 0\.5"),
    ],
)  # fmt: skip
def test_bad_input(good: dict[str, Any], change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        titans(**(good | change))
