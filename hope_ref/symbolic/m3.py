r"""M3 derived: what its two clocks add up, what they tend to, and why Newton–Schulz makes a plain sum forget its rates."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import sympy as sp

from hope_ref.symbolic.algebra import inner, matrix, minimiser, positive, real, squared_norm
from hope_ref.symbolic.identity import Identity, Sides
from hope_ref.symbolic.newton_schulz import COEFFICIENTS, polynomial_step
from hope_ref.symbolic.statement import Statement

BETA1, BETA2, BETA3, SCALE = positive("beta_1 beta_2 beta_3 c")
EVERY = 3  # f, the gradients in a window
G, START = matrix("g", 2, 2), matrix("a", 2, 2)


def statement() -> Statement:
    """One step of `reference.m3.m3_step` that closes a window, on a 2 × 2 weight, with one Newton–Schulz step.

    The state's arrays are arguments of their own; the step is number 2 and f = 2.
    """
    w, m1, m2, window, o2 = (matrix(name, 2, 2) for name in ("W", "m", "n", "s", "O"))
    v = sp.Matrix(2, 2, sp.symbols("V_1:5", positive=True))
    lr, slow, epsilon = positive("lr a epsilon")
    m1_new, window_new = BETA1 * m1 + (1 - BETA1) * G, window + G
    m2_new = BETA3 * m2 + (1 - BETA3) * window_new
    update = _newton_schulz(m1_new, sp.Rational(1, 10**7)) + slow * o2
    v_new = BETA2 * v + (1 - BETA2) * update.applyfunc(lambda u: u**2)
    scale = (v_new / (1 - BETA2**2)).applyfunc(lambda entry: sp.sqrt(entry) + epsilon)
    state = {"m1": m1, "m2": m2, "window": window, "o2": o2, "second_moment": v}
    rates = {
        "lr": lr,
        "beta1": BETA1,
        "beta2": BETA2,
        "beta3": BETA3,
        "slow_weight": slow,
        "epsilon": epsilon,
    }
    return Statement(
        {"w": w, "gradient": G, **state, **rates},
        {
            "w": w - lr * sp.Matrix(2, 2, [u / s for u, s in zip(update, scale, strict=True)]),
            "m1": m1_new,
            "m2": m2_new,
            "o2": _newton_schulz(m2_new, sp.Rational(1, 10**7)),
            "second_moment": v_new,
        },
    )


def _newton_schulz(x: sp.Matrix, offset: Any = 0, factors: Any = None) -> sp.Matrix:
    """One quintic step from X/(‖X‖_F + offset)."""
    factors = factors or [sp.Rational(text) for text in COEFFICIENTS["quintic"]]
    return polynomial_step(x / (sp.sqrt(sp.factor(squared_norm(x))) + offset), *factors)


def _ema_limit() -> Sides:
    """Three steps under one gradient g, and under one window sum c = f g, from any start, against the fixed point.

    The fixed point is solved for: m = β m + (1 - β) c. A step multiplies the distance from it by β, so by induction
    the distance after n steps is βⁿ times the first one, and tends to 0 for β < 1: m1 to g, m2 to f g.
    """
    rows, stated = [], []
    for beta, constant in ((BETA1, G), (BETA3, EVERY * G)):
        unknown = matrix("z", 2, 2)
        fixed = sp.solve(list(beta * unknown + (1 - beta) * constant - unknown), list(unknown))
        m = START
        for _ in range(3):
            m = beta * m + (1 - beta) * constant
        rows += [m - unknown.subs(fixed), unknown.subs(fixed)]
        stated += [beta**3 * (START - constant), constant]
    return Sides(sp.Matrix.vstack(*rows), sp.Matrix.vstack(*stated))


def _sum_limit() -> Sides:
    """Four printed steps under one gradient, m += β1 g and V += β2 g² from 0: the length of each update U/√V.

    m = n β1 g, and X/‖X‖ is the same for n β1 g as for g, so β1 drops out; V = n β2 g², so the n-th step is the first
    divided by √n, by induction at every n. The direction is written as g/‖g‖ for any map of X/‖X‖ on it.
    """
    g = sp.Matrix(2, 2, sp.symbols("g_1:5", positive=True))
    m, v, derived = sp.zeros(2, 2), sp.zeros(2, 2), []
    for _ in range(4):
        m, v = m + BETA1 * g, v + BETA2 * g.applyfunc(lambda entry: entry**2)
        direction = m / sp.sqrt(sp.factor(squared_norm(m)))
        derived.append(sp.Matrix(2, 2, [u / sp.sqrt(s) for u, s in zip(direction, v, strict=True)]))
    length = sp.sqrt(squared_norm(g)) * sp.sqrt(BETA2)
    return Sides(
        sp.Matrix.vstack(*derived),
        sp.Matrix.vstack(*(sp.ones(2, 2) / (length * sp.sqrt(n)) for n in range(1, 5))),
    )


def _newton_schulz_scale() -> Sides:
    """‖c X‖_F = c ‖X‖_F for c > 0, so X/‖X‖_F is one matrix for all of them, and what follows starts from it.

    So for any polynomial, number of steps and size; here one step with any coefficients. Code divides by
    ‖X‖_F + 1e-7: exactly scale-free no more, but by less than 1e-7/‖c X‖_F.
    """
    factors = real("k_1 k_3 k_5")
    return Sides(_newton_schulz(SCALE * G, factors=factors), _newton_schulz(G, factors=factors))


def _flushed(count: int) -> sp.Expr:
    """Run the clock: a window that takes in a gradient per step and is emptied, into a total, after steps i ≡ 0 (mod f)."""
    gradients = real(f"g_1:{count + 1}")
    total = window = sp.Integer(0)
    for i, g in enumerate(gradients, start=1):
        window += g
        if i % EVERY == 0:
            total, window = total + window, sp.Integer(0)
    return total


def _window() -> Sides:
    """Nine steps, f = 3: what f + 1 terms per window, i - f … i, count more than the clock does.

    Neighbours share their boundary gradient, at every f and number of windows; step 0 does not exist and adds 0.
    """
    g = dict(enumerate(real("g_1:10"), start=1))
    boundaries = range(0, 9 + 1, EVERY)
    with_both_ends = sum(g.get(j, 0) for start, end in pairwise(boundaries) for j in range(start, end + 1))
    return Sides(with_both_ends - _flushed(9), sum(g[i] for i in boundaries[1:-1]))


def _slow_memory() -> sp.Matrix:
    """The average of two window sums by its objective, one window after the other, from m2 = 0."""
    g, m = [matrix(f"g{i}", 1, 2) for i in range(1, 5)], sp.zeros(1, 2)
    for window in (g[0] + g[1], g[2] + g[3]):
        new = matrix("z", 1, 2)
        m = minimiser(BETA3 * squared_norm(new - m) + (1 - BETA3) * squared_norm(new - window), new)
    return m


def _printed() -> Sides:
    """Two windows of f = 2 from m2 = 0. Entry by entry, and by induction over the windows, at every size and f.

    The sign is that of a memory from which the weight *subtracts*: it must point along the gradients.
    """
    g = [matrix(f"g{i}", 1, 2) for i in range(1, 5)]
    return Sides(_slow_memory(), (1 - BETA3) * (BETA3 * (g[0] + g[1]) + g[2] + g[3]))


def _printed_printed() -> Sides:
    """[P 75]: minus, β2 without decay, and i - f … i: the boundary gradient g2 stands in both windows."""
    g = [matrix(f"g{i}", 1, 2) for i in range(1, 5)]
    return Sides(_slow_memory(), -BETA2 * (g[0] + g[1]) - BETA2 * (g[1] + g[2] + g[3]))


def _slow_sum() -> sp.Matrix:
    """[P Alg. 1] as its objective: each window pulls the memory along with its sum, at the price of the way, from m2 = 0."""
    g, m = [matrix(f"g{i}", 1, 2) for i in range(1, 5)], sp.zeros(1, 2)
    for window in (g[0] + g[1], g[2] + g[3]):
        new = matrix("z", 1, 2)
        m = minimiser(squared_norm(new - m) / (2 * BETA3) - inner(new, window), new)
    return m


def _adds_windows() -> Sides:
    """Two windows of f = 2 from 0; entry by entry, and by induction over the windows, at every size and f."""
    g = [matrix(f"g{i}", 1, 2) for i in range(1, 5)]
    return Sides(_slow_sum(), BETA3 * sum(g, sp.zeros(1, 2)))


def _adds_windows_printed() -> Sides:
    """[P 75] with the same rate, there called β2: minus, and i - f … i, so that g2 stands in both windows."""
    g = [matrix(f"g{i}", 1, 2) for i in range(1, 5)]
    return Sides(_slow_sum(), -BETA3 * (g[0] + g[1]) - BETA3 * (g[1] + g[2] + g[3]))


class _Loss(sp.Function):
    """An unknown loss; its slope by argument i is the unknown function L_i."""

    def fdiff(self, argindex: int = 1) -> Any:
        return sp.Function(f"L_{argindex}")(*self.args)


def _text_sign() -> Sides:
    """What the step does to any loss L(W - η m) to first order in η, after one printed window from 0 under one gradient g.

    With +β3 f g it falls by η β3 f ‖g‖²; with the text's minus it would rise. Linear in m, so at every size.
    """
    eta, w, changes = positive("eta"), matrix("W", 2, 2), []
    slopes = {_Loss(*w).fdiff(i + 1): g for i, g in enumerate(G)}  # ∇L at W is g
    for sign in (1, -1):
        window = sum((G for _ in range(EVERY)), sp.zeros(2, 2))
        along = sp.diff(_Loss(*(w - eta * sign * BETA3 * window)), eta)
        changes.append(eta * along.subs(eta, 0).xreplace(slopes))
    said = eta * BETA3 * EVERY * squared_norm(G)
    return Sides(sp.Matrix([changes]).expand(), sp.Matrix([[-said, said]]))


def _mean_age() -> Sides:
    """Ages of the gradients that each momentum holds, weighted, an age of 0 being that of the step's own gradient.

    Window j back holds its f gradients at the ages s + j f … s + j f + f - 1 in the s-th step of the open one, s = 1 … f.
    Σ (1 - β) βʲ j is found by differentiating Σ βʲ = 1/(1 - β); so at every f, and over all steps of a window.
    """
    f, n, s, j = sp.symbols("f n s j", integer=True, positive=True)

    def over_the_decay(age: sp.Expr, beta: sp.Symbol) -> sp.Expr:
        """Σ_j (1 - β) βʲ age(j), the age linear in j."""
        mean = (1 - beta) * beta * sp.diff(1 / (1 - beta), beta)
        return age.coeff(j, 0) + age.coeff(j, 1) * mean

    in_a_window = sp.expand(sp.summation(s + j * f + n, (n, 0, f - 1)) / f)
    while_it_acts = sp.expand(sp.summation(in_a_window, (s, 1, f)) / f)
    derived = [over_the_decay(sp.expand(1 * j), BETA1), over_the_decay(while_it_acts, BETA3)]
    return Sides(sp.Matrix(derived), sp.Matrix([BETA1 / (1 - BETA1), f / (1 - BETA3)]))


def _cancel() -> Sides:
    """Gradients g for a window, -g for the next, and so on for ever; SymPy solves for what repeats with the sign turned.

    Three steps into a window of -g. By induction at every n and f; the gradients are multiples of one g, at every size.
    """
    start, slow = real("m n")
    fast = [start]
    for _ in range(EVERY):
        fast.append(BETA1 * fast[-1] + (1 - BETA1) * -1)
    begun = sp.solve(fast[-1] + start, start)[0]  # the next window starts from -start
    settled = sp.solve(BETA3 * -slow + (1 - BETA3) * EVERY - slow, slow)[0]  # after a window of +g
    stated = [2 * BETA1**n / (1 + BETA1**EVERY) - 1 for n in range(1, EVERY + 1)]
    return Sides(
        sp.Matrix([*(m.subs(start, begun) for m in fast[1:]), settled]),
        sp.Matrix([*stated, (1 - BETA3) / (1 + BETA3) * EVERY]),
    )


IDENTITIES = (
    Identity(
        "m3.ema_limit",
        "S 36-37",
        "Under a constant gradient the fast average tends to g and the slow one to f g, by a factor β a move.",
        None,
        r"m_n - m_\infty = \beta^n (m_0 - m_\infty), \quad m^{(1)}_\infty = g, \quad m^{(2)}_\infty = f g",
        _ema_limit,
        sizes="2 × 2, windows of 3, 3 steps; every size, every length by induction",
    ),
    Identity(
        "m3.sum_limit",
        "P Alg. 1",
        "With the printed sums β1 drops out and the n-th step under a constant gradient shrinks as 1/√n.",
        None,
        r"\Delta W_n = -\eta\, \mathrm{NS}(g) / (\sqrt{n}\, \sqrt{\beta_2}\, |g|)",
        _sum_limit,
        sizes="2 × 2, 4 steps; every size, every length by induction",
    ),
    Identity(
        "m3.newton_schulz_scale",
        "P 42, P Alg. 1",
        "Newton–Schulz forgets the scale of its argument, so any factor in front of a momentum is lost in it.",
        None,
        r"\mathrm{NS}(c X) = \mathrm{NS}(X), \quad c > 0",
        _newton_schulz_scale,
        sizes="2 × 2, 1 step; every size, every length by induction",
    ),
    Identity(
        "m3.window",
        "P 75, P Alg. 1",
        "Windows of f + 1 terms count each boundary gradient twice; windows of f terms count each once.",
        None,
        r"\sum_{k} \Big( \sum_{i=(k-1)f}^{kf} - \sum_{i=(k-1)f+1}^{kf} \Big) g_i = \sum_{k} g_{kf}",
        _window,
        sizes="one number, windows of 3, 9 steps; every size, every length by induction",
    ),
    Identity(
        "m3.text_sign",
        "P 75, P Alg. 1",
        "The plus of the algorithm makes the loss fall; the minus of the text would make it rise.",
        None,
        r"\langle \nabla \mathcal{L}, -\eta\, m \rangle = \mp \eta \beta_3 f \|g\|^2 \quad (m = \pm \beta_3 f g)",
        _text_sign,
        sizes="2 × 2, a window of 3; every size",
    ),
    Identity(
        "m3.printed",
        "P 75, S 37",
        "The slow momentum averages the sums of its windows, with a plus and f terms each.",
        r"m^{(2)} \leftarrow m^{(2)} - \beta_2 \sum_{i=t-f}^{t} g_i",
        r"m^{(2)} \leftarrow \beta_3 m^{(2)} + (1 - \beta_3) \sum_{i=t-f+1}^{t} g_i",
        _printed,
        _printed_printed,
        sizes="one row of 2, two windows of 2; every size, every length by induction",
    ),
    Identity(
        "m3.slow_sum",
        "P 75, P Alg. 1",
        "The algorithm's slow memory adds every gradient once; the text subtracts, and takes in each boundary gradient twice.",
        r"m^{(2)} \leftarrow m^{(2)} - \beta_2 \sum_{i=t-f}^{t} g_i",
        r"m^{(2)} \leftarrow m^{(2)} + \beta_3 \sum_{i=t-f+1}^{t} g_i",
        _adds_windows,
        _adds_windows_printed,
        sizes="one row of 2, two windows of 2; every size, every length by induction",
    ),
    Identity(
        "m3.mean_age",
        "D",
        "While it acts, the slow momentum holds gradients as old, on average, as a window over what its decay leaves.",
        None,
        r"\bar n^{(1)} = \frac{\beta_1}{1 - \beta_1}, \quad \bar n^{(2)} = \frac{f}{1 - \beta_3}",
        _mean_age,
        sizes="every f as a symbol; no size in it",
    ),
    Identity(
        "m3.cancel",
        "D",
        "If the gradients turn with every window, the slow momentum points against the fast one as soon as that has turned: "
        "at equal weight the step is nothing.",
        None,
        r"m^{(1)}_n = \Big( \frac{2 \beta_1^n}{1 + \beta_1^f} - 1 \Big) g, \quad "
        r"m^{(2)} = \frac{1 - \beta_3}{1 + \beta_3} f g",
        _cancel,
        sizes="windows of 3, 3 steps; every size, every length by induction",
    ),
)
