r"""Delta Gradient Descent derived: the exact minimiser of a proximal regression, for one input and for a chunk.

    W_{t+1} = argmin_W ½‖W x - u‖² + (1/2η)‖W - W_t‖²,  u = -∇_y L       [S 17], [P 56]
            = W_t (I - η' x xᵀ) - η' ∇_y L xᵀ,  η' = η / (1 + η λ²),  λ = ‖x‖

As the update of a matrix memory it is in `delta_gradient_descent_memory`, whose identities are listed here too.
"""

from __future__ import annotations

import sympy as sp

from hope_ref.symbolic.algebra import gradient, inner, matrix, positive, squared_norm, vector
from hope_ref.symbolic.delta_gradient_descent_memory import IDENTITIES as MEMORY_IDENTITIES
from hope_ref.symbolic.delta_gradient_descent_memory import memory_statement
from hope_ref.symbolic.identity import Identity, Sides
from hope_ref.symbolic.rational import inverse, minimiser, solve, with_norm
from hope_ref.symbolic.statement import Statement

__all__ = ["IDENTITIES", "chunk_statement", "memory_statement", "statement"]

W, A = matrix("W", 2, 3), matrix("A", 2, 3)  # d_out = 2, d_in = 3; A is what we solve for
X, G, U = vector("x", 3), vector("g", 2), vector("u", 2)  # input, ∇_y L, wanted output
ETA, LAM, WEIGHT = positive("eta lambda s")
NORM = squared_norm(X)  # λ²


def _form(decay: sp.Expr, write: sp.Expr) -> sp.Matrix:
    """W (I - decay x xᵀ) - write g xᵀ: what all the closed forms have in common."""
    return W * (sp.eye(3) - decay * X * X.T) - write * G * X.T


STEP = _form(ETA / (1 + ETA * NORM), ETA / (1 + ETA * NORM))
INVERSE_RATE = 1 / (NORM + ETA)  # α_t of [S 21], which has η as an inverse learning rate


def statement() -> Statement:
    """`reference.delta_gradient_descent.delta_gradient_descent_step`, d_in = 3, d_out = 2."""
    return Statement({"w": W, "x": tuple(X), "grad_y": tuple(G), "eta": ETA}, {"w": STEP})


def chunk_statement() -> Statement:
    """`reference.delta_gradient_descent.delta_gradient_descent_chunk`: three inputs in rows, d_in = 2, d_out = 1, solved for the minimiser."""
    w, x, u = matrix("W", 1, 2), matrix("x", 3, 2), matrix("u", 3, 1)
    return Statement({"w": w, "x": x, "u": u, "eta": ETA}, {"w": _chunk_minimiser(w, x, u, sp.Integer(1))})


def _proximal(wanted: sp.Matrix, pull: sp.Expr) -> sp.Expr:
    """½‖A x - wanted‖² + (pull/2)‖A - W‖²: [S 17] with pull = 1/η."""
    return (squared_norm(A * X - wanted) + pull * squared_norm(A - W)) / 2


def _solved() -> sp.Matrix:
    """The minimiser of [S 17]: SymPy sets its gradient to zero and solves for all entries at once."""
    return minimiser(_proximal(-G, 1 / ETA), A)


def _solved_inverse_rate() -> sp.Matrix:
    """The minimiser with (η/2)‖W - W_t‖² in the place of (1/2η)‖W - W_t‖²."""
    return minimiser(_proximal(-G, ETA), A)


def _chunk_minimiser(w: sp.Matrix, x: sp.Matrix, u: sp.Matrix, weight: sp.Expr) -> sp.Matrix:
    """argmin (weight/2) Σ‖A x_s - u_s‖² + (1/2η)‖A - W‖², x and u in rows, by solving gradient = 0."""
    unknown = matrix("A", *w.shape)
    objective = weight * squared_norm(x * unknown.T - u) / 2 + squared_norm(unknown - w) / (2 * ETA)
    return minimiser(objective, unknown)


