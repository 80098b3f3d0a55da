r"""Delta Gradient Descent as the update of a matrix memory: where it rests, when it is stable, what a frozen chunk does.

    M_t = M_{t-1} (α I - η̃ k kᵀ) + η̃ u kᵀ,   u = -∂(loss)/∂(M k)     [P 88], [P 92-93]

u = v for the dot product, v - M k for ½‖M k - v‖², 2 (v - M k) for ‖M k - v‖². η̃ is the step actually taken.
"""

from __future__ import annotations

import sympy as sp

from hope_ref.symbolic.algebra import gradient, inner, matrix, positive, squared_norm, vector
from hope_ref.symbolic.identity import Identity, Sides
from hope_ref.symbolic.rational import solve, with_norm
from hope_ref.symbolic.statement import Statement

M, K, V = matrix("M", 2, 3), vector("k", 3), vector("v", 2)  # d_v = 2, d_k = 3
ETA, ALPHA, LAM, TAKEN = positive(r"eta alpha lambda \tilde{\eta}")
NORM = squared_norm(K)  # λ²


def memory_statement(objective: str = "dot", step: str = "explicit") -> Statement:
    """`reference.delta_gradient_descent.memory_step` with that objective and step; the gradient is differentiated, not typed."""
    taken = {
        "explicit": ETA,
        "implicit": ETA / (1 + ETA * NORM),
        "normalized": ETA / (NORM + sp.Rational("1e-6")),
    }
    loss = dict(zip(("dot", "l2", "l2_without_half"), _losses(M * K, V), strict=True))[objective]
    return Statement(
        {"memory": M, "k": tuple(K), "v": tuple(V), "eta": ETA, "alpha": ALPHA},
        {"memory": _descend(M, -gradient(loss, M), ALPHA, taken[step])},
    )


def _descend(
    memory: sp.Matrix, association: sp.Matrix, alpha: sp.Expr, step: sp.Expr, key: sp.Matrix = K
) -> sp.Matrix:
    """M (α I - η̃ k kᵀ) + η̃ u kᵀ, the association u kᵀ being minus the gradient of the loss."""
    return memory * (alpha * sp.eye(key.rows) - step * key * key.T) + step * association


def _losses(answer: sp.Matrix, target: sp.Matrix) -> tuple[sp.Expr, sp.Expr, sp.Expr]:
    """Dot product, ½‖·‖², ‖·‖²."""
    square = squared_norm(answer - target)
    return -inner(answer, target), square / 2, square


def _wanted(answer: sp.Matrix, target: sp.Matrix) -> tuple[sp.Matrix, ...]:
    """u for each loss at a memory that answers ``answer``: minus the derivative by the answer."""
    out = sp.Matrix(sp.symbols(f"y_1:{answer.rows + 1}", real=True))
    at = list(zip(out, answer, strict=True))
    return tuple(-gradient(loss, out).subs(at, simultaneous=True) for loss in _losses(out, target))


def _answers(answer: sp.Matrix, alpha: sp.Expr) -> tuple[sp.Matrix, ...]:
    """What one step of each loss makes of a memory that answered ``answer`` to k: only M k enters, so M = a kᵀ/λ²."""
    memory = answer * K.T / NORM
    moved = (_descend(memory, wanted * K.T, alpha, TAKEN) * K for wanted in _wanted(answer, V))
    return tuple(with_norm(after, K, LAM) for after in moved)


def _fixed_points() -> Sides:
    """A step moves the answer by η̃λ²(u - M k), so it rests where u = M k: v, (v - M k), 2(v - M k), at every size."""
    answer = vector("a", 2)
    rests = [solve(moved - answer, answer).T for moved in _answers(answer, sp.Integer(1))]
    return Sides(sp.Matrix.vstack(*rests), sp.Matrix.vstack(V.T, V.T / 2, 2 * V.T / 3))


def _factors() -> Sides:
    """How the new answer's first entry depends on the old answer's two, for dot product, ½‖·‖² and ‖·‖²; any size is alike.

    The erase term gives the first η̃λ², the loss the others: 0, 1 or 2. Stable iff the factor is in (-1, 1).
    """
    answer = vector("a", 2)
    slopes = [sp.expand(moved.jacobian(answer).row(0)) for moved in _answers(answer, ALPHA)]
    said = [sp.Matrix([[ALPHA - times * TAKEN * LAM**2, 0]]) for times in (1, 2, 3)]
    return Sides(sp.Matrix.vstack(*slopes), sp.Matrix.vstack(*said))


def _frozen_chunk() -> Sides:
    """C = 3 repeats with u = v - M_0 k frozen at the start: Delta Gradient Descent above, plain descent below.

    With q = 1 - η̃λ², unrolling gives M_C k = q^C M_0 k + (1 - q^C) u, so the distance from v/2 is multiplied by
    2 q^C - 1; C frozen gradient steps multiply the distance from v by 1 - C η̃λ². A geometric sum: at every C.
    """
    answer = vector("a", 2)
    association = (V - answer) * K.T
    delta = plain = answer * K.T / NORM
    for _ in range(3):
        delta = _descend(delta, association, sp.Integer(1), TAKEN)
        plain = plain + TAKEN * association
    moved = (delta * K - V / 2).col_join(plain * K - V)
    slow = (2 * (1 - TAKEN * LAM**2) ** 3 - 1) * (answer - V / 2)
    return Sides(with_norm(moved, K, LAM), slow.col_join((1 - 3 * TAKEN * LAM**2) * (answer - V)))


