r"""Self-modifying Titans derived: gradients of the residual memory, its write, what the chunk form and the bound rest on.

A memory is M(z) = z + W_1 σ(W_2 z) [P 89], or M(z) = z + W z in the linear case of [P 92-93]. Each weight matrix is
written along its own input φ toward its own wanted output u; σ stays an unnamed function, so nothing depends on it.
"""

from __future__ import annotations

from typing import Any

import sympy as sp

from hope_ref.symbolic.algebra import gradient, inner, matrix, positive, real, squared_norm, vector
from hope_ref.symbolic.identity import Identity, Sides
from hope_ref.symbolic.rational import minimiser
from hope_ref.symbolic.self_modifying_titans_statement import statement

__all__ = ["IDENTITIES", "Activation", "Slope", "momentum_loop", "shift", "statement", "write"]


class Slope(sp.Function):
    """σ′ of an unnamed activation σ."""


class Activation(sp.Function):
    """An unnamed activation σ, known by its derivative σ′ alone."""

    def fdiff(self, argindex: int = 1) -> Any:
        return Slope(self.args[0])


W1, W2 = matrix("A", 2, 2), matrix("B", 2, 2)  # d = h = 2
K, V = vector("k", 2), vector("v", 2)
TARGET = sp.Matrix(sp.symbols(r"\hat{v}_1:3", real=True))  # v̂, held fixed inside the write
W, START = matrix("W", 2, 2), matrix("R", 2, 2)
PHI, U = sp.Matrix(sp.symbols("phi_1:3", real=True)), vector("u", 2)
ETA, ALPHA, BOUND, TAKEN, LENGTH = positive(r"eta alpha c \tilde{\eta} lambda")
MU, SCALE = positive("mu"), real("s")


def write(weight: sp.Matrix, back: sp.Matrix, origin: sp.Matrix, phi: sp.Matrix, u: sp.Matrix) -> sp.Matrix:
    """W_t = α W_{t-1} + (1 - α) R - η̃ ((W_{t-1} - E) φ - u) φᵀ, with R = ``back`` and E = ``origin``."""
    return ALPHA * weight + (1 - ALPHA) * back - TAKEN * ((weight - origin) * phi - u) * phi.T


def _loss(answer: sp.Matrix, objective: str) -> sp.Expr:
    return -inner(answer, TARGET) if objective == "dot" else squared_norm(answer - TARGET) / 2


def _memory_gradients(objective: str) -> Sides:
    """Minus the slope of the loss by W1 beside that by W2, against u φᵀ of either layer."""
    hidden = W2 * K
    active, slope = hidden.applyfunc(Activation), hidden.applyfunc(Slope)
    answer = K + W1 * active
    loss = _loss(answer, objective)
    error = -TARGET if objective == "dot" else answer - TARGET
    passed_back = (W1.T * error).multiply_elementwise(slope)
    derived = (-gradient(loss, W1)).row_join(-gradient(loss, W2))
    return Sides(derived, (-error * active.T).row_join(-passed_back * K.T))


def _gradients_dot() -> Sides:
    """The chain rule through one hidden layer; every entry of it is a sum over the layer, so the sizes do not matter."""
    return _memory_gradients("dot")


def _gradients_l2() -> Sides:
    """As `gradients_dot`, with the error M(k) - v̂ in the place of -v̂: at every size."""
    return _memory_gradients("l2")


def _implicit_step() -> Sides:
    """Sherman–Morrison on W - E: the minimiser moves along φ only, by (u - (W - E) φ) η/(1 + η‖φ‖²), at every size."""
    unknown = matrix("X", 2, 2)
    objective = squared_norm((unknown - START) * PHI - U) / 2 + squared_norm(unknown - W) / (2 * ETA)
    closed = write(W, START, START, PHI, U).subs({ALPHA: 1, TAKEN: ETA / (1 + ETA * squared_norm(PHI))})
    return Sides(minimiser(objective, unknown), closed)