def _stationarity() -> Sides:
    """∂/∂A_ij of ½ Σ_i (Σ_j A_ij x_j - u_i)² is (A x - u)_i x_j, at every size; the entries are shown one under the other."""
    derived = gradient(_proximal(U, 1 / ETA), A)
    return Sides(derived.reshape(6, 1), ((A * X - U) * X.T + (A - W) / ETA).reshape(6, 1))


def _stationarity_printed() -> Sides:
    """Half of what is printed: an equation set to zero may be doubled."""
    printed = (A * X - U) * X.T + ETA * (A - W)
    return Sides(_stationarity().derived, printed.reshape(6, 1))


def _sherman_morrison() -> Sides:
    """(x xᵀ + c I)(I - x xᵀ/(λ² + c)) = c I needs only xᵀx = λ², so it holds at every size."""
    c = positive("c")
    stated = (sp.eye(3) - X * X.T / (NORM + c)) / c
    return Sides(with_norm(inverse(X * X.T + c * sp.eye(3)), X, LAM), with_norm(stated, X, LAM))


def _step() -> Sides:
    """SymPy solves gradient = 0. The rows of W are separate problems: one of them is shown, as a column.

    At every size it is [S 19] times Sherman–Morrison.
    """
    derived, stated = (with_norm(side.row(0).T, X, LAM) for side in (_solved(), STEP))
    return Sides(derived.applyfunc(_by_weight), stated.applyfunc(_by_weight))


def _by_weight(entry: sp.Expr) -> sp.Expr:
    """The numerator ordered by the entries of W, so that a reader can see what multiplies each of them."""
    above, below = sp.fraction(entry)
    return sp.collect(sp.expand(above), list(W)) / below


def _step_printed() -> Sides:
    """η/(1 + η) is what remains of η/(1 + η λ²) at λ = 1."""
    return Sides(_solved(), _form(ETA / (1 + ETA), ETA / (1 + ETA)))


def _inverse_rate() -> Sides:
    """With (η/2)‖W - W_t‖² the minimiser is the form of [S 21], which is our closed form at 1/η, at every size.

    So it is with u = -∇ put in where the appendix writes ∇.
    """
    solved = _solved_inverse_rate()
    return Sides(solved.col_join(solved), _form(INVERSE_RATE, INVERSE_RATE).col_join(STEP.subs(ETA, 1 / ETA)))


def _inverse_rate_printed() -> Sides:
    """The objective printed above [S 21] is [S 17], where η is the learning rate."""
    return Sides(_solved(), _form(INVERSE_RATE, INVERSE_RATE))


def _appendix_sign_printed() -> Sides:
    """[P 121] letter by letter: λ where λ² is meant, and a β that comes out negative."""
    beta = sp.sqrt(NORM) / (NORM * ETA + ETA**2) - 1 / ETA
    return Sides(_solved_inverse_rate(), _form(INVERSE_RATE, beta))


def _appendix_chain() -> Sides:
    """Solve the appendix's own first line for W: the gradient enters with a plus, at every size."""
    chain = 2 * (A * X - G) * X.T + 2 * ETA * (A - W)
    return Sides(solve(chain, A), _form(INVERSE_RATE, -INVERSE_RATE))


def _beta() -> sp.Matrix:
    """xᵀ(x xᵀ + η I)⁻¹, the row that the gradient is multiplied by in [S 19-20]: β xᵀ."""
    return (X.T * inverse(X * X.T + ETA * sp.eye(3))).T


def _beta_is_alpha() -> Sides:
    """x is an eigenvector of x xᵀ + η I with eigenvalue λ² + η, at every size."""
    return Sides(with_norm(_beta(), X, LAM), with_norm(INVERSE_RATE * X, X, LAM))


def _beta_is_alpha_printed() -> Sides:
    return Sides(_beta(), (1 / ETA - NORM / (ETA * (NORM + ETA))) * X)


def _conference_step_printed() -> Sides:
    return Sides(_explicit_step().derived, _form(sp.Integer(1), ETA))


