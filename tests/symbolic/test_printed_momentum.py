"""The printed formulas of momentum, M3 and the continuum memory, executed beside optimisers and clocks written out here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import latex_values as latex
import numpy as np
import pytest
from printed_claims import Bindings, Env, Rng, holds, identities, parts, reprinted, run_the_print, same
from simulated import column, columns, gradients_to_hold, nearest, rate, rates, silu, silu_slope, squares

from hope_ref.symbolic.identity import Identity

BINDINGS = Bindings()
LENGTH = 4
LOSS = r"\mathcal{L}"


# --- momentum --------------------------------------------------------------------------------------------------------


def momentum_loop(rng: Rng) -> Iterator[Env]:
    """m from a random start."""
    m, mu, eta = rng.normal(size=(2, 3)), rate(rng), rate(rng)
    for _ in range(LENGTH):
        g = rng.normal(size=(2, 3))
        after = mu * m - eta * g
        yield {"m": m, "m_t": m, "m_{t+1}": after, "g_t": g, r"\mu": mu, r"\eta": eta}
        m = after


@BINDINGS.check("momentum.step")
def step_of_the_objective(formula: str, rng: Rng) -> None:
    """The objective after `\\min_m` is differentiated: one gradient step of size η on it is the printed step."""
    for env in momentum_loop(rng):
        step, (objective,) = parts(formula, env)
        least = r"\min _ m "
        assert objective.startswith(least)
        slope = latex.evaluate(rf"\nabla_m ({objective.removeprefix(least)})", env)
        holds(" = ".join(step), env, env["m"] - env[r"\eta"] * slope)


@BINDINGS.simulation("momentum.ema")
def running_mean(rng: Rng) -> Iterator[Any]:
    m, beta = rng.normal(size=(2, 3)), rate(rng)
    for _ in range(LENGTH):
        g = rng.normal(size=(2, 3))
        after = beta * m + (1 - beta) * g
        yield {"m": np.zeros((2, 3)), "m_t": m, "m_{t+1}": after, "g_t": g, r"\beta": beta}
        m = after


@BINDINGS.simulation("momentum.unrolled")
def unrolled(rng: Rng) -> Iterator[Any]:
    g, mu, eta = columns(rng, LENGTH, 3), rate(rng), rate(rng)
    m = {0: column(rng, 3)}
    for t in range(1, LENGTH + 1):
        m[t] = mu * m[t - 1] - eta * g[t]
        yield {"t": t, "m": m, "g": g, r"\mu": mu, r"\eta": eta}


@BINDINGS.simulation("momentum.linear_attention")
def momentum_of_a_layer(rng: Rng) -> Iterator[Any]:
    """The weight's gradient by differences of ⟨∇_y L, W x⟩."""
    m, w, mu, eta = rng.normal(size=(2, 3)), rng.normal(size=(2, 3)), rate(rng), rate(rng)
    for _ in range(LENGTH):
        x, slope = column(rng, 3), column(rng, 2)
        after = mu * m - eta * latex.gradient(lambda v, x=x, slope=slope: float((slope * (v @ x)).sum()), w)
        yield {
            "m_t": m, "m_{t+1}": after, "x_t": x, "k_t": x, "v_t": -eta * slope, r"\nabla_y \mathcal{L}": slope,
            r"\mu": mu, r"\eta": eta,
        }  # fmt: skip
        m = after


@BINDINGS.simulation("momentum.gradients_to_hold")
def held(rng: Rng) -> Iterator[Any]:
    yield {r"n_{50\,\%}": gradients_to_hold(0.9, 0.5), r"n_{99\,\%}": gradients_to_hold(0.9, 0.99)}


@BINDINGS.simulation("momentum.delta_momentum")
def delta_momentum(rng: Rng) -> Iterator[Any]:
    """The momentum answers the gradient, in rows; what differs from -P is taken off along it."""
    m, target, mu, eta = rng.normal(size=(2, 3)), rng.normal(size=(2, 2)), rate(rng), rate(rng)
    for _ in range(LENGTH):
        g = rng.normal(size=(2, 3))
        after = mu * m - eta * (m @ g.T + target) @ g
        yield {"m_t": m, "m_{t+1}": after, "g_t": g, "P": target, r"\mu": mu, r"\eta": eta}
        m = after


