"""What the Triton kernels do beyond the chunk's equations: the inverse by doubling, the state as a distance, the gradients."""

from __future__ import annotations

import sympy as sp

from hope_ref.symbolic.algebra import matrix, positive
from hope_ref.symbolic.identity import Identity, Sides


def _doubling() -> Sides:
    """Four tokens: X_0 = I, X_1, X_2. For blocks A, B that are inverted and M between them, X - X M X is their inverse:

    -B⁻¹ M A⁻¹ is what X M X has below, and nothing else; at every size, one doubling after the other.
    """
    lower = sp.zeros(4)
    for row in range(4):
        for column in range(row):
            lower[row, column] = sp.Symbol(f"l_{row}{column}")
    inverse = sp.eye(4)
    for side in (1, 2):
        between = sp.zeros(4)
        for row in range(4):
            for column in range(4):
                if row // (2 * side) == column // (2 * side) and row // side > column // side:
                    between[row, column] = lower[row, column]
        inverse = inverse - inverse * between * inverse
    return Sides((sp.eye(4) + lower).inv(), inverse)


def _distance() -> Sides:
    """One token, 2 × 2, W_0 = S_0 + R. Linear in W and φ apart, so at every size and, by induction, for every token."""
    weight, returning, erased_from = matrix("W", 2, 2), matrix("R", 2, 2), matrix("E", 2, 2)
    phi, u = matrix("x", 2, 1), matrix("u", 2, 1)
    alpha, eta = positive("alpha eta")
    moved = alpha * weight + (1 - alpha) * returning - eta * ((weight - erased_from) * phi - u) * phi.T
    distance = weight - returning
    wanted = u + (erased_from - returning) * phi
    return Sides(moved - returning, alpha * distance + eta * (wanted - distance * phi) * phi.T)


def _backward() -> Sides:
    """Two tokens, d_in = 2, d_out = 1: the derivative of ō·y + ⟨S̄, S_C⟩ by S_0, u and η against the closed form.

    The closed form is the chain rule on products of matrices of any size, and rows of S do not meet.
    """
    q, phi, u, start = matrix("q", 2, 2), matrix("x", 2, 2), matrix("u", 2, 1), matrix("S", 1, 2)
    by_answer, by_state = matrix("o", 2, 1), matrix("Z", 1, 2)
    eta, (first, second) = positive("eta_1:3"), positive("alpha_1:3")
    state, loss = start, sp.Integer(0)
    for t, alpha in enumerate((first, second)):
        key = phi.row(t).T
        state = alpha * state + eta[t] * (u.row(t).T - state * key) * key.T
        loss += (by_answer.row(t) * state * q.row(t).T)[0]
    loss += (by_state * state.T)[0]
    derived = [sp.diff(loss, symbol) for symbol in (*start, *u, *eta)]

    gamma, before = sp.diag(first, first * second), sp.diag(1, first)  # γ_t and γ_{t-1}
    ratio, ratio_before = (
        sp.Matrix([[1, 0], [second, 1]]),
        sp.Matrix([[0, 0], [1, 0]]),
    )  # D_{t,s} and D_{t-1,s}
    rates, gram = sp.diag(*eta), phi * phi.T
    inverse = (sp.eye(2) + rates * ratio_before.multiply_elementwise(gram)).inv()
    missing = u - before * phi * start.T  # K
    write = inverse * rates * missing
    last = sp.diag(*ratio.row(-1))
    by_write = ratio.multiply_elementwise(q * phi.T).T * by_answer + last * phi * by_state.T
    by_wanted = inverse.T * by_write  # g
    by_system = -by_wanted * write.T  # below the diagonal, where D_{t-1,s} is not 0
    by_u = rates * by_wanted
    by_start = gamma[1, 1] * by_state + (gamma * by_answer).T * q - (before * by_u).T * phi
    by_eta = [
        by_wanted[t] * missing[t] + sum(by_system[t, s] * ratio_before[t, s] * gram[t, s] for s in range(2))
        for t in range(2)
    ]
    return Sides(sp.Matrix(derived), sp.Matrix([*by_start, *by_u, *by_eta]))


