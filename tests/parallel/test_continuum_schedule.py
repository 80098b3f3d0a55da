"""The schedule of levels in pre-training: against loops written out for SGD, momentum and Adam, and its state."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from selection import some_slow
from torch import Tensor, nn

from hope_ref.parallel.continuum_schedule import LevelSchedule

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
}
SIZES = (8, 20)
PACES = {f"{tokens}-{name}": (tokens, name) for tokens in (1, 4, 7, 8, 30) for name in OPTIMIZERS}


def layers(seed: int = 0) -> nn.Sequential:
    """Two levels and a head that belongs to none."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 2)).double()


def scheduled(model: nn.Sequential, name: str = "adamw") -> LevelSchedule:
    optimizer = OPTIMIZERS[name](model.parameters())
    levels = [
        {"params": model[place].parameters(), "chunk_size": size}
        for place, size in zip((0, 2), SIZES, strict=True)
    ]
    return LevelSchedule(optimizer, levels)


def gradients(step: int) -> list[Tensor]:
    """Of all six parameters, drawn: they do not depend on the weights, so that sums can be written out."""
    generator = torch.Generator().manual_seed(step)
    return [torch.randn(p.shape, dtype=torch.float64, generator=generator) for p in layers().parameters()]


def give(model: nn.Module, step: int) -> None:
    """As backward does: add to what is there."""
    for parameter, gradient in zip(model.parameters(), gradients(step), strict=True):
        parameter.grad = gradient.clone() if parameter.grad is None else parameter.grad + gradient


