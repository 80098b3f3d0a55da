r"""Momentum derived: a gradient step, a running mean, a delta rule on gradients; and Adam read as a regression."""

from __future__ import annotations

from typing import Any

import sympy as sp

from hope_ref.symbolic import rational
from hope_ref.symbolic.algebra import (
    gradient,
    inner,
    matrix,
    minimiser,
    positive,
    real,
    squared_norm,
)
from hope_ref.symbolic.identity import Identity, Sides
from hope_ref.symbolic.linear_attention import statement as linear_attention
from hope_ref.symbolic.statement import Statement

ETA, MU, BETA, LAM = positive("eta mu beta lambda_m")
W, M, G, START = matrix("W", 2, 2), matrix("m", 2, 2), matrix("g", 2, 2), matrix("a", 2, 2)
P = matrix("P", 2, 2)
ROW, KEY = matrix("m", 1, 2), matrix("g", 1, 2)  # a parameter vector counts as one row
TARGET = real("P")
NORM = squared_norm(KEY)


def statement() -> Statement:
    """One step of `reference.momentum.momentum_step`."""
    new = MU * M - ETA * G
    return Statement({"w": W, "m": M, "gradient": G, "eta": ETA, "mu": MU}, {"w": W + new, "m": new})


def ema_statement() -> Statement:
    """One step of `reference.momentum.ema_step`."""
    return Statement({"m": M, "gradient": G, "beta": BETA}, {"m": BETA * M + (1 - BETA) * G})


def delta_statement(write: str = "explicit") -> Statement:
    """One step of `reference.momentum.delta_momentum_step`: two rows, two columns, a full P."""
    step = ETA / (1 + ETA * squared_norm(G))
    new = M * (MU * sp.eye(2) - step * G.T * G) - (ETA if write == "explicit" else step) * P * G
    arguments = {"w": W, "m": M, "gradient": G, "eta": ETA, "mu": MU, "target": P}
    return Statement(arguments, {"w": W + new, "m": new})


def regression_statement() -> Statement:
    """`reference.momentum.adam_regression`: three gradients, two parameters."""
    gradients, weights, target = matrix("g", 3, 2), positive("w_1:4"), positive("P_1:3")
    m = sp.Matrix(
        1,
        2,
        lambda _, j: (
            target[j]
            * sum(w * g for w, g in zip(weights, gradients.col(j), strict=True))
            / (sum(w * g**2 for w, g in zip(weights, gradients.col(j), strict=True)) + LAM)
        ),
    )
    return Statement({"gradients": gradients, "weights": weights, "target": target, "lam": LAM}, {"m": m})


def _objective(sign: int, decay: Any) -> sp.Expr:
    """±⟨m, g⟩ + (decay/2η)‖m‖²."""
    return sign * inner(M, G) + decay / (2 * ETA) * squared_norm(M)


def _step() -> Sides:
    """Entry by entry: m - η (g + ((1 - μ)/η) m) = μ m - η g, so at every size."""
    return Sides(M - ETA * gradient(_objective(1, 1 - MU), M), MU * M - ETA * G)


def _step_printed() -> Sides:
    """At μ = 1, where the second term is absent as in print, so that the sign alone is at fault."""
    return Sides(M - ETA * gradient(_objective(-1, 0), M), M - ETA * G)


def _ema() -> Sides:
    """A weighted mean is the minimiser of weighted squares; entry by entry, so at every size."""
    closeness = BETA * squared_norm(M - START) + (1 - BETA) * squared_norm(M - G)
    return Sides(minimiser(closeness, M), BETA * START + (1 - BETA) * G)


def _unrolled() -> Sides:
    """Three steps; each later step multiplies what is there by μ, so by induction at every t."""
    gradients = real("g_1:4")
    m = start = real("m_0")
    for g in gradients:
        m = MU * m - ETA * g
    return Sides(m, MU**3 * start - ETA * sum(MU ** (2 - i) * g for i, g in enumerate(gradients)))


