"""The printed formulas of gradient descent, Delta Gradient Descent and Newton–Schulz, executed beside steps written out here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import latex_values as latex
import numpy as np
import pytest
from printed_claims import Bindings, Env, Rng, holds, identities, parts, reprinted, run_the_print, same
from simulated import column, columns, dgd_step, nearest, rate, rates, silu, silu_slope, squares

from hope_ref.symbolic.identity import Identity

BINDINGS = Bindings()
LENGTH = 3
LOSS, SLOPE = r"\mathcal{L}", r"\nabla_y \mathcal{L}"


class SoftLoss:
    """Σ log cosh(y - target), a loss that is not quadratic; its slope is tanh(y - target)."""

    def __init__(self, target: Any) -> None:
        self.target = target

    def __call__(self, y: Any) -> float:
        return float(np.log(np.cosh(y - self.target)).sum())

    def slope(self, y: Any) -> Any:
        return np.tanh(y - self.target)


# --- gradient descent ------------------------------------------------------------------------------------------------


@BINDINGS.simulation("gradient_descent.chain_rule")
def chain_rule(rng: Rng) -> Iterator[Any]:
    w, x, loss = rng.normal(size=(2, 3)), column(rng, 3), SoftLoss(column(rng, 2))
    yield {"W": w, "x": x, LOSS: loss, SLOPE: loss.slope(w @ x)}


def descent(rng: Rng) -> Iterator[Env]:
    """Gradient descent on one loss per token; the losses bend, the step is along the slope at the present weight."""
    w = rng.normal(size=(2, 3))
    for _ in range(LENGTH):
        x, loss, eta = column(rng, 3), SoftLoss(column(rng, 2)), rate(rng)
        slope = loss.slope(w @ x)
        after = w - eta * np.array([[slope[i, 0] * x[j, 0] for j in range(3)] for i in range(2)])
        yield {
            "W": rng.normal(size=(2, 3)), r"\Phi": rng.normal(size=(2, 3)), "W_t": w, r"\Phi_t": w, "W_{t+1}": after,
            "x_t": x, "u_t": -slope, r"\eta_t": eta, r"\eta": eta, r"\nabla_{y_t} \mathcal{L}": slope,
        }  # fmt: skip
        w = after


@BINDINGS.simulation(
    "gradient_descent.proximal_step", "gradient_descent.wrong_sign", "gradient_descent.wrong_sign_paper"
)
def proximal_steps(rng: Rng) -> Iterator[Any]:
    for env in descent(rng):
        yield env, env["W_{t+1}"]


@BINDINGS.simulation("gradient_descent.self_referential")
def self_referential(rng: Rng) -> Iterator[Any]:
    """Here the slope is a function of the weight and the input."""
    for env in descent(rng):
        target = env["W_t"] @ env["x_t"] - np.arctanh(env[r"\nabla_{y_t} \mathcal{L}"])
        slope = lambda w, x, target=target: np.tanh(w @ x - target)  # noqa: E731
        yield env | {r"\nabla_{y_t} \mathcal{L}": slope, "v_t": env["u_t"]}


@BINDINGS.simulation("gradient_descent.sum_of_surprises")
def surprises(rng: Rng) -> Iterator[Any]:
    x, y, eta = columns(rng, 2, 3), columns(rng, 2, 2), rates(rng, 2)
    w, v = {0: rng.normal(size=(2, 3))}, {}
    for t in (1, 2):
        v[t] = y[t] - w[t - 1] @ x[t]
        w[t] = w[t - 1] + eta[t] * v[t] * x[t].T
    yield {"W": w, "x": x, "y": y, "v": v, r"\eta": eta}


@BINDINGS.simulation("gradient_descent.two_layers")
def two_layers(rng: Rng) -> Iterator[Any]:
    w1, w2, x, loss = (
        rng.normal(size=(2, 4)),
        rng.normal(size=(4, 3)),
        column(rng, 3),
        SoftLoss(column(rng, 2)),
    )
    yield {
        LOSS: latex.Lazy(lambda env: loss(env["W_1"] @ silu(env["W_2"] @ x))), SLOPE: loss.slope(w1 @ silu(w2 @ x)),
        "W_1": w1, "W_2": w2, "x": x, r"\sigma": silu, r"\sigma'": silu_slope,
    }  # fmt: skip


@BINDINGS.simulation("gradient_descent.batch")
def batch(rng: Rng) -> Iterator[Any]:
    w, x = rng.normal(size=(2, 3)), columns(rng, 4, 3)
    losses = {n: SoftLoss(column(rng, 2)) for n in x}
    slopes = {n: losses[n].slope(w @ x[n]) for n in x}
    yield {"W": w, "x": x, LOSS: losses, r"\nabla_{y_n} \mathcal{L}": slopes, r"\sum_n": list(x)}


# --- Delta Gradient Descent of a layer -------------------------------------------------------------------------------


def proximal(rng: Rng, inverse: bool = False) -> Iterator[Env]:
    """Inputs one by one, each with the exact minimiser of ½‖W x - u‖² + (1/2η)‖W - W_t‖², u = -∇; η/2 if ``inverse``."""
    w = rng.normal(size=(2, 3))
    for _ in range(LENGTH):
        x, slope, eta = column(rng, 3), column(rng, 2), rate(rng)
        length = float(np.sqrt(squares(x)))
        after = nearest(x, -slope, w, eta if inverse else 1 / eta)
        across = column(rng, 3)
        across -= x * (x * across).sum() / length**2
        yield {
            "W": w, "W_t": w, "W_{t+1}": after, "x": x, "x_t": x, "z": across, "u": -slope, "u_t": -slope,
            r"\nabla_y \mathcal{L}": slope, r"\nabla": slope, r"\lambda": length, r"\eta": eta, r"\eta_t": eta,
            r"\eta'": eta / (1 + eta * length * length), r"\alpha_t": 1 / (length * length + eta),
        }  # fmt: skip
        w = after


@BINDINGS.simulation(
    "delta_gradient_descent.stationarity",
    "delta_gradient_descent.residual_shrinks",
)
def proximal_loop(rng: Rng) -> Iterator[Any]:
    yield from proximal(rng)


@BINDINGS.check("delta_gradient_descent.orthogonal")
def orthogonal(formula: str, rng: Rng) -> None:
    """And for another z neither the premise nor the conclusion holds."""
    premise, conclusion = (" = ".join(sides) for sides in parts(formula))
    for env in proximal(rng):
        holds(formula, env)
        for one in (premise, conclusion):
            with pytest.raises(AssertionError):
                holds(one, env | {"z": column(rng, 3)})


@BINDINGS.simulation("delta_gradient_descent.step")
def minimised(rng: Rng) -> Iterator[Any]:
    for env in proximal(rng):
        yield env, env["W_{t+1}"]


@BINDINGS.simulation("delta_gradient_descent.appendix_sign")
def inverse_rate_loop(rng: Rng) -> Iterator[Any]:
    yield from proximal(rng, inverse=True)


@BINDINGS.check("delta_gradient_descent.inverse_rate")
def from_its_objective(formula: str, rng: Rng) -> None:
    """The cost of moving stands last: the weight is the minimiser of ½‖W x - u‖² plus that, as printed."""
    for env in proximal(rng):
        *_, (cost,) = parts(formula, env)

        def objective(w: Any, env: Env = env, cost: str = cost) -> float:
            return squares(w @ env["x"] - env["u"]) / 2 + latex.evaluate(cost, env | {"W": w})

        env["W_{t+1}"] = latex.minimiser(objective, env["W_t"])
        for sides in parts(formula, env)[:-1]:
            holds(" = ".join(sides), env)


@BINDINGS.simulation("delta_gradient_descent.appendix_chain")
def ascent(rng: Rng) -> Iterator[Any]:
    """The stationary point of the appendix's own first line, solved as a linear system."""
    for env in proximal(rng):
        x, slope, eta, length = env["x"], env[r"\nabla"], env[r"\eta"], env[r"\lambda"]
        solved = np.linalg.solve(x * x.T + eta * np.eye(3), (slope * x.T + eta * env["W_t"]).T).T
        yield env | {"W": solved, r"\alpha": 1 / (length**2 + eta)}