def shift() -> Sides:
    """α W + (1 - α) R - R = α (W - R), and (W - E) φ - u = S φ - (u - (R - E) φ): regrouping, at every size."""
    origin = matrix("E", 2, 2)
    state = W - START
    wanted = U - (START - origin) * PHI
    return Sides(
        write(W, START, origin, PHI, U) - START, ALPHA * state + TAKEN * (wanted - state * PHI) * PHI.T
    )


def _linear(weight: sp.Matrix, objective: str, frozen: sp.Matrix | None = None) -> sp.Matrix:
    """One printed write (R = E = 0) of M(z) = z + W z, the gradient differentiated at W or at a boundary state."""
    at = weight if frozen is None else frozen
    unknown = matrix("X", 2, 2)
    slope = gradient(_loss(K + unknown * K, objective), unknown).subs(
        list(zip(unknown, at, strict=True)), simultaneous=True
    )
    return weight * (ALPHA * sp.eye(2) - TAKEN * K * K.T) - TAKEN * slope


def _linear_dot() -> Sides:
    """The slope of -⟨k + W k, v̂⟩ is -v̂ kᵀ: the skip does not enter, the erase is the only term in W k, at every size."""
    return Sides(_linear(W, "dot"), ALPHA * W - TAKEN * (W * K - TARGET) * K.T)


def _linear_l2() -> Sides:
    """Token by token the slope of ½‖k + W k - v̂‖² brings a second W k kᵀ; the skip is taken off the target, at every size."""
    return Sides(_linear(W, "l2"), W * (ALPHA * sp.eye(2) - 2 * TAKEN * K * K.T) + TAKEN * (TARGET - K) * K.T)


def _transition(moved: sp.Matrix) -> sp.Matrix:
    """The d × d matrix that the old weight is multiplied with from the right: the slope of row 1 by row 1, transposed."""
    return moved.row(0).T.jacobian(sp.Matrix(list(W.row(0)))).T


def _eigenvalues() -> Sides:
    """Dot product; ½‖·‖² with the gradient frozen at the boundary; ½‖·‖² token by token: one row each.

    k is an eigenvector of α I - n η̃ k kᵀ with α - n η̃‖k‖², and the directions orthogonal to it have α, at every size.
    """
    x, boundary = sp.Symbol("x"), matrix("Z", 2, 2)
    moved = (_linear(W, "dot"), _linear(W, "l2", boundary), _linear(W, "l2"))
    derived = [_transition(step).charpoly(x).as_expr() for step in moved]
    stated = [(x - ALPHA) * (x - ALPHA + times * TAKEN * squared_norm(K)) for times in (1, 1, 2)]
    return Sides(sp.Matrix(derived), sp.Matrix(stated))


def _skip_free(weight: sp.Matrix, objective: str) -> sp.Matrix:
    """One printed write of M(z) = W z toward its own answer W v, the target held fixed while differentiating."""
    unknown = matrix("X", 2, 2)
    slope = gradient(_loss(unknown * K, objective), unknown)
    at = list(zip([*unknown, *TARGET], [*weight, *(weight * V)], strict=True))
    return weight * (ALPHA * sp.eye(2) - TAKEN * K * K.T) - TAKEN * slope.subs(at, simultaneous=True)


def _collapse() -> Sides:
    """Target, answer and erase are all linear in W: the write of s W is s times the write of W, and 0 stays 0.

    Dot product beside ½‖·‖²; with given k and v, at every size.
    """
    both = [_skip_free(SCALE * W, objective) for objective in ("dot", "l2")]
    once = [SCALE * _skip_free(W, objective) for objective in ("dot", "l2")]
    return Sides(sp.Matrix.hstack(*both), sp.Matrix.hstack(*once))


