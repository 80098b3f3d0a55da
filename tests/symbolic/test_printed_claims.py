"""The printed formulas of the self-modifying Titans, the counts and the tables, executed; and that no identity is left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import latex_values as latex
import numpy as np
import pytest
import sympy as sp
from entries import entries
from printed_claims import (
    FILES,
    PRINTED_IS_NOT_RUN,
    Bindings,
    Env,
    Rng,
    holds,
    identities,
    parts,
    reprinted,
    run_the_print,
    same,
)
from simulated import column, columns, nearest, rate, rates, silu, silu_slope, squares

from hope_ref import reference, symbolic
from hope_ref.config import HopeConfig
from hope_ref.symbolic import counts
from hope_ref.symbolic.identity import Identity

BINDINGS = Bindings()
LENGTH = 4
LOSS = r"\mathcal{L}"
WIDTH = 3  # d of a memory that answers in the width of its keys


# --- self-modifying Titans -------------------------------------------------------------------------------------------


def perceptron(rng: Rng, loss: Callable[[Any, Any], float], error: Callable[[Any, Any], Any]) -> Env:
    """k + W1 σ(W2 k), told by a loss of its answer and the target; e is the loss's slope at the answer."""
    w1, w2, k, target = rng.normal(size=(3, 4)), rng.normal(size=(4, 3)), column(rng, 3), column(rng, 3)

    def answer(env: Env) -> Any:
        return k + env["W_1"] @ silu(env["W_2"] @ k)

    names = {"W_1": w1, "W_2": w2}
    return {
        **names, LOSS: latex.Lazy(lambda env: loss(answer(env), target)), "k": k, r"\hat v": target,
        "e": error(answer(names), target), r"\sigma": silu, r"\sigma'": silu_slope,
    }  # fmt: skip


@BINDINGS.simulation("self_modifying_titans.gradients_dot")
def gradients_dot(rng: Rng) -> Iterator[Any]:
    yield perceptron(rng, lambda y, v: -float((y * v).sum()), lambda y, v: -v)


@BINDINGS.simulation("self_modifying_titans.gradients_l2")
def gradients_l2(rng: Rng) -> Iterator[Any]:
    yield perceptron(rng, lambda y, v: squares(y - v) / 2, lambda y, v: y - v)


@BINDINGS.simulation("self_modifying_titans.implicit_step")
def implicit_step(rng: Rng) -> Iterator[Any]:
    """Least squares for (X - E) φ = u beside X = W, the second with the weight 1/η."""
    weight, origin, phi, u, eta = (
        rng.normal(size=(2, 3)),
        rng.normal(size=(2, 3)),
        column(rng, 3),
        column(rng, 2),
        rate(rng),
    )
    solved = nearest(phi, u + origin @ phi, weight, 1 / eta)
    yield {"X": np.zeros((2, 3)), "W": weight, "E": origin, r"\varphi": phi, "u": u, r"\eta": eta}, solved


def write_loop(rng: Rng, mu: dict[int, float] | None = None) -> Iterator[Env]:
    """Forget toward R, erase from E, write; with a momentum of the writes where μ is told. Families by token."""
    weight, back, origin = {0: rng.normal(size=(2, 3))}, rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
    phi, u, alpha, eta = (
        columns(rng, LENGTH, 3),
        columns(rng, LENGTH, 2),
        rates(rng, LENGTH),
        rates(rng, LENGTH),
    )
    push = start = rng.normal(size=(2, 3)) if mu else np.zeros((2, 3))
    erased, state = {}, {0: weight[0] - back}
    for t in range(1, LENGTH + 1):
        push = (mu[t] * push if mu else 0.0) + eta[t] * u[t] * phi[t].T
        erased[t] = (weight[t - 1] - origin) @ phi[t]
        weight[t] = alpha[t] * weight[t - 1] + (1 - alpha[t]) * back - eta[t] * erased[t] * phi[t].T + push
        state[t] = weight[t] - back
        yield {
            "t": t, "W_t": weight[t], "W_{t-1}": weight[t - 1], "S_t": state[t], "S_{t-1}": state[t - 1], "S_0": state[0],
            "S": state[t], "W": weight[t], "R": back, "E": origin, "B_0": start, "p": erased, r"\varphi": phi, "u": u,
            r"\alpha": alpha, r"\tilde\eta": eta,
        }  # fmt: skip