@BINDINGS.simulation("delta_gradient_descent.beta_is_alpha")
def two_names(rng: Rng) -> Iterator[Any]:
    """α is what a step without gradient takes off along x; β what the gradient adds to a weight that is 0."""
    for env in proximal(rng):
        x, eta, length = env["x"], env[r"\eta"], env[r"\lambda"]
        erased = nearest(x, np.zeros((2, 1)), env["W_t"], eta) @ x
        kept = float((erased / (env["W_t"] @ x))[0, 0])
        write = nearest(x, np.ones((1, 1)), np.zeros((1, 3)), eta) @ x
        alpha, beta = (1 - kept) / length**2, float(write[0, 0]) / length**2
        yield env | {r"\alpha_t": alpha, r"\beta_t": beta}


@BINDINGS.simulation("delta_gradient_descent.explicit_step", "delta_gradient_descent.conference_step")
def explicit_step(rng: Rng) -> Iterator[Any]:
    for env in proximal(rng):
        slope = latex.gradient(lambda w, env=env: squares(w @ env["x"] - env["u"]) / 2, env["W_t"])
        yield env | {"W_{t+1}": env["W_t"] - env[r"\eta"] * slope}


@BINDINGS.simulation("delta_gradient_descent.shrinks_outputs")
def shrinks_outputs(rng: Rng) -> Iterator[Any]:
    for env in proximal(rng):
        loss = SoftLoss(column(rng, 2))
        slope = loss.slope(env["W_t"] @ env["x"])
        after = nearest(env["x"], -slope, env["W_t"], 1 / env[r"\eta"])
        lazy = latex.Lazy(lambda env, loss=loss: loss(env["W"] @ env["x"]))
        yield env | {"W_{t+1}": after, LOSS: lazy}