@BINDINGS.simulation("momentum.delta_momentum_sign")
def delta_momentum_sign(rng: Rng) -> Iterator[Any]:
    m, g, target, mu, eta = (
        rng.normal(size=(2, 3)),
        rng.normal(size=(2, 3)),
        rng.normal(size=(2, 2)),
        rate(rng),
        rate(rng),
    )
    after = mu * m - eta * (m @ g.T - target) @ g
    yield {"m": m, "g": g, "P": target, r"\mu": mu, r"\eta": eta}, after


def answer_step(m: Any, g: Any, target: float, eta: float, write: float) -> Any:
    """One row, no decay: the erase with η̃ = η/(1 + η‖g‖²), the write with a step of its own."""
    taken = eta / (1 + eta * squares(g))
    return m - taken * (m * g).sum() * g - write * target * g


def one_row(rng: Rng) -> tuple[Env, dict[str, float]]:
    """A parameter vector, a gradient, and the two steps that a write may have."""
    m, g, target, eta = rng.normal(size=(1, 3)), rng.normal(size=(1, 3)), float(rng.normal()), rate(rng)
    taken = eta / (1 + eta * squares(g))
    env = {"m": m, "g": g, "P": target, r"\eta": eta, r"\tilde\eta": taken}
    return env, {r"\eta": eta, r"\tilde\eta": taken}


@BINDINGS.simulation("momentum.delta_momentum_implicit")
def delta_momentum_implicit(rng: Rng) -> Iterator[Any]:
    env, _ = one_row(rng)
    solved = nearest(env["g"].T, -np.array([[env["P"]]]), env["m"], 1 / env[r"\eta"])
    yield env | {"m'": rng.normal(size=(1, 3))}, solved


@BINDINGS.check("momentum.delta_momentum_answer")
def delta_momentum_answer(formula: str, rng: Rng) -> None:
    """The braces hold the steps of the explicit and of the implicit write, in this order."""
    env, writes = one_row(rng)
    braces = re.search(r"\\\{(.*?),(.*?)\\\}", formula)
    assert braces is not None
    for write, said in zip(writes.values(), braces.groups(), strict=True):
        after = answer_step(env["m"], env["g"], env["P"], env[r"\eta"], write)
        holds(formula.replace(braces[0], said), env | {"m'": after})


@BINDINGS.simulation("momentum.delta_momentum_fixed_points")
def delta_momentum_fixed_points(rng: Rng) -> Iterator[Any]:
    env, writes = one_row(rng)
    m = dict.fromkeys(writes, env["m"])
    for _ in range(2000):
        m = {
            name: answer_step(m[name], env["g"], env["P"], env[r"\eta"], write)
            for name, write in writes.items()
        }
    explicit, implicit = (float((rest * env["g"]).sum()) for rest in m.values())
    yield env | {"m": m[r"\eta"]}, explicit, implicit


def regression(gradients: dict[int, Any], weights: dict[int, float], target: Any, ridge: float) -> Any:
    """For each parameter by itself, least squares of the target on its gradients."""
    solved = []
    for j, value in enumerate(target[:, 0]):
        rows = [np.sqrt(weights[i]) * g[j, 0] for i, g in gradients.items()] + [np.sqrt(ridge)]
        right = [np.sqrt(weights[i]) * value for i in gradients] + [0.0]
        solved.append(np.linalg.lstsq(np.array(rows)[:, None], np.array(right), rcond=None)[0])
    return np.array(solved)


