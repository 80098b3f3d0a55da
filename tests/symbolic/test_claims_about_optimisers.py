"""Numbers and inequalities in the claims about optimisers, read out of the sentence and held against numbers.

A claim is matched as a whole pattern, so that a rewritten one asks for its check again. What the pattern captures is a
formula in signs, translated to LaTeX and executed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import latex_values as latex
import numpy as np
import pytest
from printed_claims import WORDS, Claims, Env, Rng, differs, same, value, with_numbers
from simulated import column, dgd_step, gated_step, gradients_to_hold, nearest, pair, rate, squares

from hope_ref import symbolic

CLAIMS = Claims()

WRITES: tuple[Callable[[Any, Any], Any], ...] = (
    lambda answer, v: v,
    lambda answer, v: v - answer,
    lambda answer, v: 2 * (v - answer),
)  # on the dot product, ½‖·‖², ‖·‖²


# --- Delta Gradient Descent ------------------------------------------------------------------------------------------


def layer(rng: Rng) -> Env:
    x, slope = column(rng, 3), column(rng, 2)
    return {
        "W": rng.normal(size=(2, 3)),
        "x": x,
        "slope": slope,
        r"\eta": rate(rng),
        r"\lambda": float(np.sqrt(squares(x))),
    }


def closed_form(p: Env, step: float) -> Any:
    return p["W"] - step * (p["W"] @ p["x"] + p["slope"]) * p["x"].T


@CLAIMS.check(
    "delta_gradient_descent.stationarity",
    "The gradient of the printed objective divides by η, a learning rate, where the print multiplies; the ‹› on both terms is harmless.",
)
def no_two(rng: Rng, factor: str) -> None:
    """The factor is the one by which the first term of the print is too large."""
    p = layer(rng)
    slope = latex.gradient(lambda w: squares(w @ p["x"] + p["slope"]) / 2, p["W"])
    printed = symbolic.named("delta_gradient_descent.stationarity").printed.split(" + ")[0]
    said = latex.evaluate(printed, {"W_{t+1}": p["W"], "x_t": p["x"], "u_t": -p["slope"]})
    same(said, value(factor) * slope)
    moved = symbolic.named("delta_gradient_descent.stationarity").printed.split(" + ")[1].removesuffix(" = 0")
    far = {"W_{t+1}": p["W"], "W_t": 0 * p["W"], r"\eta_t": p[r"\eta"]}
    same(latex.evaluate(moved, far), value(factor) * p[r"\eta"] * p["W"])


@CLAIMS.check(
    "delta_gradient_descent.sherman_morrison",
    "The inverse of c I plus one outer product is again of that form, for any ‖x‖ = λ and c > ‹›.",
)
def invertible(rng: Rng, bound: str) -> None:
    """At the bound there is no inverse; above it the inverse is a multiple of I plus one of x xᵀ."""
    x = column(rng, 4)
    assert abs(np.linalg.det(x * x.T + value(bound) * np.eye(4))) < 1e-12
    c = value(bound) + rate(rng)
    inverse = np.linalg.inv(x * x.T + c * np.eye(4))
    rest = inverse - np.eye(4) / c
    same(rest, x * x.T * (x.T @ rest @ x).item() / squares(x) ** 2)


@CLAIMS.check(
    "delta_gradient_descent.step",
    "The exact minimiser, for every ‖x‖ = λ: the printed ‹› is its case λ = ‹›.",
)
def special_case(rng: Rng, step: str, length: str) -> None:
    p = layer(rng)
    p["x"] *= value(length) / p[r"\lambda"]
    same(nearest(p["x"], -p["slope"], p["W"], 1 / p[r"\eta"]), closed_form(p, value(step, p)))
    p["x"] *= 1.5
    differs(nearest(p["x"], -p["slope"], p["W"], 1 / p[r"\eta"]), closed_form(p, value(step, p)))


@CLAIMS.check(
    "delta_gradient_descent.inverse_rate",
    "The tutorial's form has η as an inverse learning rate; it is ours under η ↔ ‹›, not at the same η.",
)
def exchanged(rng: Rng, other: str) -> None:
    p = layer(rng)
    tutorial = closed_form(p, 1 / (squares(p["x"]) + p[r"\eta"]))
    same(tutorial, nearest(p["x"], -p["slope"], p["W"], 1 / value(other, p)))
    differs(tutorial, nearest(p["x"], -p["slope"], p["W"], 1 / p[r"\eta"]))


@CLAIMS.check(
    "delta_gradient_descent.residual_shrinks",
    "One step divides the residual by ‹›: for no η > ‹› does it overshoot.",
)
def no_overshoot(rng: Rng, divisor: str, bound: str) -> None:
    p = layer(rng)
    for above in (1e-3, 1.0, 1e3):
        p[r"\eta"] = value(bound) + above
        after = nearest(p["x"], -p["slope"], p["W"], 1 / p[r"\eta"]) @ p["x"] + p["slope"]
        kept = float(((p["W"] @ p["x"] + p["slope"]) / after)[0, 0])
        assert kept == pytest.approx(value(divisor, p), rel=1e-6)
        assert kept > 1
    p[r"\eta"] = value(bound) - 0.1  # there the divisor is less than 1
    assert value(divisor, p) < 1


@CLAIMS.check(
    "delta_gradient_descent.shrinks_outputs",
    "It is gradient descent with the step η' on the loss plus ‹›: it wants small outputs, and rests accordingly.",
)
def small_outputs(rng: Rng, penalty: str) -> None:
    p = layer(rng)
    step = p[r"\eta"] / (1 + p[r"\eta"] * squares(p["x"]))
    slope = p["slope"] * p["x"].T + latex.gradient(lambda w: value(penalty, {"W": w, "x": p["x"]}), p["W"])
    same(p["W"] - step * slope, nearest(p["x"], -p["slope"], p["W"], 1 / p[r"\eta"]))


@CLAIMS.check(
    "delta_gradient_descent.delta_rule",
    "Delta Gradient Descent on the dot product with α = ‹› is the delta rule.",
)
def retention_of_the_delta_rule(rng: Rng, alpha: str) -> None:
    p = pair(rng)
    same(dgd_step(p["M"], p["k"], p["v"], p["η"], value(alpha)), gated_step(p["M"], p["k"], p["v"], p["η"]))


@CLAIMS.check(
    "delta_gradient_descent.fixed_points",
    "One pair repeated, α = ‹›: M k comes to ‹› on the dot product, to ‹› on ½‖·‖² and to ‹› on ‖·‖².",
)
def rests(rng: Rng, alpha: str, *said: str) -> None:
    p, keep = pair(rng), value(alpha)
    for write, rest in zip(WRITES, said, strict=True):
        memory = p["M"]
        for _ in range(500):
            memory = dgd_step(memory, p["k"], write(memory @ p["k"], p["v"]), 0.3 / squares(p["k"]), keep)
        same(memory @ p["k"], value(rest, p), rest)


@CLAIMS.check(
    "delta_gradient_descent.factors",
    "Per token the answer's distance from its fixed point is multiplied by ‹›, ‹› or ‹›.",
)
def factors(rng: Rng, *said: str) -> None:
    p = pair(rng)
    names = {r"\alpha": p["α"], r"\tilde\eta": p["η"], r"\lambda": float(np.sqrt(squares(p["k"])))}
    for write, factor in zip(WRITES, said, strict=True):
        one, two = (
            dgd_step(m, p["k"], write(m @ p["k"], p["v"]), p["η"], p["α"]) @ p["k"]
            for m in (p["M"], 0 * p["M"])
        )
        same(one - two, value(factor, names) * (p["M"] @ p["k"]), factor)


@CLAIMS.check(
    "delta_gradient_descent.frozen_chunk",
    "C repeats with a frozen ½‖·‖² gradient: DGD's factor stays in (‹›, ‹›) for ‹› < η̃λ² < ‹›, plain descent's does not.",
)
def frozen_chunk(rng: Rng, least: str, most: str, low: str, high: str) -> None:
    """Even C, odd C; just inside of the range both bounds of the factor are neared, just outside one is passed."""
    k, start, v = column(rng, 3), rng.normal(size=(1, 3)), column(rng, 1)

    def factor(reach: float, count: int, erases: bool) -> float:
        memory, eta = start, reach / squares(k)
        for _ in range(count):
            write = v - start @ k
            memory = dgd_step(memory, k, write, eta) if erases else memory + eta * write * k.T
        rest = v / 2 if erases else v
        return float(((memory @ k - rest) / (start @ k - rest)).item())

    width = value(high) - value(low)
    inside = [factor(value(low) + share * width, c, True) for share in (0.001, 0.5, 0.999) for c in (1, 2, 3)]
    assert all(value(least) < f < value(most) for f in inside)
    assert min(inside) < value(least) + 0.01
    assert max(inside) > value(most) - 0.05
    assert factor(value(low) - 0.02 * width, 3, True) > value(most)
    assert factor(value(high) + 0.02 * width, 3, True) < value(least)
    assert factor(value(low) + 0.5 * width, 15, False) < value(least)


@CLAIMS.check(
    "delta_gradient_descent.skip_fixed_points",
    "A memory k + W k with a skip rests at W k = ‹› on the dot product and at W k = ‹› on ½‖·‖².",
)
def skip_rests(rng: Rng, *said: str) -> None:
    k, target = column(rng, 3), column(rng, 3)
    for write, rest in zip(WRITES[:2], said, strict=True):
        weight = rng.normal(size=(3, 3))
        for _ in range(500):
            weight = dgd_step(weight, k, write(k + weight @ k, target), 0.3 / squares(k))
        same(weight @ k, value(rest, {"k": k, r"\hat v": target}), rest)


# --- momentum and Newton–Schulz --------------------------------------------------------------------------------------


@CLAIMS.check(
    "momentum.ema",
    "A running mean is the point nearest to the old mean and the new gradient, weighted ‹› to ‹›.",
)
def weighted(rng: Rng, old: str, new: str) -> None:
    beta, m, g = rate(rng), column(rng, 3), column(rng, 3)
    of_old, of_new = (value(text, {r"\beta": beta}) for text in (old, new))
    same(
        latex.minimiser(lambda z: of_old * squares(z - m) + of_new * squares(z - g), m),
        beta * m + (1 - beta) * g,
    )


@CLAIMS.check(
    "momentum.gradients_to_hold",
    "At β = ‹› it takes ‹› gradients to hold ‹› % of the weight and ‹› to hold ‹› %.",
)
def held(rng: Rng, beta: str, *said: str) -> None:
    """The shares are those of the formula: 51 % would take seven as well."""
    assert list(said[1::2]) == re.findall(r"n_\{(\d+)", symbolic.named("momentum.gradients_to_hold").correct)
    for count, share in zip(said[::2], said[1::2], strict=True):
        assert gradients_to_hold(value(beta), value(share) / 100) == value(count)


def row(rng: Rng) -> Env:
    return {
        "m": rng.normal(size=(1, 3)),
        "g": rng.normal(size=(1, 3)),
        "P": float(rng.normal()),
        r"\eta": rate(rng),
    }


@CLAIMS.check(
    "momentum.delta_momentum",
    "Delta momentum is one gradient step of size η on ‹› plus a decay: η stands on gᵀg too.",
)
def delta_momentum(rng: Rng, objective: str) -> None:
    m, g, target, eta, mu = (
        rng.normal(size=(2, 3)),
        rng.normal(size=(2, 3)),
        rng.normal(size=(2, 2)),
        rate(rng),
        rate(rng),
    )
    slope = latex.gradient(lambda n: value(objective, {"m": n, "g": g, "P": target}), m)
    same(mu * m - eta * slope, mu * m - eta * m @ g.T @ g - eta * target @ g)


def row_step(p: Env, erase: float, write: float) -> Any:
    return p["m"] - erase * (p["m"] * p["g"]).sum() * p["g"] - write * p["P"] * p["g"]


@CLAIMS.check(
    "momentum.delta_momentum_implicit", "The exact implicit step, for one row, has η̃ = ‹› in both places."
)
def both_places(rng: Rng, step: str) -> None:
    p = row(rng)
    taken = value(step, p)
    same(row_step(p, taken, taken), nearest(p["g"].T, np.array([[-p["P"]]]), p["m"], 1 / p[r"\eta"]))


@CLAIMS.check(
    "momentum.delta_momentum_answer",
    "Under one repeated gradient the answer m gᵀ shrinks by ‹›, in (‹›, ‹›), and is written to; both writes.",
)
def answer_shrinks(rng: Rng, factor: str, low: str, high: str) -> None:
    """At rates from small to large the factor comes near both bounds."""
    p, seen = row(rng), []
    for eta in (1e-3, 1.0, 1e3):
        taken = eta / (1 + eta * squares(p["g"]))
        after = [row_step(p | {"m": m}, taken, eta) for m in (p["m"], 0 * p["m"])]
        kept = float(((after[0] - after[1]) * p["g"]).sum()) / float((p["m"] * p["g"]).sum())
        assert value(factor, p | {r"\tilde\eta": taken}) == pytest.approx(kept, rel=1e-6)
        seen.append(kept)
    assert value(low) < min(seen) < value(low) + 0.02
    assert value(high) - 0.02 < max(seen) < value(high)


@CLAIMS.check(
    "momentum.delta_momentum_fixed_points",
    "There the explicit write settles at ‹›, the implicit one at the wanted ‹› (μ = ‹›).",
)
def settles(rng: Rng, explicit: str, implicit: str, mu: str) -> None:
    p = row(rng)
    taken = p[r"\eta"] / (1 + p[r"\eta"] * squares(p["g"]))
    for write, said in ((p[r"\eta"], explicit), (taken, implicit)):
        m, kept = p["m"], value(mu) - 1
        for _ in range(3000):
            m = row_step(p | {"m": m}, taken, write) + kept * m
        same(float((m * p["g"]).sum()), value(said, p), said)


def weighted_answer(gradients: Any, weights: Any, target: float) -> float:
    """argmin_m Σ w (m g - target)² for one parameter."""
    return float((weights * gradients * target).sum() / (weights * gradients**2).sum())


@CLAIMS.check(
    "momentum.adam_denominator",
    "With P = √(Σ w g²) and no ridge the solution is Σ w g/√(Σ w g²): Adam's shape, AdaGrad's for w = ‹›.",
)
def adagrad(rng: Rng, weight: str) -> None:
    """AdaGrad divides by the root of the plain sum of squares."""
    g = rng.normal(size=5)
    target = float(np.sqrt((value(weight) * g**2).sum()))
    same(weighted_answer(g, np.full(5, value(weight)), target), float(g.sum() / np.sqrt((g**2).sum())))


@CLAIMS.check(
    "momentum.adam_same_betas",
    "Adam with β₁ = β₂ = β, bias corrected, ε = ‹›, is that solution exactly, for weights that sum to ‹›.",
)
def same_betas(rng: Rng, epsilon: str, total: str) -> None:
    g, beta, m, v = rng.normal(size=4), rate(rng), 0.0, 0.0
    for x in g:
        m, v = beta * m + (1 - beta) * x, beta * v + (1 - beta) * x * x
    correction = 1 - beta**4
    adam = (m / correction) / (np.sqrt(v / correction) + value(epsilon))
    weights = beta ** np.arange(3, -1, -1)
    weights *= value(total) / weights.sum()
    same(adam, weighted_answer(g, weights, float(np.sqrt((weights * g**2).sum()))))


def deviation(o: Any) -> float:
    return squares(o.T @ o - np.eye(o.shape[1]))


@CLAIMS.check(
    "newton_schulz.gradient",
    "The gradient step on ‖OᵀO - I‖² has no term (O - g), and a ‹› where a ‹› is printed.",
)
def four(rng: Rng, factor: str, printed: str) -> None:
    o = rng.normal(size=(3, 2))
    same(latex.gradient(deviation, o), value(factor) * o @ (o.T @ o - np.eye(2)))
    factor_of_print = re.search(r"\+ (\d) O_i", symbolic.named("newton_schulz.gradient").printed)
    assert factor_of_print is not None
    assert factor_of_print[1] == printed


@CLAIMS.check(
    "newton_schulz.cubic",
    "Gradient descent on ‖OᵀO - I‖² with step ‹› is the cubic Newton–Schulz iteration, exactly.",
)
def eighth(rng: Rng, step: str) -> None:
    o = rng.normal(size=(3, 2))
    same(o - value(step) * latex.gradient(deviation, o), 1.5 * o - 0.5 * o @ o.T @ o)


def cubic(s: float) -> float:
    return 1.5 * s - 0.5 * s**3


@CLAIMS.check(
    "newton_schulz.fixed_points",
    "The cubic stands still at ‹›, ‹› and ‹› only, with slopes ‹›, ‹› and ‹›: it flees ‹› and settles at ±‹›.",
)
def still(rng: Rng, *said: str) -> None:
    numbers = [value(text) for text in said]
    points, slopes, (fled, settled) = numbers[:3], numbers[3:6], numbers[6:]
    np.testing.assert_allclose(sorted(np.roots([-0.5, 0, 0.5, 0]).real), sorted(points), atol=1e-12)
    np.testing.assert_allclose([latex.gradient(cubic, p) for p in points], slopes, atol=1e-9)
    for sign in (1, -1):
        s = fled + sign * 1e-3
        for _ in range(60):
            s = cubic(s)
        assert s == pytest.approx(sign * settled, rel=1e-12)


@CLAIMS.check(
    "newton_schulz.converges",
    "From every singular value in (‹›, ‹›) the cubic converges to ‹›, and near ‹› it squares the error.",
)
def converges(rng: Rng, low: str, high: str, limit: str, near: str) -> None:
    least, most = value(low), value(high)

    def after(s: float) -> float:
        for _ in range(200):
            s = cubic(s)
        return s

    for start in (least + 1e-3, (least + most) / 2, most - 1e-3):
        assert after(start) == pytest.approx(value(limit), rel=1e-9)
    for start in (least - 1e-3, most + 1e-3):
        assert after(start) != pytest.approx(value(limit), rel=1e-3)
    errors = [abs(cubic(value(near) + e) - value(near)) for e in (1e-2, 1e-3)]
    assert errors[0] / errors[1] == pytest.approx(100, rel=0.05)


# --- the continuum memory and M3 -------------------------------------------------------------------------------------


@CLAIMS.check(
    "continuum_memory.otherwise",
    "Between two boundaries a level stays as it is; what is ‹› there is its update.",
)
def update_between(rng: Rng, update: str) -> None:
    """A clock with C = 3: where it does not move, the parameter has changed by the printed number."""
    theta = collected = 0.0
    for i in range(1, 10):
        collected += rate(rng)
        before = theta
        if i % 3 == 0:
            theta, collected = theta - collected, 0.0
        assert (theta - before == value(update)) == (i % 3 != 0)


def occurrences(steps: int, every: int, terms: int) -> list[int]:
    """How often each step stands in the windows that end at the multiples of ``every`` and have so many terms."""
    ends = range(every, steps + 1, every)
    return [sum(end - terms < i <= end for end in ends) for i in range(1, steps + 1)]


@CLAIMS.check(
    "continuum_memory.clock",
    "A clock changes nothing to first order: a step for each token and one step for all of them differ by η² times a sum over ‹› pairs.",
)
def pairs_of_a_chunk(rng: Rng, pairs: str) -> None:
    """Losses of one slope and one curvature: the difference over η², at a small η, counts the pairs."""
    for size in (2, 3, 7):
        eta, moving = 1e-6, 1.0
        for _ in range(size):
            moving -= eta * moving
        counted = (moving - (1.0 - size * eta)) / eta**2
        assert abs(counted - value(pairs, {"C": size})) < 1e-3


@CLAIMS.check("continuum_memory.window", "A chunk has ‹› terms; with ‹› each boundary token is counted ‹›.")
def terms_of_a_chunk(rng: Rng, right: str, wrong: str, times: str) -> None:
    for size in (3, 4):
        assert set(occurrences(4 * size, size, int(value(right, {"C": size})))) == {1}
        counted = occurrences(4 * size, size, int(value(wrong, {"C": size})))
        boundaries = [n for i, n in enumerate(counted, start=1) if i % size == 0 and i < 4 * size]
        assert set(boundaries) == {WORDS[times]}
        assert sum(counted) == 4 * size + 3


@CLAIMS.check(
    "m3.window",
    "Windows of ‹› terms count each boundary gradient ‹›; windows of ‹› terms count each ‹›.",
)
def windows(rng: Rng, wrong: str, times: str, right: str, every: str) -> None:
    for f in (2, 5):
        counted = occurrences(4 * f, f, int(value(wrong, {"f": f})))
        assert {counted[i - 1] for i in (f, 2 * f, 3 * f)} == {WORDS[times]}
        assert sum(counted) == 4 * f + 3
        assert set(occurrences(4 * f, f, int(value(right, {"f": f})))) == {WORDS[every]}


@CLAIMS.check(
    "m3.sum_limit",
    "With the printed sums β1 drops out and the n-th step under a constant gradient shrinks as ‹›.",
)
def shrinks(rng: Rng, law: str) -> None:
    assert value(law, {"n": 1}) == 1
    g, beta1, beta2 = rng.normal(size=(2, 3)), rate(rng), rate(rng)
    lengths = []
    for b in (beta1, 3 * beta1):
        m = v = np.zeros((2, 3))
        for n in range(1, 6):
            m, v = m + b * g, v + beta2 * g * g
            lengths.append(np.linalg.norm(m / np.linalg.norm(m) / np.sqrt(v)) / value(law, {"n": n}))
    np.testing.assert_allclose(lengths, lengths[0], rtol=1e-9)


# --- the tests -------------------------------------------------------------------------------------------------------


def test_no_claim_with_a_number_is_left_out() -> None:
    assert set(CLAIMS) == with_numbers("test_claims_about_optimisers.py")


@pytest.mark.parametrize("name", CLAIMS)
def test_the_numbers_of_a_claim(name: str) -> None:
    CLAIMS.run(name)