@BINDINGS.simulation("self_modifying_titans.shift", "self_modifying_titans.distance_from_origin")
def plain_write_loop(rng: Rng) -> Iterator[Any]:
    yield from write_loop(rng)


def reach(alpha: dict[int, float], mu: dict[int, float], at: int) -> list[float]:
    """What a lone 1 in the momentum, put in at a token (0: before the first), has added to the state by each time."""
    momentum, state, path = float(at == 0), 0.0, [0.0]
    for t in range(1, LENGTH + 1):
        momentum = mu[t] * momentum + float(t == at)
        state = alpha[t] * state + momentum
        path.append(state)
    return path


@BINDINGS.simulation("self_modifying_titans.momentum_chunk")
def momentum_chunk(rng: Rng) -> Iterator[Any]:
    mu = dict.fromkeys(range(1, LENGTH + 1), rate(rng))
    for env in write_loop(rng, mu):
        alpha, tokens = env[r"\alpha"], range(LENGTH + 1)
        ratio = {
            (t, s): float(np.prod([alpha[r] for r in range(s + 1, t + 1)]))
            for t in tokens
            for s in range(t + 1)
        }
        paths = [reach(alpha, mu, s) for s in tokens]
        c = {(t, s): paths[s][t] for t in tokens for s in range(1, t + 1)}  # no write of a later token
        yield env | {"D": ratio, r"\gamma": {t: ratio[t, 0] for t in tokens}, "b": paths[0], "c": c}


def linear_step(weight: Any, k: Any, slope: Any, alpha: float, eta: float) -> Any:
    """Decay, erase all of the weight along k, descend the slope at the layer's output."""
    return alpha * weight - eta * (weight @ k) * k.T - eta * slope * k.T


SLOPES = {"dot": lambda answer, target: -target, "l2": lambda answer, target: answer - target}


def linear_loop(rng: Rng, objective: str) -> Iterator[Env]:
    weight = rng.normal(size=(WIDTH, WIDTH))
    for _ in range(LENGTH):
        k, target, alpha, eta = column(rng, WIDTH), column(rng, WIDTH), rate(rng), rate(rng)
        after = linear_step(weight, k, SLOPES[objective](k + weight @ k, target), alpha, eta)
        yield {
            "W_t": after, "W_{t-1}": weight, "k_t": k, r"\hat v_t": target, r"\alpha_t": alpha, r"\tilde\eta_t": eta
        }  # fmt: skip
        weight = after


@BINDINGS.simulation("self_modifying_titans.linear_dot")
def linear_dot(rng: Rng) -> Iterator[Any]:
    yield from linear_loop(rng, "dot")


@BINDINGS.simulation("self_modifying_titans.linear_l2")
def linear_l2(rng: Rng) -> Iterator[Any]:
    yield from linear_loop(rng, "l2")


@BINDINGS.check("self_modifying_titans.eigenvalues")
def eigenvalues(formula: str, rng: Rng) -> None:
    """What a step makes of two weights tells its linear part; all its eigenvalues but the printed one are α."""
    (once,), (twice,) = parts(formula)
    k, target, alpha, eta = column(rng, WIDTH), column(rng, WIDTH), rate(rng), rate(rng)
    frozen = rng.normal(size=(WIDTH, WIDTH))
    slopes = {
        "dot": lambda w: -target,
        "regression, frozen": lambda w: k + frozen @ k - target,
        "regression": lambda w: k + w @ k - target,
    }
    env = {"k": k, r"\alpha": alpha, r"\tilde\eta": eta}
    for (name, slope), said in zip(slopes.items(), (once, once, twice), strict=True):
        nothing = np.zeros((WIDTH, WIDTH))
        turned = linear_step(np.eye(WIDTH), k, slope(np.eye(WIDTH)), alpha, eta)
        turned = turned - linear_step(nothing, k, slope(nothing), alpha, eta)
        values = sorted(np.linalg.eigvals(turned).real)
        np.testing.assert_allclose(
            values, sorted([latex.evaluate(said, env), alpha, alpha]), rtol=1e-9, err_msg=name
        )