@BINDINGS.simulation("momentum.adam_regression")
def adam_regression(rng: Rng) -> Iterator[Any]:
    """Parameter by parameter, as ⊙ has it: there each of the letters is a number."""
    g, w, target, ridge = columns(rng, LENGTH, 3), rates(rng, LENGTH), column(rng, 3), rate(rng)
    solved = regression(g, w, target, ridge)
    for j in range(3):
        own = {i: float(one[j, 0]) for i, one in g.items()}
        env = {"m": 0.0, "g": own, "w": w, "P": float(target[j, 0]), r"\lambda_m": ridge}
        yield env | {r"\sum": ("i", list(g)), r"\sum_i": list(g)}, float(solved[j, 0])
    together = {
        "m": column(rng, 3),
        "g": g,
        "w": w,
        "P": target,
        r"\lambda_m": 0.0,
    }  # no ridge to add to a vector
    yield together | {r"\sum": ("i", list(g)), r"\sum_i": list(g)}, regression(g, w, target, 0.0)


@BINDINGS.simulation("momentum.adam_denominator")
def adam_denominator(rng: Rng) -> Iterator[Any]:
    g, w = columns(rng, LENGTH, 3), rates(rng, LENGTH)
    target = np.sqrt(sum(w[i] * g[i] * g[i] for i in g))
    yield {
        "m^*": regression(g, w, target, 0.0), "g": g, "w": w, "P": target, r"\lambda_m": 0.0, r"\sum": ("i", list(g))
    }  # fmt: skip


@BINDINGS.simulation("momentum.adam_same_betas")
def adam_same_betas(rng: Rng) -> Iterator[Any]:
    """Adam's two averages from 0; a gradient's weight is what the average makes of a lone 1 put in at its step."""
    g, beta = columns(rng, LENGTH, 3), rate(rng)

    def corrected(values: list[Any]) -> Any:
        mean = 0.0 * values[0]
        for value in values:
            mean = beta * mean + (1 - beta) * value
        return mean / (1 - beta ** len(values))

    for t in range(2, LENGTH + 1):
        steps = range(1, t + 1)
        weights = {i: float(corrected([np.float64(i == j) for j in steps])) for i in steps}
        for i in steps:
            yield {
                "t": t, "i": i, "g": g, "w": weights, r"\beta": beta, r"\sum": ("i", steps),
                r"\hat m_t": corrected([g[j] for j in steps]), r"\hat V_t": corrected([g[j] ** 2 for j in steps]),
            }  # fmt: skip


@BINDINGS.check("momentum.adam_two_betas")
def adam_two_betas(formula: str, rng: Rng) -> None:
    """The coefficient is fitted to numbers, for the only weights that remove g₁⁴ and g₂⁴; it is 0 where β₁ - β₂ is."""
    ((expression, factor),) = parts(formula)
    bracket = re.fullmatch(r"\[ g _ 1 \^ (\d) g _ 2(?: \^ (\d))? \] (.*)", expression.strip())
    assert bracket is not None
    powers = int(bracket[1]), int(bracket[2] or 1)
    assert sum(powers) == 4
    inside = re.sub(r"\b([wg])\b(?! _)", r"\1 _ i", bracket[3])
    one = rate(rng)
    for two in (rate(rng), one):
        average = {
            beta: [(1 - beta) * beta / (1 - beta**2), (1 - beta) / (1 - beta**2)] for beta in (one, two)
        }
        weights = {i + 1: average[one][i] ** 2 / average[two][i] for i in (0, 1)}
        points, values = rng.normal(size=(9, 2)), []
        for point in points:
            g = {1: float(point[0]), 2: float(point[1])}
            mean = sum(a * x for a, x in zip(average[one], point, strict=True))
            square = sum(a * x * x for a, x in zip(average[two], point, strict=True))
            env = {
                "g": g,
                "w": weights,
                r"\hat m": float(mean),
                r"\hat V": float(square),
                r"\sum": ("i", (1, 2)),
            }
            values.append(latex.evaluate(inside, env))
        table = np.stack([points[:, 0] ** n * points[:, 1] ** (4 - n) for n in range(5)], axis=1)
        coefficients = np.linalg.lstsq(table, np.array(values), rcond=None)[0]
        assert np.abs(coefficients[[0, 4]]).max() < 1e-9, "other weights would be needed for g₁⁴ and g₂⁴"
        size = latex.evaluate(factor, {r"\beta_1": one, r"\beta_2": two})
        coefficient = coefficients[powers[0]]
        assert (abs(coefficient) < 1e-9) == (abs(size) < 1e-9), (coefficient, size)
        assert coefficient * size >= 0, "of another sign"


