"""Self-modifying Titans in chunks equal the token loop: outputs and complete state, for every option and any split."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import self_modifying_titans_random as drawing
import torch
from selection import some_slow

from hope_ref.common.validation import Array
from hope_ref.config import CHOICES, HopeConfig
from hope_ref.parallel.self_modifying_titans import State, self_modifying_titans
from hope_ref.reference import self_modifying_titans as literal
from hope_ref.reference.parameters import random_parameters

tensors, results = drawing.tensors, drawing.results

HERE = ("architecture", "objective", "step", "retention_scope", "retention_target", "erase", "target", "read")
TOGGLES = ("value_norm", "read_skip", "adaptive_query")
SMALL = {"memory_chunk_size": 2, "projection_chunk_size": 4}

EACH: dict[str, HopeConfig] = {
    "default": HopeConfig(**SMALL),
    "printed": HopeConfig.printed(**SMALL),
    **{f"{n}={v}": HopeConfig(**SMALL, **{n: v}) for n in HERE for v in CHOICES[n][1:]},
    **{f"{n}={v}": HopeConfig(**SMALL, **{n: v}) for n in TOGGLES for v in (True, False)},
    "equal chunks": HopeConfig(memory_chunk_size=4, projection_chunk_size=4),
    "chunks the other way": HopeConfig(memory_chunk_size=4, projection_chunk_size=2),
    "token by token": HopeConfig(memory_chunk_size=1, projection_chunk_size=1),
    "no bound": HopeConfig(**SMALL, surprise_bound=0),
    "momentum": HopeConfig(**SMALL, inner_momentum=0.6),
    "momentum, nothing erased": HopeConfig(**SMALL, inner_momentum=0.6, erase="none"),
    "only memory writes": HopeConfig(**SMALL, writing=("memory",)),
    "memory does not write": HopeConfig(**SMALL, writing=("k", "eta")),
    "nothing writes": HopeConfig(**SMALL, writing=(), read="pre"),
    "all at once": HopeConfig(
        **SMALL, architecture="linear", inner_momentum=0.3, adaptive_query=True, erase="deviation",
        retention_scope="all", step="normalized", objective="dot", read="pre", eta_max=0.9,
    ),
}  # fmt: skip
each_option = pytest.mark.parametrize("config", EACH.values(), ids=EACH)
AT_ONCE = ("default", "printed", "architecture=linear", "chunks the other way", "momentum", "all at once")
few_at_once = pytest.mark.parametrize("config", some_slow(EACH, AT_ONCE))


def views(length: int, d: int = 4, seed: int = 0, lead: tuple[int, ...] = ()) -> list[Array]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(*lead, length, d)) for _ in range(3)]


def drawn(config: HopeConfig, length: int, d: int = 4, hidden: int = 5) -> Any:
    parameters = random_parameters(config, d, hidden, 0)
    return drawing.Drawn(config, parameters, views(length, d))


def close(got: Any, want: Any, bound: float = 1e-10) -> None:
    """Every result within ``bound`` times the largest entry of the wanted one, or of 1."""
    got, want = results(*got), results(*want)
    assert got.keys() == want.keys()
    for name, expected in want.items():
        expected = np.asarray(expected)
        largest = max(1.0, float(np.abs(expected).max(initial=0)))
        np.testing.assert_allclose(got[name].numpy(), expected, rtol=0, atol=bound * largest, err_msg=name)


# --- against the token loop -----------------------------------------------------------------------------------------


ALL_LENGTHS = ("default", "all at once")
LENGTHS = {
    f"{name}-{length}": (name, length)
    for name in EACH
    for length in ((0, 1, 3, 4, 5, 9, 23) if name in ALL_LENGTHS else (5, 11))
}
LONGER = {key for key, (name, length) in LENGTHS.items() if name in ALL_LENGTHS or length == 11}


@pytest.mark.parametrize(("name", "length"), some_slow(LENGTHS, LONGER))
def test_every_option_equals_the_token_loop(name: str, length: int) -> None:
    """C + 1 and 2C + 3 tokens, for the larger of the chunk sizes 2 and 4; for two 0, 1, C - 1, C, C + 1, 2C + 1, 5C + 3."""
    config = EACH[name]
    error, largest = drawing.disagreement(drawn(config, length))
    assert error <= 1e-10 * max(1.0, largest)


SIZED = {
    f"{length}-{sizes[0]}-{sizes[1]}": (length, sizes)
    for length in (2, 7, 8, 9, 17, 43)
    for sizes in ((2, 2), (3, 3), (8, 8), (2, 8), (8, 2), (1, 3), (9, 3), (64, 64))
}
SOME = [name for name in SIZED if name.startswith("9-") or name.endswith("2-8")]


@pytest.mark.parametrize(("length", "sizes"), some_slow(SIZED, SOME))
def test_every_chunk_size_equals_the_token_loop(sizes: tuple[int, int], length: int) -> None:
    config = HopeConfig(memory_chunk_size=sizes[0], projection_chunk_size=sizes[1])
    error, largest = drawing.disagreement(drawn(config, length))
    assert error <= 1e-10 * max(1.0, largest)


@cache
def disagreement_of(seed: int) -> tuple[float, float]:
    return drawing.disagreement(drawing.random_configuration(seed))


@pytest.mark.parametrize("seed", range(40))
def test_random_combinations_equal_the_token_loop(seed: int) -> None:
    """Wherever numbers stay below 1e6: some combinations, all as printed by the sources, overflow."""
    error, largest = disagreement_of(seed)
    assert error <= 1e-10 * max(1.0, largest) or not largest < 1e6


def test_the_random_combinations_are_what_they_say() -> None:
    found = [drawing.random_configuration(seed).config for seed in range(40)]
    for name in (*HERE, *TOGGLES, "target_gradient"):
        assert len({getattr(config, name) for config in found}) == len(CHOICES.get(name, (True, False)))
    largest = [disagreement_of(seed)[1] for seed in range(40)]
    assert sum(size < 1e6 for size in largest) >= 38


def test_an_overflow_passes_into_outputs_and_state() -> None:
    config = HopeConfig.printed(memory_chunk_size=4, projection_chunk_size=4, objective="dot")
    parameters = random_parameters(config, 4, 5, 0)
    parameters |= {"alpha_bias": np.array(20.0), "alpha_readout": np.zeros(4)}  # nothing is forgotten
    x = views(60)
    want, _ = literal.self_modifying_titans(*x, parameters, config)
    whole = np.isfinite(want).all(axis=1)
    assert not whole[-1]
    outputs, state = self_modifying_titans(*map(torch.tensor, x), tensors(parameters), config)
    assert not torch.isfinite(outputs[-1]).all()
    assert abs(int(torch.isfinite(outputs).all(-1).sum()) - int(whole.sum())) <= 2
    rest, _ = self_modifying_titans(
        *map(torch.tensor, x), tensors(parameters), config, state
    )  # and may go on
    assert not torch.isfinite(rest).any()


AXES = {
    f"{name}, {lead}, {own}": (name, lead, own)
    for name in ("default", "printed", "momentum", "all at once", "architecture=linear")
    for lead, own in (((2,), ()), ((2,), (2,)), ((2, 3), (3,)), ((2, 3), (2, 1)))
}
EACH_ONCE = {
    key for key, (name, lead, own) in AXES.items() if name == "default" or (lead, own) == ((2,), (2,))
}


@pytest.mark.parametrize(("name", "lead", "own"), some_slow(AXES, EACH_ONCE))
def test_leading_axes_are_so_many_separate_runs(
    name: str, lead: tuple[int, ...], own: tuple[int, ...]
) -> None:
    """Heads with parameters of their own: x (batch, heads, T, d), parameters (heads, …). As for training, and without."""
    config = EACH[name]
    x = views(11, lead=lead)
    each = [random_parameters(config, 4, 5, seed) for seed in range(int(np.prod(own, dtype=int)))]
    stacked = {n: np.stack([p[n] for p in each]).reshape(own + each[0][n].shape) for n in each[0]}
    found = []
    for training in (True, False):
        with torch.set_grad_enabled(training):
            found.append(self_modifying_titans(*map(torch.tensor, x), tensors(stacked), config))
    of_index = np.broadcast_to(np.arange(len(each)).reshape(own), lead)
    for index in np.ndindex(lead):
        want = literal.self_modifying_titans(*(view[index] for view in x), each[of_index[index]], config)
        for outputs, state in found:
            parts = [{n: t[index] for n, t in getattr(state, part).items()} for part in drawing.PARTS]
            close((outputs[index], State(*parts, state.position)), want)


@few_at_once
def test_any_split_gives_the_same_outputs_and_state(config: HopeConfig) -> None:
    """Within chunks, not only between them; and the first part's state is left as it was."""
    given = drawn(config, 11)
    x, parameters = [torch.tensor(view) for view in given.views], tensors(given.parameters)
    want = self_modifying_titans(*x, parameters, config)
    want_numpy = (want[0].numpy(), want[1])
    for cut in (0, 1, 4, 6, 7, 11):
        first, state = self_modifying_titans(*(view[:cut] for view in x), parameters, config)
        copies = {name: value.clone() for name, value in results(first, state).items()}
        rest, final = self_modifying_titans(*(view[cut:] for view in x), parameters, config, state)
        assert final.position == 11
        close((torch.cat([first, rest]), final), want_numpy, 1e-12)
        for name, value in results(first, state).items():
            assert torch.equal(value, copies[name]), name