@BINDINGS.simulation("delta_gradient_descent.sherman_morrison")
def sherman_morrison(rng: Rng) -> Iterator[Any]:
    x, c = column(rng, 4), rate(rng)
    yield {"x": x, "c": c, r"\lambda": float(np.sqrt(squares(x)))}, np.linalg.inv(x * x.T + np.diag([c] * 4))


@BINDINGS.simulation("delta_gradient_descent.woodbury")
def woodbury(rng: Rng) -> Iterator[Any]:
    for count in (2, 5):
        x, eta = rng.normal(size=(3, count)), rate(rng)
        yield {"X": x, r"\eta": eta}, np.linalg.inv(sum(np.outer(c, c) for c in x.T) + np.diag([1 / eta] * 3))


@BINDINGS.simulation("delta_gradient_descent.woodbury_step_form")
def two_forms(rng: Rng) -> Iterator[Any]:
    for env in whole_chunk(rng):
        yield env, nearest(env["X"], env["U"], env["W"], 1 / env[r"\eta"])


@BINDINGS.simulation("delta_gradient_descent.optimizer_form")
def whole_chunk(rng: Rng) -> Iterator[Any]:
    """The minimiser for all inputs at once; of a loss s Σ ⟨-u_n, W x_n⟩ the weight's gradient is G."""
    x, u, w = rng.normal(size=(3, 5)), rng.normal(size=(2, 5)), rng.normal(size=(2, 3))
    eta, weight = rate(rng), rate(rng)
    slope = latex.gradient(lambda m: -weight * float((u * (m @ x)).sum()), w)
    env = {"X": x, "U": u, "W": w, "W_t": w, "G": slope, r"\eta": eta, "s": weight}
    yield env | {"W_{t+1}": nearest(x, u, w, 1 / eta, weight)}


# --- Delta Gradient Descent of a memory ------------------------------------------------------------------------------


ERRORS = {
    "dot": lambda answer, v: v,
    "half": lambda answer, v: v - answer,
    "whole": lambda answer, v: 2 * (v - answer),
}  # minus the slope of -⟨y, v⟩, ½‖y - v‖², ‖y - v‖²


@BINDINGS.simulation("delta_gradient_descent.dot_product_sign")
def dot_product(rng: Rng) -> Iterator[Any]:
    memory, k, v = {0: rng.normal(size=(2, 3))}, columns(rng, LENGTH, 3), columns(rng, LENGTH, 2)
    eta, alpha = rates(rng, LENGTH), rates(rng, LENGTH)
    for t in range(1, LENGTH + 1):
        memory[t] = dgd_step(memory[t - 1], k[t], v[t], eta[t], alpha[t])
        yield {"t": t, "M": memory, "k": k, r"\hat v": v, r"\eta": eta, r"\alpha": alpha}


