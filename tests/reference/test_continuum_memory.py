"""The continuum memory against a literal loop with autograd, plain PyTorch MLPs, linear solves, and every split of a stream."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hope_ref.reference.continuum_memory import (
    ContinuumState,
    Level,
    LevelState,
    continuum_memory,
    initial_state,
    random_levels,
)
from hope_ref.reference.states import load_state, save_state

WIDTH, LENGTH = 3, 19
SIZES = (2, 4, 8)  # multiples, so that they suit every variant
SHORT: dict[str, Any] = {"levels_chunk_sizes": SIZES, "cms_rate": (0.05, 0.03, 0.02), "signal": "associative"}
CHOICES = list(
    product(
        ("sequential", "nested", "independent"),
        ("fast_to_slow", "slow_to_fast"),
        ("gd", "dgd"),
        ("l2", "dot"),
    )
)
NAMES = ("variant", "order", "rule", "objective")


def levels(count: int = 3, seed: int = 0) -> tuple[Level, ...]:
    """Levels in which everything matters: gains and weights are not 1."""
    rng = np.random.default_rng(seed + 1)
    return tuple(
        level._replace(gain=rng.uniform(0.5, 1.5, size=WIDTH), weight=float(rng.uniform(0.5, 1.5)))
        for level in random_levels(WIDTH, count, seed)
    )


def tokens(length: int = LENGTH, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(length, WIDTH))


def branch(z: torch.Tensor, w1: torch.Tensor, w2: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
    return F.silu(F.rms_norm(z, (z.shape[-1],), gain, eps=1e-6) @ w2.T) @ w1.T


def literal(
    x: np.ndarray, parameters: tuple[Level, ...], variant: str, order: str, rule: str, objective: str
) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
    """Every level keeps the tokens of its chunk; at the boundary autograd differentiates their summed loss."""
    torched = [[torch.as_tensor(np.asarray(p)) for p in level] for level in parameters]
    theta = [(level[0], level[1]) for level in torched]
    start, chunk, y = list(theta), [[] for _ in parameters], []
    for i, row in enumerate(torch.from_numpy(x), start=1):
        out = row.clone()
        sequence = range(len(theta)) if order == "fast_to_slow" else range(len(theta) - 1, -1, -1)
        for level in sequence:
            given = row if variant == "independent" else out
            chunk[level].append(given)
            scale = torched[level][4] if variant == "independent" else 1.0
            out = out + scale * branch(given, *theta[level], torched[level][2])
        y.append(out.numpy())
        for level, size in enumerate(SIZES):
            if i % size == 0:
                theta[level] = update(
                    torch.stack(chunk[level]), theta[level], torched[level], level, rule, objective
                )
                chunk[level] = []
        for level in range(len(SIZES) - 1):
            if variant == "nested" and i % SIZES[level + 1] == 0:
                start[level] = tuple(
                    s + 0.1 * (w - s) for s, w in zip(start[level], theta[level], strict=True)
                )
                theta[level] = start[level]
    return np.stack(y), [(w1.numpy(), w2.numpy()) for w1, w2 in theta]


def update(
    z: torch.Tensor, theta: Any, level: list[torch.Tensor], index: int, rule: str, objective: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """One update of one level, from the inputs of its chunk."""
    rate = SHORT["cms_rate"][index]
    w1, w2 = (w.clone().requires_grad_() for w in theta)
    n = F.rms_norm(z, (z.shape[-1],), level[2], eps=1e-6)
    hidden = n @ w2.T
    hidden.retain_grad()
    answer, wanted = F.silu(hidden) @ w1.T, n @ level[3].T
    answer.retain_grad()
    loss = ((answer - wanted) ** 2).sum() / 2 if objective == "l2" else -(answer * wanted).sum()
    loss.backward()
    if rule == "gd":
        return tuple((w - rate * w.grad).detach() for w in (w1, w2))
    moved = []
    for w, out, phi in ((w1, answer, F.silu(hidden)), (w2, hidden, n)):
        u, phi, w = -out.grad.T, phi.detach().T, w.detach()  # columns are tokens
        system = torch.eye(phi.shape[1], dtype=w.dtype) + rate * phi.T @ phi  # (C, C)
        moved.append(w + rate * torch.linalg.solve(system, (u - w @ phi).T).T @ phi.T)
    return tuple(moved)


@pytest.mark.parametrize(NAMES, CHOICES)
def test_equals_a_literal_loop_with_autograd(variant: str, order: str, rule: str, objective: str) -> None:
    options = {"variant": variant, "order": order, "rule": rule, "objective": objective}
    y, state = continuum_memory(tokens(), levels(), **SHORT, **options)
    want_y, want_theta = literal(tokens(), levels(), **options)
    np.testing.assert_allclose(y, want_y, rtol=0, atol=1e-11)
    for got, (w1, w2) in zip(state.levels, want_theta, strict=True):
        np.testing.assert_allclose(got.w1, w1, rtol=0, atol=1e-11)
        np.testing.assert_allclose(got.w2, w2, rtol=0, atol=1e-11)
    assert state.position == LENGTH


# --- levels that stand still ------------------------------------------------------------------------------------


def plain(x: np.ndarray, parameters: tuple[Level, ...]) -> np.ndarray:
    z = torch.from_numpy(x)
    for level in parameters:
        z = z + branch(z, *(torch.from_numpy(p) for p in level[:3]))
    return z.numpy()


@pytest.mark.parametrize(
    "options", [{"signal": "none"}, {"signal": "task"}, {"cms_rate": 0.0}, {"cms_rate": 0.0, "rule": "dgd"}]
)
@pytest.mark.parametrize("order", ["fast_to_slow", "slow_to_fast"])
def test_frozen_levels_are_a_plain_chain_of_mlps(options: dict[str, Any], order: str) -> None:
    parameters = levels()
    y, state = continuum_memory(tokens(), parameters, **(SHORT | options), order=order)
    ordered = parameters if order == "fast_to_slow" else parameters[::-1]
    np.testing.assert_allclose(y, plain(tokens(), ordered), rtol=0, atol=1e-12)
    for got, want in zip(state.levels, parameters, strict=True):
        np.testing.assert_array_equal(got.w1, want.w1)
        np.testing.assert_array_equal(got.w2, want.w2)


def test_a_trained_mlp_becomes_a_level_and_back() -> None:
    """Level stacking: the layers of a trained residual MLP, any hidden width, as levels whose rate is 0."""
    torch.manual_seed(0)
    blocks = [
        torch.nn.Sequential(
            torch.nn.RMSNorm(WIDTH, eps=1e-6),
            torch.nn.Linear(WIDTH, hidden, bias=False),
            torch.nn.SiLU(),
            torch.nn.Linear(hidden, WIDTH, bias=False),
        ).double()
        for hidden in (4, 7)
    ]
    z = torch.from_numpy(tokens())
    optimiser = torch.optim.Adam([p for block in blocks for p in block.parameters()], lr=0.05)
    for _ in range(20):
        out = z + blocks[0](z)
        out = out + blocks[1](out)
        optimiser.zero_grad()
        ((out - z.roll(1, 0)) ** 2).mean().backward()
        optimiser.step()
    out = z + blocks[0](z)
    out = out + blocks[1](out)
    stacked = [
        Level(
            b[3].weight.detach().numpy(),
            b[1].weight.detach().numpy(),
            b[0].weight.detach().numpy(),
            np.eye(WIDTH),
        )
        for b in blocks
    ]
    y, _ = continuum_memory(tokens(), stacked, levels_chunk_sizes=(2, 4), cms_rate=0, signal="associative")
    np.testing.assert_allclose(y, out.detach().numpy(), rtol=0, atol=1e-12)


def test_the_defaults() -> None:
    """Three levels of 512, 2048 and 8192 tokens at 0.1/C: after 600 tokens the fast one has moved, once."""
    x, parameters = tokens(600), levels()
    _, state = continuum_memory(x, parameters, signal="associative")
    assert [bool((s.w1 != p.w1).any()) for s, p in zip(state.levels, parameters, strict=True)] == [
        True,
        False,
        False,
    ]
    _, first = continuum_memory(
        x[:512], parameters[:1], signal="associative", levels_chunk_sizes=(512,), cms_rate=0.1 / 512
    )
    np.testing.assert_allclose(state.levels[0].w1, first.levels[0].w1, rtol=0, atol=1e-14)
    y, untouched = continuum_memory(x[:5], parameters)
    assert untouched.position == 0, "signal='task': only the driver moves levels"
    np.testing.assert_array_equal(y, continuum_memory(x[:5], parameters, signal="none")[0])


# --- one chunk --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", ["l2", "dot"])
def test_one_chunk_is_one_step_on_the_summed_loss(objective: str) -> None:
    """C = T, by finite differences of the loss of all tokens at the first weights."""
    (level,), x, rate, h = levels(1), tokens(6), 0.05, 1e-5
    z = torch.from_numpy(x)
    wanted = F.rms_norm(z, (WIDTH,), torch.from_numpy(level.gain), eps=1e-6) @ torch.from_numpy(level.value).T

    def loss(w1: np.ndarray, w2: np.ndarray) -> float:
        out = branch(z, torch.from_numpy(w1), torch.from_numpy(w2), torch.from_numpy(level.gain))
        each = (out - wanted) ** 2 / 2 if objective == "l2" else -out * wanted
        return float(each.sum())

    _, state = continuum_memory(
        x, [level], levels_chunk_sizes=(6,), cms_rate=rate, signal="associative", objective=objective
    )
    for which, got in enumerate((state.levels[0].w1, state.levels[0].w2)):
        slope = np.zeros_like(got)
        for index in np.ndindex(got.shape):
            ends = []
            for sign in (1, -1):
                weights = [level.w1.copy(), level.w2.copy()]
                weights[which][index] += sign * h
                ends.append(loss(*weights))
            slope[index] = (ends[0] - ends[1]) / (2 * h)
        np.testing.assert_allclose(got, level[which] - rate * slope, rtol=0, atol=1e-8)


@pytest.mark.parametrize("count", [2, 40])  # fewer and more tokens than the hidden width of 12
def test_the_implicit_step_of_a_chunk_is_a_linear_solve(count: int) -> None:
    """(I + η XXᵀ) Wᵀ = Wᵀ_t + η X Uᵀ, X and U from the open sums of one token fewer and the last token's signals."""
    (level,), x, rate = levels(1), tokens(count), 0.4
    n = level.gain * x / np.sqrt((x**2).mean(1, keepdims=True) + 1e-6)  # (C, d)
    hidden = n @ level.w2.T
    gate = 1 / (1 + np.exp(-hidden))
    phi1, error = hidden * gate, (hidden * gate) @ level.w1.T - n @ level.value.T
    u2 = -(error @ level.w1) * (gate + hidden * gate * (1 - gate))
    _, state = continuum_memory(
        x, [level], levels_chunk_sizes=(count,), cms_rate=rate, signal="associative", rule="dgd"
    )
    pairs = ((level.w1, -error, phi1, state.levels[0].w1), (level.w2, u2, n, state.levels[0].w2))
    for w, u, phi, got in pairs:
        small = np.linalg.solve(np.eye(count) + rate * phi @ phi.T, phi)  # (C, d_in)
        np.testing.assert_allclose(got, w + rate * (u - phi @ w.T).T @ small, rtol=0, atol=1e-11)