@few_at_once
def test_token_by_token_is_the_same_stream(config: HopeConfig) -> None:
    given = drawn(config, 9)
    x, parameters = [torch.tensor(view) for view in given.views], tensors(given.parameters)
    state, outputs = None, []
    for t in range(9):
        one, state = self_modifying_titans(*(view[t : t + 1] for view in x), parameters, config, state)
        outputs.append(one)
    close((torch.cat(outputs), state), literal.self_modifying_titans(*given.views, given.parameters, config))


@few_at_once
def test_a_token_changes_no_earlier_output(config: HopeConfig) -> None:
    given = drawn(config, 11)
    before, _ = self_modifying_titans(*map(torch.tensor, given.views), tensors(given.parameters), config)
    for token in (0, 3, 4, 10):
        changed = [view.copy() for view in given.views]
        for view in changed:
            view[token] += 0.5
        after, _ = self_modifying_titans(*map(torch.tensor, changed), tensors(given.parameters), config)
        assert torch.equal(before[:token], after[:token])
        assert (before[token] - after[token]).abs().max() > 1e-6


@few_at_once
def test_without_gradients_a_state_in_hand_is_not_overwritten(config: HopeConfig) -> None:
    given = drawn(config, 23)
    x, parameters = [torch.tensor(view) for view in given.views], tensors(given.parameters)
    want = literal.self_modifying_titans(*given.views, given.parameters, config)
    with torch.no_grad():
        for cut in (3, 4, 6, 8):
            first, state = self_modifying_titans(*(view[:cut] for view in x), parameters, config)
            copies = {name: value.clone() for name, value in results(first, state).items()}
            rest, final = self_modifying_titans(*(view[cut:] for view in x), parameters, config, state)
            for name, value in results(first, state).items():
                assert torch.equal(value, copies[name]), name
            close((torch.cat([first, rest]), final), want)


