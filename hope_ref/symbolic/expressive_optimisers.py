r"""Expressive optimisers derived: preconditioners, deep and higher-order momenta, outer products, and the form that has them all.

A momentum is a memory of gradients (`momentum`). Here the memory may be an MLP, see features of the gradient, pass its
answer through a function, or measure distances in a metric of its own. Source: [P 38-41, 45, 47, 50-52, 59-60, App. B].
"""

from __future__ import annotations

from typing import Any

import sympy as sp

from hope_ref.symbolic import rational
from hope_ref.symbolic.algebra import gradient, inner, matrix, positive, real, squared_norm, vector
from hope_ref.symbolic.identity import Identity, Sides
from hope_ref.symbolic.newton_schulz import polynomial_step
from hope_ref.symbolic.statement import Statement

ETA, MU, ZETA, LAM, DELTA, EPSILON = positive("eta mu zeta lambda_m delta varepsilon")
W, M, G, P = (matrix(name, 2, 2) for name in ("W", "m", "g", "P"))
GOAL, U, X = vector("P", 2), vector("u", 2), vector("x", 2)
W1, W2 = matrix("V", 2, 2), matrix("Z", 2, 2)  # the two layers of a deep momentum
FEATURES = {"identity": lambda z: z, "cube": lambda z: z**3, "tanh": sp.tanh}


# --- statements ------------------------------------------------------------------------------------------------------


def preconditioner_statement() -> Statement:
    """`reference.expressive_optimisers.preconditioner_step`."""
    asked, told = sp.Tuple(*vector("h", 2)), sp.Tuple(*vector("g", 2))
    column, wanted = sp.Matrix(asked), sp.Matrix(told)
    arguments = {"p": P, "g_hat": asked, "gradient": told, "zeta": ZETA}
    return Statement(arguments, {"p": P - ZETA * (P * column - wanted) * column.T})


def feature_statement(feature: str = "identity", output: str = "identity") -> Statement:
    """`reference.expressive_optimisers.feature_momentum_step`, with one cubic Newton–Schulz step as output."""
    new = MU * M - ETA * P * G.applyfunc(FEATURES[feature])
    moved = new
    if output == "cubic":
        unit = new / (sp.sqrt(squared_norm(new)) + sp.Rational(1, 10**7))
        moved = polynomial_step(unit, sp.Rational(3, 2), -sp.Rational(1, 2), 0)
    scale = positive("s")
    arguments = {"w": W, "m": M, "gradient": G, "eta": ETA, "mu": MU, "target": P, "scale": scale}
    return Statement(arguments, {"w": W + scale * moved, "m": new})


def _silu(z: Any) -> Any:
    return z / (1 + sp.exp(-z))


def _deep(first: sp.Matrix, second: sp.Matrix, u: sp.Matrix) -> sp.Matrix:
    """m(u) = W1 σ(W2 u)."""
    return first * (second * u).applyfunc(_silu)


def deep_statement() -> Statement:
    """`reference.expressive_optimisers.deep_momentum_step` with a target of its own; gradients by differentiation."""
    loss = inner(_deep(W1, W2, U), GOAL)
    first, second = (MU * layer - ETA * gradient(loss, layer) for layer in (W1, W2))
    w = vector("w", 2)
    arguments = {"w": tuple(w), "w1": W1, "w2": W2, "gradient": tuple(U), "eta": ETA, "mu": MU}
    results = {"w": w + _deep(first, second, U), "w1": first, "w2": second}
    return Statement(arguments | {"target": tuple(GOAL)}, results)


def outer_statement() -> Statement:
    """`reference.expressive_optimisers.outer_product_memory`: three gradients of width 2, two rows."""
    gradients = matrix("g", 3, 2)
    total = sum((gradients.row(i) for i in range(3)), sp.zeros(1, 2))
    inverse = (gradients.T * gradients + LAM * sp.eye(2)).inv()
    arguments = {"gradients": gradients, "target": tuple(GOAL), "lam": LAM}
    return Statement(arguments, {"m": GOAL * total * inverse})


