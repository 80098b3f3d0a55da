"""The printed formulas of the expressive optimisers, executed beside steps, solvers and optimisers written out here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import latex_values as latex
import numpy as np
import pytest
from printed_claims import Bindings, Env, Rng, identities, reprinted, run_the_print
from simulated import column, columns, nearest, rate, silu, silu_slope, squares

from hope_ref import symbolic
from hope_ref.symbolic.identity import Identity, slip

BINDINGS = Bindings()
LENGTH = 4


def orthogonalised(x: Any, steps: int = 3) -> Any:
    """Cubic Newton–Schulz through the singular values, from X/‖X‖."""
    left, s, right = np.linalg.svd(x / np.sqrt(squares(x)), full_matrices=False)
    for _ in range(steps):
        s = 1.5 * s - 0.5 * s**3
    return left * s @ right


# --- preconditioning and richer momenta ------------------------------------------------------------------------------


def learnt(rng: Rng, one_shot: bool) -> Iterator[Env]:
    """A preconditioner that takes in one pair after another, entry by entry."""
    p = rng.normal(size=(3, 3))
    for _ in range(LENGTH):
        asked, told, zeta = column(rng, 3), column(rng, 3), rate(rng)
        zeta = 1 / squares(asked) if one_shot else zeta
        miss = [sum(p[i, j] * asked[j, 0] for j in range(3)) - told[i, 0] for i in range(3)]
        after = p - zeta * np.array([[miss[i] * asked[j, 0] for j in range(3)] for i in range(3)])
        yield {"P": p, "P_t": p, "P_{t+1}": after, r"\hat g_t": asked, "g_t": told, r"\zeta": zeta}
        p = after


@BINDINGS.simulation("expressive_optimisers.preconditioner")
def preconditioner(rng: Rng) -> Iterator[Any]:
    yield from learnt(rng, one_shot=False)


@BINDINGS.simulation("expressive_optimisers.secant")
def secant(rng: Rng) -> Iterator[Any]:
    yield from learnt(rng, one_shot=True)


@BINDINGS.simulation("expressive_optimisers.feature_momentum")
def feature_momentum(rng: Rng) -> Iterator[Any]:
    """Any feature of the shape of the gradient, here one that mixes its columns."""
    m, target, mu, eta = rng.normal(size=(2, 3)), rng.normal(size=(2, 2)), rate(rng), rate(rng)
    for _ in range(LENGTH):
        g = rng.normal(size=(2, 3))
        after = mu * m - eta * target @ (g**3 + np.roll(g, 1, axis=1))
        yield {
            "m": m, "m_t": m, "m_{t+1}": after, "g_t": g, "P": target, r"\mu": mu, r"\eta": eta,
            r"\phi": lambda z: z**3 + np.roll(z, 1, axis=1),
        }  # fmt: skip
        m = after


@BINDINGS.simulation("expressive_optimisers.deep_momentum")
def deep_momentum(rng: Rng) -> Iterator[Any]:
    """Both gradients by differences, on a memory of another height than width."""
    w1, w2, u, target = rng.normal(size=(3, 2)), rng.normal(size=(2, 3)), column(rng, 3), column(rng, 3)
    first = latex.gradient(lambda w: float((w @ silu(w2 @ u) * target).sum()), w1)
    second = latex.gradient(lambda w: float((w1 @ silu(w @ u) * target).sum()), w2)
    yield {"W_1": w1, "W_2": w2, "u": u, "P": target, r"\sigma": silu, r"\sigma'": silu_slope}, first, second


@BINDINGS.simulation("expressive_optimisers.deep_momentum_attention")
def attention(rng: Rng) -> Iterator[Any]:
    """A matrix that learns, step by step, to answer each gradient with minus itself."""
    u, mu, eta = columns(rng, LENGTH, 3), rate(rng), rate(rng)
    memory = np.zeros((3, 3))
    for t in range(1, LENGTH + 1):
        slope = latex.gradient(lambda m, t=t: float((m @ u[t] * u[t]).sum()), memory)
        memory = mu * memory - eta * slope
        yield {"t": t, "u": u, "m_t": lambda z, m=memory: m @ z, r"\mu": mu, r"\eta": eta}


@BINDINGS.simulation("expressive_optimisers.deep_momentum_ones")
def ones(rng: Rng) -> Iterator[Any]:
    """For a gradient and for its opposite: the sums of their entries have different signs."""
    drawn, eta, one = column(rng, 3), rate(rng), np.ones((3, 1))
    for u in (drawn, -drawn):
        slope = latex.gradient(lambda m, u=u: float((m @ u * one).sum()), np.zeros((3, 3)))
        yield {"u": u, "m_1": lambda z, m=-eta * slope: m @ z, r"\eta": eta, r"\mathrm{1}": one}


@BINDINGS.simulation("expressive_optimisers.muon")
def muon(rng: Rng) -> Iterator[Any]:
    w, m, mu, eta = rng.normal(size=(2, 3)), rng.normal(size=(2, 3)), rate(rng), rate(rng)
    for _ in range(LENGTH):
        m = mu * m - eta * rng.normal(size=(2, 3))
        unit = m / np.sqrt(squares(m))
        yield {
            "W_t": w, "W_{t+1}": w + orthogonalised(m, 1), "m_{t+1}": m, "O": unit,
            r"\sigma": lambda z: orthogonalised(z, 1),
        }  # fmt: skip
        w = w + orthogonalised(m, 1)


@BINDINGS.simulation("expressive_optimisers.muon_rate")
def muon_rate(rng: Rng) -> Iterator[Any]:
    """The left side with a rate, the right one without."""
    g, mu, eta, m = {t: rng.normal(size=(2, 3)) for t in range(1, LENGTH + 1)}, rate(rng), rate(rng), 0.0
    for t in range(1, LENGTH + 1):
        m = mu * m - eta * g[t]
        yield {"t": t, "g": g, "m_t": m, r"\mu": mu, r"\mathrm{NS}": orthogonalised}


# --- outer products --------------------------------------------------------------------------------------------------


@BINDINGS.simulation("expressive_optimisers.outer_product")
def outer_product(rng: Rng) -> Iterator[Any]:
    """Least squares on the stacked rows; as many rows as columns, so that the print can be put in, too."""
    g, target, ridge = columns(rng, LENGTH, 3), column(rng, 3), rate(rng)
    inputs = np.hstack(list(g.values()))
    solved = nearest(inputs, np.hstack([target] * LENGTH), np.zeros((3, 3)), ridge)
    yield {
        "m": rng.normal(size=(3, 3)), "g": g, "P": target, r"\lambda_m": ridge, r"\sum_i": list(g),
        r"\tilde M": inputs.sum(1, keepdims=True).T, "H": inputs @ inputs.T,
    }, solved  # fmt: skip


@BINDINGS.simulation("expressive_optimisers.metric")
def metric(rng: Rng) -> Iterator[Any]:
    """Down the gradient in coordinates that the metric makes round: W = A V B, with L = (A Aᵀ)⁻¹ and R = (Bᵀ B)⁻¹."""
    a, b, w, g = rng.normal(size=(2, 2)), rng.normal(size=(3, 3)), *rng.normal(size=(2, 2, 3))
    eta = rate(rng)
    round_slope = latex.gradient(lambda v: float((g * (a @ v @ b)).sum()), np.zeros((2, 3)))
    yield {
        "W": rng.normal(size=(2, 3)), "W_t": w, "g_t": g, r"\eta": eta,
        "L": np.linalg.inv(a @ a.T), "R": np.linalg.inv(b.T @ b),
    }, w - eta * a @ round_slope @ b  # fmt: skip


@BINDINGS.simulation("expressive_optimisers.first_step")
def first_step(rng: Rng) -> Iterator[Any]:
    """The roots through eigenvalues, the directions through singular vectors."""
    g = rng.normal(size=(3, 3))
    left, s, right = np.linalg.svd(g)
    roots = []
    for h in (g @ g.T, g.T @ g):
        values, vectors = np.linalg.eigh(h)
        roots.append(vectors * values**0.25 @ vectors.T)
    yield {"g": g, "A": roots[0], "B": roots[1], "U": left, r"\Sigma": np.diag(s), "V": right.T}


# --- the general form ------------------------------------------------------------------------------------------------


@BINDINGS.simulation("expressive_optimisers.general_step")
def general_step(rng: Rng) -> Iterator[Any]:
    """Least squares with a row for the input and a block of rows for each anchor; and without the input's square."""
    x, u, anchors = column(rng, 3), column(rng, 2), {j: rng.normal(size=(2, 3)) for j in (1, 2, 3)}
    rates = {j: rate(rng) for j in anchors}
    env = {"W": rng.normal(size=(2, 3)), "x": x, "u": u, "A": anchors, "r": rates, r"\sum_j": list(anchors)}
    total = sum(rates.values())
    mean = np.average(list(anchors.values()), axis=0, weights=list(rates.values()))
    env |= {r"\rho": total, r"\bar A": mean}
    rows = np.vstack([x.T, *(np.sqrt(r) * np.eye(3) for r in rates.values())])
    right = np.vstack([u.T, *(np.sqrt(rates[j]) * anchors[j].T for j in anchors)])
    yield env | {r"\delta": 1.0}, np.linalg.lstsq(rows, right, rcond=None)[0].T
    yield env | {r"\delta": 0.0}