def _linear_attention() -> Sides:
    """For y = W x the gradient is ∇_y L xᵀ. One step of the one loop is one step of the other: at every length and size."""
    told, weight, said = matrix("g", 3, 1), matrix("W", 1, 2), linear_attention()
    fed = dict.fromkeys(said.arguments["alpha"], MU) | dict(
        zip(said.arguments["v"], -ETA * told, strict=True)
    )
    m = said.arguments["memory"]
    for g, x in zip(told, said.arguments["k"].tolist(), strict=True):
        m = MU * m - ETA * gradient(g * inner(weight, sp.Matrix([x])), weight)
    return Sides(m, said.results["memory"].subs(fed))


def _held(beta: sp.Rational, share: sp.Rational) -> int:
    """Take in the newest gradients one by one until their weights, (1 - β) βⁱ, add up to the share. Exact fractions."""
    total, count = sp.Integer(0), 0
    while total < share:
        total += (1 - beta) * beta**count
        count += 1
    return count


def _gradients_to_hold() -> Sides:
    """The weights are those of `_unrolled` with η = 1 - β; a geometric series, so n = ⌈log(1 - share)/log β⌉."""
    beta, shares = sp.Rational(9, 10), (sp.Rational(1, 2), sp.Rational(99, 100))
    counted = sp.Matrix([[_held(beta, share) for share in shares]])
    return Sides(counted, sp.Matrix([[sp.ceiling(sp.log(1 - share) / sp.log(beta)) for share in shares]]))


def _gradients_to_hold_printed() -> Sides:
    """The print counts indices from 0: 0 … 6 are seven gradients."""
    return Sides(_gradients_to_hold().derived, sp.Matrix([[6, 43]]))


def _regret(m: sp.Matrix, sign: int = 1) -> sp.Expr:
    """½‖m gᵀ ± P‖², for matrices."""
    return squared_norm(m * G.T + sign * P) / 2


def _delta_momentum() -> Sides:
    """∇½‖m gᵀ + P‖² = (m gᵀ + P) g at every size; associativity gives m gᵀg + P g."""
    objective = _regret(M) + (1 - MU) / (2 * ETA) * squared_norm(M)
    return Sides(M - ETA * gradient(objective, M), M * (MU * sp.eye(2) - ETA * G.T * G) - ETA * P * G)


def _delta_momentum_printed() -> Sides:
    return Sides(_delta_momentum().derived, M * (MU * sp.eye(2) - G.T * G) - ETA * P * G)


def _delta_momentum_sign() -> Sides:
    """The printed objective has -P in it: its step *adds* η P g, at every size, and the weights climb."""
    objective = _regret(M, -1) + (1 - MU) / (2 * ETA) * squared_norm(M)
    return Sides(M - ETA * gradient(objective, M), M * (MU * sp.eye(2) - ETA * G.T * G) + ETA * P * G)


def _closed(write: Any) -> sp.Matrix:
    """One row, μ = 1: m (I - η̃ gᵀg) - write · P g."""
    return ROW * (sp.eye(2) - ETA / (1 + ETA * NORM) * KEY.T * KEY) - write * TARGET * KEY


def _delta_momentum_implicit() -> Sides:
    """Set (m' gᵀ + P) g + (m' - m)/η = 0 and take the inverse of I + η gᵀg by Sherman–Morrison: at every width."""
    start, unknown = ROW, matrix("n", 1, 2)
    answer = (unknown * KEY.T)[0]
    proximal = (answer + TARGET) ** 2 / 2 + squared_norm(unknown - start) / (2 * ETA)
    return Sides(rational.minimiser(proximal, unknown), _closed(ETA / (1 + ETA * NORM)))