def _root(a: sp.Matrix) -> sp.Matrix:
    """The positive root of a positive 2 × 2 matrix, by Cayley–Hamilton: (A + √det A I)/√(tr A + 2 √det A)."""
    root = sp.sqrt(a[0, 0] * a[1, 1] - a[0, 1] * a[1, 0])
    return (a + root * sp.eye(2)) / sp.sqrt(a.trace() + 2 * root)


def _inverse(a: sp.Matrix) -> sp.Matrix:
    """Of a 2 × 2 matrix, written out: SymPy's own would look for a pivot among roots of roots."""
    p, q, r, s = a
    return sp.Matrix([[s, -q], [-r, p]]) / (p * s - q * r)


def shampoo_statement(sides: str = "both") -> Statement:
    """`reference.expressive_optimisers.shampoo_step` on a 2 × 2 weight; L = A Aᵀ and R = B Bᵀ come in as A and B."""
    a, b = matrix("a", 2, 2), matrix("b", 2, 2)
    left, right = a * a.T + G * G.T, b * b.T + G.T * G
    roots = [_root(h + EPSILON * sp.eye(2)) for h in (left, right)]
    if sides == "both":
        change = _inverse(_root(roots[0])) * G * _inverse(_root(roots[1]))
    else:
        change = _inverse(roots[0]) * G
    arguments = {"w": W, "gradient": G, "a": a, "b": b, "eta": ETA, "epsilon": EPSILON}
    return Statement(arguments, {"w": W - ETA * change, "left": left, "right": right})


def general_statement(loss: str = "dot") -> Statement:
    """`reference.expressive_optimisers.general_step` with two anchors."""
    anchors, rates = (matrix("A", 2, 2), matrix("B", 2, 2)), positive("r_1:3")
    total = rates[0] + rates[1]
    mean = (rates[0] * anchors[0] + rates[1] * anchors[1]) / total
    curved = 1 if loss == "l2" else 0
    new = mean + (U - curved * mean * X) * X.T / (total + curved * squared_norm(X))
    arguments = {"x": tuple(X), "u": tuple(U), "a": anchors[0], "b": anchors[1], "rates": tuple(rates)}
    return Statement(arguments, {"w": new})


def stale_statement() -> Statement:
    """`reference.expressive_optimisers.stale_motion` after three steps, with one direction."""
    direction = matrix("b", 1, 2)
    stale = M - M * direction.T * direction / squared_norm(direction)
    arguments = {"m": M, "directions": direction, "mu": MU}
    return Statement(arguments, {"held": MU**3 * stale, "moved": (MU + MU**2 + MU**3) * stale})


# --- preconditioning -------------------------------------------------------------------------------------------------


def _preconditioner() -> Sides:
    """∇½‖P ĝ - g‖² = (P ĝ - g) ĝᵀ, row by row, so at every size: the delta rule with ĝ as key and g as value."""
    asked, told = vector("h", 2), vector("g", 2)
    derived = P - ZETA * gradient(squared_norm(P * asked - told) / 2, P)
    return Sides(derived, P - ZETA * (P * asked - told) * asked.T)


def _secant() -> Sides:
    """Multiply the step at ζ = 1/‖ĝ‖² by ĝ: ĝᵀĝ/‖ĝ‖² = 1, at every size. What P' maps to g, its inverse maps back."""
    asked, told = vector("h", 2), vector("g", 2)
    new = _preconditioner().derived.subs(ZETA, 1 / squared_norm(asked))
    back = rational.solve(new * vector("y", 2) - told, vector("y", 2))
    return Sides(sp.Matrix.vstack(new * asked, back), sp.Matrix.vstack(told, asked))


# --- richer momenta --------------------------------------------------------------------------------------------------


def _feature() -> Sides:
    """⟨m φᵀ, P⟩ = ⟨m, P φ⟩ for any matrix φ of the shape of g, at every size: its gradient by m is P φ."""
    phi = matrix("phi", 2, 2)
    objective = inner(M * phi.T, P) + (1 - MU) / (2 * ETA) * squared_norm(M)
    return Sides(M - ETA * gradient(objective, M), MU * M - ETA * P * phi)


