"""HOPE that learns while it reads, against autograd of the same model in torch; causal, splittable, complete in its state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from selection import some_slow
from torch.nn import functional

from hope_ref.common.nested import rebuilt
from hope_ref.common.validation import Array
from hope_ref.config import HopeConfig
from hope_ref.reference.hope import HopeState, hope, init
from hope_ref.reference.hope_adaptation import AdaptationState, adapt, central_differences
from hope_ref.reference.states import flattened, load_state, save_state

TINY: dict[str, Any] = {
    "width": 2, "hidden": 2, "memory_chunk_size": 2, "projection_chunk_size": 2, "levels_chunk_sizes": (2, 4),
    "cms_rate": 0.3, "convolution_width": 2, "vocabulary": 3, "blocks": 1,
}  # fmt: skip
TOKENS = np.array([1, 2, 0, 2, 1, 1, 0, 2, 2])
EACH = {
    "self_modifying_titans": HopeConfig(**TINY),
    "attention, two blocks": HopeConfig(**TINY | {"blocks": 2}, mixer="softmax_attention"),
    "independent, dgd": HopeConfig(**TINY, variant="independent", rule="dgd"),
    "nested, slow to fast": HopeConfig(
        **TINY, variant="nested", order="slow_to_fast", mixer="softmax_attention"
    ),
}
each = pytest.mark.parametrize("config", EACH.values(), ids=EACH)
each_but_slow = pytest.mark.parametrize(  # finite differences of whole models: the others in `make test-all`
    "config", some_slow(EACH, ["nested, slow to fast"])
)


def awake(config: HopeConfig) -> dict[str, Array]:
    rng = np.random.default_rng(3)
    start = init(config)
    return {name: array + 0.3 * rng.normal(size=array.shape) for name, array in start.items()}


def same(one: AdaptationState, other: AdaptationState, bound: float) -> None:
    left, right = flattened(one), flattened(other)
    assert left.keys() == right.keys()
    for name, array in left.items():
        if isinstance(array, HopeConfig):
            assert array == right[name]
            continue
        np.testing.assert_allclose(array, right[name], rtol=0, atol=bound, err_msg=name)


def model_in_torch(
    tokens: Any, p: dict[str, Any], weights: dict[str, Any], start: int, past: Any
) -> tuple[Any, list[Any], dict[str, Any]]:
    """HOPE-Attention, one head, levels in a row, in torch alone: logits, keys and values, and what each weight was given."""

    def norm(z: Any, gain: Any) -> Any:
        return functional.rms_norm(z, (z.shape[-1],), eps=1e-6) * gain

    def turn(z: Any) -> Any:  # width 2: one complex number per token, frequency 1
        angle = start + torch.arange(len(z), dtype=torch.float64)
        number = torch.complex(z[:, 0], z[:, 1]) * torch.polar(torch.ones_like(angle), angle)
        return torch.stack([number.real, number.imag], dim=1)

    x, kept, inputs = p["embedding"][torch.as_tensor(tokens)], [], {}
    for block in range(2):
        name = f"blocks.{block}."
        n = norm(x, p[name + "norm"])
        q, k, v = (n @ p[name + w].T for w in ("w_query", "p_key", "p_value"))
        q, k = turn(q), turn(k)
        if past is not None:
            k, v = torch.cat([past[block][0], k]), torch.cat([past[block][1], v])
        kept.append((k.detach(), v.detach()))
        allowed = torch.ones(len(q), len(k), dtype=torch.bool).tril(len(k) - len(q))
        share = (q @ k.T / 2**0.5).masked_fill(~allowed, -torch.inf).softmax(dim=1)
        x = x + share @ v @ p[name + "output"].T
        for level in range(2):
            at = f"{name}levels.{level}."
            inputs[at + "w2"] = norm(x, p[at + "gain"])
            inputs[at + "w1"] = functional.silu(inputs[at + "w2"] @ weights[at + "w2"].T)
            x = x + inputs[at + "w1"] @ weights[at + "w1"].T
    return norm(x, p["norm"]) @ p["embedding"].T, kept, inputs


@pytest.mark.parametrize("rule", ["gd", "dgd"])
def test_the_levels_follow_autograd_of_the_model_in_torch(rule: str) -> None:
    """Four tokens and the target of the fourth: the fast level has moved twice, the slow one once.

    Keys and values that the first segment left are constants to the second one's gradient.
    """
    config = EACH["attention, two blocks"]
    config = config.replace(rule=rule)
    p = awake(config)
    t = {name: torch.tensor(array) for name, array in p.items()}
    weights = {n: a.clone().requires_grad_() for n, a in t.items() if n.endswith(("w1", "w2"))}
    sums = {name: torch.zeros_like(w) for name, w in weights.items()}
    grams = {name: torch.zeros(w.shape[1], w.shape[1], dtype=w.dtype) for name, w in weights.items()}
    past = None
    for first in (0, 2):
        logits, past, inputs = model_in_torch(TOKENS[first : first + 2], t, weights, first, past)
        loss = functional.cross_entropy(logits, torch.tensor(TOKENS[first + 1 : first + 3]), reduction="sum")
        for name, gradient in zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True):
            sums[name] -= gradient
            grams[name] += (inputs[name].T @ inputs[name]).detach()
        for name, w in weights.items():
            if "levels.0" in name or first:
                new = w + 0.3 * sums[name]
                if rule == "dgd":
                    new = new @ torch.linalg.inv(torch.eye(w.shape[1]) + 0.3 * grams[name])
                weights[name] = new.detach().requires_grad_()
                sums[name], grams[name] = torch.zeros_like(w), torch.zeros_like(grams[name])
    _, state = adapt(TOKENS[:5], p, config)
    for name, w in weights.items():
        _, block, _, level, matrix = name.split(".")
        got = getattr(state.now.blocks[int(block)].continuum.levels[int(level)], matrix)
        np.testing.assert_allclose(got, w.detach().numpy(), rtol=0, atol=1e-9, err_msg=name)
        assert np.abs(got - p[name]).max() > 1e-4


@each
def test_until_a_target_has_come_it_is_the_frozen_model(config: HopeConfig) -> None:
    p = awake(config)
    frozen, _ = hope(TOKENS[:4], p, config)
    learning, _ = adapt(TOKENS[:4], p, config)
    np.testing.assert_allclose(learning[:2], frozen[:2], rtol=0, atol=1e-14)
    assert (np.abs(learning - frozen).max(axis=1)[2:] > 1e-6).all(), "and from then on it has learned"


@each_but_slow
def test_every_split_gives_the_same(config: HopeConfig) -> None:
    p = awake(config)
    whole, end = adapt(TOKENS[:5], p, config)  # both levels have moved
    for cut in (2, 3):  # at a segment's end, and within the next, when the fast level has moved
        first, middle = adapt(TOKENS[:cut], p, config)
        second, last = adapt(TOKENS[cut:5], p, config, middle)
        np.testing.assert_allclose(np.concatenate([first, second]), whole, rtol=0, atol=1e-10)
        same(last, end, 1e-10)


@each_but_slow
def test_the_past_does_not_see_the_future(config: HopeConfig) -> None:
    """A token is the last target of the segment before it, and even so no earlier logit moves."""
    p = awake(config)
    before, _ = adapt(TOKENS[:5], p, config)
    for t in (2, 4):
        other = TOKENS[:5].copy()
        other[t] = (other[t] + 1) % 3
        moved = np.abs(adapt(other, p, config)[0] - before).max(axis=1)
        assert moved[:t].max() == 0
        assert (moved[t:] > 1e-9).all()


def test_the_state_survives_its_file(tmp_path: Path) -> None:
    config = EACH["self_modifying_titans"]
    p = awake(config)
    _, state = adapt(TOKENS[:3], p, config)
    save_state(tmp_path / "a.npz", state)
    same(load_state(tmp_path / "a.npz", state), state, 0)


def test_the_fast_level_alone_moves_between_slow_boundaries() -> None:
    config = EACH["self_modifying_titans"]
    p = awake(config)
    _, state = adapt(TOKENS[:3], p, config)
    fast, slow = state.now.blocks[0].continuum.levels
    assert np.abs(fast.w1 - p["blocks.0.levels.0.w1"]).max() > 1e-4
    np.testing.assert_array_equal(slow.w1, p["blocks.0.levels.1.w1"])
    assert np.abs(slow.sum1).max() > 1e-3, "it has been taking in"


def test_central_differences_are_good_to_ten_digits() -> None:
    at = np.random.default_rng(0).normal(size=(2, 3))
    got = central_differences(lambda w: float(np.sum(np.sin(3 * w))), at)
    np.testing.assert_allclose(got, 3 * np.cos(3 * at), rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config": HopeConfig(**TINY, signal="none")}, "config.signal must be 'task', got 'none'"),
        ({"config": None}, "config.signal must be 'task', got None"),
        ({"tokens": [7]}, r"tokens must be in \[0, 3\), got 7 to 7"),
        ({"state": 3}, "state must be an AdaptationState or None, got int"),
    ],
)
def test_bad_input_is_named(changes: dict[str, Any], message: str) -> None:
    config = EACH["self_modifying_titans"]
    call = {"tokens": TOKENS, "parameters": awake(config), "config": config} | changes
    with pytest.raises(ValueError, match=message):
        adapt(**call)


def test_no_tokens_change_nothing() -> None:
    config = EACH["self_modifying_titans"]
    p = awake(config)
    logits, state = adapt([], p, config)
    assert logits.shape == (0, 3)
    assert state.segment.shape == (0,)
    np.testing.assert_array_equal(state.now.blocks[0].continuum.levels[0].w1, p["blocks.0.levels.0.w1"])


# --- the state -------------------------------------------------------------------------------------------------------

CONFIG = EACH["self_modifying_titans"]
GOOD = awake(CONFIG)
STATE = adapt(TOKENS[:3], GOOD, CONFIG)[1]  # one segment taken in, one token of the next
FULL = adapt(TOKENS[:4], GOOD, CONFIG)[1]
ERASING = STATE.now._replace(config=CONFIG.replace(erase="none"))


def at(state: HopeState, position: int) -> HopeState:
    """The state with that position in its continuum memories."""
    blocks = (b._replace(continuum=b.continuum._replace(position=position)) for b in state.blocks)
    return state._replace(blocks=tuple(blocks))


@pytest.mark.parametrize("tokens", [[], [1]], ids=["no tokens", "one"])
@pytest.mark.parametrize(
    ("state", "message"),
    [
        (STATE._replace(start=3), "state.start must be a HopeState or None, got int"),
        (STATE._replace(now=3), "state.now must be a HopeState or None, got int"),
        (FULL._replace(now=3), "state.now must be a HopeState or None, got int"),
        (STATE._replace(start=ERASING), "state.start.config must be that of the model, got erase='none' for"),
        (STATE._replace(now=ERASING), "state.now.config must be that of the model, got erase='none' for"),
        (STATE._replace(now=STATE.now._replace(position=9)), r"state.now.blocks\[0\].mixer.heads\[0\].position must"),
        (STATE._replace(start=STATE.now, now=STATE.start), r"state.segment must have shape \(-1,\), got \(1,\)"),
        (STATE._replace(segment=STATE.segment[:0]), r"state.segment must have shape \(1,\), got \(0,\)"),
        (STATE._replace(segment=np.array([1, 2, 0])), r"state.segment must have shape \(1,\), got \(3,\)"),
        (STATE._replace(segment=np.array([7])), r"state.segment must be in \[0, 3\), got 7 to 7"),
        (STATE._replace(segment=np.array([1.0])), "state.segment must be integers, got dtype float64"),
        (STATE._replace(now=at(STATE.now, 0)), r"state.now.blocks\[0\].continuum.position must be 2, as in state.start, got 0"),
        (
            AdaptationState(*(hope(TOKENS[:n], GOOD, CONFIG)[1] for n in (0, 3)), TOKENS[:3]),
            "state.segment must have at most 2 tokens, got 3",
        ),
    ],
)  # fmt: skip
def test_a_state_that_contradicts_itself_is_refused_by_name(
    state: Any, message: str, tokens: list[int]
) -> None:
    with pytest.raises(ValueError, match=message):
        adapt(tokens, GOOD, CONFIG, state)


def test_every_leaf_of_both_states_is_checked_before_anything_is_learned() -> None:
    """A full segment is learned from before the next token is read."""
    for which in ("start", "now"):
        for name, leaf in flattened(getattr(FULL, which)).items():
            if isinstance(leaf, np.ndarray):
                bad = rebuilt(
                    getattr(FULL, which), lambda own, old, name=name: old[None] if own == name else old
                )
                with pytest.raises(ValueError, match=rf"^state\.{which}\.blocks.* must have shape"):
                    adapt([1], GOOD, CONFIG, FULL._replace(**{which: bad}))
