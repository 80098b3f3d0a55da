"""What the Triton kernels do beyond the chunk's equations: the inverse by doubling, the state as a distance, the gradients."""

from __future__ import annotations

import sympy as sp

from hope_ref.symbolic.algebra import matrix, positive
from hope_ref.symbolic.identity import Identity, Sides
from hope_ref.symbolic.self_modifying_titans import shift


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


Gradients = dict[str, list[sp.Expr]]


def _chunk(count: int, d_in: int) -> tuple[Gradients, Gradients]:
    """A chunk of so many tokens, d_out = 1: gradients of ō·y + ⟨S̄, S_C⟩, by differentiation and in closed form.

    The closed form is the chain rule on products of matrices of any size, and rows of S do not meet. By log α_r: what
    the D and γ that have α_r among their factors give, times themselves.
    """
    tokens, last = range(count), count - 1
    q, phi = matrix("q", count, d_in), matrix("x", count, d_in)
    u, by_answer = matrix("u", count, 1), matrix("o", count, 1)
    start, by_end = matrix("S", 1, d_in), matrix("Z", 1, d_in)
    eta, alpha = positive(f"eta_1:{count + 1}"), positive(f"alpha_1:{count + 1}")
    state, loss = start, sp.Integer(0)
    for t in tokens:
        key = phi.row(t).T
        state = alpha[t] * state + eta[t] * (u.row(t).T - state * key) * key.T
        loss += (by_answer.row(t) * state * q.row(t).T)[0]
    loss += (by_end * state.T)[0]
    symbols = {"state": start, "u": u, "eta": eta, "q": q, "phi": phi}
    derived = {name: [sp.diff(loss, symbol) for symbol in of_name] for name, of_name in symbols.items()}
    derived["log alpha"] = [symbol * sp.diff(loss, symbol) for symbol in alpha]

    gamma = sp.diag(*(sp.prod(alpha[: t + 1]) for t in tokens))
    before = sp.diag(*(sp.prod(alpha[:t]) for t in tokens))  # γ_{t-1}
    ratio = sp.Matrix(count, count, lambda t, s: sp.prod(alpha[s + 1 : t + 1]) if s <= t else 0)
    ratio_before = sp.Matrix(count, count, lambda t, s: sp.prod(alpha[s + 1 : t]) if s < t else 0)
    rates, gram, scores = sp.diag(*eta), phi * phi.T, q * phi.T
    inverse = (sp.eye(count) + rates * ratio_before.multiply_elementwise(gram)).inv()
    known = phi * start.T
    missing = u - before * known  # K
    write = inverse * rates * missing
    reaches = sp.diag(*ratio.row(last))
    by_write = ratio.multiply_elementwise(scores).T * by_answer + reaches * phi * by_end.T
    by_wanted = inverse.T * by_write  # g
    by_u = rates * by_wanted
    by_ratio = ratio_before.multiply_elementwise(-by_wanted * write.T)
    by_scores = ratio.multiply_elementwise(by_answer * write.T)  # A
    by_gram = rates * by_ratio  # G
    sums, sums_before = by_scores.multiply_elementwise(scores), by_gram.multiply_elementwise(gram)
    sums[last, :] += (reaches * write).multiply_elementwise(phi * by_end.T).T
    from_start = (gamma * by_answer).multiply_elementwise(q * start.T)
    from_start[last] += gamma[last, last] * (by_end * start.T)[0]
    from_start_before = -(before * by_u).multiply_elementwise(known)
    stated = {
        "state": gamma[last, last] * by_end + (gamma * by_answer).T * q - (before * by_u).T * phi,
        "u": by_u,
        "eta": [by_wanted[t] * missing[t] + sum(by_ratio[t, s] * gram[t, s] for s in tokens) for t in tokens],
        "q": gamma * by_answer * start + by_scores * phi,
        "phi": (reaches * write * by_end - before * by_u * start)
        + ((by_gram + by_gram.T) * phi + by_scores.T * q),
        "log alpha": [
            sum(from_start[t] + sum(sums[t, s] for s in range(r)) for t in tokens if t >= r)
            + sum(from_start_before[t] + sum(sums_before[t, s] for s in range(r)) for t in tokens if t > r)
            for r in tokens
        ],
    }
    return derived, {name: list(found) for name, found in stated.items()}


def _sides(count: int, d_in: int, names: tuple[str, ...]) -> Sides:
    derived, stated = _chunk(count, d_in)
    return Sides(*(sp.Matrix([entry for name in names for entry in of[name]]) for of in (derived, stated)))


def _backward() -> Sides:
    """By S_0, u and η: three tokens, so that D_{2,1} is not 1, with d_in = 1; and two tokens with d_in = 2.

    The closed form is the chain rule on products of matrices of any size.
    """
    names = ("state", "u", "eta")
    three, two = _sides(3, 1, names), _sides(2, 2, names)
    return Sides(*(sp.Matrix.vstack(*sides) for sides in zip(three, two, strict=True)))


def _gradients() -> Sides:
    """Three tokens, so that D_{2,1} is not 1, d_in = 1: by q, φ and log α. Products of matrices of any size, as `backward`."""
    return _sides(3, 1, ("q", "phi", "log alpha"))


_DOUBLING = r"\begin{pmatrix} A & 0 \\ M & B \end{pmatrix}^{-1} = X - X \begin{pmatrix} 0 & 0 \\ M & 0 \end{pmatrix} X"
_DISTANCE = r"W_t - R = \alpha_t (W_{t-1} - R) + \eta_t \left(u_t + (E - R) \varphi_t - (W_{t-1} - R) \varphi_t\right) \varphi_t^\top"
_BACKWARD = r"\bar S_0 = \gamma_C \bar S_C + (\gamma \odot \bar o)^\top q - (\gamma^- \odot \eta \odot X^\top \bar w)^\top \varphi"
_GRADIENTS = (
    r"\bar\varphi = D_C \odot w \bar S_C - \gamma^- \odot \bar u S_0 + (G + G^\top) \varphi + A^\top q"
)

IDENTITIES = (
    Identity(
        "kernels.doubling",
        "D",
        "The inverse of a unit lower-triangular matrix is made by products alone, in blocks that double.",
        None,
        _DOUBLING,
        _doubling,
        sizes="4 tokens; every size, every length by induction",
    ),
    Identity(
        "kernels.distance",
        "D",
        "A memory that forgets toward R and erases from E is the plain recurrence of W - R, with another wanted output.",
        None,
        _DISTANCE,
        shift,
        sizes="2 × 2, 1 token; every size, every length by induction",
        alias_of="self_modifying_titans.shift",
    ),
    Identity(
        "kernels.backward",
        "D",
        "The gradient of a chunk passes its triangular system by the transposed inverse; it is what differentiation gives.",
        None,
        _BACKWARD,
        _backward,
        sizes="d_out = 1, 3 tokens with d_in = 1, 2 tokens with d_in = 2; every size",
    ),
    Identity(
        "kernels.gradients",
        "D",
        "With the writes and the state's gradient known, a chunk's other gradients are products that need no other chunk.",
        None,
        _GRADIENTS,
        _gradients,
        sizes="d_out = 1, d_in = 1, 3 tokens; every size",
    ),
)