def _explicit_step() -> Sides:
    """One plain gradient step of size η on ½‖W x + ∇_y L‖², the objective with u = -∇_y L, at every size."""
    return Sides(W - ETA * gradient(squared_norm(W * X + G) / 2, W), _form(ETA, ETA))


def _residual_shrinks() -> Sides:
    """W' x - u = (1 - η'λ²)(W x - u) and 1 - η'λ² = 1/(1 + ηλ²): in (0, 1) for every η > 0, at every size."""
    moved = STEP.subs(list(zip(G, -U, strict=True)), simultaneous=True)
    return Sides(with_norm(moved * X - U, X, LAM), (W * X - U) / (1 + ETA * LAM**2))


def _shrinks_outputs() -> Sides:
    """½‖W x‖² has the gradient W x xᵀ, which is the erase term, at every size."""
    slope = gradient(inner(G, W * X) + squared_norm(W * X) / 2, W)  # ⟨∇_y L, W x⟩ has the slope of the loss
    return Sides(W - ETA / (1 + ETA * NORM) * slope, STEP)


def _orthogonal() -> Sides:
    """Both terms of the step end in xᵀ, so W' z = W z if xᵀz = 0, at every size; z is any vector minus its shadow on x."""
    free = vector("z", 3)
    across = free - X * inner(X, free) / NORM
    return Sides(STEP * across, W * across)


def _chunk_symbols() -> tuple[sp.Matrix, sp.Matrix, sp.Matrix]:
    return matrix("W", 1, 3), matrix("x", 2, 3), matrix("u", 2, 1)  # d_out = 1, d_in = 3, C = 2 rows


def _woodbury() -> Sides:
    """Multiply (XXᵀ + I/η) by the right side: all terms but I cancel, for any X, at every size and C."""
    _, x, _ = _chunk_symbols()
    large = inverse(x.T * x + sp.eye(3) / ETA)
    small = inverse(sp.eye(2) + ETA * x * x.T)
    return Sides(large, ETA * (sp.eye(3) - ETA * x.T * small * x))


def _woodbury_step_form() -> Sides:
    """The minimiser, against its d × d form and its C × C form; the rows of W are separate problems."""
    w, x, u = _chunk_symbols()
    solved = _chunk_minimiser(w, x, u, sp.Integer(1))
    large = (u.T * x + w / ETA) * inverse(x.T * x + sp.eye(3) / ETA)
    small = w + ETA * (u.T - w * x.T) * inverse(sp.eye(2) + ETA * x * x.T) * x
    return Sides(solved.col_join(solved), large.col_join(small))


def _optimizer_form() -> Sides:
    """With the loss s Σ ℓ_n (s = 1: a sum, s = 1/N: a mean) the weight's gradient is G = s Σ ∇ℓ_n x_nᵀ = -s Σ u_n x_nᵀ.

    So the wanted outputs enter the minimiser of (s/2) Σ‖W x_n - u_n‖² + (1/2η)‖W - W_t‖² only through G, at every size.
    """
    w, x, u = _chunk_symbols()
    variable = matrix("B", 1, 3)  # the loss to first order in W: s Σ ⟨∇ℓ_n, B x_n⟩ with ∇ℓ_n = -u_n
    grad = gradient(WEIGHT * inner(-u, x * variable.T), variable)
    solved = _chunk_minimiser(w, x, u, WEIGHT)
    return Sides(solved, (w - ETA * grad) * inverse(sp.eye(3) + ETA * WEIGHT * x.T * x))


_MINIMISER = r"\arg\min_W \tfrac12 \|W x_t - u_t\|^2 + \tfrac{1}{2\eta} \|W - W_t\|^2"
_CORRECT_STEP = (
    r"W_{t+1} = W_t (I - \eta' x_t x_t^\top) - \eta' \nabla_y \mathcal{L}\, x_t^\top, "
    r"\quad \eta' = \frac{\eta}{1 + \eta \lambda^2}"
)
_CORRECT_INVERSE = (
    r"W_{t+1} = W_t (I - \alpha_t x_t x_t^\top) - \alpha_t \nabla_y \mathcal{L}\, x_t^\top, "
    r"\quad \alpha_t = \frac{1}{\lambda^2 + \eta}"
)
_EXPLICIT = r"W_{t+1} = W_t (I - \eta x_t x_t^\top) - \eta \nabla_y \mathcal{L}\, x_t^\top"
_CONFERENCE = r"W_{t+1} = W_t (I - x_t x_t^\top) - \eta \nabla_y \mathcal{L}\, x_t^\top"