@BINDINGS.simulation("momentum.adam_sign")
def adam_sign(rng: Rng) -> Iterator[Any]:
    """One gradient with P = g², so that the regression answers g itself; the weight goes down the loss."""
    w, slope, eta = column(rng, 3), column(rng, 3), rate(rng)
    answer = regression({1: -slope}, {1: 1.0}, slope**2, 0.0)
    yield {
        "W_t": w,
        "W_{t+1}": w - eta * slope,
        "m^*": answer,
        "g": -slope,
        r"\nabla \mathcal{L}": slope,
        r"\eta": eta,
    }


@BINDINGS.simulation("momentum.adam_rate")
def adam_rate(rng: Rng) -> Iterator[Any]:
    """Both sums by a loop from 0, entry by entry; P is the plain sum of squares."""
    eta, beta1, beta2 = rate(rng), rate(rng), rate(rng)
    total = weighed = target = 0.0
    for _ in range(LENGTH):
        g = rng.normal()
        total, weighed, target = total + beta1 * g, weighed + beta2 * g * g, target + g * g
        yield {r"\tilde M": total, "H": weighed, "P": target, r"\eta": eta, r"\beta_2": beta2}


# --- M3 --------------------------------------------------------------------------------------------------------------


@BINDINGS.simulation("m3.ema_limit")
def ema_limit(rng: Rng) -> Iterator[Any]:
    """A fast average of g and a slow one of windows of f gradients, run far beyond what float64 still sees."""
    g, f, beta = rng.normal(size=(2, 3)), int(rng.integers(2, 5)), rate(rng)
    start = rng.normal(size=(2, 3))
    averages = []
    for feed in (g, sum(g for _ in range(f))):
        path = [start]
        for _ in range(600):
            path.append(beta * path[-1] + (1 - beta) * feed)
        averages.append(path)
    fast, slow = averages
    for path in averages:
        for n in (1, 3):
            yield {
                "m_n": path[n], "m_0": start, r"m_\infty": path[-1], r"\beta": beta, "n": n, "f": f, "g": g,
                r"m^{(1)}_\infty": fast[-1], r"m^{(2)}_\infty": slow[-1], "m^{(1)}": fast[-1], "m^{(2)}": slow[-1],
            }  # fmt: skip


def orthogonalised(x: Any) -> Any:
    """Newton–Schulz from X/‖X‖: three quintic steps, product by product."""
    o = x / np.sqrt(squares(x))
    for _ in range(3):
        gram = o @ o.T
        o = 3.4445 * o - 4.775 * gram @ o + 2.0315 * gram @ gram @ o
    return o


@BINDINGS.simulation("m3.sum_limit")
def sum_limit(rng: Rng) -> Iterator[Any]:
    g, eta, beta1, beta2 = rng.normal(size=(2, 3)), rate(rng), rate(rng), rate(rng)
    m, v = np.zeros((2, 3)), np.zeros((2, 3))
    for n in range(1, LENGTH + 1):
        m, v = m + beta1 * g, v + beta2 * g * g
        yield {
            r"\Delta W_n": -eta * orthogonalised(m) / np.sqrt(v), "g": g, "n": n, r"\eta": eta, r"\beta_1": beta1,
            r"\beta_2": beta2, r"\mathrm{NS}": orthogonalised,
        }  # fmt: skip


@BINDINGS.check("m3.newton_schulz_scale")
def newton_schulz_scale(formula: str, rng: Rng) -> None:
    """The scale is drawn from the printed range; below the printed bound the two differ."""
    sides, (range_of_c,) = parts(formula)
    bound = re.fullmatch(r" ?c ([<>]) (\d+) ?", range_of_c)
    assert bound is not None
    step = rate(rng) if bound[1] == ">" else -rate(rng)
    env = {"X": rng.normal(size=(2, 3)), r"\mathrm{NS}": orthogonalised}
    holds(" = ".join(sides), env | {"c": float(bound[2]) + step})
    with pytest.raises(AssertionError):
        holds(" = ".join(sides), env | {"c": float(bound[2]) - step})


