"""The printed formulas of the shared gain, executed on memories that know nothing of a gain; and its statement."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import latex_values as latex
import numpy as np
import pytest
from printed_claims import Bindings, Env, Rng, identities, parts, same
from simulated import column, rate, rates

from hope_ref.reference import shared_gain
from hope_ref.symbolic import shared_gain as derived
from hope_ref.symbolic.identity import Identity

BINDINGS = Bindings()
WIDTH = 3
CHUNK = 2


def loss(objective: str, k: Any, target: Any) -> Callable[[Any], float]:
    """Of a weight: its answer to k and the target."""
    if objective == "dot":
        return lambda w: -float(((w @ k) * target).sum())
    return lambda w: float(((w @ k - target) ** 2).sum()) / 2


def step(weight: Any, boundary: Any, k: Any, v: Any, eta: float, alpha: float, objective: str = "l2") -> Any:
    """Retain, erase along k, descend the measured slope at the boundary."""
    slope = latex.gradient(loss(objective, k, boundary @ v), boundary)
    return weight * alpha - eta * (weight @ k) * k.T - eta * slope


def stream(rng: Rng, objective: str, rows: int = WIDTH) -> Iterator[Env]:
    """A memory of so many rows, in chunks of two; its gain is solved for, not computed."""
    weight = boundary = rng.normal(size=(rows, WIDTH))
    for t in range(5):
        boundary = weight if t % CHUNK == 0 else boundary
        k, v, eta, alpha = column(rng, WIDTH), column(rng, WIDTH), rate(rng) / 4, rate(rng)
        after = step(weight, boundary, k, v, eta, alpha, objective)
        env = {"W_t": after, "W_{t-1}": weight, "W_b": boundary, "k_t": k, "v_t": v}
        yield env | {r"\eta_t": eta, r"\alpha_t": alpha}
        weight = after


@BINDINGS.simulation("shared_gain.five_memories")
def five_memories(rng: Rng) -> Iterator[Any]:
    for env in stream(rng, "l2"):
        yield env | {"G_{t-1}": np.linalg.solve(env["W_b"], env["W_{t-1}"])}, env["W_t"]


@BINDINGS.simulation("shared_gain.dot")
def dot(rng: Rng) -> Iterator[Any]:
    for env in stream(rng, "dot"):
        yield env | {"G_{t-1}": np.linalg.solve(env["W_b"], env["W_{t-1}"])}, env["W_t"]


@BINDINGS.simulation("shared_gain.boundary")
def boundary(rng: Rng) -> Iterator[Any]:
    """Three tokens with rates of their own; the second chunk begins with the third."""
    k, v = ({t: column(rng, WIDTH) for t in (1, 2, 3)} for _ in "kv")
    eta, alpha = ({t: r / 4 for t, r in rates(rng, 3).items()}, rates(rng, 3))
    start = rng.normal(size=(WIDTH, WIDTH))
    first = step(start, start, k[1], v[1], eta[1], alpha[1])
    second = step(first, start, k[2], v[2], eta[2], alpha[2])
    third = step(second, second, k[3], v[3], eta[3], alpha[3])
    env = {"W_3": third, "W_0": start, "G_1": np.linalg.solve(start, first)}
    yield env | {"k": k, "v": v, r"\eta": eta, r"\alpha": alpha}, third


@BINDINGS.simulation("shared_gain.readout")
def readout(rng: Rng) -> Iterator[Any]:
    """The read-out's answers, one row: a memory that is told its own answer to v by the same write."""
    r = column(rng, WIDTH)
    for env in stream(rng, "l2"):
        row, at = r.T @ env["W_{t-1}"], r.T @ env["W_b"]
        after = step(row, at, env["k_t"], env["v_t"], env[r"\eta_t"], env[r"\alpha_t"])
        yield env | {"r": r}, after


@BINDINGS.simulation("shared_gain.erase")
def erase(rng: Rng) -> Iterator[Any]:
    for width in (2, 5):
        k, x, eta, alpha = column(rng, width), column(rng, width), rate(rng), rate(rng)
        shorter = alpha * x - eta * float((k * x).sum()) * k
        lost = alpha**2 * float((x**2).sum()) - float((shorter**2).sum())
        yield {"k": k, "x": x, r"\eta": eta, r"\alpha": alpha}, lost