def _skip_escapes() -> Sides:
    """From W = 0 the memory answers v to v and k to k: dot product writes v kᵀ, ½‖·‖² writes (v - k) kᵀ, at every size."""
    at_rest = dict.fromkeys(W, 0)
    own = list(zip(TARGET, V + W * V, strict=True))
    writes = [_linear(W, objective).subs(own).subs(at_rest) for objective in ("dot", "l2")]
    return Sides(sp.Matrix.hstack(*writes), sp.Matrix.hstack(TAKEN * V * K.T, TAKEN * (V - K) * K.T))


def momentum_loop(steps: int = 3) -> dict[str, Any]:
    """Tokens of a write with inner momentum, one output, two inputs: symbols, and W after the last token, unrolled.

    W_t = α_t W_{t-1} + (1 - α_t) R - η̃_t (W_{t-1} - E) φ_t φ_tᵀ + B_t,  B_t = μ B_{t-1} + η̃_t u_t φ_tᵀ.
    """
    alpha, eta = positive(f"alpha_1:{steps + 1}"), positive(rf"\tilde{{\eta}}_1:{steps + 1}")
    phi, u = matrix("phi", steps, 2), vector("u", steps)
    weight, b, back, origin = (matrix(name, 1, 2) for name in "WBRE")
    found = {"alpha": alpha, "eta": eta, "phi": phi, "u": u, "w": weight, "b": b, "r": back, "e": origin}
    for t in range(steps):
        along = phi.row(t)
        b = MU * b + eta[t] * u[t] * along
        old = inner(weight - origin, along)
        weight = (alpha[t] * weight + (1 - alpha[t]) * back - eta[t] * old * along + b).expand()
    return found | {"final_w": weight, "final_b": b}


def _momentum_chunk() -> Sides:
    """Three tokens: the unit lower-triangular system for p_t = (W_{t-1} - E) φ_t, then one weighted sum.

    Unrolling B gives Σ_r μ^{r-s} of every write, unrolling S = W - R multiplies it by D_{t,r}; what stands before the
    token goes into p_t by induction over t, so it holds at every C. Rows of W do not mix: one is enough.
    """
    m = momentum_loop()
    alpha, eta, phi, u = m["alpha"], m["eta"], m["phi"], m["u"]

    def ratio(t: int, s: int) -> sp.Expr:  # D_{t,s}, tokens counted from 1, 0 is the chunk's start
        return sp.prod(alpha[s:t])

    def reached(t: int, s: int) -> sp.Expr:  # c_{t,s}; with s = 0 and without r = 0 it is b_t
        return sum(ratio(t, r) * MU ** (r - s) for r in range(max(s, 1), t + 1))

    start = m["w"] - m["r"]
    p: list[sp.Expr] = []
    for t in range(1, 4):
        key = phi.row(t - 1)
        right = inner(ratio(t - 1, 0) * start + m["r"] - m["e"] + reached(t - 1, 0) * m["b"], key)
        for s in range(1, t):
            weight = eta[s - 1] * inner(phi.row(s - 1), key)
            right += weight * (reached(t - 1, s) * u[s - 1] - ratio(t - 1, s) * p[s - 1])
        p.append(sp.expand(right))
    final = ratio(3, 0) * start + reached(3, 0) * m["b"]
    for s in range(1, 4):
        written = reached(3, s) * u[s - 1] - ratio(3, s) * p[s - 1]
        final = final + eta[s - 1] * written * phi.row(s - 1)
    return Sides(m["final_w"] - m["r"], final)


def _bounded() -> Sides:
    """c² minus the squared length of the bounded surprise is c⁴/(c² + ‖u‖²) > 0: a length at every size."""
    short = U * BOUND / sp.sqrt(BOUND**2 + squared_norm(U))
    return Sides(BOUND**2 - squared_norm(short), BOUND**4 / (BOUND**2 + squared_norm(U)))