@BINDINGS.check("m3.window")
def shared_boundaries(formula: str, rng: Rng) -> None:
    """Σ_k runs over all windows, g_i is 0 for no step; steps end inside a window. The bracket of sums is written out."""
    bracket = re.fullmatch(r"(.*)\\Big\((.*) - (.*)\\Big\)(.*) = (.*)", formula)
    assert bracket is not None
    outside, one, other, summand, right = bracket.groups()
    steps, f = 8, 3
    g = dict.fromkeys(range(-f, 4 * f), 0.0) | {i: float(rng.normal()) for i in range(1, steps + 1)}
    written_out = rf"{outside} ({one} {summand} - {other} {summand}) = {right}"
    twice = sum(g[i] for i in range(f, steps + 1, f))  # what stands on both sides of a boundary
    holds(written_out, {"f": f, "g": g, r"\sum_k": range(1, 4)}, twice)


@BINDINGS.check("m3.text_sign")
def text_sign(formula: str, rng: Rng) -> None:
    """With the upper and with the lower sign. The momentum of a window is the running sum that the algorithm adds."""
    for upper in (True, False):
        signed = formula.replace(r"\pm", "+" if upper else "-").replace(r"\mp", "-" if upper else "+")
        g, f, eta, beta = column(rng, 3), 3 if upper else 5, rate(rng), rate(rng)
        window = np.zeros((3, 1))
        for _ in range(f):
            window = window + g
        m = beta * window if upper else -beta * window
        env = {r"\nabla \mathcal{L}": g, "g": g, "m": m, "f": f, r"\eta": eta, r"\beta_3": beta}
        agreement, (momentum,) = parts(signed)
        holds(" = ".join(agreement), env, -eta * float((g * m).sum()))
        assert (momentum[0], momentum[-1]) == ("(", ")")
        holds(momentum[1:-1], env)


@BINDINGS.simulation("m3.mean_age")
def mean_age(rng: Rng) -> Iterator[Any]:
    """A clock whose step i has the i-th unit vector as its gradient: the momenta are lists of weights."""
    f, beta1, beta3 = int(rng.integers(1, 5)), rate(rng), rate(rng)
    steps = 400 * f
    fast, slow, window, ages = np.zeros(steps), np.zeros(steps), np.zeros(steps), []
    for i, g in enumerate(np.eye(steps)):
        fast, age = beta1 * fast + (1 - beta1) * g, i - np.arange(steps)
        ages.append(((fast * age).sum() / fast.sum(), (slow * age).sum() / slow.sum() if i >= f else 0.0))
        window = window + g
        if (i + 1) % f == 0:
            slow, window = beta3 * slow + (1 - beta3) * window, np.zeros(steps)
    young, old = np.mean(ages[-f:], axis=0)
    yield {
        r"\bar n^{(1)}": young, r"\bar n^{(2)}": old, "f": f, r"\beta_1": beta1, r"\beta_3": beta3
    }, ages[-1][0], old  # fmt: skip


@BINDINGS.simulation("m3.cancel")
def turning(rng: Rng) -> Iterator[Any]:
    """Windows of g and of -g in turn, until they repeat; then a window of -g, after one of g."""
    g, f, beta1, beta3 = rng.normal(size=(2, 3)), int(rng.integers(2, 6)), rate(rng), rate(rng)
    fast, slow = np.zeros((2, 3)), np.zeros((2, 3))
    for sign in [-1, 1] * 200:
        for _ in range(f):
            fast = beta1 * fast + (1 - beta1) * sign * g
        slow = beta3 * slow + (1 - beta3) * sum(sign * g for _ in range(f))
    for n in range(1, f + 1):
        fast = beta1 * fast - (1 - beta1) * g
        yield {
            "m^{(1)}_n": fast, "m^{(2)}": slow, "g": g, "f": f, "n": n, r"\beta_1": beta1, r"\beta_3": beta3
        }, fast, slow  # fmt: skip