def _delta_momentum_fixed_points() -> Sides:
    """The answer r = m gᵀ moves by itself: r' = r - η̃ s r - (write) P s with s = ‖g‖² > 0. Solve r' = r."""
    size, answer = positive("s"), real("r")
    step = ETA / (1 + ETA * size)
    moves = [answer - step * size * answer - write * TARGET * size for write in (ETA, step)]
    derived = sp.Matrix([[sp.solve(sp.Eq(move, answer), answer)[0] for move in moves]])
    return Sides(derived, sp.Matrix([[-TARGET * (1 + ETA * size), -TARGET]]))


def _delta_momentum_answer() -> Sides:
    """That r moves by itself: multiply the step by gᵀ. gᵀg gᵀ = ‖g‖² gᵀ, at every width. Both writes."""
    answer, step = (ROW * KEY.T)[0], ETA / (1 + ETA * NORM)
    derived = sp.Matrix([[(_closed(write) * KEY.T)[0] for write in (ETA, step)]])
    return Sides(
        derived,
        sp.Matrix([[(1 - step * NORM) * answer - write * TARGET * NORM for write in (ETA, step)]]),
    )


def _adam_objective(target: Any, lam: Any) -> tuple[sp.Expr, sp.Matrix, list[Any], list[Any]]:
    """Σ w_i (m g_i - P)² + λ m² for one parameter and three gradients: ⊙ makes every parameter its own problem."""
    m, weights, gradients = matrix("m", 1, 1), list(positive("w_1:4")), list(real("g_1:4"))
    loss = sum(w * (m[0] * g - target) ** 2 for w, g in zip(weights, gradients, strict=True))
    return loss + lam * m[0] ** 2, m, weights, gradients


def _sums(weights: Any, gradients: Any) -> tuple[sp.Expr, sp.Expr]:
    """Σ w g and Σ w g²."""
    pairs = list(zip(weights, gradients, strict=True))
    return sum(w * g for w, g in pairs), sum(w * g**2 for w, g in pairs)


def _adam_regression() -> Sides:
    """A ridge regression with one unknown: (Σ w g² + λ) m = P Σ w g, for any number of gradients."""
    objective, m, weights, gradients = _adam_objective(TARGET, LAM)
    first, second = _sums(weights, gradients)
    return Sides(minimiser(objective, m)[0], TARGET * first / (second + LAM))


def _adam_denominator() -> Sides:
    """Put P = √(Σ w g²) and λ = 0 into the objective, then solve, for any number of gradients."""
    _, _, weights, gradients = _adam_objective(0, 0)
    first, second = _sums(weights, gradients)
    objective, m, _, _ = _adam_objective(sp.sqrt(second), 0)
    return Sides(minimiser(objective, m)[0], first / sp.sqrt(second))


def _unrolled_average(decay: Any, values: Any) -> Any:
    """Adam's bias-corrected running mean, run step by step from 0."""
    mean = sp.Integer(0)
    for value in values:
        mean = decay * mean + (1 - decay) * value
    return mean / (1 - decay ** len(values))


def _adam_same_betas() -> Sides:
    """Run Adam's two averages with one β; the regression's weights are (1 - β) βᵗ⁻ⁱ/(1 - βᵗ), which sum to 1, at every t."""
    gradients = list(real("g_1:4"))
    adam = _unrolled_average(BETA, gradients) / sp.sqrt(
        sp.factor(_unrolled_average(BETA, [g**2 for g in gradients]))
    )
    weights = [(1 - BETA) * BETA ** (2 - i) / (1 - BETA**3) for i in range(3)]
    first, second = _sums(weights, gradients)
    return Sides(adam, first / sp.sqrt(sp.factor(second)))


def _adam_sign() -> Sides:
    """One gradient, g = -∇, P = Σ g²: the regression answers m* = g, and descent is W + η m*, entry by entry.

    Descent itself is derived too, as the minimiser of ⟨∇, W'⟩ + (1/2η)‖W' - W‖².
    """
    slope, weight, best = _adam_step_parts()
    return Sides(slope, weight + ETA * best)