def _longest_write() -> Sides:
    """The largest η̃‖φ‖ over all lengths: where its slope vanishes, ‖φ‖ = 1/√η, it is √η/2; and it is a maximum.

    Beside it the distance to √η/2 at any length, a square over something positive. Only ‖φ‖ enters: at every size.
    """
    reach = ETA * LENGTH / (1 + ETA * LENGTH**2)
    (where,) = sp.solve(sp.diff(reach, LENGTH), LENGTH)
    room = sp.sqrt(ETA) * (1 - sp.sqrt(ETA) * LENGTH) ** 2 / (2 * (1 + ETA * LENGTH**2))
    return Sides(
        sp.Matrix([reach.subs(LENGTH, where), sp.sqrt(ETA) / 2 - reach]), sp.Matrix([sp.sqrt(ETA) / 2, room])
    )


def _square_growth() -> Sides:
    """One write with E = R, its length squared; D = W - E. Only D φ, ‖φ‖² and ‖D‖² enter, so at every size.

    What is taken off is a square times η̃ (2α - s), which is not negative for α ≥ ½, because s = η‖φ‖²/(1 + η‖φ‖²) < 1.
    """
    share = TAKEN * squared_norm(PHI)  # s
    after = ALPHA * W - TAKEN * (W * PHI - U) * PHI.T
    rest = 2 * ALPHA - share
    lost = squared_norm(
        rest * W * PHI - (ALPHA - share) * U
    )  # its square root is (2α - s) times the distance
    squares = rest * ALPHA**2 * squared_norm(W) + TAKEN * ALPHA**2 * squared_norm(U) - TAKEN * lost
    # What is left is η̃/(2α - s) in terms of η, with ‖φ‖ = λ.
    taken = ETA / (1 + ETA * LENGTH**2)
    of_rate = taken / (2 * ALPHA - taken * LENGTH**2)
    return Sides(
        sp.Matrix([rest * squared_norm(after), of_rate]),
        sp.Matrix([squares, ETA / (2 * ALPHA + (2 * ALPHA - 1) * ETA * LENGTH**2)]),
    )


def _distance_from_origin() -> Sides:
    """α and (1 - α) share out what is taken off on both sides, W - E and R - E: regrouping, at every size."""
    origin = matrix("E", 2, 2)
    turned = (W - origin) * (ALPHA * sp.eye(2) - TAKEN * PHI * PHI.T)
    return Sides(
        write(W, START, origin, PHI, U) - origin,
        turned + (1 - ALPHA) * (START - origin) + TAKEN * U * PHI.T,
    )


def _worn_away() -> Sides:
    """α = 1 and nothing to write, u = 0, along every vector of an orthonormal basis in turn: E = 0, then E = W_0.

    The basis is a turned one; each write multiplies its own direction by 1 - η̃ alone, so that it is so at every size.
    """
    angle, nothing = real("theta"), sp.zeros(2, 1)
    basis = (
        sp.Matrix([sp.cos(angle), sp.sin(angle)]),
        sp.Matrix([-sp.sin(angle), sp.cos(angle)]),
    )
    full, deviation = W, W
    for key in basis:
        full = write(full, W, sp.zeros(2, 2), key, nothing).subs(ALPHA, 1)
        deviation = write(deviation, W, W, key, nothing).subs(ALPHA, 1)
    return Sides(sp.simplify(full).row_join(sp.simplify(deviation)), ((1 - TAKEN) * W).row_join(W))


