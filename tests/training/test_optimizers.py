"""The learning rate against PyTorch's schedulers; who steps what; levels that move only when they are due."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch.optim import AdamW

from hope_ref.parallel.continuum_schedule import LevelSchedule
from hope_ref.parallel.m3 import M3
from hope_ref.training import optimizers
from hope_ref.training.settings import TrainingSettings


@pytest.mark.parametrize(("steps", "warmup"), [(300, 0.1), (20, 0.25), (7, 0.3)])
def test_one_cycle_is_that_of_pytorch(steps: int, warmup: float) -> None:
    settings = TrainingSettings(steps=steps, warmup=warmup, lr=3e-3)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=3e-3, total_steps=steps, pct_start=warmup, cycle_momentum=False
    )
    for step in range(steps):
        assert optimizers.learning_rate(settings, step) == pytest.approx(theirs.get_last_lr()[0], rel=1e-12)
        optimizer.step()
        if step + 1 < steps:
            theirs.step()


def test_the_other_schedules() -> None:
    rates = {
        schedule: [
            optimizers.learning_rate(TrainingSettings(steps=20, warmup=0.2, lr=1.0, schedule=schedule), step)
            for step in range(20)
        ]
        for schedule in ("cosine", "constant")
    }
    for found in rates.values():
        assert found[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates["constant"][4:] == [1.0] * 16
    assert rates["cosine"][11] == pytest.approx(0.5)  # halfway from step 4 to step 20
    assert rates["cosine"][-1] == pytest.approx(0.0, abs=1e-15)
    assert sorted(rates["cosine"][3:], reverse=True) == rates["cosine"][3:]


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine", "constant"])
@pytest.mark.parametrize(("steps", "warmup"), [(1, 0.1), (1, 0.0), (1, 1.0), (5, 0.0), (5, 1.0), (2, 0.5)])
def test_no_corner_leaves_the_range(schedule: str, steps: int, warmup: float) -> None:
    settings = TrainingSettings(steps=steps, warmup=warmup, schedule=schedule, lr=1.0)
    rates = [optimizers.learning_rate(settings, step) for step in range(steps)]
    assert all(0 <= rate <= 1 for rate in rates)


def test_m3_takes_the_linear_maps_and_adamw_the_rest(toys: SimpleNamespace) -> None:
    run = toys.run("x", blocks=2, optimizer="m3", betas=(0.7, 0.8), slow_every=3)
    model = run.model()
    stepper = optimizers.make(model, run.training)
    assert isinstance(stepper, optimizers.Together)
    m3, adamw = stepper.optimizers
    assert isinstance(m3, M3)
    assert isinstance(adamw, AdamW)
    assert m3.param_groups[0]["betas"] == (0.7, 0.8, 0.9)
    assert m3.param_groups[0]["slow_every"] == 3
    taken = {id(p) for p in m3.param_groups[0]["params"]}
    names = {name.split(".", 2)[-1] for name, p in model.named_parameters() if id(p) in taken}
    maps = {f"mixer.{name}" for name in ("output", "p_key", "p_value", "w_query")}
    roles = ("k", "v", "eta", "alpha", "memory")
    stacks = {
        f"mixer.{w}_{role}" for w in ("w1", "w2") for role in roles
    }  # where the memories start, head by head
    assert names == maps | stacks | {
        f"continuum.levels.{level}.{w}" for level in (0, 1) for w in ("w1", "w2")
    }
    others = [id(p) for group in adamw.param_groups for p in group["params"]]
    assert len(others) + len(taken) == len(list(model.parameters()))
    assert not taken & set(others)


def test_gains_biases_and_the_embedding_do_not_decay(toys: SimpleNamespace) -> None:
    run = toys.run("x", weight_decay=0.3)
    model = run.model()
    names = {id(p): name.rsplit(".", 1)[-1] for name, p in model.named_parameters()}
    groups = optimizers.groups_of(optimizers.make(model, run.training))
    decayed = {names[id(p)] for group in groups for p in group["params"] if group["weight_decay"] == 0.3}
    plain = {names[id(p)] for group in groups for p in group["params"] if group["weight_decay"] == 0}
    assert {"w1_memory", "w2_k", "p_key", "output", "w1", "w2"} <= decayed
    assert {"embedding", "norm", "gain", "head_norm", "conv_key", "eta_readout", "eta_bias_k"} <= plain
    assert len(decayed | plain) == len(decayed) + len(plain) == len(set(names.values()))


@pytest.mark.parametrize("optimizer", ["adamw", "m3"])
def test_levels_move_only_when_they_are_due(toys: SimpleNamespace, optimizer: str) -> None:
    run = toys.run(
        "x", blocks=2, optimizer=optimizer, continuum="scheduled"
    )  # 16 tokens; levels of 16 and 64
    model = run.model()
    stepper = optimizers.make(model, run.training)
    assert isinstance(stepper, LevelSchedule)
    moved = []
    for step in range(9):
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        stepper.zero_grad()
        windows = torch.randint(256, (2, 17), generator=torch.Generator().manual_seed(step))
        torch.nn.functional.cross_entropy(
            model(windows[:, :-1])[0].flatten(0, 1), windows[:, 1:].flatten()
        ).backward()
        optimizers.advance(stepper, 1e-2, 16)
        after = dict(model.named_parameters())
        moved.append({name for name in before if not torch.equal(before[name], after[name])})
    for step, names in enumerate(moved, start=1):
        slow = {name for name in names if ".levels.1." in name}
        assert len(slow) == (6 if step % 4 == 0 else 0), step  # W1, W2 and gain in both blocks
        assert len({name for name in names if ".levels.0." in name}) == 6
        assert any("p_key" in name for name in names)


def test_the_rate_reaches_every_group(toys: SimpleNamespace) -> None:
    run = toys.run("x", optimizer="m3", continuum="scheduled")
    stepper = optimizers.make(run.model(), run.training)
    optimizers.advance(stepper, 0.125, 16)
    assert {group["lr"] for group in optimizers.groups_of(stepper)} == {0.125}
    assert len(optimizers.groups_of(stepper)) == 2  # M3's, and AdamW's without decay


def test_a_state_of_other_groups_is_refused_before_anything_is_loaded(toys: SimpleNamespace) -> None:
    """As of a run that was saved when M3 took no stacks."""
    run = toys.run("x", optimizer="m3")
    stepper = optimizers.make(run.model(), run.training)
    state = stepper.state_dict()
    m3, adamw = state["optimizers"]
    sizes = [len(group["params"]) for one in (m3, adamw) for group in one["param_groups"]]
    m3["param_groups"][0]["params"] = m3["param_groups"][0]["params"][:8]
    m3["param_groups"][0]["lr"] = 9.0
    message = rf"must hold optimisers with groups of \[\[{sizes[0]}\], \[{sizes[1]}\]\] parameters .*, got \[\[8\], "
    with pytest.raises(ValueError, match=message):
        stepper.load_state_dict(state)
    assert {group["lr"] for group in stepper.param_groups} == {run.training.lr}
