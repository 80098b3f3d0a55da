"""What a row of the errata says is right: the formulas of its reading, executed; and its numbers."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import latex_values as latex
import numpy as np
import pytest
from printed_claims import SEEDS, WORDS, Env, Rng, holds, same, value
from simulated import column, columns, gradients_to_hold, nearest, rate, silu, squares

from hope_ref.symbolic import tables
from hope_ref.symbolic.errata import ERRATA

READINGS: dict[int, Callable[..., None]] = {}
NO_FORMULA = {
    7: "its 0 is that of the claim of continuum_memory.otherwise, which has a check",
    11: "counts levels and cites equations",
    20: "cites equations",
    30: "cites a notebook",
    32: "cites figures",
    60: "cites an algorithm",
    61: "counts the rows of a public data set",
}
TABLE_1 = {  # S-NIAH-1, S-NIAH-2, S-NIAH-3, MK, MQ, MV; each at 4K, 8K, 16K [P Table 1]
    "Transformer": "88.6 76.4 79.8 100 98.8 94.2 78.0 69.2 40.8 79.4 83.0 61.4 58.9 48.0 29.8 37.5 34.1 21.5",
    "Hope-Attention": "100 100 100 100 98.4 94.4 76.8 68.8 42.4 80.2 84.8 60.8 60.4 47.8 30.6 35.2 34.4 24.8",
    "RWKV-7": "100 100 99.6 93.8 44.8 12.6 63.8 13.2 5.8 21.4 18.8 9.6 20.4 14.8 8.6 16.2 13.4 6.8",
    "Comba": "100 100 99.4 92.6 47.2 13.4 62.4 13.8 7.4 21.4 19.4 8.2 21.8 15.2 6.4 16.5 13.5 7.2",
    "DLA": "96.4 71.2 44.0 79.6 42.6 28.2 18.2 8.8 4.0 27.4 20.0 11.8 26.4 22.0 6.4 25.6 12.8 9.6",
    "Titans": "100 100 100 99.6 84.6 75.4 74.2 42.8 21.2 26.4 23.6 8.2 22.8 19.8 9.4 24.6 15.1 8.2",
    "Hope": "100 100 100 99.2 88.4 78.2 73.2 46.2 24.8 29.4 24.8 14.8 31.7 24.8 14.2 31.4 17.2 11.4",
}
TABLE_6 = {"Hope": (12.24, 58.1), "w/o inner-projection q": (12.19, 57.4)}  # perplexity, accuracy [P Table 6]
SLOPE = r"\nabla_y \mathcal{L}"


def reading(row: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a check: it gets a generator, the reading as a whole and its formulas in order."""

    def register(check: Callable[..., None]) -> Callable[..., None]:
        READINGS[row] = check
        return check

    return register


def formulas(text: str) -> list[str]:
    return re.findall(r"\$(.*?)\$", text)


def printed(row: int) -> list[str]:
    return formulas(ERRATA[row - 1].printed)


def layer(rng: Rng, length: float | None = None) -> Env:
    """A weight, an input (of this length), the loss's slope at the output, a rate."""
    x, slope, w = column(rng, 3), column(rng, 2), rng.normal(size=(2, 3))
    x = x if length is None else x * length / np.sqrt(squares(x))
    return {
        "W": w, "W_t": w, r"\Phi": w, "x": x, "u": -slope, SLOPE: slope, r"\eta": rate(rng), r"\lambda": float(np.sqrt(squares(x)))
    }  # fmt: skip


def descends(p: Env, score: str) -> None:
    """The minimiser of the score and the cost of moving is the gradient step."""
    solved = latex.evaluate(rf"\arg\min_W {score} + \frac{{1}}{{2 \eta}} \|W - W_t\|^2", p)
    same(solved, p["W_t"] - p[r"\eta"] * p[SLOPE] * p["x"].T, score)


