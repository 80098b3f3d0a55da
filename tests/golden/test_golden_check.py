"""Judging implementations: ours passes, planted bugs are named."""

import numpy as np
import pytest

from hope_ref import golden
from hope_ref.config import HopeConfig
from hope_ref.golden import ours
from hope_ref.golden.check import relative_error
from hope_ref.reference import self_modifying_titans as smt

SHIPPED = golden.paths(golden.FOLDER)


def vector(name):
    return golden.load(golden.FOLDER / f"{name}.npz")


def test_nan_is_an_infinite_error_and_one_wrong_array_is_enough():
    assert relative_error(np.array([1.0, np.nan]), np.ones(2)) == np.inf
    assert relative_error(np.array([2.0]), np.array([4.0])) == 0.5
    right, wrong = golden.Finding("outputs", 1e-12, ""), golden.Finding("final_memory", 1e-3, "")
    assert golden.Report((right, right), 1e-9, "").agrees()
    assert not golden.Report((right, wrong), 1e-9, "").agrees()


def test_a_result_that_is_not_returned_is_missed():
    def forgetful(**named):
        return {"outputs": ours.delta_rule(**named)["outputs"]}

    report = golden.check(vector("delta_rule"), forgetful)
    assert not report.agrees()
    assert [finding.array for finding in report.findings] == ["outputs", "final_memory"]
    assert report.findings[1].note == "missing; returned: outputs"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_our_reference_passes_every_vector(path):
    loaded = golden.load(path)
    report = golden.check(loaded, golden.implementation("hope_ref.golden.ours", loaded.component))
    assert report.agrees(), report
    assert [finding.array for finding in report.findings] == list(loaded.results)
    assert report.cause == ""


# --- planted bugs: the code itself is wrong, the options it is called with are right ---


def reads_before_the_write(**named):
    """A loop of its own that answers before it writes."""
    options = {name: named.pop(name) for name in golden.components()["self_modifying_titans"].options}
    x, config = named.pop("x"), HopeConfig.from_dict({**options, "eta_max": float(named.pop("eta_max"))})
    state, outputs = smt.initial_state(named, config), np.zeros_like(x)
    for t in range(len(x)):
        boundary = smt.at_boundary(state, config)
        token = smt.generate(x[t], x[t], x[t], named, config, boundary)
        w1, w2 = state.weights["w1_memory"], state.weights["w2_memory"]
        hidden = w2 @ token.q
        outputs[t] = w1 @ (hidden / (1 + np.exp(-hidden)))
        weights, momentum = smt.write_all(token, named, config, boundary, state)
        state = smt.State(weights, boundary, momentum, state.position + 1)
    return {"outputs": outputs, **{f"final_{name}": array for name, array in state.weights.items()}}


def has_no_bound(monkeypatch):
    def function(**named):
        with monkeypatch.context() as patched:
            patched.setattr("hope_ref.reference.self_modifying_titans.bounded", lambda u, bound: u)
            return ours.self_modifying_titans(**named)

    return function


def erases_everything(monkeypatch):
    original = smt.write

    def write(weight, initial, momentum, phi, u, eta, alpha, config):
        return original(weight, initial, momentum, phi, u, eta, alpha, config.replace(erase="full"))

    def function(**named):
        with monkeypatch.context() as patched:
            patched.setattr(smt, "write", write)
            return ours.self_modifying_titans(**named)

    return function


@pytest.mark.parametrize(
    ("name", "planted", "cause"),
    [
        ("default", lambda monkeypatch: reads_before_the_write, "read='pre'"),
        ("default", has_no_bound, "surprise_bound=0.0"),
        ("default", erases_everything, "erase='full'"),
    ],
)
def test_a_planted_bug_is_named(monkeypatch, name, planted, cause):
    report = golden.check(vector(f"self_modifying_titans_{name}"), planted(monkeypatch))
    assert not report.agrees()
    assert report.cause == cause
    outputs = report.findings[0]
    assert outputs.array == "outputs"
    assert outputs.error > 1e-6
    assert "first differs at token" in outputs.note


@pytest.mark.slow
def test_two_bugs_at_once_are_named():
    def both(**named):
        return ours.self_modifying_titans(**{**named, "read": "pre", "erase": "none"})

    report = golden.check(vector("self_modifying_titans_objective_dot"), both)
    assert report.cause == "erase='none' and read='pre'"


def test_momentum_that_is_not_used_is_named():
    """Without momentum our reference has no final_b… to compare: the other arrays decide."""
    loaded = vector("self_modifying_titans_inner_momentum")

    def without(**named):
        zeros = {n: np.zeros_like(a) for n, a in loaded.results.items() if n.startswith("final_b")}
        return {**zeros, **ours.self_modifying_titans(**{**named, "inner_momentum": 0.0})}

    assert golden.check(loaded, without).cause == "inner_momentum=0.0"


@pytest.mark.slow
def test_nothing_in_common_is_no_cause():
    def one_array(**named):
        return {"final_b1_k": np.ones_like(named["w1_k"])}

    report = golden.check(vector("self_modifying_titans_inner_momentum"), one_array)
    assert report.cause == ""


@pytest.mark.slow  # all pairs of options are tried
def test_a_bug_that_no_option_explains_is_not_explained():
    def shifted(**named):
        results = ours.self_modifying_titans(**named)
        return {**results, "outputs": results["outputs"] + 1e-3}

    report = golden.check(vector("self_modifying_titans_default"), shifted)
    assert report.cause == ""
    assert [f.array for f in report.findings if f.error > report.tolerance] == ["outputs"]