@BINDINGS.simulation("self_modifying_titans.collapse")
def collapse(rng: Rng) -> Iterator[Any]:
    """The write as a function of the weight: its target is its own answer to v."""
    for slope in SLOPES.values():
        k, v, alpha, eta, weight = (
            column(rng, WIDTH),
            column(rng, WIDTH),
            rate(rng),
            rate(rng),
            rng.normal(size=(WIDTH, WIDTH)),
        )

        def write(
            w: Any, k: Any = k, v: Any = v, alpha: float = alpha, eta: float = eta, slope: Any = slope
        ) -> Any:
            return linear_step(w, k, slope(w @ k, w @ v), alpha, eta)

        yield {
            "M": lambda z, w=weight: np.stack([row @ z for row in w]), "z": column(rng, WIDTH), "v": v, "W": weight,
            r"\hat v": weight @ v, "W_{t-1}": weight, "W_t": write, "s": rate(rng),
        }  # fmt: skip


@BINDINGS.simulation("self_modifying_titans.skip_escapes")
def skip_escapes(rng: Rng) -> Iterator[Any]:
    """From W = 0 the memory answers what it is asked: v to v, k to k."""
    k, v, eta, rest = column(rng, WIDTH), column(rng, WIDTH), rate(rng), np.zeros((WIDTH, WIDTH))
    dot, regression = (linear_step(rest, k, slope(k, v), rate(rng), eta) for slope in SLOPES.values())
    weight = rng.normal(size=(WIDTH, WIDTH))
    yield {
        "M": lambda z: z + np.stack([row @ z for row in weight]), "z": column(rng, WIDTH), "W": weight, "W_{t-1}": rest,
        "W_t": dot, "k": k, "v": v, r"\tilde\eta": eta,
    }, None, None, dot, regression  # fmt: skip


@BINDINGS.simulation("self_modifying_titans.bounded")
def bounded(rng: Rng) -> Iterator[Any]:
    """A surprise divided by √(1 + ‖u‖²/c²)."""
    u, c = column(rng, 3), rate(rng)
    short = u / np.sqrt(1 + squares(u) / c**2)
    yield {"u": u, "c": c}, c**2 - squares(short)


@BINDINGS.check("self_modifying_titans.longest_write")
def longest_write(formula: str, rng: Rng) -> None:
    """Along one direction, over a grid of lengths that is narrowed round its best."""
    ((largest, bound),) = parts(formula)
    most = r"\max _ { \varphi } "
    assert largest.startswith(most)
    eta, direction = rate(rng), column(rng, 3)
    direction /= np.sqrt(squares(direction))
    low, high, best = 1e-3, 1e3, 0.0
    for _ in range(8):
        lengths = np.geomspace(low, high, 40)
        values = [
            latex.evaluate(largest.removeprefix(most), {r"\eta": eta, r"\varphi": n * direction})
            for n in lengths
        ]
        at = int(np.argmax(values))
        low, high, best = lengths[max(at - 1, 0)], lengths[min(at + 1, 39)], values[at]
    same(best, latex.evaluate(bound, {r"\eta": eta}), bound)


@BINDINGS.simulation("self_modifying_titans.square_growth")
def squares_of_a_write(rng: Rng) -> Iterator[Any]:
    """The written matrix, entry by entry, and its squares."""
    for _ in range(4):
        before, phi, u = rng.normal(size=(2, WIDTH)), column(rng, WIDTH), column(rng, 2)
        eta, alpha = rate(rng), rng.uniform(0.5, 1)
        taken = eta / (1 + eta * sum(float(x) ** 2 for x in phi[:, 0]))
        total = 0.0
        for i in range(2):
            reached = sum(before[i, j] * phi[j, 0] for j in range(WIDTH))
            for j in range(WIDTH):
                total += (alpha * before[i, j] - taken * (reached - u[i, 0]) * phi[j, 0]) ** 2
        names = {"D": before, r"\varphi": phi, "u": u, r"\eta": eta, r"\alpha": alpha, r"\tilde\eta": taken}
        share = taken * squares(phi)
        yield names | {"s": share}, total, share