@reading(1)
def row_1(rng: Rng, text: str, target: str, score: str, other: str) -> None:
    p = layer(rng)
    holds(target, p)
    descends(p, score)
    descends(p, rf"\langle W x, {other} \rangle")


@reading(15)
def row_15(rng: Rng, text: str, gradient: str) -> None:
    descends(layer(rng), rf"\langle W x, {gradient} \rangle")


@reading(2)
def row_2(rng: Rng, text: str, slope: str) -> None:
    p = layer(rng) | {"W_t": rng.normal(size=(2, 3))}
    objective = r"\tfrac12 \|W x - u\|^2 + \tfrac{1}{2 \eta} \|W - W_t\|^2"
    same(latex.evaluate(rf"\nabla_W ({objective})", p), latex.evaluate(slope, p))


@reading(3)
def row_3(rng: Rng, text: str, step: str, factor: str) -> None:
    p = layer(rng)
    p |= {"W_{t+1}": nearest(p["x"], p["u"], p["W"], p[r"\eta"]), "a": 1 / (squares(p["x"]) + p[r"\eta"])}
    holds(step, p)
    holds(factor, p)


@reading(4)
def row_4(rng: Rng, text: str, equal: str) -> None:
    """The two numbers as row 4 prints them."""
    p = layer(rng)
    sides = [latex.chains(formula)[0] for formula in printed(4)]
    holds(equal, p | {name.replace(" ", ""): latex.evaluate(value, p) for name, value in sides})


@reading(5)
def row_5(rng: Rng, text: str, where: str, step: str) -> None:
    ((_, length),) = latex.chains(where)
    p = layer(rng)
    holds(step, p | {r"\eta'": p[r"\eta"] / (1 + p[r"\eta"] * squares(p["x"]))})
    short = layer(rng, latex.evaluate(length, {}))
    holds(printed(5)[0], short | {r"\eta'": short[r"\eta"] / (1 + short[r"\eta"] * squares(short["x"]))})


@reading(6)
def row_6(rng: Rng, text: str, wiped: str, beyond: str, fair: str) -> None:
    """The printed step without a gradient, repeated along one input; and one gradient step on the regression."""
    p = layer(rng)
    slope = latex.gradient(lambda w: squares(w @ p["x"] - p["u"]) / 2, p["W"])
    same(latex.evaluate(fair, p), p["W"] - p[r"\eta"] * slope)
    ((_, length),) = latex.chains(wiped)
    bound = re.fullmatch(r"\\\|x\\\|\^2 > (\d)", beyond)
    assert bound is not None

    def kept(squared_length: float, steps: int) -> float:
        p = layer(rng, np.sqrt(squared_length)) | {SLOPE: np.zeros((2, 1))}
        start = squares(p["W"] @ p["x"])
        for _ in range(steps):
            p["W_t"] = latex.evaluate(printed(6)[0], p)
        return squares(p["W_t"] @ p["x"]) / start

    assert kept(latex.evaluate(length, {}) ** 2, 1) < 1e-20
    assert kept(float(bound[1]) * 0.98, 200) < 1e-3
    assert kept(float(bound[1]) * 1.02, 200) > 1e3


@reading(8)
def row_8(rng: Rng, text: str, first: str) -> None:
    """From the printed start a window has as many terms as the text says and shares its boundary; from the right one, none."""
    words = re.search(r"has (.*?) terms and counts each boundary token (\w+):", text)
    assert words is not None
    start = re.fullmatch(r"\\sum_\{t=(.*)\}\^\{i\}", printed(8)[0])
    assert start is not None
    size, ends = 3, (3, 6, 9)
    for formula, terms, times in ((start[1], words[1], {"twice": 2}[words[2]]), (first, "C", 1)):
        windows = [range(int(latex.evaluate(formula, {"i": end, "C": size})), end + 1) for end in ends]
        assert {len(window) for window in windows} == {latex.evaluate(terms, {"C": size})}
        assert sum(3 in window for window in windows) == times


