"""The reference of Delta Gradient Descent against solves, descents and roots that share no line with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hope_ref.reference.delta_gradient_descent import (
    delta_gradient_descent_chunk,
    delta_gradient_descent_step,
    effective_step,
    frozen_chunk,
    memory_step,
)
from hope_ref.reference.delta_rule import delta_rule
from hope_ref.reference.gradient_descent import gradient_descent_step

D_IN, D_OUT = 5, 3
ETAS = [1e-3, 0.3, 1.0, 10.0]


def layer(seed: int = 0, length: int | None = None) -> dict[str, np.ndarray]:
    """W, x and ∇_y L for one input, or W, X and U in rows for a chunk."""
    rng = np.random.default_rng(seed)
    lead = () if length is None else (length,)
    last = "grad_y" if length is None else "u"
    return {
        "w": rng.normal(size=(D_OUT, D_IN)),
        "x": rng.normal(size=(*lead, D_IN)),
        last: rng.normal(size=(*lead, D_OUT)),
    }


def least_squares(w: np.ndarray, x: np.ndarray, u: np.ndarray, eta: float) -> np.ndarray:
    """The minimiser of the same objective, written as one stack of equations: [X; I/√η] Wᵀ = [U; W_tᵀ/√η]."""
    stack = np.vstack([x, np.eye(x.shape[1]) / np.sqrt(eta)])
    return np.linalg.lstsq(stack, np.vstack([u, w.T / np.sqrt(eta)]), rcond=None)[0].T


@pytest.mark.parametrize("eta", [*ETAS, 1e6])
@pytest.mark.parametrize("seed", range(3))
def test_step_solves_the_stationarity_equation(eta: float, seed: int) -> None:
    given = layer(seed)
    x, w, grad_y = given["x"], given["w"], given["grad_y"]
    # W (x xᵀ + I/η) = u xᵀ + W_t/η, solved for all entries of W at once
    right = np.outer(-grad_y, x) + w / eta
    want = np.linalg.solve(np.outer(x, x) + np.eye(D_IN) / eta, right.T).T
    got = delta_gradient_descent_step(**given, eta=eta)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-13 * (1 + eta))
    np.testing.assert_allclose(
        got, least_squares(w, x[None], -grad_y[None], eta), rtol=0, atol=1e-13 * (1 + eta**0.5)
    )


@pytest.mark.parametrize("eta", ETAS)
def test_step_is_where_ten_thousand_gradient_steps_arrive(eta: float) -> None:
    given = layer(7)
    start, x, u = given["w"], given["x"], -given["grad_y"]
    w = start.copy()
    rate = 1 / (x @ x + 1 / eta)  # one over the largest curvature of the objective
    for _ in range(10_000):
        w = w - rate * (np.outer(w @ x - u, x) + (w - start) / eta)
    np.testing.assert_allclose(delta_gradient_descent_step(**given, eta=eta), w, rtol=0, atol=1e-12)


@pytest.mark.parametrize("eta", [0.1, 1.0, 1e6])
def test_residual_shrinks_and_the_rest_stays(eta: float) -> None:
    given = layer(1)
    w, x, u = given["w"], given["x"], -given["grad_y"]
    moved = delta_gradient_descent_step(**given, eta=eta)
    np.testing.assert_allclose(moved @ x - u, (w @ x - u) / (1 + eta * x @ x), rtol=0, atol=1e-13)
    across = np.linalg.qr(np.column_stack([x, np.eye(D_IN)]))[0][
        :, 1:
    ]  # an orthonormal basis of what is orthogonal to x
    np.testing.assert_allclose(moved @ across, w @ across, rtol=0, atol=1e-13)


@pytest.mark.parametrize("eta", [1e-2, 1.0, 1e6])
def test_a_fixed_target_is_stable_for_every_eta(eta: float) -> None:
    given = layer(2)
    u = -given.pop("grad_y")
    w, x = given["w"], given["x"]
    for _ in range(2000):
        w = delta_gradient_descent_step(w, x, -u, eta)
    np.testing.assert_allclose(w @ x, u, rtol=0, atol=1e-12)
    assert np.abs(w).max() < 10


def test_effective_step_never_reaches_the_inverse_square() -> None:
    x = np.array([3.0, 4.0])
    assert effective_step(0, x) == 0
    assert effective_step(2, x) == pytest.approx(2 / 51)
    assert effective_step(1e12, x) < 1 / 25 + 1e-15
    unit = np.array([0.6, 0.8])
    assert effective_step(2, unit) == pytest.approx(2 / 3)  # the case that the paper prints


@pytest.mark.parametrize("eta", [1e-3, 1e-5])
def test_small_steps_are_gradient_descent_plus_a_decay_of_the_output(eta: float) -> None:
    """Not plain gradient descent: the regression's own W x xᵀ, the gradient of ½‖W x‖², is of first order too."""
    given = layer(3)
    plain = gradient_descent_step(**given, eta=eta)
    decay = eta * np.outer(given["w"] @ given["x"], given["x"])
    difference = delta_gradient_descent_step(**given, eta=eta) - plain
    assert np.abs(difference).max() > 0.5 * eta
    assert np.abs(difference + decay).max() < 100 * eta**2