@pytest.mark.parametrize(
    ("tokens", "name"),
    some_slow(PACES, [pace for pace in PACES if pace.startswith("7-") or pace.endswith("adamw")]),
)
def test_equals_one_optimizer_per_level_at_its_own_pace(tokens: int, name: str) -> None:
    model, other = layers(), layers()
    schedule = scheduled(model, name)
    groups = [list(other[place].parameters()) for place in (0, 2, 4)]
    optimizers = [OPTIMIZERS[name](group) for group in groups]
    counts, totals = [0, 0, 0], [[torch.zeros_like(p) for p in group] for group in groups]
    for step in range(24):
        schedule.zero_grad()
        give(model, step)
        due = schedule.step(tokens)
        drawn = gradients(step)
        for index, size in enumerate((*SIZES, 1)):
            counts[index] += tokens
            totals[index] = [
                t + g for t, g in zip(totals[index], drawn[2 * index : 2 * index + 2], strict=True)
            ]
            if counts[index] >= size:
                for parameter, total in zip(groups[index], totals[index], strict=True):
                    parameter.grad = total
                optimizers[index].step()
                counts[index], totals[index] = 0, [torch.zeros_like(p) for p in groups[index]]
                assert index == 2 or due[index]
            else:
                assert not due[index]
        for mine, want in zip(model.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(mine, want, rtol=0, atol=1e-13)


def test_levels_move_once_a_chunk_and_only_then() -> None:
    """4 tokens a step: C = 8 at every second step; C = 20 at every fifth; the head always. No batch is counted."""
    model = layers()
    schedule = scheduled(model)
    moves: list[list[int]] = [[], [], []]
    for step in range(1, 21):
        before = [p.clone() for p in model.parameters()]
        give(model, step)
        schedule.step(4)
        for place in range(3):
            if not torch.equal(before[2 * place], list(model.parameters())[2 * place]):
                moves[place].append(step)
    assert moves == [list(range(2, 21, 2)), list(range(5, 21, 5)), list(range(1, 21))]


def test_a_chunk_that_no_step_hits_fires_at_the_first_that_reaches_it() -> None:
    """7 tokens a step, C = 20: at steps 3, 6, 9 (21 tokens each), not at 2 (14)."""
    model = layers()
    schedule = scheduled(model)
    fired = []
    for step in range(1, 10):
        give(model, step)
        fired.append(schedule.step(7)[1])
    assert fired == [False, False, True] * 3


@pytest.mark.parametrize("set_to_none", [True, False, None], ids=["none", "zero", "never"])
def test_it_does_not_matter_how_gradients_are_cleared(set_to_none: bool | None) -> None:
    """Of the levels; parameters outside keep PyTorch's own custom of adding up what is not cleared."""
    model, other = layers(), layers()
    ours, theirs = scheduled(model), scheduled(other)
    for step in range(10):
        if set_to_none is not None:
            ours.optimizer.zero_grad(set_to_none=set_to_none)
        theirs.zero_grad()
        for one, schedule in ((model, ours), (other, theirs)):
            give(one, step)
            schedule.step(4)
    for mine, want in zip(list(model.parameters())[:4], list(other.parameters())[:4], strict=True):
        assert torch.equal(mine, want)


def test_parameters_without_a_gradient_wait() -> None:
    model = layers()
    schedule, before = scheduled(model), copy.deepcopy(model.state_dict())
    for _ in range(5):
        schedule.step(30)
    for name, parameter in model.state_dict().items():
        assert torch.equal(parameter, before[name])


@pytest.mark.parametrize("split", range(1, 12))
def test_a_loaded_state_goes_on_to_the_last_bit(split: int) -> None:
    whole = layers()
    schedule = scheduled(whole)
    states: list[Any] = []
    for step in range(12):
        if step == split:
            states = [copy.deepcopy(whole.state_dict()), copy.deepcopy(schedule.state_dict())]
        schedule.zero_grad()
        give(whole, step)
        schedule.step(7)
    model = layers(1)
    resumed = scheduled(model)
    model.load_state_dict(states[0])
    resumed.load_state_dict(states[1])
    for step in range(split, 12):
        resumed.zero_grad()
        give(model, step)
        resumed.step(7)
    for mine, want in zip(model.parameters(), whole.parameters(), strict=True):
        assert torch.equal(mine, want)


def test_sums_are_no_aliases_of_gradients() -> None:
    """Of whoever keeps a gradient (DDP's buckets, a user), and clears it in place; nor of the state that was loaded."""
    model, other = layers(), layers()
    ours, theirs = scheduled(model), scheduled(other)
    for step in range(6):
        for one, schedule in ((model, ours), (other, theirs)):
            schedule.zero_grad(set_to_none=False)
            give(one, step)
            seen = [p.grad for p in one.parameters()]
            schedule.step(4)
            if one is model:
                for gradient in seen:
                    gradient.zero_()
        state = ours.state_dict()
        ours.load_state_dict(state)
        for sums in state["gradients"]:
            for total in sums:
                if total is not None:
                    total.zero_()
    for mine, want in zip(list(model.parameters())[:4], list(other.parameters())[:4], strict=True):
        assert torch.equal(mine, want)


def test_half_gradients_add_up_in_float32() -> None:
    """In bfloat16 a sum stops growing at 256 times what is added."""
    weight = nn.Parameter(torch.zeros(2, 2, dtype=torch.bfloat16))
    schedule = LevelSchedule(torch.optim.SGD([weight], lr=1.0), [{"params": weight, "chunk_size": 1000}])
    for step in range(1000):
        weight.grad = torch.ones_like(weight)
        schedule.step(1)
        if step == 500:
            schedule.load_state_dict(copy.deepcopy(schedule.state_dict()))
    assert (weight == -1000).all()


# --- an optimiser to PyTorch ------------------------------------------------------------------------------------------


def test_schedulers_of_rates_take_the_schedule_or_what_is_in_it() -> None:
    paths = []
    for outer in (True, False):
        model = layers()
        schedule = scheduled(model)
        rates = torch.optim.lr_scheduler.StepLR(schedule if outer else schedule.optimizer, 1, gamma=0.5)
        for step in range(6):
            give(model, step)
            schedule.step(4)
            rates.step()
        assert schedule.param_groups is schedule.optimizer.param_groups
        assert schedule.param_groups[0]["lr"] == 0.01 * 0.5**6
        assert schedule.state is schedule.optimizer.state
        paths.append([p.detach() for p in model.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*paths, strict=True))


@pytest.mark.parametrize("unscale", [False, True])
def test_a_scaler_passes_tokens_on_and_what_is_not_finite_counts_for_nothing(unscale: bool) -> None:
    """The fourth batch has infinite gradients: tokens, sums, moments and weights are as if it had not been."""
    runs: list[Any] = []
    for scaled in (False, True):
        model = layers()
        schedule = scheduled(model)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, enabled=scaled)
        returned = []
        for step in range(9):
            if step == 3 and not scaled:
                continue
            schedule.zero_grad()
            scaler.scale(torch.ones(()))
            for parameter, gradient in zip(model.parameters(), gradients(step), strict=True):
                parameter.grad = gradient * scaler.get_scale() * (torch.inf if step == 3 else 1)
            before = copy.deepcopy(schedule.state_dict())
            if unscale:
                scaler.unscale_(schedule)
            due = scaler.step(schedule, tokens=4)
            scaler.update()
            if step == 3:
                assert due is None
                torch.testing.assert_close(schedule.state_dict(), before, rtol=0, atol=0)
            else:
                returned.append(due)
        runs.append((returned, schedule.tokens, [p.detach() for p in model.parameters()]))
    assert runs[0][:2] == runs[1][:2]
    assert all(torch.equal(one, other) for one, other in zip(runs[0][2], runs[1][2], strict=True))