@reading(12)
def row_12(rng: Rng, text: str, boundary: str) -> None:
    counted = re.search(r"counted from (\d)", text)
    assert counted is not None
    seen = [0, 0, 0, 3, 3, 3, 6, 6, 6]  # tokens before the chunk, C = 3
    for t, before in enumerate(seen, start=int(counted[1])):
        assert latex.evaluate(boundary, {"t": t, "C": 3}) == before


@reading(14)
def row_14(rng: Rng, text: str, climbs: str, needed: str) -> None:
    slope, eta = rng.normal(size=(2, 3)), rate(rng)
    env = {"m": rng.normal(size=(2, 3)), r"\nabla": slope, r"\nabla_W \mathcal{L}": slope, r"\eta": eta}
    score = printed(14)[0].removeprefix(r"\min_m")
    same(env["m"] - eta * latex.evaluate(rf"\nabla_m ({score})", env), latex.evaluate(climbs, env))
    same(env["m"] - eta * latex.evaluate(rf"\nabla_m ({needed})", env), env["m"] - eta * slope)


@reading(16)
def row_16(rng: Rng, text: str, loss: str, slope: str, write: str) -> None:
    env = {"M": rng.normal(size=(2, 3)), "k": column(rng, 3), r"\hat v": column(rng, 2), r"\eta": rate(rng)}
    gradient = latex.evaluate(rf"\nabla_M ({loss})", env)
    same(gradient, latex.evaluate(slope, env))
    same(-env[r"\eta"] * gradient, latex.evaluate(write, env))


@reading(17)
def row_17(rng: Rng, text: str, answer: str, where: str) -> None:
    """The factor of a step, on the side that the text names, and the print's, on the other."""
    assert where == r"d_v \ne d_k"
    side = re.search(r"stands on the (\w+); on the (\w+) it", text)
    assert side is not None
    assert side.groups() == ("right", "left")
    for d_v, d_k in ((2, 3), (3, 3)):
        env = {"M": rng.normal(size=(d_v, d_k)), "M_{t-1}": rng.normal(size=(d_v, d_k)), r"\eta": rate(rng)}
        env |= {"k": column(rng, d_k), "v": column(rng, d_v)}
        assert latex.evaluate(answer, env).shape == (d_v, 1)
        if d_v != d_k:
            with pytest.raises(latex.LatexError, match="a product of shapes"):
                latex.evaluate(printed(17)[0], env)
        else:
            latex.evaluate(printed(17)[0], env)
        after = env["M_{t-1}"] - env[r"\eta"] * (env["M_{t-1}"] @ env["k"] - env["v"]) * env["k"].T
        moved = r"(I - \eta k k^\top) M_{t-1} + \eta v k^\top" if side[1] == "left" else RIGHT
        same(latex.evaluate(moved, env), after)


RIGHT = r"M_{t-1} (I - \eta k k^\top) + \eta v k^\top"


@reading(18)
def row_18(rng: Rng, text: str, half: str, whole: str, neither: str) -> None:
    """One pair repeated. Each loss erases by itself, as its slope says, and as often again as the text counts less once."""
    k, v = column(rng, 3), column(rng, 2)
    words = re.search(r"erase is counted (\w+):.*\(with (.*?)\).*\(without\)", text)
    assert words is not None
    more = WORDS[words[1]] - 1
    with_half = latex.gradient(lambda y: value(words[2], {"y": y}), v)
    for slope, said in ((with_half, half), (latex.gradient(squares, v), whole)):
        times = float((slope / v)[0, 0])  # the loss's slope over its error
        memory = rng.normal(size=(2, 3))
        for _ in range(300):
            memory = memory + 0.3 / squares(k) * (times * (v - memory @ k) - more * memory @ k) * k.T
        same(memory @ k, latex.evaluate(said, {"v": v}))
        assert latex.distance(memory @ k, latex.evaluate(neither, {"v": v})) > 0.1