def _deep_momentum() -> Sides:
    """The chain rule for ⟨W1 σ(W2 u), P⟩, at every width and for any σ that can be differentiated."""
    z = sp.Symbol("z", real=True)
    slope = sp.diff(_silu(z), z)
    loss, hidden = inner(_deep(W1, W2, U), GOAL), W2 * U
    slopes = hidden.applyfunc(lambda entry: slope.subs(z, entry))
    stated = (GOAL * hidden.applyfunc(_silu).T, (W1.T * GOAL).multiply_elementwise(slopes) * U.T)
    return Sides(sp.Matrix.vstack(gradient(loss, W1), gradient(loss, W2)), sp.Matrix.vstack(*stated))


def _written(gradients: list[sp.Matrix], target: Any) -> sp.Matrix:
    """A matrix M as the momentum, from nothing: one step on ⟨M u, P⟩ plus the decay for each u, P held fixed."""
    memory = sp.zeros(2, 2)
    unknown, fixed = matrix("N", 2, 2), vector("q", 2)
    for u in gradients:
        slope = gradient(inner(unknown * u, fixed), unknown)
        memory = MU * memory - ETA * slope.subs(dict(zip(fixed, target(u), strict=True)))
    return memory


def _attention() -> Sides:
    """The gradient of ⟨M u, u'⟩ at u' = u is u uᵀ. Three steps; each later one fades the earlier by μ: at every t and size."""
    gradients = [vector(f"u_{i}", 2) for i in range(1, 4)]
    last = gradients[-1]
    read = sum((MU ** (2 - i) * inner(u, last) * u for i, u in enumerate(gradients)), sp.zeros(2, 1))
    return Sides(_written(gradients, lambda u: u) * last, -ETA * read)


def _ones() -> Sides:
    """The gradient of ⟨M u, 1⟩ is 1 uᵀ, and 1 uᵀu = ‖u‖² 1, at every size."""
    one = sp.ones(2, 1)
    answer = _written([U], lambda u: one) * U
    square = squared_norm(U)
    stated = sp.Matrix.vstack(-ETA * square * one, sp.Matrix([-ETA * square * inner(U, one)]))
    return Sides(sp.Matrix.vstack(answer, sp.Matrix([inner(U, answer)])), stated)


def _muon() -> Sides:
    """A momentum step, scaled to norm 1, then one gradient step of 1/8 on ‖OᵀO - I‖²: each is proved at every size."""
    o, norm, unknown = matrix("O", 2, 2), positive("n"), matrix("N", 2, 2)
    objective = inner(unknown, G) + (1 - MU) / (2 * ETA) * squared_norm(unknown)
    new = (unknown - ETA * gradient(objective, unknown)).subs(dict(zip(unknown, M, strict=True)))
    step = o - gradient(squared_norm(o.T * o - sp.eye(2)), o) / 8
    start = (MU * M - ETA * G) / norm  # any norm, of this very matrix
    derived = W + step.subs(dict(zip(o, new / norm, strict=True)), simultaneous=True)
    return Sides(derived, W + polynomial_step(start, sp.Rational(3, 2), -sp.Rational(1, 2), 0))


def _muon_rate() -> Sides:
    """m = -η Σ μᵗ⁻ⁱ g_i from nothing (`momentum.unrolled`); dividing by its norm takes η out, at every size, before Newton–Schulz."""
    gradients = [matrix(f"g_{i}", 2, 2) for i in range(1, 3)]
    m = sp.zeros(2, 2)
    for g in gradients:
        m = MU * m - ETA * g
    total = MU * gradients[0] + gradients[1]
    return Sides(m / sp.sqrt(sp.factor(squared_norm(m))), -total / sp.sqrt(sp.factor(squared_norm(total))))


# --- outer products --------------------------------------------------------------------------------------------------