def _skip_fixed_points() -> Sides:
    """With M(k) = k + W k the wanted output of W is minus the derivative at k + W k: v̂, and v̂ - k - W k, at every size."""
    answer = vector("a", 3)
    target = sp.Matrix(sp.symbols(r"\hat{v}_1:4", real=True))
    rests = []
    for wanted in _wanted(K + answer, target)[:2]:
        moved = _descend(answer * K.T / NORM, wanted * K.T, sp.Integer(1), TAKEN) * K
        rests.append(solve(moved - answer, answer).T)
    return Sides(sp.Matrix.vstack(*rests), sp.Matrix.vstack(target.T, (target - K).T / 2))


def _dot_product_sign() -> Sides:
    """The gradient of -⟨M k, v̂⟩ is -v̂ kᵀ at every size, and the step goes against it: the association is written, not removed."""
    descended = _descend(M, -gradient(-inner(M * K, V), M), ALPHA, ETA)
    return Sides(descended, M * (ALPHA * sp.eye(3) - ETA * K * K.T) + ETA * V * K.T)


def _dot_product_sign_printed() -> Sides:
    descended = _descend(M, -gradient(-inner(M * K, V), M), ALPHA, ETA)
    return Sides(descended, M * (ALPHA * sp.eye(3) - ETA * K * K.T) - ETA * V * K.T)


def _delta_rule() -> Sides:
    """The erase term M k kᵀ and the association v kᵀ are together minus the gradient of ½‖M k - v‖², at every size."""
    on_dot_product = _descend(M, -gradient(-inner(M * K, V), M), sp.Integer(1), ETA)
    return Sides(on_dot_product, M - ETA * gradient(squared_norm(M * K - V) / 2, M))


_ON_DOT_PRODUCT = r"M_t = M_{t-1} (\alpha_t I - \eta_t k_t k_t^\top) %s \eta_t \hat v_t k_t^\top"
_DELTA_RULE = r"M (I - \eta k k^\top) - \eta \nabla_M(-\langle M k, v \rangle) = M - \eta \nabla_M \tfrac12 \|M k - v\|^2"
_FIXED_POINTS = r"M k \to v, \quad \tfrac12 v, \quad \tfrac23 v"
_FACTORS = (
    r"\frac{\partial M_t k}{\partial M_{t-1} k} = "
    r"\alpha - \tilde\eta \lambda^2, \quad \alpha - 2 \tilde\eta \lambda^2, \quad \alpha - 3 \tilde\eta \lambda^2"
)
_FROZEN = (
    r"2 (1 - \tilde\eta \lambda^2)^C - 1 \quad \text{(DGD)}, \qquad "
    r"1 - C \tilde\eta \lambda^2 \quad \text{(gradient descent)}"
)
_SKIP = r"W k \to \hat v, \quad \tfrac12 (\hat v - k)"

IDENTITIES = (
    Identity(
        "delta_gradient_descent.dot_product_sign",
        "P 92",
        "On the dot product the step adds the association; the printed minus would store -v̂.",
        _ON_DOT_PRODUCT % "-",
        _ON_DOT_PRODUCT % "+",
        _dot_product_sign,
        _dot_product_sign_printed,
        sizes="d_v = 2, d_k = 3; every size",
    ),
    Identity(
        "delta_gradient_descent.delta_rule",
        "P 92, S 5",
        "Delta Gradient Descent on the dot product with α = 1 is the delta rule.",
        None,
        _DELTA_RULE,
        _delta_rule,
        sizes="d_v = 2, d_k = 3; every size",
    ),
    Identity(
        "delta_gradient_descent.fixed_points",
        "P 92-93",
        "One pair repeated, α = 1: M k comes to v on the dot product, to v/2 on ½‖·‖² and to 2v/3 on ‖·‖².",
        None,
        _FIXED_POINTS,
        _fixed_points,
        sizes="d_v = 2, d_k = 3; every size",
    ),
    Identity(
        "delta_gradient_descent.factors",
        "P 92-93",
        "Per token the answer's distance from its fixed point is multiplied by α - η̃λ², α - 2η̃λ² or α - 3η̃λ².",
        None,
        _FACTORS,
        _factors,
        sizes="d_v = 2, d_k = 3; every size",
    ),
    Identity(
        "delta_gradient_descent.frozen_chunk",
        "P 93",
        "C repeats with a frozen ½‖·‖² gradient: DGD's factor stays in (-1, 1) for 0 < η̃λ² < 1, plain descent's does not.",
        None,
        _FROZEN,
        _frozen_chunk,
        sizes="d_v = 2, d_k = 3, a chunk of 3; every size, every length by induction",
    ),
    Identity(
        "delta_gradient_descent.skip_fixed_points",
        "P 89, P 92-93",
        "A memory k + W k with a skip rests at W k = v̂ on the dot product and at W k = (v̂ - k)/2 on ½‖·‖².",
        None,
        _SKIP,
        _skip_fixed_points,
        sizes="d = 3; every size",
    ),
)