@BINDINGS.check("m3.slow_sum")
def slow_sum(formula: str, rng: Rng) -> None:
    """Three windows on a clock that collects and empties into a total; one rate, under both of its names."""
    ((before, after),) = parts(formula)
    f, beta = 3, rate(rng)
    g = {0: column(rng, 2)} | columns(rng, 3 * f, 2)
    total, window = column(rng, 2), np.zeros((2, 1))
    for t in range(1, 3 * f + 1):
        window = window + g[t]
        if t % f:
            continue
        env = {"m^{(2)}": total, "g": g, "t": t, "f": f, r"\beta_2": beta, r"\beta_3": beta}
        same(latex.evaluate(before, env), total)
        total, window = total + beta * window, np.zeros((2, 1))
        same(latex.evaluate(after, env), total, after)


@BINDINGS.check("m3.printed")
def slow_momentum(formula: str, rng: Rng) -> None:
    """Three windows on a clock that collects and empties; what stands right of the arrow is the new slow momentum."""
    ((before, after),) = parts(formula)
    f, beta2, beta3 = 3, rate(rng), rate(rng)
    g = {0: column(rng, 2)} | columns(rng, 3 * f, 2)
    slow, window = column(rng, 2), np.zeros((2, 1))
    for t in range(1, 3 * f + 1):
        window = window + g[t]
        if t % f:
            continue
        env = {"m^{(2)}": slow, "g": g, "t": t, "f": f, r"\beta_2": beta2, r"\beta_3": beta3}
        same(latex.evaluate(before, env), slow)
        slow, window = beta3 * slow + (1 - beta3) * window, np.zeros((2, 1))
        same(latex.evaluate(after, env), slow, after)


# --- the continuum memory --------------------------------------------------------------------------------------------


def level_signal(theta: Any, x: Any) -> Any:
    """A slope that depends on the parameter, so that it matters at which parameter it is taken."""
    return np.tanh(theta * x)


@BINDINGS.simulation("continuum_memory.otherwise", "continuum_memory.window")
def level(rng: Rng) -> Iterator[Any]:
    """Tokens counted from 1: a level collects its slopes and moves by them when a chunk is full."""
    size, eta = 3, rate(rng)
    x = {0: column(rng, 2)} | columns(rng, 3 * size, 2)
    theta, collected = column(rng, 2), np.zeros((2, 1))
    for i in range(1, 3 * size + 1):
        collected = collected + eta * level_signal(theta, x[i])
        after = theta
        if i % size == 0:
            after, collected = theta - collected, np.zeros((2, 1))
        yield {
            "i": i, "C": size, "x": x, "f": level_signal, r"\theta": theta, r"\theta_i": theta, r"\theta_{i+1}": after,
            r"\eta": eta,
        }  # fmt: skip
        theta = after


@BINDINGS.simulation("continuum_memory.update_counts")
def update_counts(rng: Rng) -> Iterator[Any]:
    for length, size in ((11, 4), (12, 4), (3, 5)):
        moves = carried = 0
        for _ in range(length):
            carried += 1
            if carried == size:
                moves, carried = moves + 1, 0
        yield {r"\#\text{updates}": moves, r"\#\text{carried}": carried, "T": length, "C": size}


@BINDINGS.simulation("continuum_memory.summed_update")
def chunk_update(rng: Rng) -> Iterator[Any]:
    """One weight and the tokens of a chunk, each with ½‖W φ - v‖² and u = v - W φ at the chunk's constant weight."""
    w, eta = rng.normal(size=(2, 3)), rate(rng)
    x, v = columns(rng, LENGTH, 3), columns(rng, LENGTH, 2)
    u = {t: v[t] - w @ x[t] for t in x}
    losses = {t: lambda m, t=t: squares(m @ x[t] - v[t]) / 2 for t in x}
    env = {"W": w, "B": w + 1, r"\varphi": x, "u": u, LOSS: losses, r"\eta": eta, r"\sum_t": list(x)}
    moved = w
    for t in x:
        moved = moved + eta * u[t] * x[t].T
    yield env, moved