def _regression() -> tuple[sp.Matrix, sp.Matrix, sp.Matrix]:
    """(the minimiser of Σ ‖m g_i - P‖² + λ ‖m‖² for two gradients, Σ g_iᵀ, (Σ g_i g_iᵀ + λ I)⁻¹)."""
    gradients = [vector(f"g_{i}", 2) for i in (1, 2)]
    objective = sum(squared_norm(M * g - GOAL) for g in gradients) + LAM * squared_norm(M)
    total = sum((g.T for g in gradients), sp.zeros(1, 2))
    outer = sum((g * g.T for g in gradients), LAM * sp.eye(2))
    return rational.minimiser(objective, M), total, rational.inverse(outer)


def _outer_product() -> Sides:
    """Set the gradient to zero: m (Σ g gᵀ + λ I) = P Σ gᵀ, at every size and number; the inverse comes from the right."""
    best, total, inverse = _regression()
    return Sides(best, GOAL * total * inverse)


def _outer_product_printed() -> Sides:
    best, total, inverse = _regression()
    return Sides(best, inverse * GOAL * total)


def _metric() -> Sides:
    """Set the gradient g + L (W - W_t) R/η to zero, and multiply by the two inverses, at every size."""
    left, right = (
        sp.Matrix(2, 2, [entries[0], entries[1], entries[1], entries[2]])
        for entries in (positive("l_1:4"), positive("r_1:4"))
    )
    unknown = matrix("V", 2, 2)
    moved = unknown - W
    objective = inner(G, unknown) + inner(moved, left * moved * right) / (2 * ETA)
    stated = W - ETA * rational.inverse(left) * G * rational.inverse(right)
    return Sides(rational.minimiser(objective, unknown), stated)


def _first_step() -> Sides:
    """With g = U Σ Vᵀ, A = U √Σ Uᵀ and B = V √Σ Vᵀ: U and V cancel inside, at every size. Here 2 × 2, all angles but π."""
    turns = []
    for u in real("u v"):
        cosine, sine = (1 - u**2) / (1 + u**2), 2 * u / (1 + u**2)
        turns.append(sp.Matrix([[cosine, -sine], [sine, cosine]]))
    left, right = turns
    root = sp.diag(*positive("r_1:3"))  # √Σ
    g, a, b = left * root**2 * right.T, left * root * left.T, right * root * right.T
    x = matrix("X", 2, 2)
    derived = (rational.solve(a * x * b - g, x), a**4, b**4)
    return Sides(sp.Matrix.vstack(*derived), sp.Matrix.vstack(left * right.T, g * g.T, g.T * g))


# --- the general form ------------------------------------------------------------------------------------------------

ROW, BEFORE, EARLIER, SAID = matrix("W", 1, 2), matrix("A", 1, 2), matrix("B", 1, 2), real("u")


def _general() -> Sides:
    """One row (rows are problems of their own): W (ρ I + δ x xᵀ) = u xᵀ + ρ Ā, and Sherman–Morrison, at every width."""
    one, two = positive("r_1:3")
    answer = (ROW * X)[0]
    objective = -answer * SAID + DELTA / 2 * answer**2
    objective += one / 2 * squared_norm(ROW - BEFORE) + two / 2 * squared_norm(ROW - EARLIER)
    total = one + two
    mean = (one * BEFORE + two * EARLIER) / total
    step = (SAID - DELTA * (mean * X)[0]) * X.T / (total + DELTA * squared_norm(X))
    return Sides(rational.minimiser(objective, ROW), mean + step)


def _general_cases() -> Sides:
    """One anchor, W_t, at 1/η, at every size: gradient descent, Delta Gradient Descent, and the same as an implicit step, solved for."""
    answer, old = (ROW * X)[0], (BEFORE * X)[0]
    near = squared_norm(ROW - BEFORE) / (2 * ETA)
    dot, l2 = (rational.minimiser(loss + near, ROW) for loss in (-answer * SAID, (answer - SAID) ** 2 / 2))
    damped = ETA / (1 + ETA * squared_norm(X))
    implicit = rational.solve(ROW - BEFORE + ETA * (answer - SAID) * X.T, ROW)
    stated = (BEFORE + ETA * SAID * X.T, BEFORE - damped * (old - SAID) * X.T, implicit)
    return Sides(sp.Matrix.vstack(dot, l2, l2), sp.Matrix.vstack(*stated))


