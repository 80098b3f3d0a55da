"""The printed formulas of state tracking and of chunks against tokens, executed on writes that are written out here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import latex_values as latex
import numpy as np
import pytest
from printed_claims import Bindings, Env, Rng, identities, same
from simulated import column, rate, rates

from hope_ref.reference.chunks import frozen_gradients
from hope_ref.symbolic.identity import Identity

BINDINGS = Bindings()
CASES = (("dot", True, 1), ("dot", False, 1), ("l2", True, 1), ("l2", False, 2))  # objective, frozen, n


# --- factors along a key ---------------------------------------------------------------------------------------------


def loss(objective: str, k: Any, v: Any) -> Callable[[Any], float]:
    if objective == "dot":
        return lambda w: -float(((w @ k) * v).sum())
    return lambda w: float(((w @ k - v) ** 2).sum()) / 2


def left_along(objective: str, frozen: bool, taken: float, alpha: float, k: Any, rng: Rng) -> float:
    """Two weights that differ along k take the same write, with the slope by differences: what is left of the distance."""
    one, boundary, v = rng.normal(size=(2, 3)), rng.normal(size=(2, 3)), column(rng, 2)
    other = one + column(rng, 2) * k.T

    def after(w: Any) -> Any:
        return (
            alpha * w
            - taken * w @ k * k.T
            - taken * latex.gradient(loss(objective, k, v), boundary if frozen else w)
        )

    before, moved = one - other, after(one) - after(other)
    return float((before * moved).sum() / (before * before).sum())


def factors(rng: Rng, step: str) -> Iterator[Env]:
    for objective, frozen, times in CASES:
        k, eta, alpha = column(rng, 3), rate(rng), rate(rng)
        square, most = float((k * k).sum()), eta + rate(rng)
        taken = {"implicit": eta / (1 + eta * square), "explicit": eta, "normalized": eta / square}[step]
        yield {
            "f": left_along(objective, frozen, taken, alpha, k, rng), "n": times, r"\alpha": alpha, r"\eta": eta, "H": most,
            r"\lambda": np.sqrt(square),
        }  # fmt: skip


@BINDINGS.simulation("state_tracking.implicit")
def implicit(rng: Rng) -> Iterator[Any]:
    yield from factors(rng, "implicit")


@BINDINGS.simulation("state_tracking.explicit")
def explicit(rng: Rng) -> Iterator[Any]:
    yield from factors(rng, "explicit")


@BINDINGS.simulation("state_tracking.normalized")
def normalized(rng: Rng) -> Iterator[Any]:
    yield from factors(rng, "normalized")


@BINDINGS.simulation("state_tracking.parity")
def parity(rng: Rng) -> Iterator[Any]:
    """A sign that is turned by counting, not by a product."""
    bits = [0, *(int(x) for x in rng.integers(0, 2, size=12))]
    for t in range(1, len(bits)):
        odd, before = sum(bits[: t + 1]) % 2, sum(bits[:t]) % 2
        m, last = (1.0 if count == 0 else -1.0 for count in (odd, before))
        yield {"t": t, "x": bits, "x_t": bits[t], "m_t": m, "m_{t-1}": last}, m, odd


@BINDINGS.simulation("state_tracking.one_way")
def one_way(rng: Rng) -> Iterator[Any]:
    for f in (rate(rng), -rate(rng), 1.3):
        b, m = float(rng.normal()), [float(rng.normal())]
        for t in range(8):
            m.append(f * m[-1] + b)
            yield {"t": t, "f": f, "m": list(m), "m_{t+1}": m[-1], "m_t": m[-2]} if t else {
                "t": 0, "f": f, "m": [*m, 0.0], "m_{t+1}": m[1], "m_t": m[0]
            }  # fmt: skip


# --- chunks and tokens -----------------------------------------------------------------------------------------------

Written = Callable[[int, Any], Any]


def run(p: Env, written: Written, chunk_size: int, length: int) -> list[Any]:
    """The states of the rule, counted from 0; what is written at t reads the state at its boundary."""
    found = [p["M_0"]]
    for t in range(1, length + 1):
        k, boundary = p["k"][t], found[(t - 1) // chunk_size * chunk_size]
        erased = p["e"] * found[-1] @ k
        found.append(p[r"\alpha"][t] * found[-1] + p[r"\eta"][t] * (written(t, boundary) - erased) * k.T)
    return found


def tokens(rng: Rng, length: int) -> Env:
    k, v = ({t: column(rng, n) for t in range(1, length + 1)} for n in (3, 2))
    env = {
        "k": k,
        "v": v,
        r"\eta": rates(rng, length),
        r"\alpha": rates(rng, length),
        "e": float(rng.normal()),
    }
    return env | {"M_0": rng.normal(size=(2, 3)), "c": float(rng.normal())}


def at(p: Env, t: int) -> Env:
    return {f"{name}_t": p[name][t] for name in ("k", "v", r"\eta", r"\alpha")} | {"e": p["e"], "t": t}


@BINDINGS.simulation("chunk_equivalence.difference")
def difference(rng: Rng) -> Iterator[Any]:
    """A written value that is far from linear in the state."""
    p = tokens(rng, 5)

    def written(t: int, m: Any) -> Any:
        return np.tanh(m @ p["k"][t]) * p["v"][t]

    for size in (2, 3, 5):
        chunk, token = run(p, written, size, 5), run(p, written, 1, 5)
        for t in range(1, 6):
            begin = (t - 1) // size * size
            # between the two at the boundary there is something after the first chunk: M_b is the chunk form's own
            yield at(p, t) | {
                r"\delta_t": chunk[t] - token[t], r"\delta_{t-1}": chunk[t - 1] - token[t - 1],
                "u_t": lambda m, t=t: written(t, m), "M_b": chunk[begin], "M_{t-1}": token[t - 1],
            }  # fmt: skip


@BINDINGS.simulation("chunk_equivalence.given")
def given(rng: Rng) -> Iterator[Any]:
    p = tokens(rng, 5)
    token = run(p, lambda t, _: p["v"][t], 1, 5)
    for size in (2, 3, 4, 5):
        chunk = run(p, lambda t, _: p["v"][t], size, 5)
        for t in range(1, 6):
            yield at(p, t) | {"M_t^{C}": chunk[t], "M_{t-1}^{C}": chunk[t - 1], "M_t^{1}": token[t]}


@BINDINGS.simulation("chunk_equivalence.two_tokens")
def two_tokens(rng: Rng) -> Iterator[Any]:
    for _ in range(3):
        p = tokens(rng, 2)

        def written(t: int, m: Any, p: Env = p) -> Any:
            return p["v"][t] + p["c"] * m @ p["k"][t]

        chunk, token = run(p, written, 2, 2)[-1], run(p, written, 1, 2)[-1]
        yield p | {"M_2^{C=2}": chunk, "M_2^{C=1}": token}, chunk - token


# --- the tests -------------------------------------------------------------------------------------------------------

ENTRIES = identities("test_printed_state_tracking.py")


def test_no_identity_is_left_out() -> None:
    assert set(BINDINGS) == {entry.name for entry in ENTRIES}


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.name)
def test_the_proof_and_the_formula_hold(entry: Identity) -> None:
    assert entry.holds()
    BINDINGS.run(entry.name, entry.correct)


@pytest.mark.parametrize(
    ("name", "true", "false"),
    [
        ("state_tracking.implicit", r"\frac{n}{", r"\frac{1}{"),
        ("state_tracking.explicit", r"H - \eta", r"\eta"),
        ("state_tracking.normalized", r"n (H", r"(H"),
        ("state_tracking.parity", "1 - 2", "1 - "),
        ("state_tracking.one_way", "f^t", "f"),
        ("chunk_equivalence.difference", "M_b", "M_{t-1}"),
        ("chunk_equivalence.given", "e ", ""),
        ("chunk_equivalence.two_tokens", "- c M_0 k_1", ""),
    ],
)
def test_another_formula_does_not(name: str, true: str, false: str) -> None:
    formula = next(entry.correct for entry in ENTRIES if entry.name == name)
    assert true in formula
    with pytest.raises(AssertionError):
        BINDINGS.run(name, formula.replace(true, false))


@pytest.mark.parametrize("rule", ["gradient_descent", "delta_gradient_descent"])
@pytest.mark.parametrize("chunk_size", [2, 3, 4, 5])
def test_on_the_reference_only_the_dot_product_is_one_model_for_every_chunk_size(
    chunk_size: int, rule: str
) -> None:
    """With orthogonal keys and α = 1 the regression loss is too: the first write must be seen by the second key."""
    rng = np.random.default_rng(chunk_size)
    q, k = rng.normal(size=(2, 5, 6))
    v, eta, alpha = rng.normal(size=(5, 2)), rng.uniform(0.2, 0.9, 5), rng.uniform(0.2, 0.9, 5)
    apart = {}
    for name, keys, kept in (("any", k, alpha), ("orthogonal", np.linalg.qr(k.T)[0].T, np.ones(5))):
        for objective in ("dot", "l2"):
            runs = [
                frozen_gradients(q, keys, v, eta, kept, chunk_size=size, objective=objective, rule=rule)[1]
                for size in (1, chunk_size)
            ]
            apart[objective, name] = np.abs(runs[1] - runs[0]).max()
    assert max(apart["dot", "any"], apart["dot", "orthogonal"], apart["l2", "orthogonal"]) < 1e-12
    assert apart["l2", "any"] > 1e-2


def test_for_every_state_reading_share_some_value_tells_the_forms_apart() -> None:
    """The formula's v_1 may be anything: its slope is -c η_1 η_2 (k_1ᵀk_2) k_2ᵀ, row by row, and 0 only if one of these is."""
    p = tokens(np.random.default_rng(0), 2)
    ends = []
    for moved in (0.0, 1.0):
        at_value = p | {"v": {**p["v"], 1: p["v"][1] + moved}}
        ends.append(
            [
                run(at_value, lambda t, m, a=at_value: a["v"][t] + a["c"] * m @ a["k"][t], size, 2)[-1]
                for size in (1, 2)
            ]
        )
    slope = (ends[1][1] - ends[1][0]) - (ends[0][1] - ends[0][0])
    seen = float((p["k"][1] * p["k"][2]).sum())
    said = -p["c"] * p[r"\eta"][1] * p[r"\eta"][2] * seen * np.ones((2, 1)) * p["k"][2].T
    same(slope, said)
    assert np.abs(said).max() > 1e-3