@BINDINGS.simulation("continuum_memory.dgd_form")
def implicit_chunk(rng: Rng) -> Iterator[Any]:
    """The minimiser of ½ Σ ‖B φ - u‖² + (1/2η)‖B - W‖² over the chunk."""
    for env, _ in chunk_update(rng):
        x, u = (np.hstack([*env[name].values()]) for name in (r"\varphi", "u"))
        yield env, nearest(x, u, env["W"], 1 / env[r"\eta"])


@BINDINGS.simulation("continuum_memory.associative_gradient")
def associative_gradient(rng: Rng) -> Iterator[Any]:
    w1, w2, n, v = rng.normal(size=(2, 4)), rng.normal(size=(4, 3)), column(rng, 3), column(rng, 2)
    e = w1 @ silu(w2 @ n) - v
    back = (w1.T @ e) * silu_slope(w2 @ n)
    yield {
        LOSS: latex.Lazy(lambda env: squares(env["W_1"] @ silu(env["W_2"] @ n) - v) / 2), "W_1": w1, "W_2": w2, "n": n,
        "e": e, "u_1": -e, r"\varphi_1": silu(w2 @ n), "u_2": -back, r"\varphi_2": n, r"\sigma": silu, r"\sigma'": silu_slope,
    }  # fmt: skip


@BINDINGS.check("continuum_memory.nested_restart")
def nested_restart(formula: str, rng: Rng) -> None:
    """The new start, right of the arrow, is the weighted mean of the old start and the present parameter."""
    start, theta, share = column(rng, 3), column(rng, 3), rate(rng)
    ((before, after),) = parts(formula)
    env = {r"\theta_0": start, r"\theta": theta, r"\varepsilon_\theta": share, "z": column(rng, 3)}
    same(latex.evaluate(before, env), start)
    same(latex.evaluate(after, env), (1 - share) * start + share * theta, after)


@BINDINGS.check("continuum_memory.clock")
def clock(formula: str, rng: Rng) -> None:
    """Three or four tokens of losses that are no parabolas, g_t = A tanh(B θ - b): what is left over falls like η³."""
    ((left, right),) = parts(formula)
    known, end = right.rsplit("+", 1)
    assert "".join(end.split()) == r"O(\eta^3)"
    for size in (1, 3, 4):
        outer, inner, shift = (rng.normal(size=(size, 3, 3)) for _ in range(3))
        theta = column(rng, 3)

        def g(t: int, at: Any) -> Any:
            return outer[t - 1] @ np.tanh(inner[t - 1] @ at - shift[t - 1, :, :1])  # noqa: B023

        def h(t: int, at: Any) -> Any:
            return outer[t - 1] * (1 - np.tanh(inner[t - 1] @ at - shift[t - 1, :, :1]) ** 2).T @ inner[t - 1]  # noqa: B023

        tokens = range(1, size + 1)
        first = {"g": {t: g(t, theta) for t in tokens}, "H": {t: h(t, theta) for t in tokens}, "C": size}
        left_over = []
        for eta in (1e-3, 5e-4):
            moving = theta
            for t in tokens:
                moving = moving - eta * g(t, moving)
            at_once = theta - eta * sum(first["g"][t] for t in tokens)
            said = latex.evaluate(known, first | {r"\eta": eta})
            apart = latex.evaluate(left, {r"\theta^{(1)}": moving, r"\theta^{(C)}": at_once})
            same(apart, moving - at_once)
            left_over.append(float(np.abs(apart - said).max()))
            assert size == 1 or left_over[-1] < 0.2 * float(np.abs(moving - at_once).max())
        assert size == 1 or 7 < left_over[0] / left_over[1] < 9


# --- the tests -------------------------------------------------------------------------------------------------------

ENTRIES = identities("test_printed_momentum.py")


def test_no_identity_is_left_out() -> None:
    assert set(BINDINGS) == {entry.name for entry in ENTRIES}


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.name)
def test_the_correct_formula_holds(entry: Identity) -> None:
    BINDINGS.run(entry.name, entry.correct)


@pytest.mark.parametrize("entry", reprinted(ENTRIES), ids=lambda e: e.name)
def test_the_print_holds_or_is_wrong_as_its_proof_says(entry: Identity) -> None:
    run_the_print(BINDINGS, entry)