@BINDINGS.check("self_modifying_titans.worn_away")
def worn_away(formula: str, rng: Rng) -> None:
    """Writes of nothing along a random orthonormal basis, erasing from each printed E in turn."""
    nothing, keeps, basis, *outcomes = parts(formula)
    assert basis == [r"\varphi _ 1 \ldots \varphi _ d"]
    start, eta, turned = (
        rng.normal(size=(2, WIDTH)),
        rate(rng),
        np.linalg.qr(rng.normal(size=(WIDTH, WIDTH)))[0],
    )
    assert len(outcomes) == 4
    for (left, right), (name, value) in zip(outcomes[::2], outcomes[1::2], strict=True):
        assert name.strip() == "E"
        env: Env = {"W_0": start, r"\tilde\eta": eta}
        origin, weight = latex.evaluate(value, env), start
        for phi in turned.T:
            weight = weight - eta * np.outer((weight - origin) @ phi, phi)
        env |= {"W_d": weight, "u": np.zeros((2, 1)), r"\alpha": 1.0}
        for sides in (nothing, keeps, (left, right)):
            holds(" = ".join(sides), env)


# --- counts and tables -----------------------------------------------------------------------------------------------

SIZES = [(2, 3, 2, 3), (3, 1, 4, 2)]  # d, H, h, number of levels


def model(d: int, heads: int, hidden: int, levels: int) -> HopeConfig:
    return HopeConfig(width=d * heads, heads=heads, hidden=hidden, levels_chunk_sizes=(2, 4, 8)[:levels])


@BINDINGS.simulation("counts.parameters_of_self_modifying_titans")
def core_parameters(rng: Rng) -> Iterator[Any]:
    """The entries of the arrays that the reference makes."""
    for d, h in ((5, 7), (6, 4)):
        config = HopeConfig(width=d, heads=1, hidden=h)
        yield {"d": d, "h": h}, float(entries(reference.parameters.init_memories(config, 0)))


@BINDINGS.simulation("counts.parameters_of_hope")
def hope_parameters(rng: Rng) -> Iterator[Any]:
    yield from models(lambda arrays, state: arrays)


@BINDINGS.simulation("counts.state_of_hope")
def hope_state(rng: Rng) -> Iterator[Any]:
    yield from models(lambda arrays, state: state)


def models(held: Callable[[Any, Any], Any]) -> Iterator[Any]:
    for (d, heads, hidden, levels), blocks in zip(SIZES, (2, 1), strict=True):
        config = model(d, heads, hidden, levels).replace(vocabulary=11, blocks=blocks)
        arrays = reference.hope.init(config)
        state = reference.hope.hope(np.arange(3), arrays, config)[1]
        sizes = {"d": d, "h": hidden, "H": heads, "W": d * heads, "w": config.convolution_width, "V": 11}
        yield sizes | {"N": blocks, "K": levels}, float(entries(held(arrays, state)))


@cache
def compiled_flops(erase: str, chunk: bool, repeated: bool) -> Callable[[int, int], int]:
    """Of d = h and C, by `symbolic.counts`; test_counts holds each part against products that are made."""
    config = HopeConfig(erase=erase)
    products = dict(counts.chunk_flops(config) if chunk else counts.token_flops(config))
    if not repeated:
        products.pop("repeated", None)
    total = counts.total(products).subs(counts.HIDDEN, counts.D)
    return sp.lambdify([counts.D, counts.CHUNK], total, "math")


def flops(erase: str, d: int, chunk: int | None = None, repeated: bool = True) -> float:
    """Of one token, or of a chunk of so many."""
    return float(compiled_flops(erase, chunk is not None, repeated)(d, chunk or 0))