@reading(22)
def row_22(rng: Rng, text: str, inner: str, outer: str, activation: str) -> None:
    """(α I - η k kᵀ) is as wide as k; W1 takes the activation in."""
    env = {
        "W_1": rng.normal(size=(3, 4)),
        "W_2": rng.normal(size=(4, 3)),
        "k": column(rng, 3),
        r"\sigma": silu,
    }
    env |= {r"\alpha": rate(rng), r"\eta": rate(rng)}
    latex.evaluate(f"{inner} {printed(22)[0]}", env)
    with pytest.raises(latex.LatexError, match="a product of shapes"):
        latex.evaluate(f"{outer} {printed(22)[0]}", env)
    latex.evaluate(f"{outer} {activation}", env)


@reading(23)
def row_23(rng: Rng, text: str, objective: str, step: str) -> None:
    env = {"m": rng.normal(size=(2, 3)), "g": rng.normal(size=(2, 3)), "P": rng.normal(size=(2, 2))}
    env |= {r"\mu": rate(rng), r"\eta": rate(rng)}
    slope = latex.evaluate(rf"\nabla_m {objective}", env)
    same(env[r"\mu"] * env["m"] - env[r"\eta"] * slope, latex.evaluate(step, env))


@reading(24)
def row_24(rng: Rng, text: str, slope: str, where: str, absent: str, at_the_start: str) -> None:
    o, g = rng.normal(size=(3, 2)), rng.normal(size=(3, 2))
    gradient = latex.gradient(lambda x: squares(x.T @ x - np.eye(2)), o)
    same(gradient, latex.evaluate(slope, {"O": o}))
    ((_, rate_of_cubic),) = latex.chains(where)
    same(o - latex.evaluate(rate_of_cubic, {}) * gradient, 1.5 * o - 0.5 * o @ o.T @ o)
    ((_, rate_at_the_start),) = latex.chains(at_the_start)
    first = {"O": o, "g": o, "I": np.eye(2), r"\zeta": latex.evaluate(rate_at_the_start, {})}
    same(latex.evaluate(printed(24)[0], first), 1.5 * o - 0.5 * o @ o.T @ o)
    assert absent in printed(24)[0].replace("O - g", "(O - g)")
    assert latex.evaluate(absent, {"O": o, "g": g}).shape == o.shape


@reading(25)
def row_25(rng: Rng, text: str, plus: str, other: str) -> None:
    """The regression answers g; either change of sign makes a step down the loss."""
    w, slope, eta = column(rng, 3), column(rng, 3), rate(rng)
    ((_, gradient),) = latex.chains(other)
    g = latex.evaluate(gradient, {r"\nabla": slope})
    same(latex.evaluate(plus, {"W": w, "m^*": -slope, r"\eta": eta}), w - eta * slope)
    same(latex.evaluate(printed(25)[0], {"W": w, "m^*": g, r"\eta": eta}), w - eta * slope)


@reading(26)
def row_26(rng: Rng, text: str, weight: str, equal: str, unequal: str) -> None:
    """The weights, scaled to the sum in the text, against Adam's averages; momentum.adam_two_betas has β₁ ≠ β₂."""
    assert (equal, unequal) == (r"\beta_1 = \beta_2", r"\beta_1 \ne \beta_2")
    total = re.search(r"that sum to (\d)", text)
    epsilon = re.search(r"ε = (\d)", text)
    assert total is not None
    assert epsilon is not None
    g, beta, count, m, v = rng.normal(size=4), rate(rng), 4, 0.0, 0.0
    for x in g:
        m, v = beta * m + (1 - beta) * x, beta * v + (1 - beta) * x * x
    weights = np.array(
        [latex.evaluate(weight, {r"\beta": beta, "t": count, "i": i}) for i in range(1, count + 1)]
    )
    weights *= float(total[1]) / weights.sum()
    correction = 1 - beta**count
    adam = m / correction / (np.sqrt(v / correction) + float(epsilon[1]))
    same(adam, float((weights * g).sum() / np.sqrt((weights * g**2).sum())))