@BINDINGS.simulation("delta_gradient_descent.delta_rule")
def is_the_delta_rule(rng: Rng) -> Iterator[Any]:
    memory, k, v, eta = rng.normal(size=(2, 3)), column(rng, 3), column(rng, 2), rate(rng)
    yield {"M": memory, "k": k, "v": v, r"\eta": eta}, memory - eta * (memory @ k - v) * k.T


def rests(rng: Rng, skip: bool = False) -> tuple[Env, dict[str, Any]]:
    """One pair repeated until nothing changes: where the answer comes to rest, by loss."""
    k = column(rng, 2)
    v, eta = column(rng, 2), 0.3 / squares(k)
    limits, memories = {}, {}
    for name, error in ERRORS.items():
        memory = rng.normal(size=(2, 2))
        for _ in range(400):
            memory = dgd_step(memory, k, error(memory @ k + (k if skip else 0), v), eta)
        limits[name], memories[name] = memory @ k, memory
    return {"M": memories["dot"], "W": memories["dot"], "k": k, "v": v, r"\hat v": v}, limits


@BINDINGS.simulation("delta_gradient_descent.fixed_points")
def fixed_points(rng: Rng) -> Iterator[Any]:
    env, limits = rests(rng)
    yield env, *limits.values()


@BINDINGS.simulation("delta_gradient_descent.skip_fixed_points")
def skip_fixed_points(rng: Rng) -> Iterator[Any]:
    env, limits = rests(rng, skip=True)
    yield env, limits["dot"], limits["half"]


@BINDINGS.check("delta_gradient_descent.factors")
def factors(formula: str, rng: Rng) -> None:
    """Two memories take the same step: their answers' distance after it, over that before it, is the derivative."""
    (first, *rest), *others = parts(formula)
    quotient = re.fullmatch(r"\\frac \{ \\partial (.*) \} \{ \\partial (.*) \}", first)
    assert quotient is not None
    k, v, eta, alpha = column(rng, 3), column(rng, 2), rate(rng), rate(rng)
    for error, (said,) in zip(ERRORS.values(), [rest, *others], strict=True):
        answers = []
        for _ in range(2):
            memory = rng.normal(size=(2, 3))
            after = dgd_step(memory, k, error(memory @ k, v), eta, alpha)
            env = {"M_t": after, "M_{t-1}": memory, "k": k}
            answers.append([latex.evaluate(side, env) for side in quotient.groups()])
        above, below = (one - other for one, other in zip(*answers, strict=True))
        value = latex.evaluate(
            said, {r"\alpha": alpha, r"\tilde\eta": eta, r"\lambda": float(np.sqrt(squares(k)))}
        )
        same(above, value * below, said)


@BINDINGS.simulation("delta_gradient_descent.frozen_chunk")
def frozen_chunk(rng: Rng) -> Iterator[Any]:
    """C repeats of one pair with the error of the start: by what the distances from v/2 and from v are multiplied."""
    for count in (3, 5):
        k, v, eta, start = column(rng, 3), column(rng, 2), rate(rng), rng.normal(size=(2, 3))
        delta = plain = start
        for _ in range(count):
            delta = dgd_step(delta, k, v - start @ k, eta)
            plain = plain + eta * (v - start @ k) * k.T
        shrunk = [
            float(((moved @ k - rest) / (start @ k - rest))[0, 0])
            for moved, rest in ((delta, v / 2), (plain, v))
        ]
        yield {r"\tilde\eta": eta, r"\lambda": float(np.sqrt(squares(k))), "C": count}, *shrunk


# --- Newton–Schulz ---------------------------------------------------------------------------------------------------


def deviation(o: Any) -> float:
    """‖OᵀO - I‖²."""
    return squares(o.T @ o - np.eye(o.shape[1]))


@BINDINGS.simulation("newton_schulz.gradient")
def orthogonalise(rng: Rng) -> Iterator[Any]:
    o = rng.normal(size=(3, 2)) / 2
    for _ in range(LENGTH):
        zeta = rate(rng) / 10
        after = o - zeta * latex.gradient(deviation, o)
        yield {"O_i": o, "O_{i+1}": after, r"\zeta": zeta, "g": rng.normal(size=(3, 2))}
        o = after


def what_is_differentiated(formula: str, env: Env, value: float) -> None:
    """OOᵀ would have the same slope as OᵀO: so the objective itself is compared too, where the formula has one."""
    for objective in re.findall(r"\\nabla_O (.*?) =", formula):
        same(latex.evaluate(objective, env), value, objective)