def _gradients() -> Sides:
    """Three tokens, so that D_{2,1} is more than 1, d_in = d_out = 1: the derivative by q, φ and α against the closed form.

    The closed forms by q and φ are products of matrices of any size, as in `_backward`. By log α_r: what D and γ that
    have α_r among their factors give, times themselves.
    """
    tokens = range(3)
    q, phi, u, by_answer = (matrix(name, 3, 1) for name in ("q", "x", "u", "o"))
    start, by_state = sp.symbols("S Z")
    eta, alpha = positive("eta_1:4"), positive("alpha_1:4")
    state, loss = start, sp.Integer(0)
    for t in tokens:
        state = alpha[t] * state + eta[t] * (u[t] - state * phi[t]) * phi[t]
        loss += by_answer[t] * state * q[t]
    loss += by_state * state
    derived = [sp.diff(loss, symbol) for symbol in (*q, *phi)]
    derived += [symbol * sp.diff(loss, symbol) for symbol in alpha]

    gamma = [sp.prod(alpha[: t + 1]) for t in tokens]
    before = [sp.prod(alpha[:t]) for t in tokens]
    ratio = sp.Matrix(3, 3, lambda t, s: sp.prod(alpha[s + 1 : t + 1]) if s <= t else 0)
    ratio_before = sp.Matrix(3, 3, lambda t, s: sp.prod(alpha[s + 1 : t]) if s < t else 0)
    rates, gram, scores = sp.diag(*eta), phi * phi.T, q * phi.T
    system = rates * ratio_before.multiply_elementwise(gram)
    inverse = sp.eye(3) - system + system * system  # the third power is 0
    missing = u - sp.diag(*before) * phi * start  # K
    write = inverse * rates * missing
    reaches = sp.diag(*ratio.row(-1))
    by_write = ratio.multiply_elementwise(scores).T * by_answer + reaches * phi * by_state
    by_wanted = inverse.T * by_write  # g
    by_scores = ratio.multiply_elementwise(by_answer * write.T)  # A
    by_gram = rates * ratio_before.multiply_elementwise(-by_wanted * write.T)  # G
    by_known = -sp.diag(*before) * rates * by_wanted
    by_q = sp.diag(*gamma) * by_answer * start + by_scores * phi
    by_phi = reaches * write * by_state + by_known * start + (by_gram + by_gram.T) * phi + by_scores.T * q
    sums = by_scores.multiply_elementwise(scores)
    sums[2, :] += (reaches * write).multiply_elementwise(phi * by_state).T
    sums_before = by_gram.multiply_elementwise(gram)
    from_start = [gamma[t] * by_answer[t] * q[t] * start for t in tokens]
    from_start[2] += gamma[2] * by_state * start
    by_log = [
        sum(from_start[t] + sum(sums[t, s] for s in range(r)) for t in tokens if t >= r)
        + sum(
            by_known[t] * phi[t] * start + sum(sums_before[t, s] for s in range(r)) for t in tokens if t > r
        )
        for r in tokens
    ]
    return Sides(sp.Matrix(derived), sp.Matrix([*by_q, *by_phi, *by_log]))


_DOUBLING = r"\begin{pmatrix} A & 0 \\ M & B \end{pmatrix}^{-1} = X - X \begin{pmatrix} 0 & 0 \\ M & 0 \end{pmatrix} X"
_DISTANCE = r"W_t - R = \alpha_t (W_{t-1} - R) + \eta_t \left(u_t + (E - R) \varphi_t - (W_{t-1} - R) \varphi_t\right) \varphi_t^\top"
_BACKWARD = r"\bar S_0 = \gamma_C \bar S_C + (\gamma \odot \bar o)^\top q - (\gamma \odot \eta \odot X^\top \bar w)^\top \varphi"
_GRADIENTS = r"\bar\varphi = D_C \odot w \bar S_C - \gamma \odot \bar K S_0 + (G + G^\top) \varphi + A^\top q"

IDENTITIES = (
    Identity(
        "kernels.doubling",
        "D",
        "The inverse of a unit lower-triangular matrix is made by products alone, in blocks that double.",
        _DOUBLING,
        _DOUBLING,
        _doubling,
    ),
    Identity(
        "kernels.distance",
        "D",
        "A memory that forgets toward R and erases from E is the plain recurrence of W - R, with another wanted output.",
        _DISTANCE,
        _DISTANCE,
        _distance,
    ),
    Identity(
        "kernels.backward",
        "D",
        "The gradient of a chunk passes its triangular system by the transposed inverse; it is what differentiation gives.",
        _BACKWARD,
        _BACKWARD,
        _backward,
    ),
    Identity(
        "kernels.gradients",
        "D",
        "With the writes and the state's gradient known, a chunk's other gradients are products that need no other chunk.",
        _GRADIENTS,
        _GRADIENTS,
        _gradients,
    ),
)