@reading(28)
def row_28(rng: Rng, text: str) -> None:
    counts = [int(n) for n in re.findall(r"\d+", text.split(":")[0])]
    beta, *shares = re.findall(r"0\.\d|\d+(?= %)", ERRATA[27].printed)
    assert counts == [gradients_to_hold(float(beta), int(share) / 100) for share in shares]
    first = re.search(r"counts the index from (\d)", text)
    assert first is not None
    last = [int(n) for n in re.findall(r"last (\d+)", ERRATA[27].printed)]
    assert last == [
        int(first[1]) + count - 1 for count in counts
    ]  # the index of the last gradient that it takes


@reading(29)
def row_29(rng: Rng, text: str, slope: str) -> None:
    env = {"M": rng.normal(size=(2, 3)), "k": column(rng, 3), "v": column(rng, 2)}
    gradient = latex.evaluate(rf"\nabla_M {printed(29)[0]}", env)
    same(gradient, latex.evaluate(slope, env))
    said = re.search(r"write (.*?), or let η absorb the (\d)", text)
    assert said is not None
    plain = latex.evaluate(printed(29)[1], env)  # what the source takes for the gradient
    same(gradient, float(said[2]) * plain)
    error = {"y": env["M"] @ env["k"] - env["v"]}
    same(value(said[1], error), squares(error["y"]) / float(said[2]))


@reading(33)
def row_33(rng: Rng, text: str) -> None:
    """Rounded to two digits from exact tenths, half to even."""
    for number, accuracies in zip(
        re.findall(r"\d+\.\d+", text), (tables.TTT_760M, tables.COMBA_1300M), strict=True
    ):
        assert Decimal(number) == (Decimal(sum(accuracies)) / 80).quantize(Decimal("0.01"))


@reading(35)
def row_35(rng: Rng, text: str, factor: str) -> None:
    """V of squared gradients: gradients c times as long make the factor, and so the step, c times as short."""
    g, c = columns(rng, 3, 2), 1 + rate(rng)

    def size(scale: float) -> Any:
        return sum(0.1 * (scale * one) ** 2 for one in g.values())

    inverse = [1 / latex.evaluate(factor.replace("1/", ""), {"V": size(scale)}) for scale in (1.0, c)]
    same(inverse[0], c * inverse[1])


@reading(39)
def row_39(rng: Rng, text: str, feed: str, slow: str, fast: str) -> None:
    """Both means run for long under one gradient, the slow one on the sums of windows of f steps."""
    g, f, beta = rng.normal(size=(2, 3)), int(rng.integers(2, 5)), rate(rng)
    means = [np.zeros((2, 3)), np.zeros((2, 3))]
    window = np.zeros((2, 3))
    for step in range(1, 600 * f + 1):
        window = window + g
        means[0] = beta * means[0] + (1 - beta) * g
        if step % f == 0:
            means[1], window = beta * means[1] + (1 - beta) * window, np.zeros((2, 3))
    env = {"g": g, "f": f}
    same(latex.evaluate(feed, env), g)
    order = re.search(r"the (\w+) mean tends to .* and the (\w+) one to", text)
    assert order is not None
    assert order.groups() == ("fast", "slow")
    same(means[0], latex.evaluate(slow, env))
    same(means[1], latex.evaluate(fast, env))


@reading(40)
def row_40(rng: Rng, text: str, score: str) -> None:
    env = {"M": rng.normal(size=(2, 3)), "K": rng.normal(size=(3, 4)), "V": rng.normal(size=(2, 4))}
    writes = sum(env["V"][:, [t]] * env["K"][:, [t]].T for t in range(4))
    same(-latex.evaluate(rf"\nabla_M ({score})", env), writes)
    with pytest.raises(latex.LatexError):
        latex.evaluate(printed(40)[0], env)