def test_a_cause_gives_every_array():
    """The outputs are those of another option value, the final state is nobody's."""

    def mixed(**named):
        results = ours.recurrence(**{**named, "erase": "none"})
        return {**results, "final_state": results["final_state"] * 1.001}

    report = golden.check(vector("recurrence_before_decay"), mixed)
    assert report.cause == ""
    assert report.tried == "2 option values"


def test_values_that_coincide_are_all_named():
    """With chunks of one token the boundary is the state before the write."""
    report = golden.check(vector("self_modifying_titans_chunks_of_one"), reads_before_the_write)
    assert report.cause == "read='pre', or read='boundary'"


# --- mistakes that are no options, each written out as its author would have ---


def gated(measured_after):
    def function(q, k, v, eta, alpha, memory):
        outputs = np.zeros_like(v)
        for t in range(len(k)):
            seen = alpha[t] * memory if measured_after else memory
            memory = alpha[t] * memory + eta[t] * np.outer(v[t] - seen @ k[t], k[t])
            outputs[t] = memory @ q[t]
        return {"outputs": outputs, "final_memory": memory}

    return function


def delta(scale=1.0, erases=True, kind=np.float64):
    def function(q, k, v, eta, memory):
        q, k, v, eta, memory = (a.astype(kind) for a in (q, k, v, eta, memory))
        outputs = np.zeros_like(v)
        for t in range(len(k)):
            memory = memory + kind(scale) * eta[t] * np.outer(v[t] - erases * (memory @ k[t]), k[t]).astype(
                kind
            )
            outputs[t] = memory @ q[t]
        return {"outputs": outputs, "final_memory": memory, "a_result_more": None}

    return function


def additive(decays=True, decays_write=False):
    def function(q, k, v, alpha, memory):
        outputs = np.zeros_like(v)
        for t in range(len(k)):
            write = np.outer(v[t], k[t])
            if decays_write:
                memory = alpha[t] * (memory + write)
            else:
                memory = (alpha[t] if decays else 1.0) * memory + write
            outputs[t] = memory @ q[t]
        return {"outputs": outputs, "final_memory": memory}

    return function


def titans(alpha=lambda a: a, eta=1.0, mu=1.0):
    def function(q, k, v, memory, chunk_size, **rates):
        outputs, momentum = np.zeros_like(v), np.zeros_like(memory)
        for t in range(len(k)):
            gradient = np.outer(memory @ k[t] - v[t], k[t])
            momentum = mu * rates["mu"][t] * momentum - eta * rates["eta"][t] * gradient
            memory = alpha(rates["alpha"][t]) * memory + momentum
            outputs[t] = memory @ q[t]
        return {"outputs": outputs, "final_memory": memory, "final_momentum": momentum}

    return function


def dgd(erases, implicit):
    def function(w, x, grad_y, eta):
        step = eta / (1 + eta * x @ x) if implicit else eta
        return {"final_w": w - step * np.outer(grad_y + erases * (w @ x), x)}

    return function


@pytest.mark.parametrize(
    ("name", "function", "cause"),
    [
        ("gated_delta_rule", gated(True), None),
        ("gated_delta_rule", gated(False), "before the decay"),
        ("delta_rule", delta(), None),
        ("delta_rule", delta(erases=False), "nothing is erased"),
        ("delta_rule", delta(scale=2.0), "no 1/2"),
        ("linear_attention", additive(), None),
        ("linear_attention", additive(decays=False), "nothing decays"),
        ("linear_attention", additive(decays_write=True), "decays the write, too"),
        ("titans_matrix", titans(), None),
        ("titans_matrix", titans(alpha=lambda a: 1 - a), "1 - alpha"),
        ("titans_matrix", titans(eta=2.0), "no 1/2"),
        ("titans_matrix", titans(mu=0.0), "no momentum"),
        ("delta_gradient_descent_step", dgd(True, True), None),
        ("delta_gradient_descent_step", dgd(True, False), "explicit"),
        ("delta_gradient_descent_step", dgd(False, False), "nothing is erased"),
    ],
)
def test_independent_functions_and_known_mistakes(name, function, cause):
    report = golden.check(vector(name), function)
    assert report.agrees() == (cause is None), report
    assert (cause or "") in report.cause
    assert bool(report.cause) == (cause is not None)


# --- what cannot be compared ---


def raises(**named):
    raise RuntimeError("not today")


@pytest.mark.parametrize(
    ("function", "note"),
    [
        (raises, "the function raised RuntimeError: not today"),
        (lambda q: {}, "the function raised TypeError"),
        (lambda **named: (1, 2), "must return a dict of arrays, got tuple"),
        (lambda **named: {}, "missing; returned: nothing"),
        (lambda **named: {"output": 1.0}, "missing; returned: output"),
        (lambda **named: {"outputs": named["v"].T}, r"must have shape (11, 5), got (5, 11)"),
        (lambda **named: {"outputs": "words"}, "must be an array of real numbers, got dtype <U5"),
        (lambda **named: {"outputs": [[1], [1, 2]]}, "must be an array of real numbers: "),
        (lambda **named: {"outputs": named["v"] * np.nan}, "first differs at token 0 of 11"),
        (delta(kind=np.float32), "computed in float32, not float64"),
    ],
)
def test_what_is_wrong_with_an_array_is_said(function, note):
    report = golden.check(vector("delta_rule"), function)
    assert not report.agrees()
    assert any(note in finding.note for finding in report.findings), report


def test_a_function_that_changes_its_inputs_changes_only_copies():
    loaded = vector("delta_rule")
    before = {name: array.copy() for name, array in loaded.inputs.items()}

    def careless(**named):
        results = ours.delta_rule(**named)
        for array in named.values():
            array[...] = 0.0
        return {**results, "outputs": results["outputs"] + 1.0}

    assert not golden.check(loaded, careless).agrees()
    for name, array in before.items():
        np.testing.assert_array_equal(loaded.inputs[name], array)