IDENTITIES = (
    Identity(
        "delta_gradient_descent.stationarity",
        "S 18, P 112",
        "The gradient of the printed objective divides by η, a learning rate, where the print multiplies; the 2 on both terms is harmless.",
        r"2 (W_{t+1} x_t - u_t) x_t^\top + 2 \eta_t (W_{t+1} - W_t) = 0",
        r"(W_{t+1} x_t - u_t) x_t^\top + \tfrac{1}{\eta_t} (W_{t+1} - W_t) = 0",
        _stationarity,
        _stationarity_printed,
        sizes="d_out = 2, d_in = 3; every size",
    ),
    Identity(
        "delta_gradient_descent.sherman_morrison",
        "S 20",
        "The inverse of c I plus one outer product is again of that form, for any ‖x‖ = λ and c > 0.",
        r"(x_t x_t^\top + \eta_t I)^{-1} = \tfrac{1}{\eta_t} \left(I - \tfrac{1}{\lambda^2 + \eta_t} x_t x_t^\top\right)",
        r"(x x^\top + c I)^{-1} = \tfrac1c \left(I - \tfrac{1}{\lambda^2 + c} x x^\top\right)",
        _sherman_morrison,
        sizes="d_in = 3; every size",
    ),
    Identity(
        "delta_gradient_descent.step",
        "S 17, P 56-57",
        "The exact minimiser, for every ‖x‖ = λ: the printed η/(1 + η) is its case λ = 1.",
        _CORRECT_STEP.replace(r"1 + \eta \lambda^2", r"1 + \eta"),
        _MINIMISER + r" = W_t (I - \eta' x_t x_t^\top) - \eta' \nabla_y \mathcal{L}\, x_t^\top, "
        r"\quad \eta' = \frac{\eta}{1 + \eta \lambda^2}",
        _step,
        _step_printed,
        sizes="d_out = 1, d_in = 3; every size",
    ),
    Identity(
        "delta_gradient_descent.inverse_rate",
        "S 19-21",
        "The tutorial's form has η as an inverse learning rate; it is ours under η ↔ 1/η, not at the same η.",
        r"W_{t+1} = W_t (I - \tfrac{1}{\lambda^2 + \eta_t} x_t x_t^\top) - \beta_t \nabla_y \mathcal{L}\, x_t^\top"
        r" \quad \text{from} \quad \tfrac{1}{2\eta_t} \|W - W_t\|^2",
        _CORRECT_INVERSE + r" \quad \text{from} \quad \tfrac{\eta}{2} \|W - W_t\|^2",
        _inverse_rate,
        _inverse_rate_printed,
        sizes="d_out = 2, d_in = 3; every size",
    ),
    Identity(
        "delta_gradient_descent.appendix_sign",
        "P 114-121",
        "The appendix regresses on +∇ where u = -∇, and writes λ for λ²: taken literally it climbs the loss.",
        r"W_{t+1} = W_t (I - \tfrac{1}{\lambda^2 + \eta} x_t x_t^\top) - "
        r"\left(\tfrac{\lambda}{\lambda^2 \eta + \eta^2} - \tfrac1\eta\right) \nabla_y \mathcal{L}\, x_t^\top",
        _CORRECT_INVERSE,
        _inverse_rate,
        _appendix_sign_printed,
        sizes="d_out = 2, d_in = 3; every size",
        alias_of="delta_gradient_descent.inverse_rate",
    ),
    Identity(
        "delta_gradient_descent.appendix_chain",
        "P 114",
        "Solved as it stands, the appendix's first line adds the gradient: ascent.",
        r"2 (W x - \nabla) x^\top + 2 \eta (W - W_t) = 0",
        r"2 (W x - \nabla) x^\top + 2 \eta (W - W_t) = 0 \Rightarrow W = W_t (I - \alpha x x^\top) + \alpha \nabla x^\top",
        _appendix_chain,
        sizes="d_out = 2, d_in = 3; every size",
    ),
    Identity(
        "delta_gradient_descent.beta_is_alpha",
        "S 21",
        "The tutorial's β is right but unsimplified: it is α, one number and not two.",
        r"\beta_t = \frac{1}{\eta_t} - \frac{\lambda^2}{\eta_t (\lambda^2 + \eta_t)}",
        r"\beta_t = \frac{1}{\lambda^2 + \eta_t} = \alpha_t",
        _beta_is_alpha,
        _beta_is_alpha_printed,
        sizes="d_in = 3; every size",
    ),
    Identity(
        "delta_gradient_descent.conference_step",
        "P20 28-29",
        "The short version's decay has no step size, where one gradient step on its regression puts η.",
        _CONFERENCE,
        _EXPLICIT,
        _explicit_step,
        _conference_step_printed,
        sizes="d_out = 2, d_in = 3; every size",
        alias_of="delta_gradient_descent.explicit_step",
    ),
    Identity(
        "delta_gradient_descent.explicit_step",
        "P20 27-29",
        "One gradient step on the regression loss has η on the decay too: the short version's form is not that either.",
        None,
        _EXPLICIT,
        _explicit_step,
        sizes="d_out = 2, d_in = 3; every size",
    ),
    Identity(
        "delta_gradient_descent.residual_shrinks",
        "D",
        "One step divides the residual by 1 + ηλ²: for no η > 0 does it overshoot.",
        None,
        r"W_{t+1} x - u = \frac{W_t x - u}{1 + \eta \lambda^2}",
        _residual_shrinks,
        sizes="d_out = 2, d_in = 3; every size",
    ),
    Identity(
        "delta_gradient_descent.shrinks_outputs",
        "D",
        "It is gradient descent with the step η' on the loss plus ½‖W x‖²: it wants small outputs, and rests accordingly.",
        None,
        r"W_{t+1} = W_t - \eta' \nabla_W \left(\mathcal{L} + \tfrac12 \|W x\|^2\right)",
        _shrinks_outputs,
        sizes="d_out = 2, d_in = 3; every size",
    ),
    Identity(
        "delta_gradient_descent.orthogonal",
        "D",
        "Orthogonal to the input nothing changes.",
        None,
        r"x^\top z = 0 \Rightarrow W_{t+1} z = W_t z",
        _orthogonal,
        sizes="d_out = 2, d_in = 3; every size",
    ),
    Identity(
        "delta_gradient_descent.woodbury",
        "D",
        "For a chunk X (d, C) the d × d inverse needs only a C × C one.",
        None,
        r"(X X^\top + \tfrac1\eta I)^{-1} = \eta \left(I - \eta X (I + \eta X^\top X)^{-1} X^\top\right)",
        _woodbury,
        sizes="d_in = 3, a chunk of 2; every size",
    ),
    Identity(
        "delta_gradient_descent.woodbury_step_form",
        "D",
        "The exact minimiser for a whole chunk, in two forms: a d × d and a C × C system.",
        None,
        r"(U X^\top + \tfrac1\eta W)(X X^\top + \tfrac1\eta I)^{-1} = W + \eta (U - W X)(I + \eta X^\top X)^{-1} X^\top",
        _woodbury_step_form,
        sizes="d_out = 1, d_in = 3, a chunk of 2; every size",
    ),
    Identity(
        "delta_gradient_descent.optimizer_form",
        "D",
        "For a batch the step needs only the weight's gradient G and the Gram matrix of the layer's inputs.",
        None,
        r"W_{t+1} = (W_t - \eta G)(I + \eta s X X^\top)^{-1}",
        _optimizer_form,
        sizes="d_out = 1, d_in = 3, a batch of 2; every size",
    ),
    *MEMORY_IDENTITIES,
)