def _general_momentum() -> Sides:
    """Quadratics in W: the anchors' rates add up to 1/η, so the minimum moves to their mean plus η u xᵀ, at every size."""
    near, earlier = squared_norm(ROW - BEFORE), squared_norm(ROW - EARLIER)
    objective = -(ROW * X)[0] * SAID + (near + MU * (near - earlier)) / (2 * ETA)
    heavy_ball = BEFORE + MU * (BEFORE - EARLIER) + ETA * SAID * X.T
    m, g, old = matrix("m", 1, 2), matrix("g", 1, 2), matrix("a", 1, 2)
    memory = inner(m, g) + MU / (2 * ETA) * squared_norm(m - old) + (1 - MU) / (2 * ETA) * squared_norm(m)
    derived = sp.Matrix.vstack(rational.minimiser(objective, ROW), rational.minimiser(memory, m))
    return Sides(derived, sp.Matrix.vstack(heavy_ball, MU * old - ETA * g))


# --- orthogonal tasks ------------------------------------------------------------------------------------------------


def _stale() -> Sides:
    """Task A along the first axis, B along the second: three steps of B, by momentum and by delta momentum.

    B's gradient has nothing along A: it adds nothing there, and m gᵀ g, which delta momentum erases, lies along g.
    So A's part is multiplied by μ at each step, for any number of steps, by induction, and in any orthogonal directions.
    """
    start, rows = real("m_0"), []
    for erase in (0, ETA):
        m, moved = sp.Matrix([[start, real("m_b")]]), sp.S.Zero
        for slope in real("b_1:4"):
            g = sp.Matrix([[0, slope]])
            m = MU * m - erase / (1 + erase * slope**2) * (m * g.T)[0] * g - ETA * g
            moved += m[0]
        rows.append([m[0], moved])
    stated = [MU**3 * start, MU * (1 - MU**3) / (1 - MU) * start]
    return Sides(sp.Matrix(rows), sp.Matrix([stated, stated]))


def _settled() -> Sides:
    """Put m = -c g into m = μ m - η g and into m = m (μ I - η̃ gᵀg) - η g, s = ‖g‖² and P = 1, at every size; solve for c."""
    c, size, damped = real("c"), positive("s"), sp.Symbol("tilde_eta", positive=True)
    moves = [MU * c + ETA, (MU - damped * size) * c + ETA]
    derived = sp.Matrix([[sp.solve(sp.Eq(move, c), c)[0] for move in moves]])
    return Sides(derived, sp.Matrix([[ETA / (1 - MU), ETA / (1 - MU + damped * size)]]))


