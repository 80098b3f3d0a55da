r"""The continuum memory derived: when a level moves, by what, and what the prints of that rule would do instead."""

from __future__ import annotations

from typing import Any

import sympy as sp

from hope_ref.symbolic import rational
from hope_ref.symbolic.algebra import gradient, inner, matrix, minimiser, positive, real, squared_norm, vector
from hope_ref.symbolic.identity import Identity, Sides
from hope_ref.symbolic.statement import Statement

ETA, RATE = positive("eta varepsilon")
SIZE = 2  # C, the tokens in a chunk
START = real("theta_0")


def _silu(z: sp.Expr) -> sp.Expr:
    return z / (1 + sp.exp(-z))


def _rms_norm(z: sp.Matrix, gain: sp.Matrix) -> sp.Matrix:
    root = sp.sqrt(squared_norm(z) / len(z) + sp.Rational(1, 10**6))
    return gain.multiply_elementwise(z) / root


def statement(rule: str = "gd") -> Statement:
    """`reference.continuum_memory` on three tokens: one associative level, d = 2, h = 1, C = 2, from empty sums.

    The signals are differentiated: minus the gradient of ½‖W1 σ(W2 n) - v‖² at each layer's output, v = V n held fixed.
    """
    x, w1, w2, value, gain = (
        matrix("x", 3, 2),
        matrix("P", 2, 1),
        matrix("Q", 1, 2),
        matrix("V", 2, 2),
        vector("s", 2),
    )
    rate = positive("eta")
    theta, sums, grams, rows = (
        (w1, w2),
        [sp.zeros(2, 1), sp.zeros(1, 2)],
        [sp.zeros(1, 1), sp.zeros(2, 2)],
        [],
    )
    for t in range(3):
        n = _rms_norm(x.row(t).T, gain)
        rows.append((x.row(t).T + theta[0] * (theta[1] * n).applyfunc(_silu)).T)
        if t == SIZE:
            break  # the third token only reads what the first two wrote
        for layer, (u, phi) in enumerate(_associations(theta, n, value * n)):
            sums[layer], grams[layer] = sums[layer] + u * phi.T, grams[layer] + phi * phi.T
        if t + 1 == SIZE:
            theta = tuple(_chunk_step(*args, rate, rule) for args in zip(theta, sums, grams, strict=True))
    arguments = {"x": x, "w1": w1, "w2": w2, "gain": tuple(gain), "value": value, "cms_rate": rate}
    return Statement(arguments, {"y": sp.Matrix.vstack(*rows), "w1": theta[0], "w2": theta[1]})


def _associations(
    theta: Any, n: sp.Matrix, v: sp.Matrix, dot: bool = False
) -> list[tuple[sp.Matrix, sp.Matrix]]:
    """(u, φ) of W1 and W2, by differentiating the loss at fresh symbols in the places of the layers' outputs."""
    w1, w2 = theta
    output, hidden = vector("o", w1.rows), vector("p", w2.rows)
    loss = (lambda o: -inner(o, v)) if dot else (lambda o: squared_norm(o - v) / 2)
    activation = hidden.applyfunc(_silu)
    at_hidden = dict(zip(hidden, w2 * n, strict=True))
    at_output = dict(zip(output, w1 * activation, strict=True))
    u1 = -gradient(loss(output), output).subs(at_output).subs(at_hidden)
    u2 = -gradient(loss(w1 * activation), hidden).subs(at_hidden)
    return [(u1, activation.subs(at_hidden)), (u2, n)]


def _chunk_step(w: sp.Matrix, total: sp.Matrix, gram: sp.Matrix, rate: Any, rule: str) -> sp.Matrix:
    """W + η S, or (W + η S)(I + η G)⁻¹ by the adjugate: the entries stay expressions, for numbers to be put in."""
    explicit = w + rate * total
    if rule == "gd":
        return explicit
    system = sp.eye(gram.rows) + rate * gram
    return explicit * system.adjugate() / system.det()


# --- the clock: scalars θ and signals f_1, f_2, …, since every entry of θ moves by itself ------------------------


def _signals(count: int) -> list[sp.Symbol]:
    """f_1 … f_n, the error signals of tokens counted from 1, as the sources do."""
    return list(real(f"f_1:{count + 1}"))


def _best(signals: list[sp.Symbol]) -> sp.Expr:
    """argmin_θ Σ θ f + (θ - θ_0)²/2η over the tokens of complete chunks: where θ must stand after all of `signals`."""
    theta = matrix("z", 1, 1)
    complete = signals[: len(signals) - len(signals) % SIZE]
    return minimiser(sum(theta[0] * f for f in complete) + (theta[0] - START) ** 2 / (2 * ETA), theta)[0]


def _clock(signals: list[sp.Symbol], first: int, otherwise: Any) -> list[sp.Expr]:
    """θ after each token i, run case by case: at i ≡ 0 (mod C) minus η Σ_{t=i-C+first}^{i} f_t, else `otherwise(θ)`."""
    theta, path = START, []
    for i in range(1, len(signals) + 1):
        window = signals[max(i - SIZE + first - 1, 0) : i]  # tokens before the first do not exist
        theta = theta - ETA * sum(window) if i % SIZE == 0 else otherwise(theta)
        path.append(theta)
    return path