@pytest.mark.parametrize("eta", [0.0, *ETAS, 1e6])
@pytest.mark.parametrize("length", [0, 1, 2, D_IN, 9])
def test_chunk_minimises_the_summed_objective(eta: float, length: int) -> None:
    given = layer(length, length)
    got = delta_gradient_descent_chunk(**given, eta=eta)
    want = given["w"] if eta == 0 else least_squares(**given, eta=eta)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-13 * (1 + eta))


def test_chunk_of_one_is_the_step_and_no_eta_changes_nothing() -> None:
    given = layer(4)
    chunk = delta_gradient_descent_chunk(given["w"], given["x"][None], -given["grad_y"][None], 0.7)
    np.testing.assert_allclose(chunk, delta_gradient_descent_step(**given, eta=0.7), rtol=0, atol=1e-14)
    np.testing.assert_array_equal(delta_gradient_descent_step(**given, eta=0), given["w"])
    many = layer(4, 9)
    np.testing.assert_array_equal(delta_gradient_descent_chunk(**many, eta=0), many["w"])


def test_one_chunk_step_is_not_many_single_steps() -> None:
    given = layer(5, 4)
    w = given["w"]
    for x, u in zip(given["x"], given["u"], strict=True):
        w = delta_gradient_descent_step(w, x, -u, 1.0)
    assert np.abs(w - delta_gradient_descent_chunk(**given, eta=1.0)).max() > 0.01


def test_orthogonal_inputs_make_them_the_same() -> None:
    given = layer(5, 4)
    given["x"] = np.linalg.qr(given["x"].T)[0].T * [[1.0], [2.0], [0.5], [3.0]]
    w = given["w"]
    for x, u in zip(given["x"], given["u"], strict=True):
        w = delta_gradient_descent_step(w, x, -u, 1.0)
    np.testing.assert_allclose(delta_gradient_descent_chunk(**given, eta=1.0), w, rtol=0, atol=1e-13)


# --- the same step on a matrix memory ------------------------------------------------------------------------------