def test_without_learning_rates_the_outputs_are_others() -> None:
    given = drawn(EACH["default"], 11)
    still = given.parameters | {f"eta_bias_{m}": np.array(-2000.0) for m in EACH["default"].memories}
    x = list(map(torch.tensor, given.views))
    moving, state = self_modifying_titans(*x, tensors(given.parameters), EACH["default"])
    resting, rested = self_modifying_titans(*x, tensors(still), EACH["default"])
    assert (moving - resting).abs().max() > 1e-2
    for name, weight in rested.weights.items():
        np.testing.assert_allclose(weight.numpy(), still[name], rtol=0, atol=1e-12)
        assert (state.weights[name] - weight).abs().max() > 1e-3


def test_no_retention_at_all_is_exact_in_a_long_chunk() -> None:
    """α = 0 to the last digit: every token starts from the initial weights again."""
    config = HopeConfig(memory_chunk_size=16, projection_chunk_size=16, retention_scope="all")
    given = drawn(config, 35)
    parameters = given.parameters | {"alpha_readout": np.zeros(4), "alpha_bias": np.array(-800.0)}
    error, _ = drawing.disagreement(given._replace(parameters=parameters))
    assert error <= 1e-12


@pytest.mark.parametrize("name", ["default", "printed", "momentum", "equal chunks"])
def test_float32_stays_near(name: str) -> None:
    """Rounding at 6e-8 and 43 tokens of feedback: within 1e-4 of the largest entry."""
    config = EACH[name]
    given = drawn(config, 43, 8, 8)
    want = literal.self_modifying_titans(*given.views, given.parameters, config)
    x = [torch.tensor(view, dtype=torch.float32) for view in given.views]
    got = self_modifying_titans(*x, tensors(given.parameters, torch.float32), config)
    assert {value.dtype for value in results(*got).values()} == {torch.float32}
    close(
        (got[0].double(), State(*[{n: t.double() for n, t in p.items()} for p in got[1][:3]], 43)), want, 1e-4
    )


def test_features_that_are_nearly_dead_do_not_break_normalised_steps() -> None:
    """‖σ(W2 k)‖ near 1e-4, where η/(‖φ‖² + 1e-6) is a step of hundreds."""
    config = HopeConfig(memory_chunk_size=8, projection_chunk_size=8, step="normalized", eta_max=0.9)
    given = drawn(config, 35)
    small = {n: a * 1e-4 if n.startswith("w2") else a for n, a in given.parameters.items()}
    error, largest = drawing.disagreement(given._replace(parameters=small))
    assert error <= 1e-10 * max(1.0, largest)
