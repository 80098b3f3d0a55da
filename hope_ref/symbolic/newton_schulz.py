r"""Newton–Schulz derived: gradient descent on ‖OᵀO - I‖²_F, and what it does to each singular value."""

from __future__ import annotations

from typing import Any

import sympy as sp

from hope_ref.symbolic.algebra import gradient, matrix, positive, real, squared_norm
from hope_ref.symbolic.identity import Identity, Sides
from hope_ref.symbolic.statement import Statement

COEFFICIENTS = {"quintic": ("3.4445", "-4.7750", "2.0315"), "cubic": ("1.5", "-0.5", "0")}
O, START = matrix("O", 3, 2), matrix("g", 3, 2)  # noqa: E741 (the sources' letter)
ZETA = positive("zeta")


def polynomial_step(o: sp.Matrix, a: Any, b: Any, c: Any) -> sp.Matrix:
    """O (a I + b OᵀO + c (OᵀO)²)."""
    gram = o.T * o
    return o * (a * sp.eye(o.cols) + b * gram + c * gram * gram)


def statement(coefficients: str = "quintic") -> Statement:
    """`reference.newton_schulz` with two steps on a 2 × 2 matrix."""
    x = matrix("x", 2, 2)
    factors = [sp.Rational(text) for text in COEFFICIENTS[coefficients]]
    o = x / (sp.sqrt(squared_norm(x)) + sp.Rational(1, 10**7))
    for _ in range(2):
        o = polynomial_step(o, *factors)
    return Statement({"x": x}, {"o": o})


def _objective(o: sp.Matrix) -> sp.Expr:
    """‖OᵀO - I‖²_F."""
    return squared_norm(o.T * o - sp.eye(o.cols))


def _deviation(o: sp.Matrix) -> sp.Matrix:
    """O (OᵀO - I)."""
    return o * (o.T * o - sp.eye(o.cols))


def _gradient() -> Sides:
    """d‖A‖² = 2⟨A, dA⟩ with A = OᵀO - I symmetric and dA = dOᵀO + OᵀdO: ⟨4 O A, dO⟩, at every size."""
    return Sides(O - ZETA * gradient(_objective(O), O), O - 4 * ZETA * _deviation(O))


def _gradient_printed() -> Sides:
    return Sides(_gradient().derived, O - ZETA * (O - START + 2 * _deviation(O)))


def _with_proximity() -> Sides:
    """The printed direction is the gradient of a sum: half the proximity to g plus half the deviation, at every size."""
    objective = squared_norm(O - START) / 2 + _objective(O) / 2
    return Sides(gradient(objective, O), O - START + 2 * _deviation(O))


def _cubic() -> Sides:
    """4/8 = ½: O - ½ O OᵀO + ½ O, at every size."""
    eighth = sp.Rational(1, 8)
    derived = O - eighth * gradient(_objective(O), O)
    return Sides(derived, polynomial_step(O, sp.Rational(3, 2), -sp.Rational(1, 2), 0))


def _either_side() -> Sides:
    """OᵀO on the right or OOᵀ on the left: O (OᵀO) = (OOᵀ) O, associativity, so for every power and size."""
    a, b, c = real("a b c")
    gram = O * O.T
    return Sides(polynomial_step(O, a, b, c), (a * sp.eye(3) + b * gram + c * gram * gram) * O)


def _rotation(name: str) -> sp.Matrix:
    """Every rotation of the plane but the half turn, with the rational entries (1 - u²)/(1 + u²), 2u/(1 + u²)."""
    u = real(name)
    cosine, sine = (1 - u**2) / (1 + u**2), 2 * u / (1 + u**2)
    return sp.Matrix([[cosine, -sine], [sine, cosine]])


def _singular_values() -> Sides:
    """U Σ Vᵀ with rotations U, V: U and V cancel inside OᵀO = V Σ² Vᵀ, at every size. Here 2 × 2, all angles."""
    a, b, c = real("a b c")
    values = positive("s_1:3")
    # Products in the field of rational functions, where cos² + sin² = 1 is seen at once.
    left, middle, right = _rotation("u").to_DM(), sp.diag(*values).to_DM(), _rotation("v").to_DM()
    left, middle, right = (factor.to_field() for factor in left.unify(middle, right))
    o = left * middle * right.transpose()
    powers = [o, o * o.transpose() * o, o * o.transpose() * o * o.transpose() * o]
    # Turned back by U and V, so that the statement is a diagonal matrix.
    turned = [(left.transpose() * power * right).to_Matrix() for power in powers]
    stated = [a * s + b * s**3 + c * s**5 for s in values]
    return Sides(a * turned[0] + b * turned[1] + c * turned[2], sp.diag(*stated))