_PRECONDITIONER = r"P_{t+1} = P_t - \zeta \nabla_P \tfrac12 \|P \hat g_t - g_t\|^2 = P_t - \zeta (P_t \hat g_t - g_t) \hat g_t^\top"
_SECANT = r"\zeta = 1 / \|\hat g_t\|^2 \Rightarrow P_{t+1} \hat g_t = g_t, \quad P_{t+1}^{-1} g_t = \hat g_t"
_FEATURE = r"m_{t+1} = m_t - \eta \nabla_m \left(\langle m \phi(g_t)^\top, P \rangle + \tfrac{1-\mu}{2\eta} \|m\|^2\right) = \mu m_t - \eta P \phi(g_t)"
_DEEP = (
    r"\nabla_{W_1} \langle W_1 \sigma(W_2 u), P \rangle = P \sigma(W_2 u)^\top, \quad "
    r"\nabla_{W_2} \langle W_1 \sigma(W_2 u), P \rangle = (W_1^\top P \odot \sigma'(W_2 u)) u^\top"
)
_ATTENTION = r"m_t(u_t) = -\eta \sum_{i \le t} \mu^{t-i} \langle u_i, u_t \rangle u_i"
_ONES = (
    r"m_1(u) = -\eta \|u\|^2 \mathrm{1}, \quad "
    r"\langle u, m_1(u) \rangle = -\eta \|u\|^2 \langle u, \mathrm{1} \rangle"
)
_MUON = r"W_{t+1} = W_t + \sigma(m_{t+1}), \quad O = m_{t+1} / \|m_{t+1}\|, \quad \sigma(m_{t+1}) = O - \tfrac18 \nabla_O \|O^\top O - I\|_F^2 = \tfrac32 O - \tfrac12 O O^\top O"
_RATE = r"\mathrm{NS}(m_t) = -\mathrm{NS}\left(\sum_{i \le t} \mu^{t-i} g_i\right)"
_OUTER = (
    r"\arg\min_m \textstyle\sum_i \|m g_i - P\|^2 + \lambda_m \|m\|^2 = %s, \quad "
    r"\tilde M = \sum_i g_i^\top, \quad H = \sum_i g_i g_i^\top"
)
_METRIC = r"\arg\min_W \langle g_t, W \rangle + \tfrac{1}{2\eta} \langle W - W_t, L (W - W_t) R \rangle = W_t - \eta L^{-1} g_t R^{-1}"
_FIRST = (
    r"A^4 = g g^\top, \quad B^4 = g^\top g, \quad g = U \Sigma V^\top \Rightarrow A^{-1} g B^{-1} = U V^\top"
)
_GENERAL = (
    r"\arg\min_W -\langle W x, u \rangle + \tfrac{\delta}{2} \|W x\|^2 + \sum_j \tfrac{r_j}{2} \|W - A_j\|^2 "
    r"= \bar A + \frac{(u - \delta \bar A x) x^\top}{\rho + \delta \|x\|^2}, \quad "
    r"\rho = \sum_j r_j, \quad \bar A = \tfrac{1}{\rho} \sum_j r_j A_j"
)
_CASES = (
    r"\arg\min_W -\langle W x, u \rangle + \tfrac{1}{2\eta} \|W - W_t\|^2 = W_t + \eta u x^\top, \quad "
    r"W_{t+1} = \arg\min_W \tfrac12 \|W x - u\|^2 + \tfrac{1}{2\eta} \|W - W_t\|^2 "
    r"= W_t - \tilde\eta (W_t x - u) x^\top = W_t - \eta (W_{t+1} x - u) x^\top"
)
_MOMENTUM = (
    r"\arg\min_W -\langle W x, u \rangle + \tfrac{1+\mu}{2\eta} \|W - W_t\|^2 - \tfrac{\mu}{2\eta} \|W - W_{t-1}\|^2 "
    r"= W_t + \mu (W_t - W_{t-1}) + \eta u x^\top, \quad "
    r"\arg\min_m \langle m, g_t \rangle + \tfrac{\mu}{2\eta} \|m - m_t\|^2 + \tfrac{1-\mu}{2\eta} \|m\|^2 = \mu m_t - \eta g_t"
)
_STALE = r"m_n = \mu^n m_0, \quad W_n - W_0 = \frac{\mu (1 - \mu^n)}{1 - \mu} m_0"
_SETTLED = (
    r"m_\infty = \mu m_\infty - \eta g = -\frac{\eta}{1 - \mu} g, \quad "
    r"\hat m_\infty = \hat m_\infty (\mu I - \tilde\eta g^\top g) - \eta g = -\frac{\eta}{1 - \mu + \tilde\eta \|g\|^2} g"
)


def _own(name: str, source: str, claim: str, formula: str, proof: Any, sizes: str) -> Identity:
    """An identity that the source does not print in this form."""
    return Identity(f"expressive_optimisers.{name}", source, claim, None, formula, proof, sizes=sizes)