@BINDINGS.simulation("expressive_optimisers.general_cases")
def general_cases(rng: Rng) -> Iterator[Any]:
    x, u, w, eta = column(rng, 3), column(rng, 2), rng.normal(size=(2, 3)), rate(rng)
    after = nearest(x, u, w, 1 / eta)
    damped = eta / (1 + eta * squares(x))
    yield {
        "W": rng.normal(size=(2, 3)), "W_t": w, "W_{t+1}": after, "x": x, "u": u, r"\eta": eta, r"\tilde\eta": damped
    }, w + eta * np.outer(u, x), after  # fmt: skip


@BINDINGS.simulation("expressive_optimisers.general_momentum")
def general_momentum(rng: Rng) -> Iterator[Any]:
    """The loop with two arrays, a weight and a momentum, which the printed form does without."""
    w, m, mu, eta = rng.normal(size=(2, 3)), rng.normal(size=(2, 3)), rate(rng), rate(rng)
    before = w - m
    for _ in range(LENGTH):
        x, u = column(rng, 3), column(rng, 2)
        gradient = -np.outer(u, x)
        moved = mu * m - eta * gradient
        names = {"W": rng.normal(size=(2, 3)), "m": rng.normal(size=(2, 3))}
        yield names | {
            "W_t": w, "W_{t-1}": before, "x": x, "u": u, "m_t": m, "g_t": gradient, r"\mu": mu, r"\eta": eta
        }, w + moved, moved  # fmt: skip
        before, w, m = w, w + moved, moved