@BINDINGS.simulation("shared_gain.injection")
def injection(rng: Rng) -> Iterator[Any]:
    for width in (2, 5):
        u, k, x = column(rng, 3), column(rng, width), column(rng, width)
        along = float((k * x).sum())
        left = float((u**2).sum()) * (float((k**2).sum()) * float((x**2).sum()) - along**2)
        yield {"u": u, "k": k, "x": x}, left


@BINDINGS.check("shared_gain.non_expansion")
def non_expansion(formula: str, rng: Rng) -> None:
    """The largest norm that the two steps of the theorem allow, by recursion from 1."""
    (before, after), (slack, product) = parts(formula)
    bound, most, gamma = rate(rng), 1.0, 1.0
    for _ in range(6):
        alpha = rate(rng)
        env = {r"\alpha_t": alpha, r"\varrho": bound, r"\gamma_{t-1}": gamma, r"\gamma_t": gamma * alpha}
        most, gamma = alpha * most + bound * (1 - alpha), gamma * alpha
        for side in (before, after):
            same(latex.evaluate(side, env), most, side)
        for side in (slack, product):
            same(latex.evaluate(side, env), 1 - most, side)
        assert most < 1


@BINDINGS.check("shared_gain.met")
def met(formula: str, rng: Rng) -> None:
    """A first write of the pair at which the second limit binds; then at the rate that the formula names."""
    (left, said), (name, both), (again, opposite) = parts(formula)
    assert (left.strip(), name.strip(), again.strip()) == ("G _ 1 k", r"\eta", "G _ 1 k")
    k, alpha, bound = column(rng, WIDTH), rate(rng), rate(rng)
    square = float((k**2).sum())
    env: Env = {"k": k, r"\alpha": alpha, r"\varrho": bound}
    for eta, side in ((rate(rng), said), (latex.evaluate(both, env), opposite)):
        u = -bound * (1 - alpha) / (eta * square) * k
        same(eta * np.linalg.norm(u) * np.linalg.norm(k), bound * (1 - alpha))
        after = shared_gain.write(np.eye(WIDTH), k[:, 0], u[:, 0], eta, alpha)
        same(latex.evaluate(side, env | {r"\eta": eta}), after @ k, side)
    same(latex.evaluate(opposite, env | {r"\varrho": 1.0}), -k, "its opposite")


# --- the tests -------------------------------------------------------------------------------------------------------

ENTRIES = identities("test_printed_shared_gain.py")


def test_no_identity_is_left_out() -> None:
    assert set(BINDINGS) == {entry.name for entry in ENTRIES}


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.name)
def test_the_proof_and_the_formula_hold(entry: Identity) -> None:
    assert entry.printed is None
    assert entry.holds()
    BINDINGS.run(entry.name, entry.correct)


@pytest.mark.parametrize(
    ("name", "true", "false"),
    [
        ("five_memories", "k_t - v_t) k_t", "v_t) k_t"),
        ("dot", "G_{t-1} k_t - v_t", "G_{t-1} k_t + k_t - v_t"),
        ("boundary", "2 k_3", "k_3"),
        ("readout", r"r^\top W_b k_t", r"r^\top W_{t-1} k_t"),
        ("erase", r"2 \alpha - \eta", r"\alpha - \eta"),
        ("injection", r"\tfrac12", ""),
        ("non_expansion", r"(1 - \varrho) (1 - \gamma_t)", r"1 - \gamma_t"),
        ("met", r"-(\alpha", r"(\alpha"),
    ],
)
def test_another_formula_does_not(name: str, true: str, false: str) -> None:
    formula = next(entry.correct for entry in ENTRIES if entry.name == f"shared_gain.{name}")
    assert true in formula
    with pytest.raises(AssertionError):
        BINDINGS.run(f"shared_gain.{name}", formula.replace(true, false))


@pytest.mark.parametrize(("objective", "readout"), [("l2", "matrix"), ("dot", "vector")])
def test_the_statement_is_the_reference(objective: str, readout: str) -> None:
    """The two cases that the agreement matrix leaves out."""
    said = derived.statement(objective, readout)
    point = said.random_point(np.random.default_rng(3))
    want = said.evaluate(**point)
    x = point.pop("x")
    y, state = shared_gain.shared_gain(x, point, objective=objective, readout=readout, chunk_size=2)
    np.testing.assert_allclose(y, want["outputs"], rtol=0, atol=1e-12)
    for name, weight in shared_gain.current(state).items():
        np.testing.assert_allclose(weight, want[f"final_{name}"].reshape(weight.shape), rtol=0, atol=1e-12)