# --- time -------------------------------------------------------------------------------------------------------


def stream(x: np.ndarray, parameters: tuple[Level, ...], **options: Any) -> list[ContinuumState]:
    """The state after every token."""
    state, states = None, []
    for row in x:
        _, state = continuum_memory(row[None], parameters, state, **options)
        states.append(state)
    return states


@pytest.mark.parametrize("variant", ["sequential", "independent"])
def test_levels_move_once_a_chunk_and_only_then(variant: str) -> None:
    sizes = (2, 3, 7)  # need not be multiples here
    parameters = levels()
    states = [
        initial_state(parameters),
        *stream(tokens(), parameters, **(SHORT | {"levels_chunk_sizes": sizes}), variant=variant),
    ]
    for level, size in enumerate(sizes):
        moves = [
            i
            for i in range(1, LENGTH + 1)
            if (states[i].levels[level].w1 != states[i - 1].levels[level].w1).any()
        ]
        assert moves == list(range(size, LENGTH + 1, size))
        assert len(moves) == LENGTH // size


def test_a_partial_chunk_is_carried_and_not_applied() -> None:
    parameters, x = levels(1), tokens(5)
    options = {"levels_chunk_sizes": (8,), "cms_rate": 0.3, "signal": "associative"}
    _, state = continuum_memory(x, parameters, **options)
    np.testing.assert_array_equal(state.levels[0].w1, parameters[0].w1)
    _, whole = continuum_memory(x, parameters, **(options | {"levels_chunk_sizes": (5,)}))
    np.testing.assert_allclose(
        parameters[0].w1 + 0.3 * state.levels[0].sum1, whole.levels[0].w1, rtol=0, atol=1e-14
    )
    np.testing.assert_array_equal(whole.levels[0].sum1, 0)


