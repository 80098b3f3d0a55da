"""The continuum memory in segments against the NumPy loop, a literal loop with autograd, central differences, every split."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from selection import some_slow
from torch import Tensor

from hope_ref import reference
from hope_ref.parallel.continuum_memory import (
    ContinuumState,
    Level,
    LevelState,
    chunk_step,
    continuum_memory,
    initial_state,
    level_function,
    random_levels,
    read,
)
from hope_ref.parallel.layers import rms_norm

WIDTH, COUNT = 3, 3
CHOICES = list(
    product(
        ("sequential", "nested", "independent"),
        ("fast_to_slow", "slow_to_fast"),
        ("gd", "dgd"),
        ("l2", "dot"),
    )
)
NAMES = ("variant", "order", "rule", "objective")
SHORT: dict[str, Any] = {
    "levels_chunk_sizes": (2, 4, 8),
    "cms_rate": (0.05, 0.03, 0.02),
    "signal": "associative",
}
FIELDS = ("w1", "w2", "gain", "value", "weight")


def arrays(lead: tuple[int, ...] = ()) -> list[dict[str, np.ndarray]]:
    """Levels in which everything matters: hidden widths differ, gains and weights are not 1."""
    rng = np.random.default_rng(1)
    return [
        {
            "w1": rng.normal(size=(*lead, WIDTH, hidden)) * 0.5,
            "w2": rng.normal(size=(*lead, hidden, WIDTH)) * 0.6,
            "gain": rng.uniform(0.5, 1.5, size=(*lead, WIDTH)),
            "value": rng.normal(size=(*lead, WIDTH, WIDTH)) * 0.6,
            "weight": rng.uniform(0.5, 1.5, size=lead) if lead else np.array(rng.uniform(0.5, 1.5)),
        }
        for hidden in (6, 4, 5)
    ]


def numpy_levels(lead: tuple[int, ...] = (), index: Any = ()) -> list[Any]:
    return [
        reference.continuum_memory.Level(**{n: a[index] for n, a in level.items()}) for level in arrays(lead)
    ]


def torch_levels(lead: tuple[int, ...] = (), gradient: bool = False) -> list[Level]:
    return [
        Level(**{n: torch.as_tensor(np.array(a)).requires_grad_(gradient) for n, a in level.items()})
        for level in arrays(lead)
    ]


def tokens(length: int, lead: tuple[int, ...] = ()) -> np.ndarray:
    return np.random.default_rng(length).normal(size=(*lead, length, WIDTH))


def close(got: ContinuumState, want: Any, atol: float = 1e-10, index: Any = ()) -> None:
    assert got.position == want.position
    for one, other in zip(got.levels, want.levels, strict=True):
        for name, mine, theirs in zip(LevelState._fields, one, other, strict=True):
            np.testing.assert_allclose(
                mine.detach().numpy()[index], np.asarray(theirs), rtol=0, atol=atol, err_msg=name
            )


# --- the same numbers -------------------------------------------------------------------------------------------------


CHUNKED = {"-".join(map(str, (c, *choice))): (c, *choice) for c in (2, 3, 8) for choice in CHOICES}
SOME = [name for name in CHUNKED if name.startswith("3-") or name.endswith("slow_to_fast-dgd-l2")]


@pytest.mark.parametrize(("chunk_size", *NAMES), some_slow(CHUNKED, SOME))
def test_equals_the_numpy_loop(chunk_size: int, variant: str, order: str, rule: str, objective: str) -> None:
    c, options = chunk_size, {"variant": variant, "order": order, "rule": rule, "objective": objective}
    options = SHORT | {"levels_chunk_sizes": (c, 2 * c, 4 * c)} | options
    x, want, want_state = tokens(5 * c + 3), np.zeros((0, WIDTH)), None
    for length in (0, c, c + 1, 5 * c + 3):
        more, want_state = reference.continuum_memory.continuum_memory(  # goes on; the other begins again
            x[len(want) : length], numpy_levels(), want_state, **options
        )
        want = np.concatenate([want, more])
        y, state = continuum_memory(torch.from_numpy(x[:length]), torch_levels(), **options)
        np.testing.assert_allclose(y.numpy(), want, rtol=0, atol=1e-10)
        close(state, want_state)


@pytest.mark.parametrize("variant", ["sequential", "independent"])
@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 3, 7), (5, 5, 6), (4, 100, 1000)])
def test_chunk_sizes_need_not_be_multiples(variant: str, sizes: tuple[int, ...]) -> None:
    options = SHORT | {"levels_chunk_sizes": sizes, "variant": variant}
    want, want_state = reference.continuum_memory.continuum_memory(tokens(29), numpy_levels(), **options)
    y, state = continuum_memory(torch.from_numpy(tokens(29)), torch_levels(), **options)
    np.testing.assert_allclose(y.numpy(), want, rtol=0, atol=1e-10)
    close(state, want_state)


@pytest.mark.parametrize("own", [False, True], ids=["shared parameters", "one set per sequence"])
@pytest.mark.parametrize(
    ("variant", "rule"), [("sequential", "gd"), ("nested", "dgd"), ("independent", "gd")]
)
def test_every_sequence_has_its_own_weights(own: bool, variant: str, rule: str) -> None:
    lead = (2, 2)
    given, options = lead if own else (), SHORT | {"variant": variant, "rule": rule}
    x = tokens(11, lead)
    y, state = continuum_memory(torch.from_numpy(x), torch_levels(given), **options)
    for index in np.ndindex(lead):
        levels = numpy_levels(given, index if own else ())
        want, want_state = reference.continuum_memory.continuum_memory(x[index], levels, **options)
        np.testing.assert_allclose(y[index].numpy(), want, rtol=0, atol=1e-10)
        close(state, want_state, index=index)


@pytest.mark.parametrize("signal", ["task", "none"])
def test_without_a_signal_the_levels_are_plain_mlps(signal: str) -> None:
    options = SHORT | {"signal": signal}
    x, parameters = torch.from_numpy(tokens(9, (2,))), torch_levels()
    y, state = continuum_memory(x, parameters, **options)
    z = x
    for level in parameters:
        z = z + F.silu(F.rms_norm(z, (WIDTH,), level.gain, eps=1e-6) @ level.w2.T) @ level.w1.T
    torch.testing.assert_close(y, z, rtol=0, atol=1e-12)
    assert state.position == 0
    assert torch.equal(state.levels[0].w1, parameters[0].w1.expand(2, WIDTH, 6))
    _, carried = continuum_memory(x, parameters, **SHORT)
    y, after = continuum_memory(x, parameters, carried, **options)
    assert after is not None
    assert after.position == carried.position == 9
    assert not torch.equal(y, z), "weights that have moved are read as they are"


def test_the_defaults() -> None:
    """Three levels of 512, 2048 and 8192 tokens at 0.1/C, on both floors."""
    x = tokens(520)
    want, want_state = reference.continuum_memory.continuum_memory(x, numpy_levels(), signal="associative")
    y, state = continuum_memory(torch.from_numpy(x), torch_levels(), signal="associative")
    np.testing.assert_allclose(y.numpy(), want, rtol=0, atol=1e-10)
    close(state, want_state, 1e-9)  # sums of 512 tokens
    assert not torch.equal(state.levels[0].w1, torch_levels()[0].w1)
    y, state = continuum_memory(torch.from_numpy(x), torch_levels())
    assert state.position == 0, "signal='task': only the driver moves levels"


def test_the_pieces_equal_those_of_numpy() -> None:
    x, ours, theirs = tokens(4), torch_levels(), numpy_levels()
    z = torch.from_numpy(x)
    for mine, want in zip(ours, theirs, strict=True):
        for t in range(4):
            np.testing.assert_allclose(
                rms_norm(z, mine.gain)[t], reference.activations.rms_norm(x[t], want.gain), atol=1e-13
            )
            np.testing.assert_allclose(
                level_function(z, *mine[:3])[t],
                reference.continuum_memory.level_function(x[t], *want[:3]),
                atol=1e-13,
            )
    for variant, order in product(("sequential", "independent"), ("fast_to_slow", "slow_to_fast")):
        weights = tuple((level.w1, level.w2) for level in ours)
        seen: dict[int, tuple[Tensor, Tensor]] = {}
        y, given = read(
            z, weights, ours, variant, order, lambda index, *phi, into=seen: into.update({index: phi})
        )
        for t in range(4):
            want_y, want_given = reference.continuum_memory.read(
                x[t], tuple((level.w1, level.w2) for level in theirs), theirs, variant, order
            )
            np.testing.assert_allclose(y[t], want_y, rtol=0, atol=1e-13)
            for mine, want in zip(given, want_given, strict=True):
                np.testing.assert_allclose(mine[t], want, rtol=0, atol=1e-13)
        for index, (phi1, phi2) in seen.items():
            n = rms_norm(given[index], ours[index].gain)
            torch.testing.assert_close(phi2, n, rtol=0, atol=1e-14)
            torch.testing.assert_close(phi1, F.silu(n @ ours[index].w2.T), rtol=0, atol=1e-14)
        assert sorted(seen) == [0, 1, 2]


def test_random_levels_are_those_of_numpy() -> None:
    want = reference.continuum_memory.random_levels(5, 2, 3)
    for mine, theirs in zip(random_levels(5, 2, 3, torch.float64), want, strict=True):
        for name in Level._fields:
            np.testing.assert_array_equal(np.asarray(getattr(mine, name)), getattr(theirs, name))
    assert random_levels(5, 2, 3)[0].w1.dtype == torch.float32


def test_the_implicit_step_solves_its_regression() -> None:
    """argmin ½‖W X - U′‖² + ‖W - W_t‖²/(2η) with U′ = U: by least squares on stacked rows."""
    generator = torch.Generator().manual_seed(0)
    w, phi, u = (
        torch.randn(*s, dtype=torch.float64, generator=generator) for s in ((2, 3, 5), (2, 7, 5), (2, 7, 3))
    )
    got = chunk_step(w, u.mT @ phi, phi.mT @ phi, 0.4, "dgd")
    rows = torch.cat([phi, torch.eye(5).double().expand(2, 5, 5) / 0.4**0.5], -2)
    want = torch.linalg.lstsq(rows, torch.cat([u, w.mT / 0.4**0.5], -2)).solution.mT
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12)


# --- gradients --------------------------------------------------------------------------------------------------------


def literal_loop(x: Tensor, parameters: list[Level], **options: Any) -> tuple[Tensor, list[Tensor]]:
    """Token by token; at a boundary autograd differentiates the chunk's loss, its graph kept; nothing of the library's."""
    variant, order, rule, objective = (options[n] for n in NAMES)
    theta = [(level.w1, level.w2) for level in parameters]
    start, chunk, outputs = list(theta), [[] for _ in parameters], []
    for i, row in enumerate(x, start=1):
        out = row
        for index in range(COUNT) if order == "fast_to_slow" else range(COUNT - 1, -1, -1):
            given, level, (w1, w2) = row if variant == "independent" else out, parameters[index], theta[index]
            n = F.rms_norm(given, (WIDTH,), level.gain, eps=1e-6)
            chunk[index].append(n)
            answer = w1 @ F.silu(w2 @ n)
            out = out + (level.weight * answer if variant == "independent" else answer)
        outputs.append(out)
        for index, size in enumerate(options["levels_chunk_sizes"]):
            if i % size == 0:
                theta[index] = update(
                    torch.stack(chunk[index]), theta[index], parameters[index], options["cms_rate"][index], rule, objective
                )  # fmt: skip
                chunk[index] = []
        for index, size in enumerate(options["levels_chunk_sizes"][1:]):
            if variant == "nested" and i % size == 0:
                pairs = zip(start[index], theta[index], strict=True)
                theta[index] = start[index] = tuple(0.9 * s + 0.1 * w for s, w in pairs)
    return torch.stack(outputs), [w for pair in theta for w in pair]


def update(n: Tensor, theta: Any, level: Level, rate: float, rule: str, objective: str) -> Any:
    w1, w2 = theta
    hidden = n @ w2.T
    answer, wanted = F.silu(hidden) @ w1.T, n @ level.value.T
    loss = ((answer - wanted) ** 2).sum() / 2 if objective == "l2" else -(answer * wanted).sum()
    # the target is held fixed: the loss is differentiated at the answer and the hidden layer only
    slopes = torch.autograd.grad(loss, (answer, hidden), create_graph=True)
    moved = []
    for w, slope, phi in zip((w1, w2), slopes, (F.silu(hidden), n), strict=True):
        if rule == "gd":
            moved.append(w - rate * slope.T @ phi)
        else:  # through the tokens, where the library goes through the directions
            system = torch.eye(len(phi)).double() + rate * phi @ phi.T
            moved.append(w + rate * torch.linalg.solve(system, -slope - phi @ w.T).T @ phi)
    return tuple(moved)


def weighted(y: Any, weights: Any) -> Any:
    rng, total = np.random.default_rng(2), 0.0
    for array in (y, *weights):
        factor = rng.normal(size=tuple(array.shape))
        total = total + ((torch.from_numpy(factor) if isinstance(array, Tensor) else factor) * array).sum()
    return total


def theta_of(state: Any) -> list[Any]:
    return [w for level in state.levels for w in (level.w1, level.w2)]


def named(x: Tensor, levels: list[Level]) -> dict[str, Tensor]:
    return {"x": x} | {f"{n}_{i}": getattr(level, n) for i, level in enumerate(levels) for n in FIELDS}


@pytest.mark.parametrize(NAMES, CHOICES)
def test_gradients_equal_those_of_a_literal_loop(variant: str, order: str, rule: str, objective: str) -> None:
    options = SHORT | {"variant": variant, "order": order, "rule": rule, "objective": objective}
    for length in (1, 4, 11):  # the last one beyond every chunk
        ours, theirs = (
            (torch.from_numpy(tokens(length)).requires_grad_(), torch_levels(gradient=True)) for _ in range(2)
        )
        y, state = continuum_memory(*ours, **options)
        weighted(y, theta_of(state)).backward()
        y, weights = literal_loop(*theirs, **options)
        weighted(y, weights).backward()
        for name, mine in named(*ours).items():
            want = named(*theirs)[name].grad
            if want is None or mine.grad is None:
                assert mine.grad is None or float(mine.grad.abs().max()) == 0
                assert want is None or float(want.abs().max()) == 0
                continue
            assert float((mine.grad - want).abs().max()) <= 1e-10 * max(1.0, float(want.abs().max())), name


@pytest.mark.parametrize("variant", ["sequential", "nested", "independent"])
@pytest.mark.parametrize("rule", ["gd", "dgd"])
def test_every_parameter_is_reached(variant: str, rule: str) -> None:
    levels, x = torch_levels(gradient=True), torch.from_numpy(tokens(17, (2,))).requires_grad_()
    y, _ = continuum_memory(x, levels, **SHORT, variant=variant, rule=rule)
    weighted(y, []).backward()
    for name, parameter in named(x, levels).items():
        if name.startswith("weight") and variant != "independent":
            assert parameter.grad is None
        else:
            assert parameter.grad is not None, name
            assert float(parameter.grad.abs().max()) > 1e-6, name


@pytest.mark.parametrize(
    ("variant", "rule", "objective"), [("nested", "gd", "l2"), ("independent", "dgd", "dot")]
)
def test_gradients_equal_central_differences_of_the_reference(
    variant: str, rule: str, objective: str
) -> None:
    options = SHORT | {"variant": variant, "rule": rule, "objective": objective}
    levels, x = torch_levels(gradient=True), torch.from_numpy(tokens(11)).requires_grad_()
    y, state = continuum_memory(x, levels, **options)
    weighted(y, theta_of(state)).backward()

    def value(name: str, change: np.ndarray) -> float:
        given = [dict(level) for level in arrays()]
        at = tokens(11)
        if name == "x":
            at = at + change
        else:
            field, index = name.split("_")
            given[int(index)][field] = given[int(index)][field] + change
        changed = [reference.continuum_memory.Level(**level) for level in given]
        y, state = reference.continuum_memory.continuum_memory(at, changed, **options)
        return weighted(y, theta_of(state))

    rng, h = np.random.default_rng(4), 1e-5
    for name, parameter in named(x, levels).items():
        direction = rng.normal(size=tuple(parameter.shape)) / np.sqrt(parameter.numel())
        slope = (value(name, h * direction) - value(name, -h * direction)) / (2 * h)
        gradient = 0.0 if parameter.grad is None else float((parameter.grad.numpy() * direction).sum())
        assert abs(gradient - slope) <= 1e-7 * max(1.0, abs(slope)), name


# --- time -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["sequential", "nested", "independent"])
@pytest.mark.parametrize("rule", ["gd", "dgd"])
def test_every_split_gives_the_same(variant: str, rule: str) -> None:
    x, options = torch.from_numpy(tokens(19, (2,))), SHORT | {"variant": variant, "rule": rule}
    whole, final = continuum_memory(x, torch_levels(), **options)
    for split in (0, 1, 4, 6, 8, 9, 19):  # both ends, in a chunk, at boundaries of one level, two and three
        first, carried = continuum_memory(x[:, :split], torch_levels(), **options)
        second, last = continuum_memory(x[:, split:], torch_levels(), carried, **options)
        torch.testing.assert_close(torch.cat([first, second], 1), whole, rtol=0, atol=1e-12)
        close(last, ContinuumState(final.levels, final.position), 1e-12)


@pytest.mark.parametrize(NAMES, CHOICES)
def test_the_past_does_not_see_the_future(variant: str, order: str, rule: str, objective: str) -> None:
    options = SHORT | {"variant": variant, "order": order, "rule": rule, "objective": objective}
    at = (0, 3, 4, 9)
    x = torch.from_numpy(tokens(13)).repeat(len(at) + 1, 1, 1)  # the last one stays as it is
    x[range(len(at)), at] += 0.7
    y, _ = continuum_memory(x, torch_levels(), **options)
    for t, moved in zip(at, (y[:-1] - y[-1]).abs().amax(2) > 1e-9, strict=True):
        boundary = 2 * (t // 2 + 1)
        assert moved[t]
        assert not moved[:t].any()
        assert not moved[t + 1 : boundary].any(), "no level moves before its chunk is full"
        assert moved[boundary], "from there on the fast level remembers"


def test_an_overflow_is_seen() -> None:
    options = SHORT | {"levels_chunk_sizes": (2,), "cms_rate": 3.0}
    x, levels = torch.from_numpy(tokens(60)), torch_levels()[:1]
    y, state = continuum_memory(x, levels, **options)
    assert not torch.isfinite(y).all()
    continuum_memory(x, levels, state, **options)  # and may go on
    assert torch.isfinite(continuum_memory(x, levels, **options, rule="dgd")[0]).all()


@pytest.mark.parametrize("rule", ["gd", "dgd"])
def test_float32_stays_near_the_reference(rule: str) -> None:
    want, _ = reference.continuum_memory.continuum_memory(tokens(40), numpy_levels(), **SHORT, rule=rule)
    levels = [Level(*(p.float() for p in level)) for level in torch_levels()]
    y, state = continuum_memory(torch.from_numpy(tokens(40)).float(), levels, **SHORT, rule=rule)
    assert y.dtype == state.levels[0].w1.dtype == torch.float32
    assert np.abs(y.numpy() - want).max() < 1e-4 * np.abs(want).max()


@pytest.mark.parametrize("rule", ["gd", "dgd"])
def test_nothing_reads_a_value_back(rule: str) -> None:
    """Tensors without values: a look at one (.item(), a branch) raises."""
    levels = [Level(*(p.to("meta") for p in level)) for level in torch_levels()]
    x = torch.from_numpy(tokens(11, (2,))).to("meta")
    y, _ = continuum_memory(x, levels, **SHORT, rule=rule, variant="nested")
    assert tuple(y.shape) == (2, 11, WIDTH)


def test_unused_grams_take_no_room() -> None:
    state = initial_state(torch_levels(), (64,))
    assert state.levels[0].gram1.untyped_storage().nbytes() == 8
    _, state = continuum_memory(torch.from_numpy(tokens(5, (64,))), torch_levels(), state, **SHORT)
    assert state.levels[0].gram1.untyped_storage().nbytes() == 8


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("rule", ["gd", "dgd"])
def test_on_cuda(rule: str) -> None:
    want, _ = reference.continuum_memory.continuum_memory(tokens(21), numpy_levels(), **SHORT, rule=rule)
    levels = [Level(*(p.cuda() for p in level)) for level in torch_levels()]
    y, _ = continuum_memory(torch.from_numpy(tokens(21)).cuda(), levels, **SHORT, rule=rule)
    np.testing.assert_allclose(y.cpu().numpy(), want, rtol=0, atol=1e-10)