def pair(norm: float = 1.0, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    k = rng.normal(size=4)
    return {"memory": rng.normal(size=(3, 4)), "k": norm * k / np.linalg.norm(k), "v": rng.normal(size=3)}


REST = {"dot": 1.0, "l2": 1 / 2, "l2_without_half": 2 / 3}
TIMES = {"dot": 1, "l2": 2, "l2_without_half": 3}
objectives = pytest.mark.parametrize("objective", REST)


@objectives
@pytest.mark.parametrize(("step", "eta"), [("explicit", 0.3), ("implicit", 0.4), ("normalized", 0.3)])
def test_a_repeated_pair_comes_to_rest(objective: str, step: str, eta: float) -> None:
    given = pair()
    memory = given["memory"]
    for _ in range(500):
        memory = memory_step(memory, given["k"], given["v"], eta, objective=objective, step=step)
    np.testing.assert_allclose(memory @ given["k"], REST[objective] * given["v"], rtol=0, atol=1e-12)


@objectives
@pytest.mark.parametrize("alpha", [1.0, 0.9])
def test_the_answer_moves_by_the_factor_of_its_loss(objective: str, alpha: float) -> None:
    one, eta = pair(1.3), 0.2
    two = {**one, "memory": pair(seed=9)["memory"]}
    moved = [memory_step(**given, eta=eta, alpha=alpha, objective=objective) for given in (one, two)]
    before = (one["memory"] - two["memory"]) @ one["k"]
    factor = alpha - TIMES[objective] * eta * 1.3**2
    np.testing.assert_allclose((moved[0] - moved[1]) @ one["k"], factor * before, rtol=0, atol=1e-13)


EDGES = [
    # objective, step, alpha, eta at the edge for ‖k‖ = 1.7
    *(("dot", "explicit", a, (1 + a) / 1.7**2) for a in (1.0, 0.9)),
    *(("l2", "explicit", a, (1 + a) / 2 / 1.7**2) for a in (1.0, 0.9)),
    *(("l2_without_half", "explicit", a, (1 + a) / 3 / 1.7**2) for a in (1.0, 0.9)),
    ("dot", "normalized", 1.0, 2.0 * (1 + 1e-6 / 1.7**2)),
    ("dot", "normalized", 0.9, 1.9 * (1 + 1e-6 / 1.7**2)),
    ("l2", "normalized", 1.0, 1.0 * (1 + 1e-6 / 1.7**2)),
    ("l2_without_half", "normalized", 1.0, 2 / 3 * (1 + 1e-6 / 1.7**2)),
    ("l2", "implicit", 0.9, 19.0 / 1.7**2),  # η̃λ² = (1 + α)/2 where ηλ² = (1 + α)/(1 - α)
    ("l2_without_half", "implicit", 1.0, 2.0 / 1.7**2),  # η̃λ² = 2/3 where ηλ² = 2
]


@pytest.mark.parametrize(("objective", "step", "alpha", "edge"), EDGES)
@pytest.mark.parametrize("inside", [True, False], ids=["inside", "outside"])
def test_stable_just_inside_and_unstable_just_outside(
    objective: str, step: str, alpha: float, edge: float, inside: bool
) -> None:
    one = pair(1.7)
    two = one["memory"] + 1.0
    memory, eta = one["memory"], edge * (0.99 if inside else 1.01)
    first = np.linalg.norm((memory - two) @ one["k"])
    distance, steps = first, 0
    while 0.5 * first <= distance <= 2 * first and steps < 4000:  # each step multiplies it by one factor
        memory, two = (
            memory_step(m, one["k"], one["v"], eta, alpha, objective=objective, step=step)
            for m in (memory, two)
        )
        distance, steps = np.linalg.norm((memory - two) @ one["k"]), steps + 1
    assert distance < 0.5 * first if inside else distance > 2 * first


@pytest.mark.parametrize(("objective", "alpha"), [("dot", 1.0), ("dot", 0.5), ("l2", 1.0)])
@pytest.mark.parametrize("eta", [10.0, 1e3])
def test_implicit_steps_are_stable_at_any_rate(objective: str, alpha: float, eta: float) -> None:
    given = pair(1.7)
    memory = given["memory"]
    for _ in range(3000):
        memory = memory_step(memory, given["k"], given["v"], eta, alpha, objective=objective, step="implicit")
    assert np.abs(memory).max() < 5


def test_dot_product_with_alpha_one_is_the_delta_rule() -> None:
    rng = np.random.default_rng(3)
    k, v, eta = rng.normal(size=(20, 4)), rng.normal(size=(20, 3)), rng.uniform(0, 0.3, size=20)
    memory = np.zeros((3, 4))
    for t in range(20):
        memory = memory_step(memory, k[t], v[t], eta[t])
    np.testing.assert_allclose(memory, delta_rule(k, k, v, eta)[1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("step", ["explicit", "implicit", "normalized"])
@pytest.mark.parametrize("objective", REST)
def test_the_written_direction_is_minus_the_measured_slope(step: str, objective: str) -> None:
    """At α = 0 and without what erases, M_t is -η̃ times the gradient; the gradient is measured by differences."""
    given, eta, h = pair(1.3), 0.2, 1e-6

    def loss(memory: np.ndarray) -> float:
        answer = memory @ given["k"]
        square = ((answer - given["v"]) ** 2).sum()
        return {"dot": -answer @ given["v"], "l2": square / 2, "l2_without_half": square}[objective]

    slope = np.zeros((3, 4))
    for index in np.ndindex(3, 4):
        nudge = np.zeros((3, 4))
        nudge[index] = h
        slope[index] = (loss(given["memory"] + nudge) - loss(given["memory"] - nudge)) / (2 * h)
    taken = {"explicit": eta, "implicit": eta / (1 + eta * 1.69), "normalized": eta / (1.69 + 1e-6)}[step]
    erased = taken * np.outer(given["memory"] @ given["k"], given["k"])
    moved = memory_step(**given, eta=eta, alpha=0, objective=objective, step=step)
    np.testing.assert_allclose(moved + erased, -taken * slope, rtol=0, atol=1e-8)


@pytest.mark.parametrize("count", [1, 2, 5, 16])
@pytest.mark.parametrize("eta", [0.2, 0.7])
def test_frozen_chunks_move_by_their_factor(count: int, eta: float) -> None:
    given = pair()
    half, whole = given["v"] / 2, given["v"]
    moved = frozen_chunk(**given, eta=eta, count=count)
    before = given["memory"] @ given["k"]
    want = (2 * (1 - eta) ** count - 1) * (before - half)
    np.testing.assert_allclose(moved @ given["k"] - half, want, rtol=0, atol=1e-12)
    plain = frozen_chunk(**given, eta=eta, count=count, rule="gradient_descent")
    np.testing.assert_allclose(
        plain @ given["k"] - whole, (1 - count * eta) * (before - whole), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize(("count", "grows"), [(6, False), (7, True)])
def test_plain_descent_diverges_when_the_chunk_is_too_long(count: int, grows: bool) -> None:
    given = pair()
    memory = given["memory"]
    distance = [np.linalg.norm(memory @ given["k"] - given["v"])]
    for _ in range(20):
        memory = frozen_chunk(memory, given["k"], given["v"], 0.3, count, rule="gradient_descent")
        distance.append(np.linalg.norm(memory @ given["k"] - given["v"]))
    assert (distance[-1] > 2 * distance[0]) == grows  # C η = 1.8 and 2.1


def test_a_frozen_dot_product_is_not_frozen_at_all() -> None:
    given = pair()
    memory = given["memory"]
    for _ in range(8):
        memory = memory_step(memory, given["k"], given["v"], 0.3)
    np.testing.assert_allclose(
        frozen_chunk(**given, eta=0.3, count=8, objective="dot"), memory, rtol=0, atol=1e-13
    )


@pytest.mark.parametrize("step", ["explicit", "implicit", "normalized"])
@pytest.mark.parametrize("objective", REST)
def test_a_frozen_chunk_in_every_option(objective: str, step: str) -> None:
    """One repeat is `memory_step`; three are its erase three times, with the first association."""
    given, options = pair(1.3), {"eta": 0.4, "alpha": 0.8, "objective": objective, "step": step}
    moved = memory_step(**given, **options)
    np.testing.assert_allclose(frozen_chunk(**given, count=1, **options), moved, rtol=0, atol=1e-14)
    taken = {"explicit": 0.4, "implicit": 0.4 / (1 + 0.4 * 1.69), "normalized": 0.4 / (1.69 + 1e-6)}[step]
    erase = 0.8 * np.eye(4) - taken * np.outer(given["k"], given["k"])
    association = moved - given["memory"] @ erase
    want = given["memory"] @ erase @ erase @ erase + association @ (np.eye(4) + erase + erase @ erase)
    np.testing.assert_allclose(frozen_chunk(**given, count=3, **options), want, rtol=0, atol=1e-13)


def test_skip_fixed_points() -> None:
    """M(z) = z + W z on one pair: the dot product brings W k to v̂, ½‖·‖² to (v̂ - k)/2."""
    rng = np.random.default_rng(5)
    k, target = rng.normal(size=3), rng.normal(size=3)
    k /= np.linalg.norm(k)
    rest = {"dot": target, "l2": (target - k) / 2}
    for objective, want in rest.items():
        w = rng.normal(size=(3, 3))
        for _ in range(400):
            # W is a memory of its own: the skip k is taken off the target of the regression
            wanted = target if objective == "dot" else target - k
            w = memory_step(w, k, wanted, 0.3, objective=objective)
        np.testing.assert_allclose(w @ k, want, rtol=0, atol=1e-12)


BAD: list[tuple[Any, dict[str, Any], str]] = [
    (effective_step, {"eta": -0.3, "x": np.ones(2)}, "eta must be >= 0, got min -0.3"),
    (effective_step, {"eta": 1, "x": np.ones((2, 2))}, r"x must have shape \(d_in,\), got \(2, 2\)"),
    (delta_gradient_descent_step, {"x": np.ones(4)}, r"x must have shape \(5,\), got \(4,\)"),
    (delta_gradient_descent_step, {"w": np.ones(4)}, r"w must have shape \(d_out, d_in\), got \(4,\)"),
    (delta_gradient_descent_step, {"grad_y": np.ones(4)}, r"grad_y must have shape \(3,\), got \(4,\)"),
    (delta_gradient_descent_step, {"grad_y": np.full(3, np.nan)}, "grad_y must be finite, got 3 NaN"),
    (
        delta_gradient_descent_step,
        {"w": np.ones((3, 5), np.float32)},
        "w must be float64 .* got dtype float32",
    ),
    (delta_gradient_descent_step, {"eta": -1e-9}, "eta must be >= 0, got min -1e-09"),
    (delta_gradient_descent_step, {"eta": np.inf}, "eta must be finite"),
    (delta_gradient_descent_step, {"eta": np.ones(2)}, r"eta must have shape \(\), got \(2,\)"),
    (delta_gradient_descent_chunk, {"x": np.ones((2, 4))}, r"x must have shape \(C, 5\), got \(2, 4\)"),
    (delta_gradient_descent_chunk, {"u": np.ones((3, 3))}, r"u must have shape \(4, 3\), got \(3, 3\)"),
    (delta_gradient_descent_chunk, {"eta": -1}, "eta must be >= 0, got min -1"),
    (memory_step, {"k": np.ones(3)}, r"k must have shape \(4,\), got \(3,\)"),
    (memory_step, {"v": np.ones(4)}, r"v must have shape \(3,\), got \(4,\)"),
    (memory_step, {"memory": np.ones(4)}, r"memory must have shape \(d_v, d_k\), got \(4,\)"),
    (memory_step, {"alpha": 1.5}, "alpha must be <= 1, got max 1.5"),
    (memory_step, {"alpha": -0.5}, "alpha must be >= 0, got min -0.5"),
    (memory_step, {"eta": -1}, "eta must be >= 0, got min -1"),
    (memory_step, {"objective": "L2"}, "objective must be one of 'dot', 'l2', 'l2_without_half', got 'L2'"),
    (memory_step, {"step": "euler"}, "step must be one of 'explicit', 'implicit', 'normalized', got 'euler'"),
    (frozen_chunk, {"count": 0}, "count must be an integer >= 1, got 0"),
    (
        frozen_chunk,
        {"rule": "sgd"},
        "rule must be one of 'delta_gradient_descent', 'gradient_descent', got 'sgd'",
    ),
]


@pytest.mark.parametrize(("function", "replaced", "message"), BAD)
def test_bad_input_is_named(function: Any, replaced: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {
        effective_step: {},
        delta_gradient_descent_step: {**layer(), "eta": 1.0},
        delta_gradient_descent_chunk: {**layer(length=4), "eta": 1.0},
        memory_step: {**pair(), "eta": 1.0},
        frozen_chunk: {**pair(), "eta": 1.0, "count": 2},
    }[function]
    with pytest.raises(ValueError, match=message):
        function(**{**given, **replaced})