def _against_the_clock(first: int, otherwise: Any) -> Sides:
    signals = _signals(4)
    derived = [_best(signals[: i + 1]) for i in range(4)]
    return Sides(sp.Matrix([derived]), sp.Matrix([_clock(signals, first, otherwise)]))


def _otherwise() -> Sides:
    """Between boundaries no chunk completes, so the problem is the one before, and so is its solution: at every C.

    Windows i - C + 1 … i share no token and leave none out, at every C and number of chunks. Here C = 2 and four tokens.
    """
    return _against_the_clock(1, lambda theta: theta)


def _otherwise_printed() -> Sides:
    """[S 15] read as it stands: the whole parameter is 0 at every token that is no boundary."""
    return _against_the_clock(1, lambda theta: sp.Integer(0))


def _window_printed() -> Sides:
    """Windows i - C … i: token 2 closes the first and opens the second."""
    return _against_the_clock(0, lambda theta: theta)


def _updates(tokens: int, size: int) -> tuple[int, int]:
    """Count: the moves made, and the tokens in the sum that is still open."""
    moves = open_tokens = 0
    for _ in range(tokens):
        open_tokens += 1
        if open_tokens == size:
            moves, open_tokens = moves + 1, 0
    return moves, open_tokens


def _update_counts() -> Sides:
    """Division with remainder: T = C ⌊T/C⌋ + (T mod C), and what is open is carried, for every T and C. Counted for T to 12, C to 5."""
    pairs = [(tokens, size) for tokens in range(13) for size in range(1, 6)]
    return Sides(
        sp.Matrix([_updates(*pair) for pair in pairs]),
        sp.Matrix([[sp.floor(sp.Rational(t, c)), sp.Mod(t, c)] for t, c in pairs]),
    )


# --- the update -------------------------------------------------------------------------------------------------


def _summed_update() -> Sides:
    """Two tokens, one layer: W + η Σ u φᵀ with u at the chunk's constant W, against a step on the summed loss.

    The gradient of a sum is the sum of the gradients, at every size, C and loss; here ½‖W φ - v‖².
    """
    w, phi, v = matrix("W", 2, 2), matrix("p", 2, 2), matrix("v", 2, 2)
    total = sum(squared_norm(w * phi.col(t) - v.col(t)) / 2 for t in range(SIZE))
    written = sum(((v.col(t) - w * phi.col(t)) * phi.col(t).T for t in range(SIZE)), sp.zeros(2, 2))
    return Sides(w - ETA * gradient(total, w), w + ETA * written)


def _associative_gradient() -> Sides:
    """d = 2, h = 1: minus the gradient with respect to W1 and W2 against u φᵀ, both objectives, V n held fixed.

    The chain rule is entry by entry: ∂L/∂W_ij = ∂L/∂(W φ)_i φ_j, at every size.
    """
    w1, w2, n, v = matrix("P", 2, 1), matrix("Q", 1, 2), vector("n", 2), vector("v", 2)
    hidden = w2 * n
    answer = w1 * hidden.applyfunc(_silu)
    losses = (squared_norm(answer - v) / 2, -inner(answer, v))
    z = sp.Symbol("z")
    slope = hidden.applyfunc(lambda h: sp.diff(_silu(z), z).subs(z, h))
    derived, stated = [], []
    for loss, error in zip(losses, (answer - v, -v), strict=True):
        derived += [-gradient(loss, w1), -gradient(loss, w2).T]
        u2 = -(w1.T * error).multiply_elementwise(slope)
        stated += [-error * hidden.applyfunc(_silu).T, (u2 * n.T).T]
    return Sides(sp.Matrix.vstack(*derived), sp.Matrix.vstack(*stated))


def _dgd_form() -> Sides:
    """The chunk's exact minimiser, from the sums Σ u φᵀ and Σ φ φᵀ alone: no token has to be kept.

    Stationarity reads W (Σ φ φᵀ + I/η) = Σ u φᵀ + W_t/η at every size; the C × C form is
    `delta_gradient_descent.woodbury_step_form`.
    """
    w, phi, u, unknown = matrix("W", 1, 2), matrix("p", 2, 2), matrix("u", 1, 2), matrix("B", 1, 2)
    loss = sum(squared_norm(unknown * phi.col(t) - u.col(t)) for t in range(SIZE)) / 2
    solved = rational.minimiser(loss + squared_norm(unknown - w) / (2 * ETA), unknown)
    return Sides(solved, _chunk_step(w, u * phi.T, phi * phi.T, ETA, "dgd"))


def _nested_restart() -> Sides:
    """θ_0 + ε (θ - θ_0) is the weighted mean of start and result, entry by entry, at every size."""
    new, start, theta = matrix("z", 1, 2), matrix("a", 1, 2), matrix("t", 1, 2)
    closeness = (1 - RATE) * squared_norm(new - start) + RATE * squared_norm(new - theta)
    return Sides(minimiser(closeness, new), start + RATE * (theta - start))