def _adam_sign_printed() -> Sides:
    slope, weight, best = _adam_step_parts()
    return Sides(slope, weight - ETA * best)


def _adam_step_parts() -> tuple[Any, Any, Any]:
    """(the weight after a descent step, the weight before, m* of the regression on g = -∇)."""
    slope, weight, unknown, m = real("G"), real("W"), matrix("V", 1, 1), matrix("m", 1, 1)
    descent = minimiser(slope * unknown[0] + (unknown[0] - weight) ** 2 / (2 * ETA), unknown)[0]
    g = -slope
    return descent, weight, minimiser((m[0] * g - g**2) ** 2, m)[0]


def _adam_sums() -> tuple[Any, Any, Any]:
    """(M̃, H, P) after three gradients, one entry: [P 102] run from 0, and P = Σ g²."""
    one, two = positive("beta_1 beta_2")
    total = square = target = sp.Integer(0)
    for g in real("g_1:4"):
        total, square, target = total + one * g, square + two * g**2, target + g**2
    return total, square, target


def _adam_rate() -> Sides:
    """H = β₂ Σ g² = β₂ P, for every number of gradients, entry by entry: dividing by H divides by β₂."""
    total, square, target = _adam_sums()
    return Sides(ETA * total * target / square, ETA * total / sp.Symbol("beta_2", positive=True))


def _adam_rate_printed() -> Sides:
    total, square, target = _adam_sums()
    return Sides(ETA * total * target / square, ETA * sp.Symbol("beta_2", positive=True) * total)


def _adam_two_betas() -> Sides:
    """Two gradients suffice for any number: let the others be 0.

    Suppose Adam's m̂/√V̂ were Σ w g/√(Σ w g²) for all g₁, g₂. Square and clear denominators: two quartics in g₁, g₂
    must be one. g₁⁴ and g₂⁴ fix w₁ and w₂; what is then left of g₁³g₂ vanishes only for β₁ = β₂.
    """
    one, two = positive("beta_1 beta_2")
    g_1, g_2, w_1, w_2 = sp.symbols("g_1 g_2 w_1 w_2", positive=True)
    mean = sp.expand(_unrolled_average(one, [g_1, g_2]) * (1 - one**2))
    square = sp.expand(_unrolled_average(two, [g_1**2, g_2**2]) * (1 - two**2))
    ratio = (1 - two**2) / (1 - one**2) ** 2  # the two bias corrections
    first, second = w_1 * g_1 + w_2 * g_2, w_1 * g_1**2 + w_2 * g_2**2
    difference = sp.Poly(sp.expand(ratio * mean**2 * second - first**2 * square), g_1, g_2)
    weights = {
        w_1: sp.solve(difference.coeff_monomial(g_1**4) / w_1, w_1)[0],
        w_2: sp.solve(difference.coeff_monomial(g_2**4) / w_2, w_2)[0],
    }
    left = difference.coeff_monomial(g_1**3 * g_2).subs(weights)
    stated = 2 * one**2 * (1 - two) * (1 + two) ** 2 * (one - two) / (two * (1 + one) ** 4)
    return Sides(sp.factor(left), stated)


_DELTA = r"m_{t+1} = m_t (\mu I - \eta\, g_t^\top g_t) - \eta P g_t"
_DELTA_PRINTED = r"m_{t+1} = m_t (\alpha I - g_t^\top g_t) - \eta P g_t"