@BINDINGS.simulation("counts.token_flops")
def token_flops(rng: Rng) -> Iterator[Any]:
    for d in (3, 8):
        yield {"d": d}, flops(HopeConfig().erase, d)


@BINDINGS.simulation("counts.chunk_flops")
def chunk_flops(rng: Rng) -> Iterator[Any]:
    for d, size in ((3, 5), (8, 4), (7, 9)):
        yield {"d": d, "C": size}, flops(HopeConfig().erase, d, size)


@BINDINGS.check("counts.crossover")
def crossover(formula: str, rng: Rng) -> None:
    """By halving: where a chunk of C tokens costs what C tokens of the loop cost, at a width of 10⁷."""
    (name, deviation), (full,), (unrepeated,) = parts(formula)
    assert name.strip() == r"C ^ \ast"
    d = 10**7
    cases = [("deviation", True, deviation), ("full", True, full), ("full", False, unrepeated)]
    for erase, repeated, said in cases:
        token = flops(erase, d, repeated=repeated)
        low, high = d // 100, 100 * d
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if flops(erase, d, middle) <= middle * token else (low, middle)
        assert low / latex.evaluate(said, {"d": d}) == pytest.approx(1, abs=1e-5), said


@BINDINGS.simulation("tables.averages")
def averages(rng: Rng) -> Iterator[Any]:
    """The eight accuracies of the two rows, as the paper prints them."""
    ttt = (34.7, 67.3, 43.9, 51.0, 64.5, 33.8, 40.2, 59.6)
    comba = (46.9, 73.1, 54.5, 57.7, 72.0, 39.1, 40.2, 60.6)
    yield {}, sum(ttt) / 8, sum(comba) / 8


# --- the tests -------------------------------------------------------------------------------------------------------

ENTRIES = identities("test_printed_claims.py")


def test_no_identity_is_left_out() -> None:
    assert set(BINDINGS) == {entry.name for entry in ENTRIES}


def test_every_concept_is_in_one_file_that_is_there() -> None:
    here = Path(__file__).parent
    assert all((here / file).is_file() for file in FILES)
    named = [concept for concepts in FILES.values() for concept in concepts]
    assert sorted(named) == sorted({entry.concept for entry in symbolic.identities()})
    assert set(PRINTED_IS_NOT_RUN) <= {
        e.name for e in symbolic.identities() if e.printed not in (None, e.correct)
    }


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.name)
def test_the_correct_formula_holds(entry: Identity) -> None:
    BINDINGS.run(entry.name, entry.correct)


@pytest.mark.parametrize("entry", reprinted(ENTRIES), ids=lambda e: e.name)
def test_the_print_holds_or_is_wrong_as_its_proof_says(entry: Identity) -> None:
    run_the_print(BINDINGS, entry)


# --- the evaluator ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "formula",
    [
        "x + y",  # a name without a binding
        r"x \oplus x",
        r"\begin{array} x \end{array}",
        "x_1",  # a subscript that nobody bound
        r"\sum_j x",
        r"\frac{x}",
        "x )",
        r"\|x",
        "A x",  # shapes
        "A + x x",
        "A^{-1}",
        r"\nabla_q x",
        r"\arg\min_x -x^2",
        r"\arg\min_x x^4",
        "f_3",
        r"\left< x \right>",
    ],
)
def test_what_is_not_understood_is_refused(formula: str) -> None:
    with pytest.raises(latex.LatexError):
        latex.evaluate(
            formula,
            {"x": 2.0, "A": np.ones((2, 3)), "f": [1.0, 2.0]}
            | ({"x": np.ones((2, 1))} if formula == "A x" else {}),
        )


def test_a_formula_without_a_statement_is_refused() -> None:
    with pytest.raises(latex.LatexError, match="x states nothing"):
        holds("x", {"x": 2.0})
    with pytest.raises(AssertionError, match="x and y"):
        holds("x = y", {"x": 2.0, "y": 2.0 + 1e-7})
