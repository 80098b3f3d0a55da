"""One gain against five separate memories, and the theorem that it never expands against an adversary."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from five_memories import five_memories

from hope_ref.common.validation import Array
from hope_ref.config import HopeConfig
from hope_ref.reference import chunks, shared_gain
from hope_ref.reference import self_modifying_titans as literal
from hope_ref.reference.shared_gain import MEMORIES, State, bounded_rate, current, random_parameters, write

D = 5
PRINTED = HopeConfig.printed(architecture="linear")
BOTH = pytest.mark.parametrize("objective", shared_gain.OBJECTIVES)


def case(readout: str, length: int, seed: int = 0) -> tuple[Array, dict[str, Array]]:
    x = np.random.default_rng([seed, 7]).normal(size=(length, D))
    return x, random_parameters(D, readout, seed)


def run(x: Array, parameters: Any, state: State | None = None, **options: Any) -> tuple[Array, State]:
    return shared_gain.shared_gain(x, parameters, state=state, **options)


# --- five memories -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gain_bound", [1.0, 0.3, 0.0])
@pytest.mark.parametrize("chunk_size", [1, 3, 8, 40])
@pytest.mark.parametrize("read", shared_gain.READS)
@pytest.mark.parametrize("readout", shared_gain.READOUTS)
@BOTH
def test_equals_five_separate_memories(
    objective: str, readout: str, read: str, chunk_size: int, gain_bound: float
) -> None:
    x, parameters = case(readout, 19, chunk_size)
    options: Any = {"objective": objective, "read": read, "eta_max": 1.3, "gain_bound": gain_bound}
    y, state = run(x, parameters, readout=readout, chunk_size=chunk_size, **options)
    tensors = {name: torch.from_numpy(array) for name, array in parameters.items()}
    with torch.no_grad():
        want, memories = five_memories(torch.from_numpy(x), tensors, chunk_size, **options)
    np.testing.assert_allclose(y, want.numpy(), rtol=0, atol=1e-12)
    for name, weight in current(state).items():
        np.testing.assert_allclose(weight, memories[name].numpy(), rtol=0, atol=1e-12)
        assert np.abs(weight - parameters[name]).max() > 0.05, "it has moved"


@pytest.mark.parametrize("step", ["explicit", "implicit", "normalized"])
@BOTH
def test_the_write_of_the_self_modifying_titans_has_one_gain_for_all_weights(
    objective: str, step: str
) -> None:
    """Their own `write`, as printed, the skip left out: any step will do, it depends on k alone."""
    rng = np.random.default_rng(0)
    config = PRINTED.replace(step=step, objective=objective)
    starts = [rng.normal(size=(rows, D)) for rows in (D, 1, 3)]
    weights, gain = list(starts), np.eye(D)
    for _ in range(7):
        k, v, eta, alpha = rng.normal(size=D), rng.normal(size=D), rng.uniform(0, 0.4), rng.uniform(0.5, 1)
        told = [chunks.wanted_output(start @ k, start @ v, objective) for start in starts]
        weights = [
            literal.write(w, start, None, k, u, eta, alpha, config)[0]
            for w, start, u in zip(weights, starts, told, strict=True)
        ]
        u = v - k if objective == "l2" else v
        gain = write(gain, k, u, literal.step_size(eta, k, step), alpha)
    for weight, start in zip(weights, starts, strict=True):
        np.testing.assert_allclose(weight, start @ gain, rtol=0, atol=1e-12)


def test_the_gain_is_the_rank_one_recurrence() -> None:
    rng = np.random.default_rng(1)
    k, u = rng.normal(size=(2, 9, D))
    eta, alpha = rng.uniform(0, 0.3, size=9), rng.uniform(size=9)
    gain = np.eye(D)
    for t in range(9):
        gain = write(gain, k[t], u[t], eta[t], alpha[t])
    _, want = chunks.recurrence(k, k, u, eta, alpha, np.eye(D), "before_decay")
    np.testing.assert_allclose(gain, want, rtol=0, atol=1e-13)


def test_with_a_rate_of_its_own_a_memory_has_a_gain_of_its_own() -> None:
    rng = np.random.default_rng(2)
    starts, k, v = 2 * np.eye(D) + 0.3 * rng.normal(size=(2, D, D)), rng.normal(size=D), rng.normal(size=D)
    for rates, shared in (((0.3, 0.3), True), ((0.3, 0.1), False)):
        gains = []
        for start, eta in zip(starts, rates, strict=True):
            w, _ = literal.write(start, start, None, k, start @ (v - k), eta, 0.9, PRINTED)
            gains.append(np.linalg.solve(start, w))
        assert (np.abs(gains[0] - gains[1]).max() < 1e-12) == shared


@BOTH
def test_a_read_out_makes_a_vector_of_a_matrix(objective: str) -> None:
    x, parameters = case("matrix", 19)
    vectors = dict(parameters)
    for name in ("eta", "alpha"):
        vectors[f"w_{name}"] = vectors.pop(f"{name}_readout") @ parameters[f"w_{name}"] / np.sqrt(D)
    y, state = run(x, parameters, readout="matrix", objective=objective, chunk_size=4)
    same, other = run(x, vectors, readout="vector", objective=objective, chunk_size=4)
    np.testing.assert_allclose(same, y, rtol=0, atol=1e-12)
    np.testing.assert_allclose(other.gain, state.gain, rtol=0, atol=1e-12)


# --- a stream ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("readout", shared_gain.READOUTS)
def test_every_split_carries_the_state(readout: str) -> None:
    x, parameters = case(readout, 13)
    options: Any = {"readout": readout, "chunk_size": 4}
    whole, final = run(x, parameters, **options)
    for split in range(14):
        first, state = run(x[:split], parameters, **options)
        rest, last = run(x[split:], parameters, state, **options)
        np.testing.assert_array_equal(np.concatenate([first, rest]), whole)
        assert last.position == final.position == 13
        for name, weight in current(last).items():
            np.testing.assert_array_equal(weight, current(final)[name])


def test_no_token_changes_nothing() -> None:
    x, parameters = case("vector", 0)
    y, state = run(x, parameters)
    assert y.shape == (0, D)
    assert state.position == 0
    for name, weight in current(state).items():
        np.testing.assert_array_equal(weight, parameters[name])


@pytest.mark.parametrize("read", shared_gain.READS)
def test_no_output_sees_a_later_token(read: str) -> None:
    x, parameters = case("vector", 11)
    y, _ = run(x, parameters, read=read, chunk_size=4)
    for t in range(11):
        shaken = x.copy()
        shaken[t] += 1.0
        moved, _ = run(shaken, parameters, read=read, chunk_size=4)
        np.testing.assert_array_equal(moved[:t], y[:t])
        assert np.abs(moved[t] - y[t]).max() > 1e-3


# --- never expands -------------------------------------------------------------------------------------------------------


def norm(matrix: Array) -> float:
    return float(np.linalg.norm(matrix, 2))


def attacks(rng: np.random.Generator, gain: Array, gain_bound: float) -> Iterator[tuple[Array, float]]:
    """Gains after a write of each of eight pairs, from along what the gain stretches most to anywhere; rates at the limits, or far."""
    left, _, right = np.linalg.svd(gain)
    for spread in (0.0, 0.01, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0):
        alpha, length = rng.uniform(0.01, 1), np.exp(rng.normal())
        k = length * (right[0] + spread * rng.normal(size=len(gain)))
        u = rng.normal(size=len(gain)) * spread - left[:, 0]
        both = gain_bound * (1 - alpha) * np.linalg.norm(k) / (2 * alpha)  # ‖u‖ at which both limits bind
        stray = np.exp(rng.normal(size=2)) if spread > 0.2 else np.ones(2)
        u *= both * stray[0] / np.linalg.norm(u)
        eta = bounded_rate(k, u, 1e9 if spread < 0.2 else 4 * alpha / (k @ k) * stray[1], alpha, gain_bound)
        yield write(gain, k, u, eta, alpha), alpha


@pytest.mark.parametrize(("gain_bound", "writes"), [(1.0, 10_400), (0.5, 2_000)])
def test_no_adversary_expands_the_gain_and_one_reaches_the_bound(gain_bound: float, writes: int) -> None:
    """The strongest of eight attacks is taken, again and again; ‖G‖₂ <= ϱ + (1 - ϱ) γ throughout."""
    rng, gain, gamma, closest = np.random.default_rng(0), np.eye(4), 1.0, 0.0
    for turn in range(writes // 8):
        if turn % 50 == 0:
            gain, gamma = np.eye(4), 1.0
        found = list(attacks(rng, gain, gain_bound))
        shares = []
        for after, alpha in found:
            bound = gain_bound + (1 - gain_bound) * gamma * alpha
            assert norm(after) <= bound * (1 + 1e-12)
            shares.append(norm(after) / bound)
        best = int(np.argmax(shares))
        gain, gamma, closest = found[best][0], gamma * found[best][1], max(closest, shares[best])
        if turn % 50 == 49:
            assert shares[best] > 0.99, "after fifty writes, too"
    assert closest > 0.9999


def first_write(
    length: float = 1.0, rate: float = 1.0, injected: float = 1.0, start: float = 1.0, alpha: float = 0.6
) -> float:
    """‖G_1‖₂ of a write along k at both limits, times what breaks them."""
    k = np.array([0.0, length, 0.0])
    eta = rate * 2 * alpha / length**2
    u = -injected * (1 - alpha) / (eta * length) * k / length
    return norm(write(start * np.eye(3), k, u, eta, alpha))


def test_the_bound_is_met_exactly() -> None:
    for length in (0.3, 1.0, 4.0):
        for alpha in (0.1, 0.6, 0.99):
            assert first_write(length=length, alpha=alpha) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(
    "broken",
    [
        {"rate": 1.01},  # η‖k‖² = 1.01 · 2α
        {"injected": 1.01},  # η‖u‖‖k‖ = 1.01 (1 - α), which is ϱ = 1.01
        {"start": 1.01},  # G_b = 1.01 I
        {"length": 1.01, "injected": 1.01},  # η‖u‖ = 1 - α, without the length of the key
    ],
)
def test_each_hypothesis_is_needed(broken: dict[str, float]) -> None:
    assert first_write(**broken) > 1.003


@pytest.mark.parametrize("readout", shared_gain.READOUTS)
@BOTH
def test_within_the_limits_no_memory_ever_grows(objective: str, readout: str) -> None:
    """Memories and rates of any size; without the bound the same stream overflows."""
    x, parameters = case(readout, 60)
    wild = {name: 4 * array if name.startswith("w_") else array for name, array in parameters.items()}
    options: Any = {"objective": objective, "readout": readout, "chunk_size": 7, "eta_max": 50.0}
    state: State | None = None
    sizes = {name: np.linalg.norm(wild[name]) for name in MEMORIES}
    for token in x:
        _, state = run(token[None], wild, state, **options)
        for name, weight in current(state).items():
            assert np.linalg.norm(state.memories[name]) <= sizes[name] * (1 + 1e-12)
            assert np.linalg.norm(weight) <= np.linalg.norm(state.memories[name]) * (1 + 1e-12)
    loose, _ = run(x, wild, gain_bound=0.0, **options)
    assert not np.isfinite(loose).all() or np.abs(loose).max() > 1e6


def test_a_rate_is_bent_below_one_limit_and_cut_at_the_other() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        k, u, alpha = rng.normal(size=3), rng.normal(size=3), rng.uniform(0.05, 0.95)
        limits = [2 * alpha / (k @ k), 0.7 * (1 - alpha) / (np.linalg.norm(k) * np.linalg.norm(u))]
        etas = [share * limits[1] for share in (1e-9, 0.5, 1.0, 2.0)]
        found = [bounded_rate(k, u, eta, alpha, 0.7) for eta in etas]
        for eta, rate in zip(etas, found, strict=True):
            assert rate == pytest.approx(min(limits[0], limits[1] * (1 - np.exp(-eta / limits[1]))), rel=1e-6)
            assert rate <= min(eta, *limits)
        assert bounded_rate(k, u, 1e9, alpha, 0.7) == pytest.approx(min(limits), rel=1e-12)
        assert bounded_rate(k, u, 1e9, alpha, 0.0) == 1e9
    assert bounded_rate(np.zeros(3), np.ones(3), 3.0, 0.5, 1.0) == 3.0
    assert bounded_rate(np.ones(3), np.zeros(3), 0.1, 0.5, 1.0) == 0.1
    assert bounded_rate(np.ones(3), np.ones(3), 0.1, 1.0, 1.0) == 0.0


# --- bad input -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": np.ones(3)}, r"x must have shape \(T, d\), got \(3,\)"),
        ({"x": np.ones((3, 0))}, r"x must have shape \(T, d\) with d >= 1"),
        ({"x": np.full((3, D), np.nan)}, "x must be finite, got 15 NaN"),
        ({"parameters": {}}, "parameters must hold w_k, w_v, .*; missing: alpha_bias, "),
        ({"w_k": np.ones((D, 2))}, r"parameters\['w_k'\] must have shape \(5, 5\), got \(5, 2\)"),
        ({"w_eta": np.ones((D, D))}, r"parameters\['w_eta'\] must have shape \(5,\), got \(5, 5\)"),
        ({"objective": "l3"}, "objective must be one of 'l2', 'dot', got 'l3'"),
        ({"readout": "scalar"}, "readout must be one of 'vector', 'matrix', got 'scalar'"),
        ({"read": "pre"}, "read must be one of 'post', 'boundary', got 'pre'"),
        ({"chunk_size": 0}, "chunk_size must be an integer >= 1, got 0"),
        ({"eta_max": -1}, "eta_max must be >= 0, got min -1"),
        ({"gain_bound": 1.5}, "gain_bound must be <= 1, got max 1.5"),
        ({"state": 3}, "state must be a State, got int"),
    ],
)
def test_bad_input_is_named(changes: dict[str, Any], message: str) -> None:
    x, parameters = case("vector", 3)
    parameters |= {name: changes.pop(name) for name in list(changes) if name in parameters}
    with pytest.raises(ValueError, match=message):
        shared_gain.shared_gain(**{"x": x, "parameters": parameters, **changes})


def test_a_state_of_other_read_outs_is_refused() -> None:
    x, parameters = case("matrix", 3)
    _, state = run(x, parameters, readout="matrix")
    with pytest.raises(ValueError, match=r"state.memories\['w_eta'\] must have shape \(5,\), got \(5, 5\)"):
        run(*case("vector", 3), state)


@pytest.mark.parametrize(("width", "readout"), [(0, "vector"), (3, "row")])
def test_parameters_of_no_shape_are_refused(width: int, readout: str) -> None:
    with pytest.raises(ValueError, match=r"(width|readout) must be"):
        random_parameters(width, readout, 0)
