"""Streams that are carried: storage, foreign states, detaching for truncated backpropagation, devices and batches."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import hope_models
import pytest
import torch
from hope_models import tensors
from selection import some_slow
from torch import Tensor
from torch.nn import functional

from hope_ref.common import nested
from hope_ref.config import STARTS, HopeConfig
from hope_ref.parallel import continuum_memory, states, titans
from hope_ref.parallel.hope import MIXERS, Hope, HopeState
from hope_ref.parallel.hope_adaptation import AdaptationState

SMALL = HopeConfig(
    width=8, heads=2, vocabulary=7, memory_chunk_size=2, projection_chunk_size=4, levels_chunk_sizes=(4, 8)
)
TOKENS = torch.tensor([[0, 3, 1, 4, 2, 6, 5, 0, 1], [2, 2, 0, 1, 3, 5, 4, 6, 6], [1, 5, 4, 2, 0, 0, 3, 6, 1]])


def model_of(mixer: str = "self_modifying_titans", **options: Any) -> Hope:
    return Hope(SMALL.replace(mixer=mixer, **options)).double()


# --- storage ----------------------------------------------------------------------------------------------------------

HELD: dict[str, Callable[[Hope, Tensor], Any]] = {
    "initial": lambda model, tokens: model.initial_state(tuple(tokens.shape[:-1])),
    "no tokens": lambda model, tokens: model(tokens[..., :0])[1],
    "one token": lambda model, tokens: model(tokens[..., :1])[1],
    "a chunk": lambda model, tokens: model(tokens[..., :4])[1],
    "all": lambda model, tokens: model(tokens)[1],
    "in two": lambda model, tokens: model(tokens[..., 3:], model(tokens[..., :3])[1])[1],
    "adapted": lambda model, tokens: model.adapt(tokens)[1],
    "detached": lambda model, tokens: model(tokens[..., 3:], model(tokens[..., :3])[1].detach())[1],
    "prefilled": lambda model, tokens: model.prefill(tokens)[1],
}


WAYS = {
    f"{axes}-{mode}": (axes == "batch", mode == "grad")
    for axes, mode in product(("one", "batch"), ("no grad", "grad"))
}


@pytest.mark.parametrize(("batch", "with_gradient"), some_slow(WAYS, {"one-grad", "batch-no grad"}))
@pytest.mark.parametrize("held", HELD)
@pytest.mark.parametrize("mixer", MIXERS)
def test_no_leaf_of_a_state_shares_storage_with_a_parameter(
    mixer: str, held: str, batch: bool, with_gradient: bool
) -> None:
    model = model_of(mixer)
    with torch.set_grad_enabled(with_gradient):
        state = HELD[held](model, TOKENS if batch else TOKENS[0])
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    for name, leaf in tensors(state).items():
        assert leaf.numel() == 0 or leaf.untyped_storage().data_ptr() not in own, name


def test_an_optimiser_step_leaves_a_held_state_alone() -> None:
    model = model_of()
    logits, state = model(TOKENS)
    before = {name: leaf.detach().clone() for name, leaf in tensors(state).items()}
    functional.cross_entropy(logits.flatten(0, 1), TOKENS.flatten()).backward()
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    for name, leaf in tensors(state).items():
        assert torch.equal(leaf, before[name]), name


@torch.no_grad()
def test_writing_into_a_state_leaves_the_model_alone() -> None:
    model = model_of()
    want, _ = model(TOKENS[0])
    for state in (model.initial_state(), model(TOKENS[0])[1]):
        for name, leaf in tensors(state).items():
            if not name.rsplit(".", 1)[-1].startswith(
                ("sum", "gram")
            ):  # zeros that take no room refuse to be written
                leaf.fill_(3.0)
    assert torch.equal(model(TOKENS[0])[0], want)


def test_states_of_the_functions_are_copies_too() -> None:
    weights = torch.ones(3, 4), torch.ones(4, 3)
    state = titans.start(*weights)
    (level,) = continuum_memory.random_levels(3, 1, 0, torch.float64)
    first = continuum_memory.initial_state([level])
    given = {w.data_ptr() for w in (*weights, level.w1, level.w2)}
    leaves = [leaf for leaf in (*tensors(state).values(), *tensors(first).values()) if leaf.ndim > 1]
    assert not given & {leaf.data_ptr() for leaf in leaves}
    written = [leaf.data_ptr() for leaf in (*state.weights, *state.boundary, *first.levels[0][:4])]
    assert len(set(written)) == len(written), "no two leaves are one tensor"


# --- states that do not belong here -----------------------------------------------------------------------------------

FOREIGN: dict[str, Any] = {
    "memory_chunk_size": 4,
    "levels_chunk_sizes": (4, 4),
    "erase": "full",
    "read": "pre",
    "step": "explicit",
    "objective": "dot",
    "order": "slow_to_fast",
    "variant": "nested",
    "signal": "none",
    "rule": "dgd",
    "surprise_bound": 2.0,
    "value_norm": False,
    "cms_rate": 0.3,
    "retention_target": "zero",
    "target": "shared",
}


@pytest.mark.parametrize("option", FOREIGN)
@torch.no_grad()
def test_a_state_of_another_configuration_is_refused_by_the_options_name(option: str) -> None:
    model, other = model_of(), model_of(**{option: FOREIGN[option]})
    _, state = other(TOKENS[:, :0])  # it is refused by its configuration, whatever it has read
    with pytest.raises(ValueError, match=rf"state\.config must be that of the model, got {option}="):
        model(TOKENS, state)
    if model.config.signal == other.config.signal == "task":
        _, adapted = other.adapt(TOKENS[:, :0])
        with pytest.raises(
            ValueError, match=rf"state\.start\.config must be that of the model, got {option}="
        ):
            model.adapt(TOKENS, adapted)


@torch.no_grad()
def test_where_training_started_does_not_count() -> None:
    model = model_of()
    other = model_of(seed=3, eta_init=(0.5, 0.2), alpha_init=0.9, memory_w1_std=0.1)
    assert set(STARTS) == {"seed", "eta_init", "alpha_init", "memory_w1_std"}
    model(TOKENS, other(TOKENS)[1])


@pytest.mark.parametrize("mixer", MIXERS)
@torch.no_grad()
def test_every_leaf_is_checked_by_name(mixer: str) -> None:
    model = model_of(mixer)
    _, state = model(TOKENS)

    def changed(target: str, change: Callable[[Any], Any]) -> Any:
        return nested.rebuilt(state, lambda name, leaf: change(leaf) if name == target else leaf)

    def refused(target: str, change: Callable[[Any], Any], words: str) -> None:
        with pytest.raises(ValueError, match=words) as caught:
            model(TOKENS, changed(target, change))
        said = str(caught.value).replace("['", ".").replace("']", "").replace("[", ".").replace("]", "")
        assert said.startswith(f"state.{target} must"), said

    for name, leaf in states.flattened(state).items():
        if isinstance(leaf, Tensor):
            refused(name, lambda t: t[..., :-1], "must have shape .*, got")
            refused(name, lambda t: t.float(), r"must be torch\.float64, got torch\.float32")
            refused(name, lambda t: t.to("meta"), "must be on cpu, got meta")
            refused(name, lambda t: t.tolist(), r"must be a torch\.Tensor, got list")
        elif isinstance(leaf, int) and name != "position":
            refused(name, lambda _: -1, "must be an integer >= 0, got -1")
            refused(name, lambda _: True, "must be an integer >= 0, got True")
            if not name.endswith("continuum.position"):  # below
                refused(name, lambda n: n + 1, "must be .*, got")


@torch.no_grad()
def test_contradictory_positions_are_refused() -> None:
    model = model_of()
    _, state = model(TOKENS)
    with pytest.raises(
        ValueError, match=r"blocks\[0\]\.mixer\.memory\.position must be 8, as state\.position says, got 9"
    ):
        model(TOKENS, state._replace(position=8))
    associative = model_of(signal="associative")
    _, state = associative(TOKENS)
    first = state.blocks[0]
    moved = first._replace(continuum=first.continuum._replace(position=5))
    with pytest.raises(
        ValueError, match=r"blocks\[0\]\.continuum\.position must be 9, as state\.position says, got 5"
    ):
        associative(TOKENS, state._replace(blocks=(moved, state.blocks[1])))
    _, adapted = model.adapt(TOKENS)
    wrong = nested.rebuilt(adapted, lambda name, leaf: 3 if name.endswith("continuum.position") else leaf)
    with pytest.raises(
        ValueError, match=r"continuum\.position must be a multiple of 4, the fastest level's chunk, got 3"
    ):
        model.adapt(TOKENS, wrong)
    now = adapted.now
    ahead = now.blocks[1]._replace(continuum=now.blocks[1].continuum._replace(position=0))
    with pytest.raises(
        ValueError, match=r"blocks\[1\]\.continuum\.position must be 8, as in the first block, got 0"
    ):
        model.adapt(TOKENS, adapted._replace(now=now._replace(blocks=(now.blocks[0], ahead))))


# --- training along a stream ------------------------------------------------------------------------------------------


def pieces_loss(model: Hope, cuts: tuple[int, ...], weights: Tensor, detach: bool) -> Tensor:
    state, total = None, weights.new_zeros(())
    for begin, end in pairwise(cuts):
        logits, state = model(TOKENS[:, begin:end], state)
        total = total + (logits * weights[:, begin:end]).sum()
        if detach:
            state = state.detach()
    return total


@pytest.mark.parametrize("options", [{}, {"writing": ("memory", "k")}], ids=["all write", "two write"])
def test_what_has_not_moved_gets_the_gradient_of_one_long_pass(options: dict[str, Any]) -> None:
    model = hope_models.model_of(SMALL.replace(blocks=1, **options))
    weights = torch.randn(*TOKENS.shape, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole, cut = (
        dict(
            zip(
                dict(model.named_parameters()),
                torch.autograd.grad(
                    pieces_loss(model, cuts, weights, detach),
                    list(model.parameters()),
                    materialize_grads=True,
                ),
                strict=True,
            )
        )
        for cuts, detach in (((0, 9), False), ((0, 3, 5, 9), True))
    )
    for name in whole:
        # The levels stand behind everything that is carried: cutting the graph cuts nothing for them.
        if ".continuum." in name:
            torch.testing.assert_close(cut[name], whole[name], rtol=0, atol=1e-12)
    last = torch.autograd.grad(
        (model(TOKENS[:, 5:], model(TOKENS[:, :5])[1].detach())[0] * weights[:, 5:]).sum(),
        list(model.parameters()),
        materialize_grads=True,
    )
    still = [m for m in model.config.memories if m not in model.config.writers]
    for name, gradient in zip(whole, last, strict=True):
        own = name.rsplit(".", 1)[-1]
        if ".continuum." in name or (own.startswith("w") and own.split("_", 1)[-1] in still):
            assert gradient.abs().max() > 1e-6, f"{name} gets a gradient from a later segment"


@pytest.mark.parametrize("mixer", MIXERS)
def test_detaching_changes_no_value_and_allows_another_backward_pass(mixer: str) -> None:
    model = model_of(mixer)
    _, state = model(TOKENS[:, :5])
    cut = state.detach()
    want, _ = model(TOKENS[:, 5:], state)
    got, _ = model(TOKENS[:, 5:], cut)
    assert torch.equal(got, want)
    assert all(not leaf.requires_grad for leaf in tensors(cut).values())
    for _ in range(2):
        logits, _ = model(TOKENS[:, 5:], cut)
        logits.sum().backward()


def test_a_level_that_has_not_moved_follows_the_optimiser() -> None:
    model = model_of()
    _, state = model(TOKENS[:, :3])
    cut = state.detach()
    level = model.blocks[0].continuum.levels[0]  # type: ignore[union-attr, index]
    assert cut.blocks[0].continuum.levels[0].w1 is None
    with torch.no_grad():
        level.w1.mul_(2.0)
    read = model.check_state(cut, (3,)).blocks[0].continuum.levels[0].w1
    assert torch.equal(read[1], level.w1)


def test_a_level_that_has_moved_is_detached_and_stays() -> None:
    model = model_of(cms_rate=0.1)
    _, state = model.adapt(TOKENS, differentiable=True)
    assert isinstance(state, AdaptationState)
    cut = state.detach()
    for name, leaf in tensors(state).items():
        fast = (
            ".levels.0.w" in name or ".levels.1.w" in name
        )  # 8 tokens have been learned from: both have moved
        if fast:
            assert torch.equal(tensors(cut)[name], leaf.detach()), name
    want, _ = model.adapt(TOKENS, state)
    got, _ = model.adapt(TOKENS, cut)
    assert torch.equal(got, want)


def test_a_detached_state_goes_into_a_file_and_comes_back(tmp_path: Path) -> None:
    model = model_of()
    _, state = model(TOKENS[:, :3])
    cut = state.detach()
    states.save_state(tmp_path / "state", cut)
    loaded = states.load_state(tmp_path / "state", model.initial_state((3,)))
    assert loaded.blocks[0].continuum.levels[0].w1 is None
    assert torch.equal(model(TOKENS[:, 3:], loaded)[0], model(TOKENS[:, 3:], state)[0])
    _, moved = model.adapt(TOKENS)
    leaves = {n: leaf for n, leaf in states.flattened(moved.now).items() if not n.endswith("levels.0.w1")}
    leaves = {n: leaf.to_json() if isinstance(leaf, HopeConfig) else leaf for n, leaf in leaves.items()}
    torch.save(leaves, tmp_path / "hole")
    with pytest.raises(ValueError, match=r"missing: blocks\.0\.continuum\.levels\.0\.w1"):
        states.load_state(tmp_path / "hole", model.initial_state((3,)))


def test_a_file_of_another_configuration_is_refused(tmp_path: Path) -> None:
    states.save_state(tmp_path / "state", model_of(erase="none").initial_state())
    with pytest.raises(
        ValueError, match="config must be that of the model, got erase='none' for 'deviation'"
    ):
        states.load_state(tmp_path / "state", model_of().initial_state())


def test_a_damaged_configuration_names_its_file(tmp_path: Path) -> None:
    like = model_of().initial_state()
    states.save_state(tmp_path / "state", like)
    leaves = torch.load(tmp_path / "state", weights_only=True)
    for text, words in (
        ("{", "must be JSON"),
        ("[]", "must be one JSON object, got list"),
        ('{"depth": 3}', "unknown option depth"),
    ):
        torch.save({**leaves, "config": text}, tmp_path / "state")
        with pytest.raises(ValueError, match=rf"state: config:? {words}"):
            states.load_state(tmp_path / "state", like)


# --- batches, dtypes, devices -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mixer", MIXERS)
@torch.no_grad()
def test_a_state_is_indexed_over_the_batch(mixer: str) -> None:
    model = model_of(mixer)
    _, state = model(TOKENS)
    want, _ = model(TOKENS, state)
    for index, rows in ((1, TOKENS[1]), (slice(1, None), TOKENS[1:]), ([2, 0], TOKENS[[2, 0]])):
        got, _ = model(rows, state[index])
        torch.testing.assert_close(got, want[index], rtol=0, atol=1e-12)
    mask = torch.tensor([True, False, True])
    torch.testing.assert_close(model(TOKENS[mask], state[mask])[0], want[mask], rtol=0, atol=1e-12)
    _, adapted = model.adapt(TOKENS)
    torch.testing.assert_close(
        model.adapt(TOKENS[1], adapted[1])[0], model.adapt(TOKENS, adapted)[0][1], rtol=0, atol=1e-12
    )
    with pytest.raises(IndexError, match="state must have a batch axis to be indexed by 0"):
        state[1][0]
    with pytest.raises(IndexError, match="index must have at most 1 entries"):
        state[0, 0]


@torch.no_grad()
def test_a_state_moves_with_its_model() -> None:
    model = model_of()
    _, state = model(TOKENS)
    narrow = state.to(torch.float32)
    assert isinstance(narrow, HopeState)
    assert {leaf.dtype for leaf in tensors(narrow).values()} == {torch.float32}
    got, _ = model.float()(TOKENS, narrow)
    want, _ = model.double()(TOKENS, state)
    assert (got - want).abs().max() < 1e-4
    _, adapted = model.adapt(TOKENS)
    moved = adapted.to(torch.float32, "meta")
    assert moved.segment.dtype == adapted.segment.dtype
    assert {leaf.device.type for leaf in tensors(moved).values()} == {"meta"}