@reading(48)
def row_48(rng: Rng, text: str, objective: str, slope: str) -> None:
    env = {"M": rng.normal(size=(2, 3)), "k": column(rng, 3), "v": column(rng, 2)}
    same(latex.evaluate(rf"\nabla_M ({objective})", env), latex.evaluate(slope, env))
    absorbed = re.search(r"a rate absorbs the (\d)", text)
    assert absorbed is not None
    assert slope.startswith(absorbed[1])
    with pytest.raises(latex.LatexError):
        latex.evaluate(printed(48)[0], env)


@reading(53)
def row_53(rng: Rng, text: str, ratio: str, step: str) -> None:
    g, eta, beta = rng.normal(size=5), rate(rng), rate(rng)
    env = {"H": beta * (g**2).sum(), "P": (g**2).sum(), r"\tilde M": g.sum(), r"\eta": eta, r"\beta_2": beta}
    holds(ratio, env)
    same(latex.evaluate(step, env), eta * g.sum() * env["P"] / env["H"])
    ((said, _),) = latex.chains(printed(53)[1])
    holds(printed(53)[1], env)
    assert latex.distance(latex.evaluate(printed(53)[0], env), latex.evaluate(step, env)) > 1e-3
    assert said
    sign = re.search(r"that of row (\d+)", text)
    assert sign is not None
    assert ERRATA[int(sign[1]) - 1].identity == "momentum.adam_sign"


def cells(name: str) -> list[float]:
    return [float(cell) for cell in TABLE_1[name].split()]


@reading(57)
def row_57(rng: Rng, text: str) -> None:
    rivals = list(zip(*(cells(name) for name in ("RWKV-7", "Comba", "DLA", "Titans")), strict=True))
    hope = cells("Hope")
    best = [max(row) for row in rivals]
    behind = [i for i in range(len(hope)) if hope[i] < best[i]]
    assert [(i // 3 + 1, i % 3) for i in behind] == [(2, 0), (3, 0)]  # S-NIAH-2 and S-NIAH-3, at 4K
    assert all(best[i] == cells("Titans")[i] for i in behind)
    won, tied = (sum(map(compare, hope, best)) for compare in (operator.gt, operator.eq))
    assert re.findall(r"(?<![-\d])\d+(?!K|\d)", text) == [str(n) for n in (len(behind), len(hope), won, tied)]


@reading(58)
def row_58(rng: Rng, text: str) -> None:
    pairs = list(zip(cells("Hope-Attention"), cells("Transformer"), strict=True))
    ahead, equal, behind = (
        sum(compare(*pair) for pair in pairs) for compare in (operator.gt, operator.eq, operator.lt)
    )
    assert [int(n) for n in re.findall(r"\d+", text)] == [ahead, len(pairs), equal, behind]


@reading(59)
def row_59(rng: Rng, text: str) -> None:
    whole, without = TABLE_6.values()
    assert [float(n) for n in re.findall(r"\d+\.\d+", text)] == [whole[0], without[0], whole[1], without[1]]
    assert without[0] < whole[0]
    assert without[1] < whole[1]
    assert re.findall(r"from .*? to", text)


def test_no_reading_with_a_formula_is_left_out() -> None:
    rows = {
        e.row
        for e in ERRATA
        if "$" in e.reading or re.search(r"[0-9<>≤≥]", re.sub(r"\[.*?\]", "", e.reading))
    }
    assert rows <= set(READINGS) | set(NO_FORMULA)
    assert not set(READINGS) & set(NO_FORMULA)


@pytest.mark.parametrize("row", READINGS)
def test_the_reading_of_a_row(row: int) -> None:
    text = ERRATA[row - 1].reading
    for seed in SEEDS:
        READINGS[row](np.random.default_rng(seed), text, *formulas(text))