def _fixed_points() -> Sides:
    """p(s) = 1.5 s - 0.5 s³ : all roots of p(s) = s, and the slope of p at each of them."""
    s = real("s")
    p = sp.Rational(3, 2) * s - s**3 / 2
    roots = sorted(sp.solve(sp.Eq(p, s), s))
    slopes = [sp.diff(p, s).subs(s, root) for root in roots]
    half = sp.Rational(3, 2)
    return Sides(sp.Matrix([roots, slopes]), sp.Matrix([[-1, 0, 1], [0, half, 0]]))


def _converges() -> Sides:
    """Why all of (0, √3) ends at 1, from three factorisations.

    p(s) = ½ s (3 - s²) is positive below √3; 1 - p(s) = ½ (1 - s)² (2 + s) is not negative, so after one step
    s is in (0, 1]; there p(s) - s = ½ s (1 - s)(1 + s) > 0, so s rises, to the only fixed point; and near it the
    error is squared. At √3 p is 0; from √5 on |p(s)| ≥ |s| and it diverges; in between it ends at 1 or at -1.
    """
    s = real("s")
    p = s - sp.diff((s**2 - 1) ** 2, s) / 8  # the gradient step of `_cubic`, for one singular value
    stated = [s * (3 - s**2) / 2, (1 - s) ** 2 * (2 + s) / 2, s * (1 - s) * (1 + s) / 2]
    return Sides(sp.Matrix([[p, 1 - p, p - s]]), sp.Matrix([stated]))


_CUBIC = r"O - \tfrac18 \nabla_O \|O^\top O - I\|_F^2 = \tfrac32 O - \tfrac12 O O^\top O"
_DEVIATION = r"O_i (O_i^\top O_i - I)"

IDENTITIES = (
    Identity(
        "newton_schulz.gradient",
        "P 43-44",
        "The gradient step on ‖OᵀO - I‖² has no term (O - g), and a 4 where a 2 is printed.",
        rf"O_{{i+1}} = O_i - \zeta (O_i - g + 2 {_DEVIATION})",
        rf"O_{{i+1}} = O_i - 4 \zeta\, {_DEVIATION}",
        _gradient,
        _gradient_printed,
        sizes="3 × 2; every size",
    ),
    Identity(
        "newton_schulz.with_proximity",
        "P 44",
        "The printed direction is the gradient of another objective, one that also holds O near g.",
        r"O - g + 2 O (O^\top O - I)",
        r"\nabla_O \left(\tfrac12 \|O - g\|_F^2 + \tfrac12 \|O^\top O - I\|_F^2\right) = O - g + 2 O (O^\top O - I)",
        _with_proximity,
        sizes="3 × 2; every size",
    ),
    Identity(
        "newton_schulz.cubic",
        "P 42-43",
        "Gradient descent on ‖OᵀO - I‖² with step 1/8 is the cubic Newton–Schulz iteration, exactly.",
        None,
        _CUBIC,
        _cubic,
        sizes="3 × 2; every size",
    ),
    Identity(
        "newton_schulz.either_side",
        "D",
        "The polynomial may be applied from the left or from the right, whichever side is shorter.",
        None,
        r"O (a I + b\, O^\top O + c (O^\top O)^2) = (a I + b\, O O^\top + c (O O^\top)^2) O",
        _either_side,
        sizes="3 × 2; every size",
    ),
    Identity(
        "newton_schulz.singular_values",
        "P 42",
        "A step keeps the singular vectors and sends each singular value s to a s + b s³ + c s⁵.",
        None,
        r"U \Sigma V^\top \mapsto U (a \Sigma + b \Sigma^3 + c \Sigma^5) V^\top",
        _singular_values,
        sizes="2 × 2; every size",
    ),
    Identity(
        "newton_schulz.fixed_points",
        "D",
        "The cubic stands still at -1, 0 and 1 only, with slopes 0, 3/2 and 0: it flees 0 and settles at ±1.",
        None,
        r"p(s) = s \iff s \in \{-1, 0, 1\}, \quad p'(\pm 1) = 0,\ p'(0) = \tfrac32",
        _fixed_points,
        sizes="one singular value; no size in it",
    ),
    Identity(
        "newton_schulz.converges",
        "D",
        "From every singular value in (0, √3) the cubic converges to 1, and near 1 it squares the error.",
        None,
        r"p = \tfrac12 s(3 - s^2), \quad 1 - p = \tfrac12 (1-s)^2 (2+s), \quad p - s = \tfrac12 s (1-s)(1+s)",
        _converges,
        sizes="one singular value; no size in it",
    ),
)
