"""The identities of the self-modifying Titans beyond "it holds": tied to the code that runs, and able to fail."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import sympy as sp

from hope_ref import symbolic
from hope_ref.config import HopeConfig
from hope_ref.reference.activations import silu, silu_derivative
from hope_ref.reference.self_modifying_titans import associations, self_modifying_titans, step_size, write
from hope_ref.symbolic import self_modifying_titans as smt
from hope_ref.symbolic.identity import Identity, Sides, residual

NAMES = {
    "gradients_dot", "gradients_l2", "implicit_step", "shift", "linear_dot", "linear_l2", "eigenvalues", "collapse",
    "skip_escapes", "momentum_chunk", "bounded", "longest_write", "square_growth", "distance_from_origin", "worn_away",
}  # fmt: skip


def test_every_promised_identity_is_there() -> None:
    assert {entry.name.split(".")[1] for entry in smt.IDENTITIES} == NAMES


@pytest.mark.parametrize("identity", smt.IDENTITIES, ids=lambda i: i.name)
def test_each_proof_is_fast(identity: Identity) -> None:
    start = time.process_time()
    assert residual(identity.proof()).is_zero_matrix
    assert time.process_time() - start < 3


def numbers(rng: np.random.Generator, *symbols: Any) -> tuple[dict[Any, float], list[np.ndarray]]:
    """A random value for every symbol, and the same values as arrays."""
    arrays = [rng.uniform(0.2, 0.9, size=np.shape(s)) for s in symbols]
    flat = [x for s in symbols for x in (s if isinstance(s, tuple | sp.MatrixBase) else [s])]
    return dict(zip(flat, np.concatenate([np.ravel(a) for a in arrays]), strict=True)), arrays


@pytest.mark.parametrize("objective", ["dot", "l2"])
def test_the_derived_gradients_are_those_of_the_reference(objective: str) -> None:
    point, (w1, w2, k, target) = numbers(np.random.default_rng(0), smt.W1, smt.W2, smt.K, smt.TARGET)
    derived = symbolic.named(f"self_modifying_titans.gradients_{objective}").proof().derived
    got = sp.lambdify(
        list(point), derived, [{"Activation": silu, "Slope": silu_derivative}, "numpy"]
    )(*point.values())  # fmt: skip
    config = HopeConfig(objective=objective, surprise_bound=0)
    pairs = associations((w1, w2), k[:, 0], target[:, 0], config)
    np.testing.assert_allclose(got, np.hstack([np.outer(u, phi) for phi, u in pairs]), rtol=0, atol=1e-14)


def test_the_symbolic_write_is_that_of_the_reference() -> None:
    symbols = (smt.W, smt.START, smt.PHI, smt.U, smt.ETA, smt.ALPHA)
    point, (w, start, phi, u, eta, alpha) = numbers(np.random.default_rng(1), *symbols)
    phi, u = phi[:, 0], u[:, 0]
    nothing = sp.zeros(2, 2)
    cases = {
        ("initial", "full"): (smt.START, nothing),
        ("initial", "deviation"): (smt.START, smt.START),
        ("zero", "full"): (nothing, nothing),
        ("zero", "deviation"): (nothing, smt.START),
    }
    for (target, erase), (back, origin) in cases.items():
        config = HopeConfig(retention_target=target, erase=erase)
        taken = {smt.TAKEN: step_size(float(eta), phi, config.step)}
        stated = smt.write(smt.W, back, origin, smt.PHI, smt.U).subs({**point, **taken})
        got, momentum = write(w, start, None, phi, u, float(eta), float(alpha), config)
        assert momentum is None
        np.testing.assert_allclose(got, np.array(stated, float), rtol=0, atol=1e-14)


@pytest.mark.parametrize("origin", ["full", "deviation"])
def test_the_unrolled_momentum_is_that_of_the_reference(origin: str) -> None:
    said = smt.momentum_loop()
    names = ("alpha", "eta", "phi", "u", "w", "b", "r")
    point, (alpha, eta, phi, u, w, b, start) = numbers(np.random.default_rng(2), *(said[n] for n in names))
    config = HopeConfig(step="explicit", erase=origin, inner_momentum=0.4)
    where = dict(zip(said["e"], start[0] if origin == "deviation" else (0, 0), strict=True))
    for t in range(3):
        w, b = write(w, start, b, phi[t], u[t], float(eta[t]), float(alpha[t]), config)
    for name, got in (("final_w", w), ("final_b", b)):
        stated = np.array(said[name].subs({**point, **where, smt.MU: 0.4}), float)
        np.testing.assert_allclose(got, stated, rtol=0, atol=1e-14)


def test_a_factor_one_in_the_place_of_two_is_seen() -> None:
    derived, stated = symbolic.named("self_modifying_titans.eigenvalues").proof()
    halved = stated.subs(smt.TAKEN, smt.TAKEN / 2)
    assert not residual(Sides(derived, halved)).is_zero_matrix


def test_with_the_skip_a_linear_memory_is_not_homogeneous() -> None:
    """What `collapse` proves of W z is false of z + W z: the proof can fail."""
    at = list(zip(smt.TARGET, smt.V + smt.W * smt.V, strict=True))
    moved = smt._linear(smt.W, "dot").subs(at)
    scaled = moved.subs(dict(zip(smt.W, smt.SCALE * smt.W, strict=True)), simultaneous=True)
    assert not residual(Sides(scaled, smt.SCALE * moved)).is_zero_matrix


@pytest.mark.parametrize("objective", ["dot", "l2"])
def test_collapse_and_explosion_of_a_skip_free_memory(objective: str) -> None:
    """α = 1, unit k and v at random, explicit: towards 0 on the dot product, and on ½‖·‖² for small η only."""
    rng = np.random.default_rng(0)

    def norm(eta: float, steps: int = 3000) -> float:
        w = rng.normal(size=(4, 4)) / 2
        for _ in range(steps):
            k, v = (x / np.linalg.norm(x) for x in rng.normal(size=(2, 4)))
            u = w @ v if objective == "dot" else w @ v - w @ k
            w = w - eta * np.outer(w @ k - u, k)
        return float(np.linalg.norm(w))

    assert norm(0.3) < 1e-9
    assert norm(0.9) < 1e-9 if objective == "dot" else norm(0.9) > 1e9


@pytest.mark.parametrize(("objective", "erase"), [("dot", "deviation"), ("l2", "full")])
def test_the_statement_crosses_a_boundary(objective: str, erase: str) -> None:
    """Three tokens in chunks of two: the second statement goes on from where the first has come to."""
    first, second = (smt.statement(objective, erase, crossed=crossed) for crossed in (False, True))
    point = first.random_point(np.random.default_rng(4))
    point["x"] = np.random.default_rng(5).normal(size=(3, 2))
    x = point.pop("x")
    before = first.evaluate(x=x[:2], **point)
    reached = {name.replace("final", "boundary"): w for name, w in before.items() if name != "outputs"}
    after = second.evaluate(x=x[2:], **point, **reached)
    config = HopeConfig(objective=objective, erase=erase, memory_chunk_size=2, projection_chunk_size=2)
    outputs, state = self_modifying_titans(x, x, x, point, config)
    want = np.vstack([before["outputs"], after["outputs"]])
    np.testing.assert_allclose(outputs, want, rtol=0, atol=1e-12)
    for name, weight in state.weights.items():
        np.testing.assert_allclose(weight, after[f"final_{name}"], rtol=0, atol=1e-12)
        assert np.abs(weight - before[f"final_{name}"]).max() > 1e-4  # the third token has written
    other = second.evaluate(x=x[2:], **point, **{n: point[n.removeprefix("boundary_")] for n in reached})
    assert np.abs(other["outputs"] - after["outputs"]).max() > 1e-4  # it was read at the boundary


@pytest.mark.parametrize(
    ("objective", "erase"),
    [
        ("dot", "full"),  # the other three are rows of the agreement matrix
        *(
            pytest.param(objective, erase, marks=pytest.mark.slow)
            for objective, erase in (("l2", "deviation"), ("l2", "full"), ("dot", "deviation"))
        ),
    ],
)
def test_the_statement_is_what_the_reference_computes(objective: str, erase: str) -> None:
    said = smt.statement(objective, erase)
    unknowns = [symbol for name in said.arguments for symbol in said.symbols(name)]
    compute = sp.lambdify(
        unknowns, list(said.results.values()), "numpy", cse=True
    )  # 168,000 operations without
    for seed in range(3):
        point = said.random_point(np.random.default_rng(seed))
        want = compute(*np.concatenate([np.ravel(value) for value in point.values()]))
        x = point.pop("x")
        outputs, state = self_modifying_titans(x, x, x, point, HopeConfig(objective=objective, erase=erase))
        got = {"outputs": outputs} | {f"final_{name}": weight for name, weight in state.weights.items()}
        assert got.keys() == said.results.keys()
        for name, array in zip(said.results, want, strict=True):
            np.testing.assert_allclose(got[name], array, rtol=0, atol=1e-12)