def test_hooks_and_groups_are_the_optimisers_own() -> None:
    model, extra = layers(), nn.Parameter(torch.ones(2))
    schedule, seen = scheduled(model), []
    schedule.register_step_pre_hook(lambda *arguments: seen.append(arguments[2]))
    schedule.add_param_group({"params": [extra]})
    extra.grad = torch.ones(2)
    schedule.step(tokens=1)
    assert seen == [{"tokens": 1}]
    assert schedule.optimizer.param_groups[-1]["params"] == [extra]
    assert (extra != 1).all()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_a_copy_goes_on_by_itself(copied: Callable[[Any], Any]) -> None:
    """In the middle of a chunk, with a scheduler's wrapper around the step."""
    model = layers()
    schedule = scheduled(model)
    torch.optim.lr_scheduler.StepLR(schedule, 100)
    give(model, 0)
    schedule.step(4)
    model.zero_grad()
    other, twin = copied((model, schedule))
    assert all(p is q for level, place in zip(twin.levels, (0, 2), strict=True)
               for p, q in zip(level, other[place].parameters(), strict=True))  # fmt: skip
    for step in range(1, 6):
        for one, own in ((model, schedule), (other, twin)):
            own.zero_grad()
            give(one, step)
            own.step(4)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("arguments", [{"tokens": 1, "closure": float}, {"tokens": float}])
def test_closures_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="closure must be None, got one"):
        scheduled(layers()).step(**arguments)


# --- bad input --------------------------------------------------------------------------------------------------------

MODEL = layers()
SGD = torch.optim.SGD(MODEL.parameters(), lr=0.1)
FIRST, FOREIGN = list(MODEL[0].parameters()), layers()[0].weight


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ([{"params": FOREIGN, "chunk_size": 2}], r"levels\[0\]: params must all be in the optimizer, got one that is not"),
        ([{"params": FIRST, "chunk_size": 0}], r"levels\[0\]: chunk_size must be an integer >= 1, got 0"),
        ([{"params": FIRST, "chunk_size": 2}, {"params": FIRST[0], "chunk_size": 4}], r"levels\[1\]: params must belong to one level only, got one twice"),
        ([{"params": [FIRST[0], FIRST[0]], "chunk_size": 4}], r"levels\[0\]: params must belong to one level only, got one twice"),
        ([{"params": FIRST}], r"levels\[0\] must be a dict of params and chunk_size, got \['params'\]"),
        ([FIRST], r"levels\[0\] must be a dict of params and chunk_size, got list"),
    ],
)  # fmt: skip
def test_bad_levels_are_named(levels: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LevelSchedule(SGD, levels)


@pytest.mark.parametrize("tokens", [0, -1, 2.5, True])
def test_bad_tokens_are_named(tokens: Any) -> None:
    with pytest.raises(ValueError, match=f"tokens must be an integer >= 1, got {tokens}"):
        scheduled(layers()).step(tokens)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extra": 1}, r"state must hold \['gradients', 'optimizer', 'tokens'\], got \['extra', "),
        ({"gradients": [[None, None]]}, r"state must have levels of \[2, 2\] parameters, got \[2\]"),
        ({"tokens": [1]}, r"state must have levels of \[2, 2\] parameters, got \[2, 2\] and 1 counts"),
        ({"gradients": [[torch.ones(2), None], [None, None]]}, r"state: gradients\[0\]\[0\] must have shape \(5, 3\), got \(2,\)"),
    ],
)  # fmt: skip
def test_bad_states_are_named(change: dict[str, Any], message: str) -> None:
    schedule = scheduled(layers())
    with pytest.raises(ValueError, match=message):
        schedule.load_state_dict({**schedule.state_dict(), **change})
