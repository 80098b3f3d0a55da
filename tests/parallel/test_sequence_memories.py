"""Linear attention, the delta rule and the gated delta rule in chunks, against the NumPy loop and its derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from hope_ref import parallel, reference

D_K, D_V = 5, 3


class Rule(NamedTuple):
    name: str
    numpy: Callable[..., Any]
    torch: Callable[..., Any]
    gates: tuple[str, ...]


RULES = [
    Rule(
        "linear",
        reference.linear_attention.linear_attention,
        parallel.linear_attention.linear_attention,
        ("alpha",),
    ),
    Rule("delta", reference.delta_rule.delta_rule, parallel.delta_rule.delta_rule, ("eta",)),
    Rule(
        "gated", reference.delta_rule.gated_delta_rule, parallel.delta_rule.gated_delta_rule, ("eta", "alpha")
    ),
]
every_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)


def lengths(chunk_size: int) -> list[int]:
    return sorted({1, chunk_size - 1, chunk_size, chunk_size + 1, 2 * chunk_size + 1, 100} - {0})


GRID = [(C, T) for C in (1, 4, 16, 64) for T in lengths(C)]


def sample(rule: Rule, length: int, seed: int = 0, lead: tuple[int, ...] = ()) -> dict[str, np.ndarray]:
    """Unit keys, so that eta < 2 is stable; a random memory; gates uniform over their whole range."""
    rng = np.random.default_rng(seed)
    k = rng.normal(size=(*lead, length, D_K))
    arguments = {
        "q": rng.normal(size=(*lead, length, D_K)),
        "k": k / np.linalg.norm(k, axis=-1, keepdims=True),
        "v": rng.normal(size=(*lead, length, D_V)),
        "memory": rng.normal(size=(*lead, D_V, D_K)),
    }
    if "eta" in rule.gates:
        arguments["eta"] = rng.uniform(0, 1.9, size=(*lead, length))
    if "alpha" in rule.gates:
        arguments["alpha"] = rng.uniform(0.1, 1, size=(*lead, length))
    return arguments


def tensors(arguments: dict[str, np.ndarray], gradient: bool = False) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(a.copy()).requires_grad_(gradient) for name, a in arguments.items()}


def literal_loop(rule: Rule, **a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The recurrence again, in PyTorch, in its transition form: shares no line with either floor."""
    memory, outputs = a["memory"], []
    for t in range(a["k"].shape[0]):
        k, v = a["k"][t][:, None], a["v"][t][:, None]
        alpha = a["alpha"][t] if "alpha" in a else torch.ones((), dtype=torch.float64)
        if rule.name == "linear":
            memory = alpha * memory + v @ k.T
        else:
            eta = a["eta"][t]
            memory = alpha * memory @ (torch.eye(D_K, dtype=torch.float64) - eta * k @ k.T) + eta * v @ k.T
        outputs.append((memory @ a["q"][t][:, None])[:, 0])
    return torch.stack(outputs), memory


@every_rule
@pytest.mark.parametrize(("chunk_size", "length"), GRID)
def test_equals_the_numpy_loop(rule: Rule, chunk_size: int, length: int) -> None:
    arguments = sample(rule, length, seed=length)
    y, memory = rule.numpy(**arguments)
    y_chunks, memory_chunks = rule.torch(**tensors(arguments), chunk_size=chunk_size)
    np.testing.assert_allclose(y_chunks.numpy(), y, rtol=0, atol=1e-10)
    np.testing.assert_allclose(memory_chunks.numpy(), memory, rtol=0, atol=1e-10)


def weighted_sum(y: Any, memory: Any, seed: int) -> Any:
    """A scalar that depends on every output and every entry of the final memory."""
    rng = np.random.default_rng(seed)
    one, two = rng.normal(size=y.shape), rng.normal(size=memory.shape)
    if isinstance(y, torch.Tensor):
        return (torch.from_numpy(one) * y).sum() + (torch.from_numpy(two) * memory).sum()
    return (one * y).sum() + (two * memory).sum()


@every_rule
@pytest.mark.parametrize(("chunk_size", "length"), GRID)
def test_gradients_equal_those_of_an_independent_loop(rule: Rule, chunk_size: int, length: int) -> None:
    arguments = sample(rule, length, seed=length)
    ours, theirs = tensors(arguments, gradient=True), tensors(arguments, gradient=True)
    weighted_sum(*rule.torch(**ours, chunk_size=chunk_size), seed=1).backward()
    weighted_sum(*literal_loop(rule, **theirs), seed=1).backward()
    for name, tensor in ours.items():
        expected = theirs[name].grad
        assert tensor.grad is not None
        assert expected is not None
        scale = max(1.0, float(expected.abs().max()))
        assert float((tensor.grad - expected).abs().max()) <= 1e-10 * scale, name


