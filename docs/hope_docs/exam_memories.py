"""Exam questions on notebooks 00 to 06: shapes of a loss, single writes, and what momentum and forgetting leave."""

from __future__ import annotations

import random
from fractions import Fraction
from itertools import combinations, pairwise

from hope_docs.exam_form import (
    Asker,
    Drawn,
    add_outer,
    array,
    asking,
    code,
    dot,
    integers,
    nonzero,
    number,
    one_of,
    parallel,
    plus,
    short,
    some,
    times,
    unit_key,
    until,
)

QUESTIONS: dict[str, Asker] = {}


@asking(QUESTIONS, "00a")
def bits(rng: random.Random) -> Drawn:
    """Bits of two tokens from logits that are logarithms of integers, whose softmax can be read off."""

    def row() -> list[int]:
        total, power = rng.choice([8, 16, 32, 64]), rng.choice([1, 2, 4])
        rest = until(lambda: rng.sample(range(1, total), 2), lambda r: sum(r) + power == total)
        return [power, *rest]

    rows = until(lambda: [row(), row()], lambda r: sum(r[0]) / r[0][0] != sum(r[1]) / r[1][0])
    order = [rng.sample(range(3), 3) for _ in rows]
    weights = [[row[i] for i in at] for row, at in zip(rows, order, strict=True)]
    tokens = [at.index(0) for at in order]
    cost = [(sum(row) // row[0]).bit_length() - 1 for row in rows]
    logits = "; ".join(
        f"`[ln {a}, ln {b}, ln {c}]`, then token {token} comes"
        for (a, b, c), token in zip(weights, tokens, strict=True)
    )
    chances = " and ".join(f"{row[0]}/{sum(row)}" for row in rows)
    return Drawn(
        "Bits per token",
        f"A model has three tokens, 0, 1 and 2. Its logits are {logits}. How many bits does each of the two tokens cost,"
        " and how many both? What changes if 1,000 is added to every logit?",
        f"exp of a logit is the integer, and its row's sum makes it a probability: {chances}.\n"
        f"$-\\log_2$ of these is {cost[0]} and {cost[1]}. 1,000 more is a factor $e^{{1000}}$ above and below.",
        f"{cost[0]} and {cost[1]} bits, together {sum(cost)}. Nothing changes.",
        {"weights": weights, "tokens": tokens},
        {"bits": cost},
    )


@asking(QUESTIONS, "01a")
def three_pairs(rng: random.Random) -> Drawn:
    """Linear attention: write the matrix, read it, and see the same answer as a weighted sum of the values."""

    def draw() -> tuple[list[list[Fraction]], list[list[Fraction]], list[Fraction]]:
        keys = [integers(rng, 3, 2) for _ in range(3)]
        return keys, [integers(rng, 2) for _ in range(3)], integers(rng, 3, 2)

    def fit(drawn: tuple[list[list[Fraction]], list[list[Fraction]], list[Fraction]]) -> bool:
        keys, values, q = drawn
        scores = [dot(k, q) for k in keys]
        answer = [sum(s * v[i] for s, v in zip(scores, values, strict=True)) for i in range(2)]
        return (
            not any(parallel(a, b) for a, b in combinations([*keys, q], 2))
            and sum(map(bool, scores)) >= 2
            and any(answer)
        )

    keys, values, q = until(draw, fit)
    m = [[Fraction(0)] * 3 for _ in range(2)]
    for k, v in zip(keys, values, strict=True):
        m = add_outer(m, v, k)
    y, scores = times(m, q), [dot(k, q) for k in keys]
    pairs = ", ".join(
        f"{code(f'k{i}', k)} with {code(f'v{i}', v)}"
        for i, (k, v) in enumerate(zip(keys, values, strict=True), 1)
    )
    return Drawn(
        "Write three pairs, read one query",
        f"Linear attention starts from an empty memory and writes {pairs}. Give the matrix $M$ after the three writes and"
        f" its answer to {code('q', q)}. How strongly does each of the three values come back?",
        f"$M = \\sum_s v_s k_s^\\top$ is `{array(m)}`; $M q$ is `{array(y)}`.\n"
        f"$M q = \\sum_s v_s (k_s^\\top q)$ says the same: the scores are `{array(scores)}`.",
        f"{code('M', m)}, {code('y', y)}; the values come back {', '.join(short(s) for s in scores)} times.",
        {"k": keys, "v": values, "q": q},
        {"M": m, "y": y, "scores": scores},
    )


@asking(QUESTIONS, "01b")
def retention(rng: random.Random) -> Drawn:
    """What retention leaves of each write, also where one α is 0."""
    v, alpha = nonzero(rng, 4), [Fraction(1), *some(rng, 3, "0.2 0.4 0.5 0.6 0.75 0.8 0.9")]
    cut = rng.randint(2, 4)

    def run(gates: list[Fraction]) -> Fraction:
        m = Fraction(0)
        for a, x in zip(gates, v, strict=True):
            m = a * m + x
        return m

    share = alpha[1] * alpha[2] * alpha[3]
    last, emptied = run(alpha), run([Fraction(0) if t == cut else a for t, a in enumerate(alpha, 1)])
    return Drawn(
        "Forget on purpose",
        "A memory is one number, every key and query is 1, and it starts empty: $M_t = \\alpha_t M_{t-1} + v_t$ with"
        f" {code('v', v)} and {code('alpha', alpha)}. What is $M_4$, and which share of $v_1$ does it contain? What is"
        f" $M_4$ if $\\alpha_{cut}$ is 0 instead?",
        f"A write made at $s$ counts $\\alpha_{{s+1}} \\cdots \\alpha_4$; for $s = 1$ that is {number(share)}.\n"
        f"With $\\alpha_{cut} = 0$ everything written before token {cut} is gone.",
        f"$M_4$ = {number(last)}, share {number(share)}; with $\\alpha_{cut} = 0$ it is {number(emptied)}.",
        {"v": v, "alpha": alpha, "cut": cut},
        {"M": last, "share": share, "emptied": emptied},
    )


@asking(QUESTIONS, "02a")
def two_steps(rng: random.Random) -> Drawn:
    """Two writes of the delta rule, and what the second one does to the first pair."""
    start, eta = integers(rng, 2), one_of(rng, "1 0.5 0.25 0.75")
    v = nonzero(rng, 2)

    def errors(keys: list[list[Fraction]]) -> tuple[Fraction, Fraction]:
        first = v[0] - dot(start, keys[0])
        return first, v[1] - dot(plus(start, keys[0], eta * first), keys[1])

    keys = until(
        lambda: [unit_key(rng), unit_key(rng)],
        lambda k: not parallel(*k) and bool(dot(*k)) and all(errors(k)),
    )
    e1, e2 = errors(keys)
    m1 = plus(start, keys[0], eta * e1)
    m2 = plus(m1, keys[1], eta * e2)
    answers = dot(m1, keys[0]), dot(m2, keys[0])
    return Drawn(
        "Two steps of the delta rule",
        f"A memory has one row, {code('M0', [start])}. The delta rule with rate $\\eta$ = {short(eta)} writes"
        f" {code('k1', keys[0])}, $v_1$ = {short(v[0])}, then {code('k2', keys[1])}, $v_2$ = {short(v[1])}; both keys have"
        " length 1. Give $M_1$, $M_2$, and the answer to $k_1$ after each of the two writes.",
        f"$v_1 - M_0 k_1$ = {number(e1)}, so `M1 = M0 + {short(eta)} * {short(e1)} * k1`.\n"
        f"$v_2 - M_1 k_2$ = {number(e2)}, so `M2 = M1 + {short(eta)} * {short(e2)} * k2`.\n"
        f"The second write moves the answer to $k_1$, because $k_1^\\top k_2$ = {number(dot(*keys))}.",
        f"{code('M1', [m1])}, {code('M2', [m2])}; $M_1 k_1$ = {number(answers[0])}, $M_2 k_1$ = {number(answers[1])}.",
        {"M0": start, "k": keys, "v": v, "eta": eta},
        {"M1": m1, "M2": m2, "answers": answers},
    )


@asking(QUESTIONS, "02b")
def triangular(rng: random.Random) -> Drawn:
    """Three writes from one unit lower-triangular system."""
    overlaps = until(
        lambda: [one_of(rng, "-0.6 -0.5 -0.4 -0.2 0.2 0.3 0.4 0.5 0.6 0.8") for _ in range(3)],
        lambda c: 1 - sum(x * x for x in c) + 2 * c[0] * c[1] * c[2] > Fraction(1, 10),  # such keys exist
    )
    c21, c31, c32 = overlaps
    eta = one_of(rng, "1 0.5")

    def solve(v: list[Fraction]) -> list[Fraction]:
        w1 = eta * v[0]
        w2 = eta * (v[1] - c21 * w1)
        return [w1, w2, eta * (v[2] - c31 * w1 - c32 * w2)]

    v = until(lambda: nonzero(rng, 3), lambda v: all(solve(v)))
    w = solve(v)
    return Drawn(
        "Three writes, one triangular solve",
        "Three keys of length 1 overlap:"
        f" $k_2^\\top k_1$ = {short(c21)}, $k_3^\\top k_1$ = {short(c31)}, $k_3^\\top k_2$ = {short(c32)}. Their values are the"
        f" numbers {code('v', v)}. The delta rule with $\\eta$ = {short(eta)} starts from an empty memory. Write down the"
        " system that the three writes $w_1, w_2, w_3$ solve, and solve it. ($M_3 = \\sum_t w_t k_t^\\top$.)",
        "$w_t + \\eta \\sum_{s<t} (k_t^\\top k_s) w_s = \\eta v_t$, from the top:\n"
        f"$w_1$ = {number(w[0])}; $w_2$ = {short(eta)} ({short(v[1])} - ({short(c21)}) $w_1$) = {number(w[1])};\n"
        f"$w_3$ = {short(eta)} ({short(v[2])} - ({short(c31)}) $w_1$ - ({short(c32)}) $w_2$) = {number(w[2])}.",
        f"{code('w', w)}.",
        {"overlaps": overlaps, "v": v, "eta": eta},
        {"w": w},
    )


@asking(QUESTIONS, "02c")
def stable(rng: random.Random) -> Drawn:
    """The factor of the error per write, the stable rates, the rate of one shot, and a count of writes."""
    k = until(lambda: nonzero(rng, 2, 4), lambda k: abs(k[0]) != abs(k[1]))
    length = dot(k, k)
    eta = one_of(rng, "0.2 0.4 0.5 0.6 0.7 0.8 1.2 1.3 1.5 1.6") / length
    factor, n = 1 - eta * length, 1
    while abs(factor) ** n >= Fraction(1, 100):
        n += 1
    return Drawn(
        "How often, and how fast",
        f"The delta rule writes one pair again and again, with {code('k', k)} and $\\eta$ = {number(eta)}. By what does"
        " each write multiply the error? After how many writes is the error below one hundredth of the first? Which rates"
        " are stable for this key, and which one stores in one shot?",
        f"$\\|k\\|^2$ = {short(length)}; the factor is $1 - \\eta \\|k\\|^2$ = {number(factor)}.\n"
        f"Its size to the power {n} is {float(abs(factor) ** n):.2g}, to the power {n - 1} {float(abs(factor) ** (n - 1)):.2g}.\n"
        "Stable is $0 < \\eta \\|k\\|^2 < 2$; one shot is $\\eta \\|k\\|^2 = 1$.",
        f"{number(factor)}; {n} writes; $0 < \\eta <$ {number(2 / length)}; $\\eta$ = {number(1 / length)}.",
        {"k": k, "eta": eta},
        {"factor": factor, "writes": n, "limit": 2 / length, "one_shot": 1 / length},
    )


@asking(QUESTIONS, "03a")
def surprises(rng: random.Random) -> Drawn:
    """Three steps of training as a list of surprises, and an answer from the list."""
    eta = Fraction(1, 10)

    def train(x: list[list[Fraction]], targets: list[Fraction]) -> tuple[list[Fraction], list[Fraction]]:
        w, values = [Fraction(0)] * 2, []
        for a, target in zip(x, targets, strict=True):
            values.append(target - dot(w, a))
            w = plus(w, a, eta * values[-1])
        return values, w

    x, targets, q = until(
        lambda: ([integers(rng, 2, 2) for _ in range(3)], nonzero(rng, 3), integers(rng, 2)),
        lambda d: (
            not any(parallel(a, b) for a, b in pairwise(d[0]))
            and all(dot(a, b) for a, b in pairwise([*d[0], d[2]]))
            and all(train(d[0], d[1])[0])
        ),
    )
    v, w = train(x, targets)
    y = dot(w, q)
    terms = " + ".join(f"({short(a)})({short(dot(b, q))})" for a, b in zip(v, x, strict=True))
    return Drawn(
        "Read a layer as a list",
        "A layer $y = W x$ with one output starts at $W_0 = 0$ and takes three gradient steps on $\\tfrac12 (y - t^*)^2$"
        f" with $\\eta$ = 0.1. Inputs, in rows: {code('x', x)}; targets: {code('t', targets)}. Which surprise is"
        f" written at each step, and where? Answer {code('q', q)} from the list alone, without $W$.",
        f"$v_i = t^*_i - W_{{i-1}} x_i$ and $W_i = W_{{i-1}} + 0.1\\, v_i x_i^\\top$ give {code('v', v)}, each under its input.\n"
        f"$W q = \\eta \\sum_i v_i (x_i^\\top q)$ = 0.1 ({terms}) = {number(y)}.",
        f"{code('v', v)}, written along the inputs; the answer to $q$ is {number(y)}.",
        {"x": x, "targets": targets, "q": q, "eta": eta},
        {"v": v, "y": y},
    )


@asking(QUESTIONS, "03b")
def unlearn(rng: random.Random) -> Drawn:
    """Take the first of three examples out of a trained number, naively and exactly."""
    eta = Fraction(1, 10)
    x, targets = some(rng, 3, "1 2 3 4 0.5 1.5"), nonzero(rng, 3)
    w, v = Fraction(0), []
    for a, target in zip(x, targets, strict=True):
        v.append(target - w * a)
        w += eta * v[-1] * a
    write = eta * v[0] * x[0]
    left = (1 - eta * x[1] ** 2) * (1 - eta * x[2] ** 2)
    return Drawn(
        "Unlearn one example",
        f"A layer is one number, $y = w x$, from $w = 0$. Three steps on $\\tfrac12 (y - t^*)^2$ with $\\eta$ = 0.1, inputs"
        f" {code('x', x)}, targets {code('t', targets)}, lead to a weight. What is it? Example 1 must be deleted: what does"
        " subtracting its write leave, and which weight would training without it have given? Do not train again.",
        f"The weight is {number(w)}; example 1 wrote {number(write)}.\n"
        f"Each later step multiplies the difference of the two trainings by $1 - \\eta x^2$, so {number(left)} of the write"
        " is left: subtract only that.",
        f"trained {number(w)}, struck out {number(w - write)}, honest {number(w - write * left)}.",
        {"x": x, "targets": targets, "eta": eta},
        {"w": w, "struck": w - write, "honest": w - write * left},
    )


@asking(QUESTIONS, "04a")
def implicit_step(rng: random.Random) -> Drawn:
    """One implicit step, by Sherman and Morrison."""
    w, x, u = until(
        lambda: ([integers(rng, 2), integers(rng, 2)], nonzero(rng, 2, 3), integers(rng, 2, 9)),
        lambda d: all(plus(times(d[0], d[1]), d[2], -1)),
    )
    eta = one_of(rng, "0.1 0.2 0.5 1 2 4")
    length, error = dot(x, x), plus(times(w, x), u, -1)
    taken = eta / (1 + eta * length)
    new = add_outer(w, error, x, -taken)
    after = plus(times(new, x), u, -1)
    return Drawn(
        "One implicit step",
        f"Take one step of Delta Gradient Descent toward a fixed target, with {code('W', w)}, {code('x', x)}, {code('u', u)}"
        f" and $\\eta$ = {short(eta)}. Give $\\tilde\\eta$, the new weight, and the error $W x - u$ before and after. By what"
        " did the step divide it?",
        f"$\\|x\\|^2$ = {short(length)}, so $\\tilde\\eta = \\eta / (1 + \\eta \\|x\\|^2)$ = {number(taken)}.\n"
        f"`W - eta_step * np.outer(W @ x - u, x)` with the error `{array(error)}`; after it the error is `{array(after)}`.",
        f"$\\tilde\\eta$ = {number(taken)}, {code('W', new)}; error `{array(error)}`, then `{array(after)}`: divided by"
        f" $1 + \\eta \\|x\\|^2$ = {number(1 + eta * length)}.",
        {"W": w, "x": x, "u": u, "eta": eta},
        {"eta_step": taken, "W": new, "after": after, "divided": 1 + eta * length},
    )


@asking(QUESTIONS, "04b")
def rest(rng: random.Random) -> Drawn:
    """Where a fading memory that looks at itself comes to rest, for both steps."""
    loss = rng.choice(["l2", "dot"])
    twice = 2 if loss == "l2" else 1

    def factors(eta: Fraction, alpha: Fraction) -> list[Fraction]:
        return [alpha - twice * taken for taken in (eta, eta / (1 + eta))]

    eta, alpha = until(
        lambda: (one_of(rng, "0.25 0.5 0.6 1 1.5 2 3 4 9"), one_of(rng, "0.5 0.6 0.8 0.9 1")),
        lambda d: all(abs(f) != 1 and f != 0 for f in factors(*d)),
    )
    explicit, implicit = factors(eta, alpha)
    taken = [eta, eta / (1 + eta)]
    rests = [t / (1 - f) if abs(f) < 1 else None for t, f in zip(taken, (explicit, implicit), strict=True)]
    names = [number(r) if r is not None else "it does not settle" for r in rests]
    target = "u = 1 - m" if loss == "l2" else "u = 1"
    return Drawn(
        "Where it comes to rest",
        f"A memory is one number, key and value are 1: $m \\leftarrow \\alpha m + \\tilde\\eta (u - m)$ with ${target}$,"
        f" $\\alpha$ = {short(alpha)} and $\\eta$ = {short(eta)}. Where does $m$ settle with the explicit step,"
        " $\\tilde\\eta = \\eta$, and where with the implicit one? Or does it not?",
        f"A step multiplies the distance from the rest by $\\alpha - {twice if twice > 1 else ''}\\tilde\\eta$:"
        f" {number(explicit)} and {number(implicit)}.\n"
        f"Below 1 in size it settles, at $\\tilde\\eta / (1 - \\alpha + {twice if twice > 1 else ''}\\tilde\\eta)$.",
        f"explicit: {names[0]}; implicit: {names[1]}.",
        {"loss": loss, "eta": eta, "alpha": alpha},
        {"factors": [explicit, implicit], "rests": rests},
    )


@asking(QUESTIONS, "05a")
def momentum(rng: random.Random) -> Drawn:
    """The momentum after four gradients, and the way that the weight has gone."""
    mu, eta = one_of(rng, "0.5 0.6 0.8 0.9"), one_of(rng, "0.1 0.2 0.5 1")

    def run(g: list[Fraction]) -> list[Fraction]:
        m = [Fraction(0)]
        for x in g:
            m.append(mu * m[-1] - eta * x)
        return m[1:]

    g = until(lambda: nonzero(rng, 4, 5), lambda g: all(run(g)) and bool(sum(run(g))) and len(set(g)) > 2)
    m = run(g)
    weights = [sum((mu**j for j in range(4 - i)), Fraction(0)) for i in range(4)]
    return Drawn(
        "Momentum after four gradients",
        f"Momentum starts at 0: $m \\leftarrow \\mu m - \\eta g$, $w \\leftarrow w + m$, with $\\mu$ = {short(mu)} and $\\eta$ ="
        f" {short(eta)}. The gradients are {code('g', g)}, oldest first. What is $m$ after each, and by how much has $w$"
        " changed? How much does each gradient count in that change, in units of $-\\eta$?",
        f"$m_t = -\\eta \\sum_{{i \\le t}} \\mu^{{t-i}} g_i$: `{array(m)}`.\n"
        f"A gradient takes part in every step from its own to the last, $1 + \\mu + \\dots$: `{array(weights)}`.",
        f"{code('m', m)}; the change is {number(sum(m, Fraction(0)))}; the gradients count `{array(weights)}`.",
        {"mu": mu, "eta": eta, "g": g},
        {"m": m, "change": sum(m, Fraction(0)), "weights": weights},
    )


@asking(QUESTIONS, "05b")
def horizon(rng: random.Random) -> Drawn:
    """How far back momentum looks."""
    mu = one_of(rng, "0.6 0.65 0.7 0.75 0.8 0.85 0.88 0.92 0.94 0.95 0.96 0.98 0.99")
    percent = rng.choice([60, 70, 75, 80, 90])
    share, n = Fraction(percent, 100), 1
    while 1 - mu**n < share:
        n += 1
    length, ratio = 1 / (1 - mu), (1 + mu) / (1 - mu)
    return Drawn(
        "How far back",
        f"Momentum has $\\mu$ = {short(mu)}. How many of the newest gradients hold {percent} % of the weight in $m$? How long"
        " is its memory, $1 + \\mu + \\mu^2 + \\dots$? How many times longer does a step become on a gradient that is always"
        " +1 than on one that alternates between +1 and -1?",
        f"The newest $n$ hold $1 - \\mu^n$: {float(1 - mu**n):.4f} for {n}, {float(1 - mu ** (n - 1)):.4f} for {n - 1}.\n"
        "Equal gradients add up to $1/(1-\\mu)$, alternating ones to $1/(1+\\mu)$.",
        f"{n} gradients; length {number(length)}; {number(ratio)} times.",
        {"mu": mu, "share": share},
        {"n": n, "length": length, "ratio": ratio},
    )


@asking(QUESTIONS, "06a")
def titans(rng: random.Random) -> Drawn:
    """Two lessons and a silence of Titans, on one number."""
    eta, alpha = one_of(rng, "0.1 0.2 0.4 0.5"), one_of(rng, "0.5 0.8 0.9")
    mu = one_of(rng, "0.5 0.6 0.8 0.9")

    def run(v: list[Fraction]) -> tuple[list[Fraction], list[Fraction], list[Fraction]]:
        m, b, memory, momenta, errors = Fraction(0), Fraction(0), [], [], []
        for rate, x in zip((eta, eta, Fraction(0)), [*v, Fraction(0)], strict=True):
            errors.append(m - x)
            b = mu * b - rate * errors[-1]
            m = alpha * m + b
            momenta.append(b)
            memory.append(m)
        return momenta, memory, errors

    v = until(lambda: nonzero(rng, 2), lambda v: v[0] != v[1] and all(all(part) for part in run(v)))
    b, m, errors = run(v)
    return Drawn(
        "Two lessons and a silence",
        f"Titans with a memory of one number, all keys 1, $M_0 = B_0 = 0$, $\\alpha$ = {short(alpha)}, $\\mu$ = {short(mu)}."
        f" Two lessons with $\\eta$ = {short(eta)} teach $v_1$ = {short(v[0])} and $v_2$ = {short(v[1])}; then comes a blank"
        " token with $\\eta$ = 0. Give $B$ and $M$ after each of the three tokens.",
        "$B_t = \\mu B_{t-1} - \\eta_t (M_{t-1} - v_t)$, then $M_t = \\alpha M_{t-1} + B_t$.\n"
        f"The errors of the lessons are {number(errors[0])} and {number(errors[1])}; at the blank $B_3 = \\mu B_2$.",
        f"{code('B', b)}, {code('M', m)}.",
        {"eta": eta, "alpha": alpha, "mu": mu, "v": v},
        {"B": b, "M": m},
    )


@asking(QUESTIONS, "06b")
def gates(rng: random.Random) -> Drawn:
    """The Titans paper's letters in ours, and the share of a value at which such a memory rests."""
    a, h = one_of(rng, "0.02 0.05 0.1 0.2 0.25"), one_of(rng, "0.4 0.5 0.6 0.75 0.8 0.9")
    theta = one_of(rng, "0.05 0.1 0.15 0.2 0.25")
    alpha, mu, eta = 1 - a, h, 2 * theta
    share = eta / (eta + (1 - alpha) * (1 - mu))
    return Drawn(
        "Translate the gates",
        f"A model follows the Titans paper: $\\mathcal{{M}}_t = (1 - \\alpha_t) \\mathcal{{M}}_{{t-1}} + S_t$,"
        " $S_t = \\eta_t S_{t-1} - \\theta_t \\nabla \\|\\mathcal{M}_{t-1}(k_t) - v_t\\|^2$,"
        f" with $\\alpha$ = {short(a)}, $\\eta$ = {short(h)}, $\\theta$ = {short(theta)}. What are $\\alpha$, $\\mu$ and $\\eta$ in"
        " the notation of the course? A matrix memory is taught the same pair over and over, its key of length 1: which share of"
        " the value does it answer?",
        "Retention is 1 minus the paper's $\\alpha$, momentum's $\\mu$ its $\\eta$; a loss without ½ has twice the gradient.\n"
        "At rest $M k = \\eta / (\\eta + (1 - \\alpha)(1 - \\mu))\\, v$, in our letters.",
        f"$\\alpha$ = {short(alpha)}, $\\mu$ = {short(mu)}, $\\eta$ = {short(eta)}; share {number(share)}.",
        {"alpha": a, "eta": h, "theta": theta},
        {"alpha": alpha, "mu": mu, "eta": eta, "share": share},
    )