@BINDINGS.check("newton_schulz.with_proximity")
def with_proximity(formula: str, rng: Rng) -> None:
    env = {"O": rng.normal(size=(3, 2)), "g": rng.normal(size=(3, 2))}

    def objective(o: Any) -> float:
        return squares(o - env["g"]) / 2 + deviation(o) / 2

    what_is_differentiated(formula, env, objective(env["O"]))
    holds(formula, env, latex.gradient(objective, env["O"]))


@BINDINGS.check("newton_schulz.cubic")
def cubic(formula: str, rng: Rng) -> None:
    """The cubic iteration on the singular values, s to (3 s - s³)/2."""
    o = rng.normal(size=(3, 2))
    what_is_differentiated(formula, {"O": o}, deviation(o))
    left, values, right = np.linalg.svd(o, full_matrices=False)
    holds(formula, {"O": o}, left @ np.diag(1.5 * values - 0.5 * values**3) @ right)


def through_the_singular_values(o: Any, a: float, b: float, c: float) -> Any:
    left, s, right = np.linalg.svd(o, full_matrices=False)
    return left @ np.diag(a * s + b * s**3 + c * s**5) @ right


@BINDINGS.simulation("newton_schulz.either_side")
def either_side(rng: Rng) -> Iterator[Any]:
    o, (a, b, c) = rng.normal(size=(3, 2)), rng.normal(size=3)
    yield {"O": o, "a": float(a), "b": float(b), "c": float(c)}, through_the_singular_values(o, a, b, c)


@BINDINGS.check("newton_schulz.singular_values")
def singular_values(formula: str, rng: Rng) -> None:
    """What is printed on the left goes through the polynomial, product by product; the right side is what comes out."""
    left, right = (np.linalg.qr(rng.normal(size=(n, 2)))[0] for n in (4, 3))
    a, b, c = (float(x) for x in rng.normal(size=3))
    env = {"U": left, "V": right, r"\Sigma": np.diag(rng.uniform(0.2, 0.9, size=2)), "a": a, "b": b, "c": c}
    ((before, after),) = parts(formula)
    o = latex.evaluate(before, env)
    same(a * o + b * o @ o.T @ o + c * o @ o.T @ o @ o.T @ o, latex.evaluate(after, env), after)


def cubic_map(s: float) -> float:
    return (3 * s - s**3) / 2


@BINDINGS.check("newton_schulz.fixed_points")
def cubic_fixed_points(formula: str, rng: Rng) -> None:
    """The roots of p(s) - s are the printed set; the slopes there by differences."""
    (image, point), (inside,), *slopes = parts(formula)
    points = re.fullmatch(r"s \\in \\\{ (.*) \\\}", inside)
    assert points is not None
    said = sorted(latex.evaluate(number, {}) for number in points[1].split(","))
    assert (image.strip(), point.strip()) == ("p ( s )", "s")
    np.testing.assert_allclose(said, sorted(np.roots([-0.5, 0, 1.5 - 1, 0]).real), atol=1e-12)
    env = {"p": cubic_map, "p'": lambda s: latex.gradient(cubic_map, s)}
    assert slopes
    for slope, value in slopes:
        for sign in ("+", "-"):
            same(latex.evaluate(slope.replace(r"\pm", sign), env), latex.evaluate(value, env), slope)


@BINDINGS.simulation("newton_schulz.converges")
def converges(rng: Rng) -> Iterator[Any]:
    for s in rng.uniform(0.1, 1.7, size=3):
        yield {"p": cubic_map(float(s)), "s": float(s)}


# --- the tests -------------------------------------------------------------------------------------------------------

ENTRIES = identities("test_printed_gradients.py")


def test_no_identity_is_left_out() -> None:
    assert set(BINDINGS) == {entry.name for entry in ENTRIES}


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.name)
def test_the_correct_formula_holds(entry: Identity) -> None:
    BINDINGS.run(entry.name, entry.correct)


@pytest.mark.parametrize("entry", reprinted(ENTRIES), ids=lambda e: e.name)
def test_the_print_holds_or_is_wrong_as_its_proof_says(entry: Identity) -> None:
    run_the_print(BINDINGS, entry)