@every_rule
@pytest.mark.parametrize(("chunk_size", "length"), [(1, 5), (4, 9), (16, 33), (64, 65)])
def test_gradients_equal_central_differences_of_the_reference(
    rule: Rule, chunk_size: int, length: int
) -> None:
    arguments = sample(rule, length, seed=3)
    ours = tensors(arguments, gradient=True)
    weighted_sum(*rule.torch(**ours, chunk_size=chunk_size), seed=2).backward()
    rng, h = np.random.default_rng(4), 1e-5
    for name, array in arguments.items():
        direction = rng.normal(size=array.shape) / np.sqrt(array.size)
        ends = [
            weighted_sum(*rule.numpy(**{**arguments, name: array + s * direction}), seed=2) for s in (h, -h)
        ]
        slope = (ends[0] - ends[1]) / (2 * h)
        gradient = ours[name].grad
        assert gradient is not None
        assert abs(float((gradient.numpy() * direction).sum()) - slope) <= 1e-7 * max(1.0, abs(slope)), name


@every_rule
def test_every_split_carries_the_state(rule: Rule) -> None:
    length, chunk_size = 13, 4
    arguments = tensors(sample(rule, length))
    whole, final = rule.torch(**arguments, chunk_size=chunk_size)
    for split in range(length + 1):
        first = {n: a if n == "memory" else a[:split] for n, a in arguments.items()}
        y_first, state = rule.torch(**first, chunk_size=chunk_size)
        rest = {n: state if n == "memory" else a[split:] for n, a in arguments.items()}
        y_rest, last = rule.torch(**rest, chunk_size=chunk_size)
        torch.testing.assert_close(torch.cat([y_first, y_rest]), whole, rtol=0, atol=1e-12)
        torch.testing.assert_close(last, final, rtol=0, atol=1e-12)


@every_rule
def test_causality_by_perturbation(rule: Rule) -> None:
    length = 11
    arguments = tensors(sample(rule, length))
    y, _ = rule.torch(**arguments, chunk_size=4)
    for token in range(length):
        changed = {n: a.clone() for n, a in arguments.items()}
        for name in ("q", "k", "v"):
            changed[name][token] += 0.3
        for name in rule.gates:
            changed[name][token] *= 0.5
        moved, _ = rule.torch(**changed, chunk_size=4)
        assert torch.equal(moved[:token], y[:token]), f"token {token} reached an earlier output"
        assert (moved[token] - y[token]).abs().max() > 1e-3, f"token {token} did not reach its own output"


# --- retentions of exactly 0 ------------------------------------------------------------------------------------------

ZEROS = {"one": (2,), "several": (0, 3, 4), "all": tuple(range(6))}
forgetting = pytest.mark.parametrize("rule", [RULES[0], RULES[2]], ids=lambda rule: rule.name)
zeros = pytest.mark.parametrize("places", ZEROS.values(), ids=ZEROS)


@forgetting
@zeros
@pytest.mark.parametrize("chunk_size", [1, 2, 3, 6])
def test_the_gradient_by_a_retention_of_zero(rule: Rule, places: tuple[int, ...], chunk_size: int) -> None:
    """Against the token loop by autograd, and against the NumPy loop, one-sided: it is linear in each retention."""
    arguments = sample(rule, 6, seed=6)
    arguments["alpha"][list(places)] = 0.0
    ours, theirs = tensors(arguments, gradient=True), tensors(arguments, gradient=True)
    weighted_sum(*rule.torch(**ours, chunk_size=chunk_size), seed=1).backward()
    weighted_sum(*literal_loop(rule, **theirs), seed=1).backward()
    for name, tensor in ours.items():
        assert tensor.grad is not None
        torch.testing.assert_close(
            tensor.grad, theirs[name].grad, rtol=1e-10, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}"
        )
    here = weighted_sum(*rule.numpy(**arguments), seed=1)
    for place in places:
        moved = arguments["alpha"].copy()
        moved[place] = 0.5
        slope = (weighted_sum(*rule.numpy(**(arguments | {"alpha": moved})), seed=1) - here) / 0.5
        assert ours["alpha"].grad is not None
        assert abs(float(ours["alpha"].grad[place]) - slope) <= 1e-11 * max(1.0, abs(slope))
        assert abs(slope) > 1e-3