_CASES = r"\theta_{i+1} = \begin{cases} \theta_i - \sum_{t=%s}^{i} \eta f(\theta; x_t) & i \equiv 0 \pmod C \\ %s & \text{otherwise} \end{cases}"
_RIGHT = _CASES % ("i-C+1", r"\theta_i")


class Curvature(sp.Function):
    """H_t(θ), the second derivative of token t's loss."""


class Surprise(sp.Function):
    """g_t(θ), the gradient of token t's loss, known by its derivative H_t alone."""

    def fdiff(self, argindex: int = 2) -> Any:
        return Curvature(*self.args)


def _pairs_of_tokens() -> Sides:
    """Three tokens: three steps, each from where the last one ended, beside one step along the sum; both as series in η.

    One number θ; of vectors the chain rule says the same, with H_t g_s a product of a matrix and a vector. A chunk of any C
    has its pairs s < t, C (C - 1)/2 of them, and nothing else at this order.
    """
    token_by_token, tokens = START, range(1, 4)
    for t in tokens:
        token_by_token = token_by_token - ETA * Surprise(t, token_by_token)
    at_once = START - ETA * sum(Surprise(t, START) for t in tokens)
    apart = token_by_token - at_once
    series = [sp.diff(apart, ETA, order).subs(ETA, 0) / sp.factorial(order) for order in range(3)]
    pairs = sum(Curvature(t, START) * Surprise(s, START) for t in tokens for s in range(1, t))
    return Sides(sp.Matrix(series), sp.Matrix([0, 0, pairs]))


IDENTITIES = (
    Identity(
        "continuum_memory.otherwise",
        "S 15, P 71",
        "Between two boundaries a level stays as it is; what is 0 there is its update.",
        _CASES % ("i-C", "0"),
        _RIGHT,
        _otherwise,
        _otherwise_printed,
        sizes="one number, chunks of 2, 4 tokens; every size, every length by induction",
    ),
    Identity(
        "continuum_memory.window",
        "S 15, P 71",
        "A chunk has C terms; with C + 1 each boundary token is counted twice.",
        _CASES % ("i-C", r"\theta_i"),
        _RIGHT,
        _otherwise,
        _window_printed,
        sizes="one number, chunks of 2, 4 tokens; every size, every length by induction",
        alias_of="continuum_memory.otherwise",
    ),
    Identity(
        "continuum_memory.update_counts",
        "S 15, P 70",
        "T tokens move a level ⌊T/C⌋ times and leave T mod C tokens in its open sum.",
        r"f_\ell = L_{\max} / C^{(\ell)}",
        r"\#\text{updates} = \lfloor T / C \rfloor, \quad \#\text{carried} = T \bmod C",
        _update_counts,
        sizes="up to 12 tokens, chunks of 1 to 5; every size, every length by induction",
    ),
    Identity(
        "continuum_memory.summed_update",
        "S 15, P 71",
        "A chunk's update is one gradient step on the sum of its losses, all taken at the chunk's constant weights.",
        None,
        r"W - \eta \nabla_W \sum_t \mathcal{L}_t(W) = W + \eta \sum_t u_t \varphi_t^\top",
        _summed_update,
        sizes="2 × 2, a chunk of 2; every size",
    ),
    Identity(
        "continuum_memory.associative_gradient",
        "D",
        "The two weights of a level take in their own inputs and minus the error, the inner one through σ′.",
        None,
        r"-\nabla_{W_1} \mathcal{L} = u_1 \varphi_1^\top, \quad -\nabla_{W_2} \mathcal{L} = u_2 \varphi_2^\top",
        _associative_gradient,
        sizes="d = 2, h = 1; every size",
    ),
    Identity(
        "continuum_memory.dgd_form",
        "S 35, P 56",
        "The implicit step for a whole chunk needs the sums of u φᵀ and φ φᵀ only.",
        None,
        r"\left(W + \eta \textstyle\sum_t u_t \varphi_t^\top\right) \left(I + \eta \textstyle\sum_t \varphi_t \varphi_t^\top\right)^{-1}",
        _dgd_form,
        sizes="d_out = 1, d_in = 2, a chunk of 2; every size",
    ),
    Identity(
        "continuum_memory.nested_restart",
        "P 72, D",
        "A restart takes the weighted mean of where the level started and where it came to.",
        None,
        r"\theta_0 \leftarrow \theta_0 + \varepsilon_\theta (\theta - \theta_0)",
        _nested_restart,
        sizes="one row of 2; every size",
    ),
    Identity(
        "continuum_memory.clock",
        "D",
        "A clock changes nothing to first order: a step for each token and one step for all of them differ by η² times a sum over C (C - 1)/2 pairs.",
        None,
        r"\theta^{(1)} - \theta^{(C)} = \eta^2 \sum_{1 \le t \le C} \sum_{1 \le s < t} H_t g_s + O(\eta^3)",
        _pairs_of_tokens,
        sizes="one number, a chunk of 3; every size, every length by induction",
    ),
)