# --- orthogonal tasks ------------------------------------------------------------------------------------------------


@BINDINGS.simulation("expressive_optimisers.stale")
def stale(rng: Rng) -> Iterator[Any]:
    """Steps of B, whose gradients lie in two directions; A's is the third. Plain momentum, then delta momentum."""
    basis = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    mu, eta = rate(rng), rate(rng)
    for erases in (False, True):
        w, m = rng.normal(size=(1, 3)), rng.normal(size=(1, 3))
        weights, held = {0: float((w @ basis[0]).item())}, {0: float((m @ basis[0]).item())}
        for n in range(1, LENGTH + 1):
            g = rng.normal(size=(1, 2)) @ basis[1:]
            erased = eta / (1 + eta * squares(g)) * (m * g).sum() * g if erases else 0.0
            m = mu * m - erased - eta * g
            w = w + m
            weights[n], held[n] = (float((z @ basis[0]).item()) for z in (w, m))
            yield {"n": n, "W": weights, "m": held, r"\mu": mu}


@BINDINGS.simulation("expressive_optimisers.settled")
def settled(rng: Rng) -> Iterator[Any]:
    g, mu, eta = rng.normal(size=(1, 3)), rate(rng), rate(rng)
    damped = eta / (1 + eta * squares(g))
    plain = delta = rng.normal(size=(1, 3))
    for _ in range(2000):
        plain = mu * plain - eta * g
        delta = mu * delta - damped * (delta * g).sum() * g - eta * g
    yield {
        r"m_\infty": plain, r"\hat m_\infty": delta, "g": g, r"\mu": mu, r"\eta": eta, r"\tilde\eta": damped
    }  # fmt: skip


# --- the tests -------------------------------------------------------------------------------------------------------

ENTRIES = identities("test_printed_expressive.py")


def test_no_identity_is_left_out() -> None:
    assert set(BINDINGS) == {entry.name for entry in ENTRIES}


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.name)
def test_the_correct_formula_holds(entry: Identity) -> None:
    BINDINGS.run(entry.name, entry.correct)


@pytest.mark.parametrize("entry", reprinted(ENTRIES), ids=lambda e: e.name)
def test_the_print_holds_or_is_wrong_as_its_proof_says(entry: Identity) -> None:
    run_the_print(BINDINGS, entry)


def test_an_inverse_on_the_left_is_no_minimiser() -> None:
    printed = symbolic.named("expressive_optimisers.outer_product").printed_proof
    assert printed is not None
    assert slip(printed()) > 0.01