IDENTITIES = (
    Identity(
        "momentum.step",
        "S 11-13, P 34",
        "Momentum is one gradient step of size η on ⟨m, g⟩ plus a decay; with the printed minus it climbs.",
        r"m_{t+1} = \alpha m_t - \eta g_t \text{ from } \min_m -\langle m, g_t \rangle",
        r"m_{t+1} = \mu m_t - \eta g_t \text{ from } \min_m \langle m, g_t \rangle + \tfrac{1-\mu}{2\eta} \|m\|^2",
        _step,
        _step_printed,
        sizes="2 × 2; every size",
    ),
    Identity(
        "momentum.ema",
        "S 36",
        "A running mean is the point nearest to the old mean and the new gradient, weighted β to 1 - β.",
        r"m_{t+1} = \beta m_t + (1 - \beta) g_t",
        r"m_{t+1} = \arg\min_m \beta \|m - m_t\|^2 + (1 - \beta) \|m - g_t\|^2 = \beta m_t + (1 - \beta) g_t",
        _ema,
        sizes="2 × 2; every size",
    ),
    Identity(
        "momentum.unrolled",
        "P 33",
        "Momentum is the sum of all past gradients, each faded by μ for every step since.",
        None,
        r"m_t = \mu^t m_0 - \eta \sum_{i \le t} \mu^{t-i} g_i",
        _unrolled,
        sizes="one number, 3 steps; every size, every length by induction",
    ),
    Identity(
        "momentum.linear_attention",
        "S 3, S 12",
        "Momentum is linear attention with retention μ: inputs are its keys, -η times gradients at the output its values.",
        r"m_{t+1} = \mu m_t - \eta \nabla_y \mathcal{L}\, x_t^\top",
        r"m_{t+1} = \mu m_t + v_t k_t^\top, \quad k_t = x_t, \ v_t = -\eta \nabla_y \mathcal{L}",
        _linear_attention,
        sizes="d_v = 1, d_k = 2, 3 steps; every size, every length by induction",
    ),
    Identity(
        "momentum.gradients_to_hold",
        "P 4.3",
        "At β = 0.9 it takes 7 gradients to hold 50 % of the weight and 44 to hold 99 %.",
        r"n_{50\,\%} = 6, \quad n_{99\,\%} = 43",
        r"n_{50\,\%} = 7, \quad n_{99\,\%} = 44",
        _gradients_to_hold,
        _gradients_to_hold_printed,
        sizes="β = 0.9, shares of 50 and 99 per cent; these numbers only",
    ),
    Identity(
        "momentum.delta_momentum",
        "P 49",
        "Delta momentum is one gradient step of size η on ½‖m gᵀ + P‖² plus a decay: η stands on gᵀg too.",
        _DELTA_PRINTED,
        _DELTA,
        _delta_momentum,
        _delta_momentum_printed,
        sizes="2 × 2; every size",
    ),
    Identity(
        "momentum.delta_momentum_sign",
        "P 48",
        "The step on the printed objective, with -P in it, adds η P g: those weights would climb.",
        r"\min_m \|m g^\top - P\|^2",
        r"m - \eta \nabla_m \left(\tfrac12\|m g^\top - P\|^2 + \tfrac{1-\mu}{2\eta}\|m\|^2\right) = m(\mu I - \eta g^\top g) + \eta P g",
        _delta_momentum_sign,
        sizes="2 × 2; every size",
    ),
    Identity(
        "momentum.delta_momentum_implicit",
        "D",
        "The exact implicit step, for one row, has η̃ = η/(1 + η‖g‖²) in both places.",
        None,
        r"\arg\min_{m'} \tfrac12 \|m' g^\top + P\|^2 + \tfrac{1}{2\eta} \|m' - m\|^2 = m(I - \tilde\eta g^\top g) - \tilde\eta P g",
        _delta_momentum_implicit,
        sizes="one row of 2; every size",
    ),
    Identity(
        "momentum.delta_momentum_answer",
        "D",
        "Under one repeated gradient the answer m gᵀ shrinks by 1 - η̃‖g‖², in (0, 1), and is written to; both writes.",
        None,
        r"m' g^\top = (1 - \tilde\eta \|g\|^2)\, m g^\top - \{\eta, \tilde\eta\} P \|g\|^2",
        _delta_momentum_answer,
        sizes="one row of 2; every size",
    ),
    Identity(
        "momentum.delta_momentum_fixed_points",
        "D",
        "There the explicit write settles at -P (1 + η‖g‖²), the implicit one at the wanted -P (μ = 1).",
        None,
        r"m g^\top \to -P (1 + \eta \|g\|^2) \text{ (explicit)}, \quad -P \text{ (implicit)}",
        _delta_momentum_fixed_points,
        sizes="one number, the answer; no size in it",
    ),
    Identity(
        "momentum.adam_regression",
        "P 101-102",
        "The weighted elementwise regression of a target on the gradients has this one solution.",
        r"\arg\min_m \textstyle\sum_i \|m \odot g_{i+1} - P\|^2 + \lambda \|m\|^2 = (H + \lambda I)^{-1} \odot \tilde M \odot P",
        r"\arg\min_m \textstyle\sum_i w_i \|m \odot g_i - P\|^2 + \lambda_m \|m\|^2 = P \odot \frac{\sum w_i g_i}{\sum w_i g_i^2 + \lambda_m}",
        _adam_regression,
        sizes="one number, 3 gradients; every size, every length by induction",
    ),
    Identity(
        "momentum.adam_denominator",
        "P 105",
        "With P = √(Σ w g²) and no ridge the solution is Σ w g/√(Σ w g²): Adam's shape, AdaGrad's for w = 1.",
        None,
        r"P = \sqrt{\textstyle\sum w_i g_i^2},\ \lambda_m = 0 \Rightarrow m^* = \frac{\sum w_i g_i}{\sqrt{\sum w_i g_i^2}}",
        _adam_denominator,
        sizes="one number, 3 gradients; every size, every length by induction",
    ),
    Identity(
        "momentum.adam_same_betas",
        "D",
        "Adam with β₁ = β₂ = β, bias corrected, ε = 0, is that solution exactly, for weights that sum to 1.",
        None,
        r"w_i = \frac{(1-\beta)\beta^{t-i}}{1-\beta^t} \Rightarrow \frac{\hat m_t}{\sqrt{\hat V_t}} = \frac{\sum w_i g_i}{\sqrt{\sum w_i g_i^2}}",
        _adam_same_betas,
        sizes="one number, 3 gradients; every size, every length by induction",
    ),
    Identity(
        "momentum.adam_two_betas",
        "P App. B",
        "For β₁ ≠ β₂ no choice of weights turns Adam into that solution: this coefficient of g₁³g₂ is left over.",
        r"\text{Adam} = \arg\min_m \textstyle\sum_i \|m \odot g_i - P\|^2 + \lambda_m \|m\|^2",
        r"[g_1^3 g_2]\left(\hat m^2 \textstyle\sum w g^2 - (\sum w g)^2 \hat V\right) \propto \beta_1 - \beta_2",
        _adam_two_betas,
        sizes="one number, 2 gradients; every size, every length by induction",
    ),
    Identity(
        "momentum.adam_rate",
        "P 102, P 104",
        "With the sum of squares as target the accumulated squares leave their weight in the denominator of the step.",
        r"\eta H^{-1} \tilde M P = \eta \beta_2 \tilde M",
        r"\eta H^{-1} \tilde M P = \frac{\eta}{\beta_2} \tilde M",
        _adam_rate,
        _adam_rate_printed,
        sizes="one number, 3 gradients; every size, every length by induction",
    ),
    Identity(
        "momentum.adam_sign",
        "P 103-105",
        "With g = -∇ the regression's answer points downhill already: W + η m* descends, the print climbs.",
        r"W_{t+1} = W_t - \eta m^*, \quad g = -\nabla \mathcal{L}",
        r"W_{t+1} = W_t + \eta m^*, \quad g = -\nabla \mathcal{L}",
        _adam_sign,
        _adam_sign_printed,
        sizes="one number, 1 gradient; every size",
    ),
)
