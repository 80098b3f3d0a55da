"""One gain in chunks against the NumPy loop, and its derivatives against five separate memories and differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from five_memories import five_memories
from selection import some_slow
from torch import Tensor

import hope_ref
from hope_ref import reference
from hope_ref.parallel import shared_gain as gains
from hope_ref.parallel.shared_gain import State, current, shared_gain

D = 5
KINDS = [(objective, readout) for objective in gains.OBJECTIVES for readout in gains.READOUTS]
each = pytest.mark.parametrize(("objective", "readout"), KINDS)


def case(readout: str, length: int, seed: int = 0, lead: tuple[int, ...] = ()) -> tuple[Any, dict[str, Any]]:
    x = np.random.default_rng([seed, 7]).normal(size=(*lead, length, D))
    return x, reference.shared_gain.random_parameters(D, readout, seed)


def tensors(parameters: dict[str, Any], gradient: bool = False) -> dict[str, Tensor]:
    return {n: torch.from_numpy(np.array(a)).requires_grad_(gradient) for n, a in parameters.items()}


def close(one: Tensor, other: Any, bound: float = 1e-12) -> None:
    np.testing.assert_allclose(one.detach().numpy(), np.asarray(other), rtol=0, atol=bound)


def test_the_front_door_leads_here() -> None:
    assert hope_ref.shared_gain is shared_gain


def test_both_floors_have_the_same_words() -> None:
    for name in ("MEMORIES", "OBJECTIVES", "READOUTS", "READS"):
        assert getattr(gains, name) == getattr(reference.shared_gain, name)
    assert State._fields == reference.shared_gain.State._fields


@pytest.mark.parametrize("read", gains.READS)
@pytest.mark.parametrize(
    ("chunk_size", "length"), [(1, 5), (4, 0), (4, 3), (4, 8), (4, 9), (16, 47), (64, 47)]
)
@each
def test_equals_the_numpy_loop(objective: str, readout: str, chunk_size: int, length: int, read: str) -> None:
    x, parameters = case(readout, length, chunk_size)
    for bound in (1.0, 0.0):
        options: Any = {"chunk_size": chunk_size, "objective": objective, "readout": readout}
        options |= {"read": read, "gain_bound": bound, "eta_max": 1.3}
        want, end = reference.shared_gain.shared_gain(x, parameters, **options)
        for block_size in (3, 64):
            y, state = shared_gain(torch.from_numpy(x), tensors(parameters), **options, block_size=block_size)
            close(y, want)
            close(state.gain, end.gain)
            assert state.position == end.position == length
            for name, weight in current(state).items():
                close(weight, reference.shared_gain.current(end)[name])


@each
def test_every_leading_index_is_a_stream_of_its_own(objective: str, readout: str) -> None:
    """(batch, heads) = (3, 2): parameters for each head, one for all, or one for each stream."""
    x, _ = case(readout, 11, lead=(3, 2))
    of_heads = [case(readout, 0, seed)[1] for seed in (0, 1)]
    stacked = {name: np.stack([one[name] for one in of_heads]) for name in of_heads[0]}
    stacked["w_v"] = of_heads[0]["w_v"]  # no leading axis
    stacked["w_k"] = np.broadcast_to(stacked["w_k"], (3, 2, D, D))
    of_heads[1]["w_v"] = of_heads[0]["w_v"]
    options: Any = {"objective": objective, "readout": readout, "chunk_size": 4}
    y, state = shared_gain(torch.from_numpy(x), tensors(stacked), **options)
    assert state.gain.shape == (3, 2, D, D)
    for batch in range(3):
        for head in range(2):
            want, end = reference.shared_gain.shared_gain(x[batch, head], of_heads[head], **options)
            close(y[batch, head], want)
            for name, weight in current(state).items():
                close(weight[batch, head], reference.shared_gain.current(end)[name])


@pytest.mark.parametrize("gain_bound", [1.0, 0.0])
@each
def test_gradients_equal_those_of_five_separate_memories(
    objective: str, readout: str, gain_bound: float
) -> None:
    x, parameters = case(readout, 11, 3)
    ours, theirs = tensors({"x": x, **parameters}, True), tensors({"x": x, **parameters}, True)
    options: Any = {"objective": objective, "gain_bound": gain_bound, "eta_max": 1.3}
    sums = []
    for given, computed in ((ours, True), (theirs, False)):
        rest = {name: tensor for name, tensor in given.items() if name != "x"}
        if computed:
            y, state = shared_gain(given["x"], rest, chunk_size=4, readout=readout, **options)
            memories = current(state)
        else:
            y, memories = five_memories(given["x"], rest, 4, **options)
        rng = np.random.default_rng(1)
        parts = [y, *(memories[name] for name in gains.MEMORIES)]
        sums.append(sum((torch.from_numpy(rng.normal(size=part.shape)) * part).sum() for part in parts))
        torch.as_tensor(sums[-1]).backward()
    close(torch.as_tensor(sums[0]), torch.as_tensor(sums[1]).detach())
    for name, tensor in ours.items():
        assert tensor.grad is not None
        want = theirs[name].grad
        assert want is not None
        assert float(want.abs().max()) > 1e-4, name
        close(tensor.grad, want, 1e-11 * max(1.0, float(want.abs().max())))


@pytest.mark.parametrize(
    "check",
    some_slow({"first": torch.autograd.gradcheck, "second": torch.autograd.gradgradcheck}, ["first"]),
)
@each
def test_derivatives_equal_differences(objective: str, readout: str, check: Any) -> None:
    """In every argument, the state that comes in included."""
    x, parameters = case(readout, 3, 5)
    given = tensors({"x": x, **parameters}, True)
    options: Any = {"objective": objective, "readout": readout, "chunk_size": 2}
    _, start = shared_gain(given["x"].detach()[:1], tensors(parameters), **options)
    names = [*given, "gain", *gains.MEMORIES]
    inputs = [*given.values(), start.gain.requires_grad_()]
    inputs += [tensor.requires_grad_() for tensor in start.memories.values()]

    def function(*values: Tensor) -> tuple[Tensor, ...]:
        count = len(given)
        named = dict(zip(names[:count], values[:count], strict=True))
        memories = dict(zip(gains.MEMORIES, values[count + 1 :], strict=True))
        state = State(memories, values[count], 1)
        y, end = shared_gain(named.pop("x"), named, state=state, **options)
        return (y, *current(end).values())

    assert check(function, inputs, fast_mode=True)


@each
def test_every_split_carries_the_state(objective: str, readout: str) -> None:
    x, parameters = case(readout, 13, lead=(2,))
    given, options = tensors(parameters), {"objective": objective, "readout": readout, "chunk_size": 4}
    whole, final = shared_gain(torch.from_numpy(x), given, **options)  # type: ignore[arg-type]
    for split in range(14):
        first, state = shared_gain(torch.from_numpy(x[:, :split]), given, **options)  # type: ignore[arg-type]
        rest, last = shared_gain(torch.from_numpy(x[:, split:]), given, state=state, **options)  # type: ignore[arg-type]
        close(torch.cat([first, rest], 1), whole)
        close(last.gain, final.gain)
        for name, weight in last.memories.items():
            close(weight, final.memories[name])


@pytest.mark.parametrize("read", gains.READS)
def test_no_output_sees_a_later_token(read: str) -> None:
    x, parameters = case("vector", 11)
    options: Any = {"read": read, "chunk_size": 4}
    y, _ = shared_gain(torch.from_numpy(x), tensors(parameters), **options)
    for t in range(11):
        shaken = torch.from_numpy(x.copy())
        shaken[t] += 1.0
        moved, _ = shared_gain(shaken, tensors(parameters), **options)
        assert torch.equal(moved[:t], y[:t])
        assert float((moved[t] - y[t]).abs().max()) > 1e-3


@pytest.mark.parametrize("gain_bound", [1.0, 0.0])
def test_tokens_and_memories_of_zero_have_finite_gradients(gain_bound: float) -> None:
    x, parameters = case("vector", 6)
    x[2] = 0
    for name in ("w_k", "w_v"):
        given = tensors({**parameters, name: np.zeros((D, D))}, True)
        view = torch.from_numpy(x).requires_grad_()
        y, state = shared_gain(view, given, chunk_size=2, gain_bound=gain_bound)
        (y.sum() + sum(weight.sum() for weight in current(state).values())).backward()
        assert all(t.grad is not None and bool(t.grad.isfinite().all()) for t in (view, *given.values()))


def test_within_the_limits_no_memory_ever_grows() -> None:
    x, parameters = case("matrix", 60, 2)
    wild = tensors({n: 4 * a if n.startswith("w_") else a for n, a in parameters.items()})
    options: Any = {"readout": "matrix", "chunk_size": 7, "eta_max": 50.0}
    state = None
    sizes = {name: float(wild[name].norm()) for name in gains.MEMORIES}
    for token in torch.from_numpy(x):
        _, state = shared_gain(token[None], wild, state=state, **options)
        assert float(torch.linalg.matrix_norm(state.gain, 2)) <= 1 + 1e-12
        for name, weight in current(state).items():
            assert float(weight.norm()) <= sizes[name] * (1 + 1e-12)
    loose, _ = shared_gain(torch.from_numpy(x), wild, gain_bound=0.0, **options)
    assert not bool(loose.isfinite().all()) or float(loose.abs().max()) > 1e6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_other_precisions_are_computed_in_float32(dtype: torch.dtype) -> None:
    x, parameters = case("vector", 9)
    view, given = torch.from_numpy(x).to(dtype), {n: t.to(dtype) for n, t in tensors(parameters).items()}
    y, state = shared_gain(view, given, chunk_size=4)
    assert y.dtype == dtype
    assert {t.dtype for t in (state.gain, *state.memories.values())} == {torch.float32}
    exact, _ = shared_gain(view.double(), {n: t.double() for n, t in given.items()}, chunk_size=4)
    close(y.double(), exact, 4 * torch.finfo(dtype).eps)
    with torch.autocast("cpu"):
        assert torch.equal(shared_gain(view, given, chunk_size=4)[0], y)


def test_a_state_shares_no_storage_with_the_parameters() -> None:
    x, parameters = case("vector", 3)
    given = tensors(parameters)
    for length in (0, 3):
        _, state = shared_gain(torch.from_numpy(x[:length]), given)
        before = {name: tensor.clone() for name, tensor in current(state).items()}
        for tensor in given.values():
            tensor.add_(1.0)
        assert all(torch.equal(tensor, before[name]) for name, tensor in current(state).items())


# --- bad input -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": np.ones((3, D))}, "x must be a torch.Tensor, got ndarray"),
        ({"x": torch.ones(3)}, r"x must have shape \(..., T, d\) with d >= 1, got \(3,\)"),
        ({"x": torch.full((3, D), torch.inf)}, "x must be finite, got 15 NaN"),
        ({"parameters": [1]}, "parameters must be a dict of named tensors, got list"),
        ({"w_k": torch.ones(D, 2).double()}, r"\['w_k'\] must have shape \(..., 5, 5\) .*, got \(5, 2\)"),
        (
            {"w_v": torch.ones(2, D, D).double()},
            r"\['w_v'\] must have shape .* broadcast to \(\), got \(2, 5, 5\)",
        ),
        ({"w_eta": torch.ones(D)}, r"\['w_eta'\] must have the dtype of parameters\['w_k'\], torch.float64"),
        ({"eta_bias": torch.ones(3).double()}, r"\['eta_bias'\] must have shape \(...\) .*, got \(3,\)"),
        ({"alpha_bias": torch.tensor(torch.nan).double()}, r"\['alpha_bias'\] must be finite"),
        ({"objective": "l3"}, "objective must be one of 'l2', 'dot', got 'l3'"),
        ({"readout": "scalar"}, "readout must be one of 'vector', 'matrix', got 'scalar'"),
        ({"read": "pre"}, "read must be one of 'post', 'boundary', got 'pre'"),
        ({"chunk_size": 0}, "chunk_size must be an integer >= 1, got 0"),
        ({"block_size": 1.5}, "block_size must be an integer >= 1, got 1.5"),
        ({"eta_max": -1}, "eta_max must be >= 0, got min -1"),
        ({"gain_bound": 1.5}, "gain_bound must be <= 1, got max 1.5"),
        ({"state": 3}, "state must be a State, got int"),
    ],
)
def test_bad_input_is_named(changes: dict[str, Any], message: str) -> None:
    x, parameters = case("vector", 3)
    given: dict[str, Any] = tensors(parameters)
    given |= {name: changes.pop(name) for name in list(changes) if name in given}
    with pytest.raises(ValueError, match=message):
        shared_gain(**{"x": torch.from_numpy(x), "parameters": given, **changes})


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda() -> None:
    x, parameters = case("matrix", 21)
    want, _ = shared_gain(torch.from_numpy(x), tensors(parameters), readout="matrix", chunk_size=4)
    given = {name: tensor.cuda() for name, tensor in tensors(parameters).items()}
    y, state = shared_gain(torch.from_numpy(x).cuda(), given, readout="matrix", chunk_size=4)
    assert state.gain.device.type == "cuda"
    close(y.cpu(), want, 1e-10)
