"""Titans in blocks against the NumPy loop, an autograd loop, central differences, every split, and bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from selection import some_slow
from torch import Tensor

from hope_ref import parallel, reference
from hope_ref.parallel.titans import TitansState, memory_gradients, memory_read, start, titans

D, H, D_V = 4, 6, 3
KINDS = ["matrix", "perceptron"]
every_kind = pytest.mark.parametrize("kind", KINDS)
PER_TOKEN = ("q", "k", "v", "eta", "alpha", "mu")


def lengths(chunk_size: int) -> list[int]:
    c = chunk_size
    return sorted({0, 1, c - 1, c, c + 1, 2 * c + 1, 5 * c + 3})


GRID = [(C, T) for C in (1, 2, 3, 8) for T in lengths(C)]


def weights(kind: str, lead: tuple[int, ...] = ()) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    if kind == "matrix":
        return (rng.normal(size=(*lead, D_V, D)),)
    return rng.normal(size=(*lead, D, H)) / 2, rng.normal(size=(*lead, H, D))


def tokens(kind: str, length: int, lead: tuple[int, ...] = ()) -> dict[str, np.ndarray]:
    """Unit keys and queries; gates over their whole range."""
    rng = np.random.default_rng(length)
    q, k = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in rng.normal(size=(2, *lead, length, D)))
    return {
        "q": q,
        "k": k,
        "v": rng.normal(size=(*lead, length, D_V if kind == "matrix" else D)),
        "eta": rng.uniform(0.05, 0.25, size=(*lead, length)),
        "alpha": rng.uniform(0.5, 1, size=(*lead, length)),
        "mu": rng.uniform(0.1, 0.9, size=(*lead, length)),
    }


def tensors(arrays: dict[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(a.copy()) for name, a in arrays.items()}


def fresh(kind: str, lead: tuple[int, ...] = ()) -> TitansState:
    return start(*(torch.from_numpy(w) for w in weights(kind, lead)))


def close(got: Any, want: Any, atol: float = 1e-10) -> None:
    """States of either floor, entry by entry."""
    assert got.position == want.position
    for name in ("weights", "momentum", "boundary"):
        for one, other in zip(getattr(got, name), getattr(want, name), strict=True):
            np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=0, atol=atol, err_msg=name)


# --- the same numbers -------------------------------------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize("block_size", [1, 5, 64])
@pytest.mark.parametrize(("chunk_size", "length"), GRID)
def test_equals_the_numpy_loop(kind: str, block_size: int, chunk_size: int, length: int) -> None:
    a = tokens(kind, length)
    want, want_state = reference.titans.titans(
        **a, state=reference.titans.start(*weights(kind)), chunk_size=chunk_size
    )
    y, state = titans(**tensors(a), state=fresh(kind), chunk_size=chunk_size, block_size=block_size)
    np.testing.assert_allclose(y.numpy(), want, rtol=0, atol=1e-10)
    close(state, want_state)


@every_kind
def test_a_hundred_tokens_in_one_block(kind: str) -> None:
    """Long products of decays, and steps large enough that the solve matters: relative error."""
    a = tokens(kind, 100) | {"eta": np.full(100, 0.5), "mu": np.full(100, 0.3)}
    for chunk_size in (1, 7, 100):
        want, want_state = reference.titans.titans(
            **a, state=reference.titans.start(*weights(kind)), chunk_size=chunk_size
        )
        y, state = titans(**tensors(a), state=fresh(kind), chunk_size=chunk_size, block_size=128)
        assert np.abs(y.numpy() - want).max() <= 1e-12 * np.abs(want).max()
        close(state, want_state, 1e-11)


@every_kind
@pytest.mark.parametrize("chunk_size", [1, 3])
def test_batch_and_heads_are_independent(kind: str, chunk_size: int) -> None:
    lead = (2, 3)
    a, first = tokens(kind, 8, lead), weights(kind, lead)
    y, state = titans(**tensors(a), state=fresh(kind, lead), chunk_size=chunk_size, block_size=4)
    for index in np.ndindex(lead):
        want, want_state = reference.titans.titans(
            **{name: x[index] for name, x in a.items()},
            state=reference.titans.start(*(w[index] for w in first)),
            chunk_size=chunk_size,
        )
        np.testing.assert_allclose(y[index].numpy(), want, rtol=0, atol=1e-10)
        close(TitansState(*(tuple(w[index] for w in part) for part in state[:3]), state.position), want_state)


@every_kind
def test_zero_gates_are_exact(kind: str) -> None:
    a = tokens(kind, 12)
    a["alpha"][[0, 5, 6]] = 0
    a["mu"][[0, 3, 6, 11]] = 0
    for chunk_size in (1, 4):
        want, want_state = reference.titans.titans(
            **a, state=reference.titans.start(*weights(kind)), chunk_size=chunk_size
        )
        y, state = titans(**tensors(a), state=fresh(kind), chunk_size=chunk_size)
        np.testing.assert_allclose(y.numpy(), want, rtol=0, atol=1e-12)
        close(state, want_state, 1e-12)


@every_kind
def test_numbers_are_gates(kind: str) -> None:
    a = tensors(tokens(kind, 6))
    gates = {"eta": 0.2, "alpha": 0.9, "mu": 0.5}
    full = {**a, **{n: torch.full((6,), g, dtype=torch.float64) for n, g in gates.items()}}
    assert torch.equal(titans(**{**a, **gates}, state=fresh(kind))[0], titans(**full, state=fresh(kind))[0])


def test_without_momentum_and_forgetting_it_is_the_delta_rule() -> None:
    a = tensors(tokens("matrix", 30))
    (first,) = fresh("matrix").weights
    want, memory = parallel.delta_rule.delta_rule(a["q"], a["k"], a["v"], a["eta"], first)
    y, state = titans(a["q"], a["k"], a["v"], a["eta"], 1.0, 0.0, fresh("matrix"), block_size=8)
    torch.testing.assert_close(y, want, rtol=0, atol=1e-12)
    torch.testing.assert_close(state.weights[0], memory, rtol=0, atol=1e-12)


@every_kind
@pytest.mark.parametrize("lead", [(), (2,)])
def test_reads_and_gradients_equal_numpy(kind: str, lead: tuple[int, ...]) -> None:
    first, rng = weights(kind, lead), np.random.default_rng(5)
    k, v = rng.normal(size=(*lead, D)), rng.normal(size=(*lead, D_V if kind == "matrix" else D))
    ours = tuple(torch.from_numpy(w) for w in first)
    read, slopes = (
        memory_read(ours, torch.from_numpy(k)),
        memory_gradients(ours, *map(torch.from_numpy, (k, v))),
    )
    for index in np.ndindex(lead):
        one = tuple(w[index] for w in first)
        np.testing.assert_allclose(
            read[index], reference.titans.memory_read(one, k[index]), rtol=0, atol=1e-12
        )
        want = reference.titans.memory_gradients(one, k[index], v[index])
        for mine, theirs in zip(slopes, want, strict=True):
            np.testing.assert_allclose(mine[index], theirs, rtol=0, atol=1e-12)


# --- gradients --------------------------------------------------------------------------------------------------------


def literal_loop(first: tuple[Tensor, ...], chunk_size: int, **a: Tensor) -> tuple[Any, ...]:
    """All states in a list, inner gradients by autograd with their graph kept: shares no line with the library."""
    linear, silu = torch.nn.functional.linear, torch.nn.functional.silu

    def read(w: Any, z: Tensor) -> Tensor:
        return linear(z, w[0]) if len(w) == 1 else z + linear(silu(linear(z, w[1])), w[0])

    states, momentum, outputs = [first], tuple(torch.zeros_like(w) for w in first), []
    for t in range(len(a["k"])):
        at = states[t - t % chunk_size]
        loss = 0.5 * (read(at, a["k"][t]) - a["v"][t]).square().sum()
        slopes = torch.autograd.grad(loss, at, create_graph=True)
        momentum = tuple(a["mu"][t] * b - a["eta"][t] * g for b, g in zip(momentum, slopes, strict=True))
        states.append(tuple(a["alpha"][t] * w + b for w, b in zip(states[-1], momentum, strict=True)))
        outputs.append(read(states[-1], a["q"][t]))
    return torch.stack(outputs), states[-1], momentum, states[(len(a["k"]) - 1) // chunk_size * chunk_size]


def weighted(y: Any, *parts: Any) -> Any:
    """A scalar that depends on every output and on all of the final state."""
    rng, total = np.random.default_rng(1), 0.0
    for array in (y, *(w for part in parts for w in part)):
        factor = rng.normal(size=tuple(array.shape))
        total = total + ((torch.from_numpy(factor) if isinstance(array, Tensor) else factor) * array).sum()
    return total


def leaves(kind: str, length: int) -> dict[str, Tensor]:
    named = tokens(kind, length) | {f"w{i}": w for i, w in enumerate(weights(kind))}
    return {name: x.requires_grad_() for name, x in tensors(named).items()}


def ours_weighted(given: dict[str, Any], chunk_size: int, block_size: int = 5) -> Any:
    first = [x for name, x in given.items() if name not in PER_TOKEN]
    inputs = {n: given[n] for n in PER_TOKEN}
    if isinstance(first[0], Tensor):
        y, state = titans(**inputs, state=start(*first), chunk_size=chunk_size, block_size=block_size)
    else:
        y, state = reference.titans.titans(
            **inputs, state=reference.titans.start(*first), chunk_size=chunk_size
        )
    return weighted(y, *state[:3])


@every_kind
@pytest.mark.parametrize(("chunk_size", "length"), [(C, T) for C, T in GRID if 0 < T < 30])
def test_gradients_equal_those_of_an_autograd_loop(kind: str, chunk_size: int, length: int) -> None:
    ours, theirs = leaves(kind, length), leaves(kind, length)
    ours_weighted(ours, chunk_size).backward()
    first = tuple(x for name, x in theirs.items() if name not in PER_TOKEN)
    weighted(*literal_loop(first, chunk_size, **{n: theirs[n] for n in PER_TOKEN})).backward()
    for name, tensor in ours.items():
        mine, want = tensor.grad, theirs[name].grad
        assert mine is not None
        want = (
            torch.zeros_like(mine) if want is None else want
        )  # B_0 = 0 leaves μ of one token without a graph
        scale = max(1.0, float(want.abs().max()))
        assert float((mine - want).abs().max()) <= 1e-10 * scale, name
        assert float(mine.abs().max()) > 1e-6 or (name == "mu" and length == 1), f"nothing reaches {name}"


@every_kind
@pytest.mark.parametrize(("chunk_size", "length"), [(1, 7), (3, 10), (8, 13)])
def test_gradients_equal_central_differences_of_the_reference(
    kind: str, chunk_size: int, length: int
) -> None:
    ours = leaves(kind, length)
    ours_weighted(ours, chunk_size).backward()
    arrays, rng, h = {n: x.detach().numpy() for n, x in ours.items()}, np.random.default_rng(4), 1e-5
    for name, array in arrays.items():
        direction = rng.normal(size=array.shape) / np.sqrt(array.size)
        ends = [ours_weighted({**arrays, name: array + s * direction}, chunk_size) for s in (h, -h)]
        slope = (ends[0] - ends[1]) / (2 * h)
        assert abs(float((ours[name].grad.numpy() * direction).sum()) - slope) <= 1e-7 * max(
            1.0, abs(slope)
        ), name


ZEROS = {"one": (2,), "several": (0, 3, 4), "all": tuple(range(6))}


def one_sided(kind: str, arrays: dict[str, np.ndarray], name: str, place: int, chunk_size: int) -> float:
    """The derivative of the NumPy loop by one gate at 0, from values at gates >= 0, to 1e-9: four points, error O(h³)."""
    step, ends = 1e-3, []
    for times in range(4):
        moved = arrays[name].copy()
        moved[place] += times * step
        ends.append(float(ours_weighted({**arrays, name: moved}, chunk_size)))
    return (-11 * ends[0] + 18 * ends[1] - 9 * ends[2] + 2 * ends[3]) / (6 * step)


GATES = {
    f"{'+'.join(gates)}, {which}": (gates, places)
    for gates in (("alpha",), ("mu",), ("alpha", "mu"))
    for which, places in ZEROS.items()
}


@every_kind
@pytest.mark.parametrize(
    ("gates", "places"),
    some_slow(GATES, ("alpha, one", "alpha, all", "mu, one", "mu, all", "alpha+mu, several")),
)
@pytest.mark.parametrize("chunk_size", some_slow({str(size): size for size in (1, 2, 3, 6)}, ["2", "6"]))
def test_gradients_where_gates_are_zero(
    kind: str, gates: tuple[str, ...], places: tuple[int, ...], chunk_size: int
) -> None:
    """Against an autograd loop, and by the gates themselves against one-sided differences of the NumPy loop."""
    ours, theirs = leaves(kind, 6), leaves(kind, 6)
    for given in (ours, theirs):
        with torch.no_grad():
            for name in gates:
                given[name][list(places)] = 0
    ours_weighted(ours, chunk_size).backward()
    first = tuple(x for name, x in theirs.items() if name not in PER_TOKEN)
    weighted(*literal_loop(first, chunk_size, **{n: theirs[n] for n in PER_TOKEN})).backward()
    for name, tensor in ours.items():
        assert tensor.grad is not None
        torch.testing.assert_close(
            tensor.grad, theirs[name].grad, rtol=1e-10, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}"
        )
    arrays = {n: x.detach().numpy() for n, x in ours.items()}
    for name in gates:
        slopes = [one_sided(kind, arrays, name, place, chunk_size) for place in places]
        gradient = ours[name].grad
        assert gradient is not None
        for place, slope in zip(places, slopes, strict=True):
            assert abs(float(gradient[place]) - slope) <= 1e-7 * max(1.0, abs(slope)), (name, place)
        assert max(map(abs, slopes)) > 1e-4, f"{name} has a derivative"


@every_kind
@pytest.mark.parametrize("places", ZEROS.values(), ids=ZEROS)
def test_that_gradient_passes_through_every_split(kind: str, places: tuple[int, ...]) -> None:
    found = []
    for split in range(7):
        given = leaves(kind, 6)
        with torch.no_grad():
            given["alpha"][list(places)] = given["mu"][list(places)] = 0
        state, outputs = start(*(x for name, x in given.items() if name not in PER_TOKEN)), []
        for part in (slice(split), slice(split, None)):
            y, state = titans(**{n: given[n][part] for n in PER_TOKEN}, state=state, chunk_size=3)
            outputs.append(y)
        weighted(torch.cat(outputs), *state[:3]).backward()
        found.append([given[name].grad for name in ("alpha", "mu")])
    for gradients in found[1:]:
        for one, other in zip(gradients, found[0], strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-11)


# --- time -------------------------------------------------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize("chunk_size", [1, 2, 3, 8])
def test_every_split_gives_the_same(kind: str, chunk_size: int) -> None:
    """At both ends; within and between chunks, and blocks of 5."""
    a, length = tensors(tokens(kind, 2 * 8 + 1)), 17
    options = {"chunk_size": chunk_size, "block_size": 5}
    whole, final = titans(**a, state=fresh(kind), **options)
    for split in (0, 1, 5, 6, 8, 10, length):
        first, carried = titans(**{n: x[:split] for n, x in a.items()}, state=fresh(kind), **options)
        second, last = titans(**{n: x[split:] for n, x in a.items()}, state=carried, **options)
        torch.testing.assert_close(torch.cat([first, second]), whole, rtol=0, atol=1e-12)
        close(last, final, 1e-12)


@every_kind
@pytest.mark.parametrize("chunk_size", [1, 4])
@pytest.mark.parametrize("name", PER_TOKEN)
def test_causal(kind: str, chunk_size: int, name: str) -> None:
    a = tensors(tokens(kind, 9))
    y, _ = titans(**a, state=fresh(kind), chunk_size=chunk_size)
    for token in (1, 3, 4, 5, 8):
        changed = {**a, name: a[name].clone()}
        changed[name][token] *= 0.5
        other, _ = titans(**changed, state=fresh(kind), chunk_size=chunk_size)
        assert torch.equal(other[:token], y[:token])
        assert (other[token] - y[token]).abs().max() > 1e-6


@every_kind
def test_float32_stays_near_the_reference(kind: str) -> None:
    a = tokens(kind, 100)
    want, _ = reference.titans.titans(**a, state=reference.titans.start(*weights(kind)), chunk_size=8)
    single = start(*(torch.from_numpy(w).float() for w in weights(kind)))
    y, state = titans(**{n: x.float() for n, x in tensors(a).items()}, state=single, chunk_size=8)
    assert y.dtype == state.weights[0].dtype == torch.float32
    assert np.abs(y.numpy() - want).max() < 1e-4 * np.abs(want).max()


@every_kind
def test_nothing_reads_a_value_back(kind: str) -> None:
    """Tensors without values: a look at one (.item(), a branch) raises."""
    a = {n: x.to("meta") for n, x in tensors(tokens(kind, 11, (2,))).items()}
    state = start(*(torch.from_numpy(w).to("meta") for w in weights(kind, (2,))))
    y, _ = titans(**a, state=state, chunk_size=3)
    assert tuple(y.shape) == tuple(a["v"].shape)


@every_kind
def test_nothing_that_was_given_is_changed(kind: str) -> None:
    a, state = tensors(tokens(kind, 9)), fresh(kind)
    kept = [x.clone() for x in (*a.values(), *state.weights, *state.momentum)]
    titans(**a, state=state, chunk_size=2)
    for now, then in zip((*a.values(), *state.weights, *state.momentum), kept, strict=True):
        assert torch.equal(now, then)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@every_kind
def test_on_cuda(kind: str) -> None:
    a = tokens(kind, 33)
    want, _ = reference.titans.titans(**a, state=reference.titans.start(*weights(kind)), chunk_size=4)
    state = start(*(torch.from_numpy(w).cuda() for w in weights(kind)))
    y, _ = titans(**{n: x.cuda() for n, x in tensors(a).items()}, state=state, chunk_size=4)
    np.testing.assert_allclose(y.cpu().numpy(), want, rtol=0, atol=1e-10)


# --- bad input --------------------------------------------------------------------------------------------------------

ONE = torch.ones(D_V, D, dtype=torch.float64)
W1, W2 = (torch.from_numpy(w) for w in weights("perceptron"))
GOOD = tensors(tokens("matrix", 2)) | {"state": start(ONE)}
DEEP = tensors(tokens("perceptron", 2)) | {"state": start(W1, W2)}


def filled(*shape: int, value: float = 1.0) -> Tensor:
    return torch.full(shape, value, dtype=torch.float64)


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (start, (), r"weights must be a tuple \(memory,\) or \(w1, w2\), got 0 of them"),
        (start, (W1, W2, W1), r"weights must be a tuple \(memory,\) or \(w1, w2\), got 3 of them"),
        (start, (W1[0],), r"weights\[0\] must have shape \(\.\.\., d_v, d_k\), got \(6,\)"),
        (start, (W1[0], W2), r"weights\[0\] must have shape \(\.\.\., d, h\), got \(6,\)"),
        (start, (W1, W2.T), r"weights\[1\] must have shape \(6, 4\), got \(4, 6\)"),
        (start, (W1, W2.float()), r"weights\[1\] must have the dtype of weights\[0\], torch.float64, got torch.float32"),
        (start, (ONE.numpy(),), r"weights\[0\] must be a torch.Tensor, got ndarray"),
        (start, (ONE * torch.nan,), r"weights\[0\] must be finite, got 12 NaN or infinite entries"),
        (memory_read, ((ONE,), filled(3)), r"z must have shape \(4,\), got \(3,\)"),
        (memory_read, (ONE, filled(4)), r"weights must be a tuple \(memory,\) or \(w1, w2\), got Tensor"),
        (memory_gradients, ((W1, W2), filled(6), filled(4)), r"k must have shape \(4,\), got \(6,\)"),
        (memory_gradients, ((ONE,), filled(4), filled(4)), r"v must have shape \(3,\), got \(4,\)"),
        (memory_gradients, ((ONE,), filled(4, value=torch.inf), filled(3)), "k must be finite, got 4"),
    ],
)  # fmt: skip
def test_bad_memories(function: Any, arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        function(*arguments)


@pytest.mark.parametrize(
    ("good", "change", "message"),
    [
        (GOOD, {"k": filled(2, 3)}, r"k must have shape \(T, 4\), got \(2, 3\)"),
        (GOOD, {"k": filled(5, 2, 4)}, r"k must have shape \(T, 4\), got \(5, 2, 4\)"),
        (GOOD, {"q": filled(3, 4)}, r"q must have shape \(2, 4\), got \(3, 4\)"),
        (GOOD, {"v": filled(2, 4)}, r"v must have shape \(2, 3\), got \(2, 4\)"),
        (DEEP, {"v": filled(2, 3)}, r"v must have shape \(2, 4\), got \(2, 3\)"),
        (GOOD, {"v": filled(2, 3, value=torch.inf)}, "v must be finite, got 6 NaN or infinite entries"),
        (GOOD, {"q": GOOD["q"].float()}, "q must have the dtype of k, torch.float64, got torch.float32"),
        (GOOD, {"state": start(ONE.float())}, "weights must have the dtype of k, torch.float64, got torch.float32"),
        (GOOD, {"eta": -0.3}, r"eta must be >= 0, got min -0\.3"),
        (GOOD, {"eta": filled(3)}, r"eta must have shape \(2,\), got \(3,\)"),
        (GOOD, {"alpha": 1.2}, r"alpha must be <= 1, got max 1\.2"),
        (GOOD, {"alpha": -0.2}, r"alpha must be >= 0, got min -0\.2"),
        (GOOD, {"mu": 1.2}, r"mu must be <= 1, got max 1\.2"),
        (GOOD, {"mu": torch.tensor([0.5, -0.5]).double()}, r"mu must be >= 0, got min -0\.5"),
        (GOOD, {"chunk_size": 0}, "chunk_size must be an integer >= 1, got 0"),
        (GOOD, {"block_size": 1.5}, "block_size must be an integer >= 1, got 1.5"),
        (GOOD, {"state": ONE}, r"state must be a TitansState \(see start\), got Tensor"),
        (GOOD, {"state": start(ONE)._replace(momentum=(ONE.T,))}, r"state\.momentum must have shapes \(\(3, 4\),\), got \(\(4, 3\),\)"),
        (GOOD, {"state": start(ONE)._replace(momentum=(ONE.float(),))}, r"state\.momentum must have the dtype of state\.weights"),
        (DEEP, {"state": start(W1, W2)._replace(boundary=(W1,))}, r"state\.boundary must have shapes \(\(4, 6\), \(6, 4\)\), got \(\(4, 6\),\)"),
        (GOOD, {"state": start(ONE)._replace(weights=(ONE * torch.nan,))}, r"state\.weights\[0\] must be finite, got 12"),
        (GOOD, {"state": start(ONE)._replace(position=-1)}, r"state\.position must be an integer >= 0, got -1"),
        (GOOD, {"state": start(ONE)._replace(position=0.5)}, r"state\.position must be an integer >= 0, got 0\.5"),
    ],
)  # fmt: skip
def test_bad_input(good: dict[str, Any], change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        titans(**(good | change))