IDENTITIES = (
    _own(
        "preconditioner",
        "P 38-41",
        "A preconditioner that learns to map ĝ to the gradient moves by the delta rule: ĝ is its key, g its value.",
        _PRECONDITIONER,
        _preconditioner,
        "2 × 2; every size",
    ),
    _own(
        "secant",
        "D",
        "With the one-shot step it maps ĝ to g exactly, so its inverse maps g to ĝ: this is Broyden's update.",
        _SECANT,
        _secant,
        "2 × 2; every size",
    ),
    Identity(
        "expressive_optimisers.feature_momentum",
        "P 46-47, P 51",
        "Preconditioned and higher-order momentum are one gradient step on ⟨m φ(g)ᵀ, P⟩ plus a decay.",
        r"m_{t+1} = \mu m_t - \eta P \phi(g_t)",
        _FEATURE,
        _feature,
        sizes="2 × 2; every size",
    ),
    _own(
        "deep_momentum",
        "P 50",
        "A momentum that is an MLP learns its two layers by the chain rule, here for the target P.",
        _DEEP,
        _deep_momentum,
        "d = h = 2; every size",
    ),
    _own(
        "deep_momentum_attention",
        "D",
        "If the memory is a matrix and its target the gradient, the step attends to past gradients that resemble it.",
        _ATTENTION,
        _attention,
        "d = 2, 3 gradients; every size, every length by induction",
    ),
    _own(
        "deep_momentum_ones",
        "P 50",
        "With ones as target the first step is along the ones whatever the gradient, uphill if its entries have a negative sum.",
        _ONES,
        _ones,
        "d = 2; every size",
    ),
    _own(
        "muon",
        "P 42, P 52",
        "Muon is a linear momentum whose answer goes through Newton–Schulz; here one cubic step of it.",
        _MUON,
        _muon,
        "2 × 2, one cubic step; every size",
    ),
    _own(
        "muon_rate",
        "P 42",
        "Muon's printed learning rate changes nothing from an empty start: Newton–Schulz takes the scale away.",
        _RATE,
        _muon_rate,
        "2 × 2, 2 gradients; every size, every length by induction",
    ),
    Identity(
        "expressive_optimisers.outer_product",
        "P 106-108",
        "The regression of one target on gradient vectors has the inverse of their outer products on the right.",
        _OUTER % r"(H + \lambda_m I)^{-1} P \tilde M",
        _OUTER % r"P \tilde M (H + \lambda_m I)^{-1}",
        _outer_product,
        _outer_product_printed,
        sizes="2 × 2, 2 gradients; every size, every length by induction",
    ),
    _own(
        "metric",
        "P App. B",
        "AdaGrad and Shampoo are gradient descent whose retention is measured by roots of outer products, L and R.",
        _METRIC,
        _metric,
        "2 × 2; every size",
    ),
    _own(
        "first_step",
        "D",
        "Shampoo's step from an empty memory keeps the gradient's directions and makes every singular value equal, as Muon's.",
        _FIRST,
        _first_step,
        "2 × 2; every size",
    ),
    _own(
        "general_step",
        "P 59-60",
        "One loss and a retention with any number of anchors: a step from their mean, damped if the loss is curved.",
        _GENERAL,
        _general,
        "one row of 2, 2 anchors; every size",
    ),
    _own(
        "general_cases",
        "P 59",
        "With the present weight as anchor it is gradient descent, or Delta Gradient Descent, which is an implicit step.",
        _CASES,
        _general_cases,
        "one row of 2; every size",
    ),
    _own(
        "general_momentum",
        "P 59-60",
        "Momentum is retention, too: drawn to the present weight, pushed from the last; or drawn to the old memory and to nothing.",
        _MOMENTUM,
        _general_momentum,
        "one row of 2; every size",
    ),
    _own(
        "stale",
        "P 45",
        "After a switch to an orthogonal task the old part of a momentum goes on moving the weights; delta momentum's, too.",
        _STALE,
        _stale,
        "one row of 2, 3 steps; every size, every length by induction",
    ),
    _own(
        "settled",
        "D",
        "Under one repeated gradient momentum settles at its length times the step, delta momentum earlier.",
        _SETTLED,
        _settled,
        "one number, along the gradient; every size",
    ),
)