@forgetting
@zeros
def test_that_gradient_passes_through_every_split(rule: Rule, places: tuple[int, ...]) -> None:
    arguments = sample(rule, 6, seed=6)
    arguments["alpha"][list(places)] = 0.0
    found = []
    for split in range(7):
        given = tensors(arguments, gradient=True)
        first, rest = ({n: a[part] for n, a in given.items() if n != "memory"} for part in (slice(split), slice(split, None)))  # fmt: skip
        y_first, state = rule.torch(**first, memory=given["memory"], chunk_size=3)
        y_rest, state = rule.torch(**rest, memory=state, chunk_size=3)
        weighted_sum(torch.cat([y_first, y_rest]), state, seed=1).backward()
        found.append(given["alpha"].grad)
    for gradient in found[1:]:
        torch.testing.assert_close(gradient, found[0], rtol=0, atol=1e-11)


@every_rule
def test_no_tokens_change_nothing(rule: Rule) -> None:
    arguments = sample(rule, 0)
    for run, given in ((rule.numpy, arguments), (rule.torch, tensors(arguments))):
        y, memory = run(**given)
        assert tuple(y.shape) == (0, D_V)
        np.testing.assert_array_equal(np.asarray(memory), arguments["memory"])


@every_rule
def test_batch_and_heads_are_independent(rule: Rule) -> None:
    arguments = sample(rule, 9, lead=(2, 4))
    y, memory = rule.torch(**tensors(arguments), chunk_size=4)
    for index in np.ndindex(2, 4):
        y_one, memory_one = rule.numpy(**{name: a[index] for name, a in arguments.items()})
        np.testing.assert_allclose(y[index].numpy(), y_one, rtol=0, atol=1e-12)
        np.testing.assert_allclose(memory[index].numpy(), memory_one, rtol=0, atol=1e-12)


@every_rule
def test_default_memory_is_empty_and_a_number_is_a_gate(rule: Rule) -> None:
    arguments = sample(rule, 6)
    del arguments["memory"]
    numbers = {name: 0.5 for name in rule.gates}
    full = {**arguments, **{name: np.full(6, 0.5) for name in rule.gates}, "memory": np.zeros((D_V, D_K))}
    y, _ = rule.numpy(**full)
    np.testing.assert_array_equal(rule.numpy(**{**arguments, **numbers})[0], y)
    without_gates = {n: a for n, a in tensors(arguments).items() if n not in rule.gates}
    np.testing.assert_allclose(rule.torch(**without_gates, **numbers)[0].numpy(), y, rtol=0, atol=1e-12)


@every_rule
def test_float32_stays_near_the_reference(rule: Rule) -> None:
    arguments = sample(rule, 100)
    y, memory = rule.numpy(**arguments)
    single = {name: a.float() for name, a in tensors(arguments).items()}
    y_single, memory_single = rule.torch(**single, chunk_size=16)
    assert y_single.dtype == torch.float32
    assert np.abs(y_single.numpy() - y).max() < 1e-4 * np.abs(y).max()
    assert np.abs(memory_single.numpy() - memory).max() < 1e-4 * np.abs(memory).max()


def test_gated_rule_at_alpha_one_is_the_delta_rule() -> None:
    arguments = sample(RULES[1], 30)
    plain, _ = reference.delta_rule.delta_rule(**arguments)
    gated, _ = reference.delta_rule.gated_delta_rule(**arguments, alpha=1.0)
    np.testing.assert_allclose(gated, plain, rtol=0, atol=1e-12)
    opened, _ = reference.delta_rule.gated_delta_rule(**arguments, alpha=0.9)
    assert np.abs(opened - plain).max() > 0.1


@pytest.mark.cuda
@every_rule
def test_cuda_equals_the_numpy_loop(rule: Rule) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device on this machine")
    arguments = sample(rule, 65)
    y, memory = rule.numpy(**arguments)
    on_device = {name: a.cuda() for name, a in tensors(arguments).items()}
    y_device, memory_device = rule.torch(**on_device, chunk_size=16)
    np.testing.assert_allclose(y_device.cpu().numpy(), y, rtol=0, atol=1e-10)
    np.testing.assert_allclose(memory_device.cpu().numpy(), memory, rtol=0, atol=1e-10)