_GRADIENTS = (
    r"-\nabla_{W_1} \mathcal{L} = -e \, \sigma(W_2 k)^\top, \quad "
    r"-\nabla_{W_2} \mathcal{L} = -\left( (W_1^\top e) \odot \sigma'(W_2 k) \right) k^\top, \quad e = %s"
)
_IMPLICIT = (
    r"\arg\min_X \tfrac12 \|(X - E) \varphi - u\|^2 + \tfrac{1}{2\eta} \|X - W\|^2 = "
    r"W - \tfrac{\eta}{1 + \eta \|\varphi\|^2} ((W - E) \varphi - u) \varphi^\top"
)
_SHIFT = r"S = W - R: \quad S_t = \alpha_t S_{t-1} + \tilde\eta_t \left( u_t - (R - E) \varphi_t - S_{t-1} \varphi_t \right) \varphi_t^\top"
_LINEAR_DOT = r"W_t = W_{t-1} (\alpha_t I - \tilde\eta_t k_t k_t^\top) + \tilde\eta_t \hat v_t k_t^\top"
_LINEAR_L2 = (
    r"W_t = W_{t-1} (\alpha_t I - 2 \tilde\eta_t k_t k_t^\top) + \tilde\eta_t (\hat v_t - k_t) k_t^\top"
)
_EIGENVALUES = (
    r"\alpha - \tilde\eta \|k\|^2 \text{ (dot; regression inside a chunk)}, \quad "
    r"\alpha - 2 \tilde\eta \|k\|^2 \text{ (regression token by token)}"
)
_COLLAPSE = r"M(z) = W z, \ \hat v = W v: \quad W_t(s W_{t-1}) = s \, W_t(W_{t-1})"
_ESCAPES = r"M(z) = z + W z, \ W_{t-1} = 0: \quad W_t = \tilde\eta v k^\top \text{ (dot)}, \quad \tilde\eta (v - k) k^\top \text{ (regression)}"
_MOMENTUM = (
    r"p_t + \sum_{s<t} D_{t-1,s} \tilde\eta_s (\varphi_s^\top \varphi_t) p_s = \gamma_{t-1} S_0 \varphi_t + (R - E) \varphi_t "
    r"+ b_{t-1} B_0 \varphi_t + \sum_{s<t} c_{t-1,s} \tilde\eta_s (\varphi_s^\top \varphi_t) u_s, \quad "
    r"S_t = \gamma_t S_0 + b_t B_0 + \sum_{s \le t} \tilde\eta_s (c_{t,s} u_s - D_{t,s} p_s) \varphi_s^\top"
)
_BOUNDED = r"c^2 - \left\| \frac{u \, c}{\sqrt{c^2 + \|u\|^2}} \right\|^2 = \frac{c^4}{c^2 + \|u\|^2}"
_DISTANCE = r"W_t - E = (W_{t-1} - E) (\alpha_t I - \tilde\eta_t \varphi_t \varphi_t^\top) + (1 - \alpha_t) (R - E) + \tilde\eta_t u_t \varphi_t^\top"
_WORN = (
    r"u = 0, \ \alpha = 1, \ \varphi_1 \ldots \varphi_d \text{ orthonormal}: \quad "
    r"W_d = (1 - \tilde\eta) W_0 \text{ with } E = 0, \quad W_d = W_0 \text{ with } E = W_0"
)
_SQUARES = (
    r"\|\alpha D - \tilde\eta (D \varphi - u) \varphi^\top\|_F^2 = \alpha^2 \|D\|_F^2 "
    r"+ \frac{\eta \alpha^2 \|u\|^2}{2 \alpha + (2 \alpha - 1) \eta \|\varphi\|^2} "
    r"- \tilde\eta (2 \alpha - s) \left\| D \varphi - \frac{\alpha - s}{2 \alpha - s} u \right\|^2, \quad "
    r"s = \tilde\eta \|\varphi\|^2"
)
_LONGEST = r"\max_{\varphi} \frac{\eta \|\varphi\|}{1 + \eta \|\varphi\|^2} = \frac{\sqrt\eta}{2}"


def _entry(what: str, source: str, claim: str, latex: str, proof: Any, sizes: str) -> Identity:
    """Not printed: the sources have the rule itself, and a wrong sign in one case (`delta_gradient_descent.dot_product_sign`)."""
    return Identity(f"self_modifying_titans.{what}", source, claim, None, latex, proof, sizes=sizes)