@pytest.mark.parametrize("variant", ["sequential", "nested", "independent"])
@pytest.mark.parametrize("rule", ["gd", "dgd"])
def test_every_split_of_a_stream_gives_the_same(variant: str, rule: str) -> None:
    options = SHORT | {"variant": variant, "rule": rule}
    y, state = continuum_memory(tokens(), levels(), **options)
    for split in (0, 1, 4, 6, 8, 9, LENGTH):  # both ends, in a chunk, at boundaries of one level and more
        first, carried = continuum_memory(tokens()[:split], levels(), **options)
        second, last = continuum_memory(tokens()[split:], levels(), carried, **options)
        np.testing.assert_array_equal(np.concatenate([first, second]), y)
        for got, want in zip(last.levels, state.levels, strict=True):
            for name, one, other in zip(LevelState._fields, got, want, strict=True):
                np.testing.assert_array_equal(one, other, err_msg=name)
        assert last.position == state.position


@pytest.mark.parametrize(NAMES, CHOICES)
def test_the_past_does_not_see_the_future(variant: str, order: str, rule: str, objective: str) -> None:
    options = SHORT | {"variant": variant, "order": order, "rule": rule, "objective": objective}
    y, _ = continuum_memory(tokens(11), levels(), **options)
    for t in (0, 3, 4, 9):
        x = tokens(11)
        x[t] += 0.7
        moved = np.abs(continuum_memory(x, levels(), **options)[0] - y).max(axis=1) > 1e-9
        assert not moved[:t].any()
        assert moved[t]
        boundary = 2 * (t // 2 + 1)  # of the fastest level
        assert not moved[t + 1 : boundary].any(), "no level moves before its chunk is full"
        assert moved[boundary], "from there on the fast level remembers"


def test_a_slower_boundary_restarts_the_faster_level() -> None:
    parameters = levels()
    states = stream(tokens(8), parameters, **SHORT, variant="nested")
    chain = stream(tokens(8), parameters, **SHORT, variant="sequential")
    before, after = states[2].levels[0], states[3].levels[0]  # token 3 ends chunks of 2 and of 4
    own_update = chain[3].levels[0].w1  # what its own update makes of it: nothing restarted before
    np.testing.assert_array_equal(before.start1, parameters[0].w1)
    np.testing.assert_allclose(after.start1, 0.9 * parameters[0].w1 + 0.1 * own_update, rtol=0, atol=1e-15)
    np.testing.assert_array_equal(after.w1, after.start1)
    np.testing.assert_array_equal(after.w2, after.start2)
    np.testing.assert_array_equal(after.sum1, 0)
    assert (states[3].levels[1].w1 != states[3].levels[1].start1).any(), (
        "the level that ended its chunk goes on"
    )
    assert (states[7].levels[1].w1 == states[7].levels[1].start1).all()
    assert (states[7].levels[2].w1 != states[7].levels[2].start1).any(), "the slowest never restarts"


@pytest.mark.parametrize(("rate", "forgets"), [(0.0, True), (1.0, False)])
def test_the_nested_rate_goes_from_forgetting_all_to_a_plain_chain(rate: float, forgets: bool) -> None:
    """ε = 0 returns to the parameters at every slower boundary; ε = 1 keeps θ, so nothing is ever restarted."""
    options = SHORT | {"variant": "nested", "nested_rate": rate}
    _, state = continuum_memory(tokens(8), levels(), **options)
    if forgets:
        np.testing.assert_array_equal(state.levels[0].w1, levels()[0].w1)
    else:
        _, chain = continuum_memory(tokens(8), levels(), **SHORT)
        np.testing.assert_allclose(state.levels[0].w1, chain.levels[0].w1, rtol=0, atol=1e-12)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_an_overflow_is_seen_and_does_not_depend_on_the_split() -> None:
    """The explicit step of a chunk overshoots once η ‖Σ φ φᵀ‖ passes 2; the implicit one stays finite at any rate."""
    options = SHORT | {"levels_chunk_sizes": (2,), "cms_rate": 1.0}
    y, _ = continuum_memory(tokens(40), levels(1), **options)
    assert not np.isfinite(y).all()
    _, carried = continuum_memory(tokens(40)[:31], levels(1), **options)
    np.testing.assert_array_equal(continuum_memory(tokens(40)[31:], levels(1), carried, **options)[0], y[31:])
    assert np.isfinite(continuum_memory(tokens(40), levels(1), **options, rule="dgd")[0]).all()


def test_no_tokens() -> None:
    y, state = continuum_memory(np.zeros((0, WIDTH)), levels(), **SHORT)
    assert y.shape == (0, WIDTH)
    assert state.position == 0


def test_a_saved_state_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    options = SHORT | {"variant": "nested", "rule": "dgd"}
    y, _ = continuum_memory(tokens(), levels(), **options)
    _, state = continuum_memory(tokens()[:7], levels(), **options)
    save_state(tmp_path / "levels.npz", state)
    loaded = load_state(tmp_path / "levels.npz", initial_state(levels()))
    assert isinstance(loaded.levels[0], LevelState)
    assert loaded.position == 7
    rest, _ = continuum_memory(tokens()[7:], levels(), loaded, **options)
    np.testing.assert_array_equal(rest, y[7:])


def test_random_levels_have_the_stated_sizes() -> None:
    for level in random_levels(64, 2, 0):
        assert level.w1.shape == (64, 256)
        assert level.w2.shape == (256, 64)
        assert np.std(level.w1) == pytest.approx(0.5 / 16, rel=0.05)
        assert np.std(level.w2) == pytest.approx(1 / 8, rel=0.05)
        np.testing.assert_allclose(level.value @ level.value.T, np.eye(64), rtol=0, atol=1e-12)


# --- bad input --------------------------------------------------------------------------------------------------

GOOD, X = levels(), tokens(4)
START = initial_state(GOOD)


def with_state(**changes: Any) -> ContinuumState:
    return START._replace(levels=(START.levels[0]._replace(**changes), *START.levels[1:]))


@pytest.mark.parametrize(
    ("x", "parameters", "options", "message"),
    [
        (X[:, :2], GOOD, {}, r"x must have shape \(T, 3\), got \(4, 2\)"),
        (X[0], GOOD, {}, r"x must have shape \(T, 3\), got \(3,\)"),
        (X * np.nan, GOOD, {}, "x must be finite, got 12 NaN"),
        (X.astype(np.float32), GOOD, {}, r"x must be float64.*got dtype float32"),
        (X, (), {}, "parameters must have at least one level, got none"),
        (X, (GOOD[0]._replace(w1=np.ones(3)), *GOOD[1:]), {}, r"parameters\[0\].w1 must have shape \(3, h\), got \(3,\)"),
        (X, (GOOD[0]._replace(w1=1.0), *GOOD[1:]), {}, r"parameters\[0\].w1 must have shape \(d, h\), got \(\)"),
        (X, (GOOD[0], GOOD[1]._replace(w1=np.ones((2, 12))), GOOD[2]), {}, r"parameters\[1\].w1 must have shape \(3, h\), got \(2, 12\)"),
        (X, (GOOD[0]._replace(w2=np.ones((3, 12))), *GOOD[1:]), {}, r"parameters\[0\].w2 must have shape \(12, 3\), got \(3, 12\)"),
        (X, (GOOD[0]._replace(gain=np.ones(2)), *GOOD[1:]), {}, r"parameters\[0\].gain must have shape \(3,\), got \(2,\)"),
        (X, (GOOD[0]._replace(gain=np.ones(3, np.float32)), *GOOD[1:]), {}, r"parameters\[0\].gain must be float64"),
        (X, (GOOD[0]._replace(value=np.eye(2)), *GOOD[1:]), {}, r"parameters\[0\].value must have shape \(3, 3\), got \(2, 2\)"),
        (X, (GOOD[0]._replace(value=None), *GOOD[1:]), {}, r"parameters\[0\].value must be given for signal='associative', got None"),
        (X, (GOOD[0]._replace(weight=np.inf), *GOOD[1:]), {}, r"parameters\[0\].weight must be finite"),
        (X, GOOD, {"levels_chunk_sizes": (2, 4)}, r"levels_chunk_sizes must have one entry per level \(3\), got 2"),
        (X, GOOD, {"levels_chunk_sizes": (2, 0, 4)}, "levels_chunk_sizes must be an integer >= 1, got 0"),
        (X, GOOD, {"levels_chunk_sizes": (4, 2, 8)}, r"levels_chunk_sizes must be listed fast to slow \(rising\), got \(4, 2, 8\)"),
        (X, GOOD, {"levels_chunk_sizes": (2, 4, 6), "variant": "nested"}, r"levels_chunk_sizes must each be a multiple of the one before \(nested\), got \(2, 4, 6\)"),
        (X, GOOD, {"cms_rate": (0.1, 0.1)}, r"cms_rate must have shape \(3,\), got \(2,\)"),
        (X, GOOD, {"cms_rate": -0.1}, "cms_rate must be >= 0, got min -0.1"),
        (X, GOOD, {"nested_rate": 1.5}, "nested_rate must be <= 1, got max 1.5"),
        (X, GOOD, {"variant": "parallel"}, "variant must be one of 'sequential', 'nested', 'independent', got 'parallel'"),
        (X, GOOD, {"order": "any"}, "order must be one of 'fast_to_slow', 'slow_to_fast', got 'any'"),
        (X, GOOD, {"signal": "loss"}, "signal must be one of 'task', 'associative', 'none', got 'loss'"),
        (X, GOOD, {"rule": "sgd"}, "rule must be one of 'gd', 'dgd', got 'sgd'"),
        (X, GOOD, {"objective": "l1"}, "objective must be one of 'l2', 'dot', got 'l1'"),
        (X, GOOD, {"state": START._replace(levels=START.levels[:2])}, "state.levels must have 3 entries, got 2"),
        (X, GOOD, {"state": with_state(sum1=np.ones((3, 3)))}, r"state.levels\[0\].sum1 must have shape \(3, 12\), got \(3, 3\)"),
        (X, GOOD, {"state": with_state(w2=START.levels[0].w2.astype(np.float32))}, r"state.levels\[0\].w2 must be a float64 array, got float32"),
        (X, GOOD, {"state": with_state(gram1=0.0)}, r"state.levels\[0\].gram1 must be a float64 array, got float"),
        (X, GOOD, {"state": START._replace(position=-2)}, "state.position must be an integer >= 0, got -2"),
    ],
)  # fmt: skip
def test_bad_input_is_named(x: Any, parameters: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        continuum_memory(x, parameters, **(SHORT | options))


def apart(rate: float, size: int, length: int = 16) -> float:
    """How far one level that moves once in so many tokens ends from one that moves with every token."""
    ends = []
    for clock in (1, size):
        given = {"levels_chunk_sizes": (clock,), "cms_rate": rate, "signal": "associative"}
        (level,) = continuum_memory(tokens(length), levels(1), **given)[1].levels
        ends.append(np.concatenate([level.w1.ravel(), level.w2.ravel()]))
    return float(np.abs(ends[0] - ends[1]).max())


def test_a_clock_changes_nothing_to_first_order() -> None:
    """Half the rate, a quarter of the difference; and of 16 tokens, chunks of C leave out 16 (C - 1)/2 pairs."""
    for size in (2, 4, 16):
        assert apart(2e-4, size) / apart(1e-4, size) == pytest.approx(4, rel=0.02)
        assert apart(1e-4, size) < 0.01 * 1e-4 * 16  # of the order of what the level has moved
    assert apart(1e-4, 2) < apart(1e-4, 4) < apart(1e-4, 16)