def bad_cases() -> list[tuple[str, str, dict[str, Any], str]]:
    """(floor, rule, what is replaced, the message): every message names the argument, what it got, what it wants."""
    nan = np.zeros((6, D_K))
    nan[2, 1] = np.nan
    cases: list[tuple[str, str, dict[str, Any], str]] = [
        ("numpy", "gated", {"k": np.zeros(6)}, r"k must have shape \(T, d_k\), got \(6,\)"),
        ("numpy", "gated", {"q": np.zeros((5, D_K))}, r"q must have shape \(6, 5\), got \(5, 5\)"),
        ("numpy", "gated", {"v": np.zeros((7, D_V))}, r"v must have shape \(6, d_v\), got \(7, 3\)"),
        (
            "numpy",
            "gated",
            {"memory": np.zeros((D_K, D_V))},
            r"memory must have shape \(3, 5\), got \(5, 3\)",
        ),
        ("numpy", "gated", {"k": nan}, "k must be finite, got 1 NaN or infinite entries"),
        ("numpy", "gated", {"q": np.zeros((6, D_K), np.float32)}, "q must be float64 .* got dtype float32"),
        ("numpy", "gated", {"v": np.zeros((6, D_V), complex)}, "v must be float64 .* got dtype complex128"),
        ("numpy", "gated", {"v": [[1.0], [1.0, 2.0]]}, "v must be an array of real numbers"),
        ("numpy", "delta", {"eta": -0.3}, "eta must be >= 0, got min -0.3"),
        ("numpy", "delta", {"eta": np.zeros(5)}, r"eta must have shape \(6,\), got \(5,\)"),
        ("numpy", "gated", {"alpha": 1.5}, "alpha must be <= 1, got max 1.5"),
        ("numpy", "linear", {"alpha": -0.1}, "alpha must be >= 0, got min -0.1"),
        (
            "torch",
            "gated",
            {"k": torch.zeros(5).double()},
            r"k must have shape \(\.\.\., T, d_k\), got \(5,\)",
        ),
        ("torch", "gated", {"q": torch.zeros(5, D_K).double()}, r"q must have shape \(6, 5\), got \(5, 5\)"),
        (
            "torch",
            "gated",
            {"v": torch.zeros(7, D_V).double()},
            r"v must have shape \(6, d_v\), got \(7, 3\)",
        ),
        (
            "torch",
            "gated",
            {"memory": torch.zeros(5, 3).double()},
            r"memory must have shape \(3, 5\), got \(5, 3\)",
        ),
        ("torch", "gated", {"k": torch.from_numpy(nan)}, "k must be finite, got 1 NaN or infinite entries"),
        (
            "torch",
            "gated",
            {"v": torch.zeros(6, D_V)},
            "v must have the dtype of k, torch.float64, got torch.float32",
        ),
        ("torch", "gated", {"q": np.zeros((6, D_K))}, "q must be a torch.Tensor, got ndarray"),
        (
            "torch",
            "gated",
            {"k": torch.zeros(6, D_K).long()},
            "k must have a floating-point dtype, got torch.int64",
        ),
        ("torch", "gated", {"memory": torch.zeros(3, 5)}, "memory must have the dtype of k"),
        (
            "torch",
            "gated",
            {"q": torch.zeros(6, D_K, dtype=torch.float64, device="meta")},
            "q must be on the device of k, cpu, got meta",
        ),
        ("torch", "delta", {"eta": -0.3}, "eta must be >= 0, got min -0.3"),
        ("torch", "delta", {"eta": torch.zeros(5).double()}, r"eta must have shape \(6,\), got \(5,\)"),
        (
            "torch",
            "delta",
            {"eta": torch.zeros(6)},
            "eta must have the dtype of k, torch.float64, got torch.float32",
        ),
        ("torch", "gated", {"alpha": 1.5}, "alpha must be <= 1, got max 1.5"),
        ("torch", "linear", {"alpha": torch.tensor(float("nan")).double()}, "alpha must be finite"),
        ("torch", "linear", {"chunk_size": 0}, "chunk_size must be an integer >= 1, got 0"),
        ("torch", "linear", {"chunk_size": 2.5}, "chunk_size must be an integer >= 1, got 2.5"),
        ("torch", "linear", {"chunk_size": True}, "chunk_size must be an integer >= 1, got True"),
    ]
    return cases


@pytest.mark.parametrize(("floor", "name", "replaced", "message"), bad_cases())
def test_bad_input_is_named(floor: str, name: str, replaced: dict[str, Any], message: str) -> None:
    rule = next(rule for rule in RULES if rule.name == name)
    arguments: dict[str, Any] = dict(sample(rule, 6))
    given = arguments if floor == "numpy" else dict(tensors(arguments))
    with pytest.raises(ValueError, match=message):
        getattr(rule, floor)(**{**given, **replaced})