IDENTITIES = (
    _entry(
        "gradients_dot",
        "S 28, P 88-89",
        "On minus the dot product, minus the gradient of either layer of z + W1 σ(W2 z) is u φᵀ with its own u and φ.",
        _GRADIENTS % r"-\hat v",
        _gradients_dot,
        sizes="d = 2, h = 2; every size",
    ),
    _entry(
        "gradients_l2",
        "S 28, P 88-89",
        "On ½‖M(k) - v̂‖² the same holds with the error M(k) - v̂ in the place of -v̂.",
        _GRADIENTS % r"k + W_1 \sigma(W_2 k) - \hat v",
        _gradients_l2,
        sizes="d = 2, h = 2; every size",
    ),
    _entry(
        "implicit_step",
        "P 57, D",
        "With α = 1 and η̃ = η/(1 + η‖φ‖²) the write is the exact minimiser, whatever the erase measures from.",
        _IMPLICIT,
        _implicit_step,
        sizes="2 × 2; every size",
    ),
    _entry(
        "shift",
        "D",
        "Forgetting toward R and erasing from E is the plain recurrence of S = W - R with the shifted output u - (R - E)φ.",
        _SHIFT,
        shift,
        sizes="2 × 2, 1 token; every size, every length by induction",
    ),
    _entry(
        "linear_dot",
        "S 29, P 88, P 92",
        "A linear memory on the dot product takes a step of the gated delta rule's kind; at α = 1 it is the delta rule.",
        _LINEAR_DOT,
        _linear_dot,
        sizes="d = 2; every size",
    ),
    _entry(
        "linear_l2",
        "S 29, P 88, P 93",
        "A linear memory on ½‖·‖², token by token, erases twice and writes v̂ - k.",
        _LINEAR_L2,
        _linear_l2,
        sizes="d = 2; every size",
    ),
    _entry(
        "eigenvalues",
        "P 92-93",
        "The second erase acts token by token only: inside a chunk the frozen gradient does not multiply the moving state.",
        _EIGENVALUES,
        _eigenvalues,
        sizes="d = 2; every size",
    ),
    _entry(
        "collapse",
        "P 84, D",
        "A linear memory without the skip is homogeneous under its own targets: from 0 it never leaves 0.",
        _COLLAPSE,
        _collapse,
        sizes="d = 2; every size",
    ),
    _entry(
        "skip_escapes",
        "P 84, P 89",
        "With the skip the target keeps the token's own value: the first write from 0 is not 0.",
        _ESCAPES,
        _skip_escapes,
        sizes="d = 2; every size",
    ),
    _entry(
        "momentum_chunk",
        "D",
        "With inner momentum a chunk is still one unit lower-triangular solve and one weighted sum.",
        _MOMENTUM,
        _momentum_chunk,
        sizes="d_out = 1, d_in = 2, 3 tokens; every size, every length by induction",
    ),
    _entry(
        "bounded",
        "D",
        "The bounded surprise is always shorter than c.",
        _BOUNDED,
        _bounded,
        sizes="d = 2; every size",
    ),
    _entry(
        "longest_write",
        "D",
        "An implicit write of a bounded surprise is never longer than c √η / 2.",
        _LONGEST,
        _longest_write,
        sizes="one number, the length; no size in it",
    ),
    _entry(
        "square_growth",
        "D",
        "With E = R and α ≥ ½ an implicit write of a bounded surprise adds less than η α c^2 / 2 to α^2 ‖W - E‖^2: "
        "squares add up, not lengths.",
        _SQUARES,
        _square_growth,
        sizes="2 × 2; every size",
    ),
    _entry(
        "distance_from_origin",
        "D",
        "W - E is shortened by retention and erase; what makes it longer is R - E and the write, each of bounded length.",
        _DISTANCE,
        _distance_from_origin,
        sizes="2 × 2; every size",
    ),
    _entry(
        "worn_away",
        "P 88, D",
        "Erasing all of W wears the meta-learned W_0 away, whatever is written; erasing W - W_0 leaves it.",
        _WORN,
        _worn_away,
        sizes="d = 2; every size",
    ),
)
