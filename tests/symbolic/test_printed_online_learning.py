"""The printed formulas of online learning, executed beside least squares, projections and a solver."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import latex_values as latex
import numpy as np
import pytest
from printed_claims import Bindings, Env, Rng, holds, identities, parts
from simulated import column, columns, nearest, rate, silu, silu_slope, squares

from hope_ref.symbolic.identity import Identity

BINDINGS = Bindings()
TOKENS = 4


def stream(rng: Rng) -> Iterator[Env]:
    """Implicit steps, each by least squares; nothing answers all of the pairs."""
    weight, other, eta = rng.normal(size=(2, 3)), rng.normal(size=(2, 3)), rate(rng)
    for _ in range(TOKENS):
        k, v = column(rng, 3), column(rng, 2)
        after = nearest(k, v, weight, 1 / eta)
        yield {"W_t": after, "W_{t-1}": weight, "U": other, "k_t": k, "v_t": v, r"\eta": eta}
        weight = after


@BINDINGS.simulation("online_learning.one_step")
def one_step(rng: Rng) -> Iterator[Any]:
    for env in stream(rng):
        over = squares(env["W_t"] @ env["k_t"] - env["v_t"]) - squares(env["U"] @ env["k_t"] - env["v_t"])
        yield env, over / 2


@BINDINGS.simulation("online_learning.regret")
def regret(rng: Rng) -> Iterator[Any]:
    steps = list(stream(rng))
    weights = [steps[0]["W_{t-1}"], *(env["W_t"] for env in steps)]
    k, v = ({t: env[name] for t, env in enumerate(steps, start=1)} for name in ("k_t", "v_t"))
    other = steps[0]["U"]
    over = sum(squares(weights[t] @ k[t] - v[t]) - squares(other @ k[t] - v[t]) for t in k) / 2
    yield (
        {
            "W": weights,
            "W_T": weights[-1],
            "U": other,
            "T": TOKENS,
            "k": k,
            "v": v,
            r"\eta": steps[0][r"\eta"],
        },
        over,
    )


@BINDINGS.check("online_learning.distance")
def distance(formula: str, rng: Rng) -> None:
    """The first chain holds for a step of any size; the implicit step by least squares takes the one that is named."""
    first, (name, implicit), ratio = parts(formula)
    assert name.strip() == r"\tilde \eta"
    for _ in range(TOKENS):
        weight, other, k, eta = rng.normal(size=(2, 3)), rng.normal(size=(2, 3)), column(rng, 3), rate(rng)
        named = {"W_{t-1}": weight, "U": other, "k_t": k, r"\eta": eta, r"\lambda": np.sqrt(squares(k))}
        for taken in (rate(rng), 3.0 + rate(rng)):
            after = weight - taken * (weight @ k - other @ k) * k.T
            holds(" = ".join(first), named | {"W_t": after, r"\tilde\eta": taken})
        solved = nearest(k, other @ k, weight, 1 / eta)
        env = named | {"W_t": solved, r"\tilde\eta": latex.evaluate(implicit, named)}
        nearer = squares(weight - other) - squares(solved - other)
        holds(" = ".join(first), env, nearer)
        holds(" = ".join(ratio), env, nearer / squares(weight @ k - other @ k))


@BINDINGS.simulation("online_learning.kaczmarz")
def kaczmarz(rng: Rng) -> Iterator[Any]:
    """The nearest point of {A : A k = v}: any one of them, and the part of W - A that k does not see."""
    weight = rng.normal(size=(2, 3))
    for _ in range(TOKENS):
        k, v = column(rng, 3), column(rng, 2)
        across = np.linalg.svd(k.T)[2][1:]  # (2, 3), orthonormal
        one = v @ np.linalg.pinv(k)
        after = one + (weight - one) @ across.T @ across
        yield {"W_t": after, "W_{t-1}": weight, "k_t": k, "v_t": v}, after
        weight = after


def across(k: Any) -> Any:
    """The orthogonal projection onto what is orthogonal to k."""
    basis = np.linalg.svd(k.T)[2][1:]
    return basis.T @ basis


@BINDINGS.simulation("online_learning.one_pass")
def one_pass(rng: Rng) -> Iterator[Any]:
    for count in (1, 3, 5):
        keys, start, other = columns(rng, count, 3), rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
        weight = start
        for k in keys.values():
            weight = other + (weight - other) @ across(k)
        yield {"W_N": weight, "W_0": start, "U": other, "N": count, "k": keys}, weight - other


@BINDINGS.check("online_learning.two_keys")
def two_keys(formula: str, rng: Rng) -> None:
    """An error after a pass; for one that answers k_2 the conclusion fails."""
    _, conclusion = parts(formula)
    one, two = column(rng, 4), column(rng, 4)
    env = {"k_1": one, "k_2": two, "P_1": across(one), "P_2": across(two)}
    error = rng.normal(size=(2, 4)) @ env["P_1"] @ env["P_2"]
    holds(formula, env | {"E": error})
    with pytest.raises(AssertionError):
        holds(" = ".join(conclusion), env | {"E": rng.normal(size=(2, 4))})


def orthogonal(rng: Rng) -> tuple[Any, Any, Any, Any]:
    """Two orthogonal keys of different lengths and their values."""
    basis = np.linalg.qr(rng.normal(size=(4, 2))).Q
    return 0.7 * basis[:, :1], 1.2 * basis[:, 1:], column(rng, 2), column(rng, 2)


@BINDINGS.check("online_learning.orthogonal_pass")
def orthogonal_pass(formula: str, rng: Rng) -> None:
    """Nearest memories in turn; with a second key that is not orthogonal the first pair is not kept."""
    one, two, v, w = orthogonal(rng)
    for second in (two, two + 0.5 * one):
        weight = rng.normal(size=(2, 4))
        for k, value in ((one, v), (second, w)):
            weight = value @ np.linalg.pinv(k) + weight @ across(k)
        env = {"k_1": one, "k_2": second, "v_1": v, "v_2": w, "W": weight}
        if second is two:
            holds(formula, env, 0.0)
        else:
            with pytest.raises(AssertionError):
                holds(" = ".join(parts(formula)[1]), env)


def written(memory: Any, k: Any, v: Any, eta: float) -> Any:
    """Erase along k, then descend the measured slope of ½‖M k - v‖²."""
    slope = latex.gradient(lambda m: squares(m @ k - v) / 2, memory)
    return memory - eta * (memory @ k) * k.T - eta * slope


@BINDINGS.simulation("online_learning.halves")
def halves(rng: Rng) -> Iterator[Any]:
    memory, k, v, eta = rng.normal(size=(2, 3)), column(rng, 3), column(rng, 2), rate(rng)
    yield {"M": memory, "k": k, "v": v, r"\tilde\eta": eta}, written(memory, k, v, eta)


@BINDINGS.simulation("online_learning.orthogonal_halves")
def orthogonal_halves(rng: Rng) -> Iterator[Any]:
    one, two, v, w = orthogonal(rng)
    start, eta = rng.normal(size=(2, 4)), rate(rng)
    after = written(written(start, one, v, eta), two, w, eta)
    env = {"k_1": one, "k_2": two, "v_1": v, "v_2": w, "M_0": start, "M_2": after, r"\tilde\eta": eta}
    yield env, None, after @ one - v / 2, after @ two - w / 2


@BINDINGS.check("online_learning.joint_gap")
def joint_gap(formula: str, rng: Rng) -> None:
    """Both steps solved at rates that halve, and extrapolated to a rate of nothing."""
    (left, limit), (name, said) = parts(formula)
    assert name.strip() == "b"
    outer, inner, k, v = rng.normal(size=(2, 3)), rng.normal(size=(3, 2)), column(rng, 2), column(rng, 2)
    a = silu(inner @ k)
    e = outer @ a - v
    env: Env = {"W_1": outer, "W_2": inner, "k": k, "a": a, "e": e, r"\sigma'": silu_slope}
    env["b"] = latex.evaluate(said, env)
    table = []
    for eta in 0.01 / 2.0 ** np.arange(6):
        one, two = outer, inner
        for _ in range(200):  # W' = W - η ∇ℓ(W'), a contraction at these rates
            z = two @ k
            error = one @ silu(z) - v
            one, two = outer - eta * error * silu(z).T, inner - eta * ((one.T @ error) * silu_slope(z)) * k.T
        apart = nearest(a, v, outer, 1 / eta)
        row = [latex.evaluate(left, {r"\hat W_1": one, r"\tilde W_1": apart, r"\eta": eta})]
        for order, before in enumerate(table[-1] if table else (), start=1):
            row.append(row[-1] + (row[-1] - before) / (2**order - 1))
        table.append(row)
    assert latex.distance(table[-1][-1], latex.evaluate(limit, env)) < 1e-7  # what rounding leaves of 1/η²


# --- the tests -------------------------------------------------------------------------------------------------------

ENTRIES = identities("test_printed_online_learning.py")


def test_no_identity_is_left_out() -> None:
    assert set(BINDINGS) == {entry.name for entry in ENTRIES}


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.name)
def test_the_correct_formula_holds(entry: Identity) -> None:
    BINDINGS.run(entry.name, entry.correct)


@pytest.mark.parametrize(
    ("name", "true", "false"),
    [
        ("one_step", r"- \tfrac12 \|(W_t - U)", r"+ \tfrac12 \|(W_t - U)"),
        ("regret", r"\|W_T - U\|^2", r"\|W_T\|^2"),
        ("distance", r"(2 - \tilde", r"(1 - \tilde"),
        ("kaczmarz", r"(v_t - W_{t-1} k_t)", "v_t"),
        ("one_pass", r"(I - ", r"(I - \tfrac12 "),
        ("two_keys", "(k_1^\\top k_2)^2", "k_1^\\top k_2"),
        ("orthogonal_pass", "W k_1 = v_1", r"W k_1 = \tfrac12 v_1"),
        ("halves", r"\tfrac12 v", "v"),
        ("orthogonal_halves", r"(1 - 2 \tilde", r"(1 - \tilde"),
        ("joint_gap", r"+ e b^\top", ""),
    ],
)
def test_another_formula_does_not(name: str, true: str, false: str) -> None:
    formula = next(entry.correct for entry in ENTRIES if entry.name == f"online_learning.{name}")
    assert true in formula
    with pytest.raises(AssertionError):
        BINDINGS.run(f"online_learning.{name}", formula.replace(true, false))
