"""HOPE against torch's own layers, and against its promises: causal, splittable, complete in its state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from selection import some_slow
from torch.nn import functional

from hope_ref.common.validation import Array
from hope_ref.config import HopeConfig
from hope_ref.reference import hope as layers
from hope_ref.reference.continuum_memory import continuum_memory
from hope_ref.reference.hope import (
    AttentionState,
    HopeState,
    block,
    hope,
    init,
    initial_state,
    levels,
    load_state,
    save_state,
)
from hope_ref.reference.self_modifying_titans import self_modifying_titans
from hope_ref.reference.states import flattened

SMALL: dict[str, Any] = {
    "memory_chunk_size": 2, "projection_chunk_size": 4, "levels_chunk_sizes": (2, 4), "signal": "associative",
    "cms_rate": 0.05, "inner_momentum": 0.3, "width": 4, "hidden": 3, "vocabulary": 5,
}  # fmt: skip
TOKENS = np.array([1, 4, 0, 2, 2, 3, 1, 0, 4])

EACH = {
    "one head": HopeConfig(**SMALL),
    "two heads": HopeConfig(**SMALL, heads=2),
    "no projection": HopeConfig(**SMALL, input_projection=False, adaptive_query=True),
    "no convolution": HopeConfig(**SMALL, convolution_width=0, heads=2),
    "width 1, linear": HopeConfig(**SMALL, convolution_width=1, architecture="linear"),
    "independent": HopeConfig(**SMALL, variant="independent", rule="dgd"),
    "nested": HopeConfig(**SMALL, variant="nested", order="slow_to_fast", objective="dot"),
    "task": HopeConfig(**SMALL | {"signal": "task"}),
    "softmax_attention": HopeConfig(**SMALL, mixer="softmax_attention"),
    "attention, two heads": HopeConfig(**SMALL, heads=2, mixer="softmax_attention"),
    "attention in a window": HopeConfig(**SMALL, mixer="softmax_attention", window=4),
}
each = pytest.mark.parametrize("config", EACH.values(), ids=EACH)
OWN = ("two heads", "no projection", "width 1, linear", "independent", "nested", "attention, two heads")
most = pytest.mark.parametrize("config", some_slow(EACH, OWN))
each_head = pytest.mark.parametrize("heads", [1, 2])


def awake(config: HopeConfig) -> dict[str, Array]:
    """The start of training, shaken, so that nothing is zero, one or the identity any more."""
    rng = np.random.default_rng(config.seed + 100)  # type: ignore[operator]
    start = init(config)
    start |= {
        name: np.array(3.0) for name in start if name.endswith("alpha_bias")
    }  # at 0.999 α hardly answers
    return {name: array + 0.3 * rng.normal(size=array.shape) for name, array in start.items()}


def largest_difference(one: HopeState, other: HopeState) -> float:
    left, right = (leaves(s) for s in (one, other))
    assert left.keys() == right.keys()
    return max(float(np.abs(np.asarray(left[n]) - right[n]).max(initial=0)) for n in left)


def leaves(value: Any, name: str = "") -> dict[str, Any]:
    """Every array and number of a nested state, by a path."""
    if isinstance(value, dict):
        value = tuple(value.values())
    if not isinstance(value, tuple):
        return {name: value}
    parts = {n: a for i, entry in enumerate(value) for n, a in leaves(entry, f"{name}.{i}").items()}
    return {n: a for n, a in parts.items() if not isinstance(a, HopeConfig)}


# --- the plumbing, stated again in torch -----------------------------------------------------------------------------


def norm_in_torch(x: Any, gain: Any) -> Any:
    return functional.rms_norm(x, (x.shape[-1],), eps=1e-6) * gain


def conv_in_torch(x: Any, kernel: Any) -> Any:
    """(T, d), zeros before the first token."""
    padded = functional.pad(x.T[None], (kernel.shape[1] - 1, 0))
    return functional.silu(functional.conv1d(padded, kernel[:, None], groups=len(kernel))[0].T)


def titans_in_torch(x: Array, p: dict[str, Array], config: HopeConfig) -> Array:
    """The sub-layer, with the memories themselves taken from the floor below."""
    t = {name: torch.tensor(array) for name, array in p.items()}
    n = norm_in_torch(torch.tensor(x), t["norm"])
    views = []
    for projection, kernel in (("p_key", "conv_key"), ("p_value", "conv_value"), ("w_query", "conv_query")):
        view = functional.linear(n, t[projection]) if projection in t else n
        views.append(conv_in_torch(view, t[kernel]) if kernel in t else view)
    d, normed = x.shape[1] // config.heads, []
    for head in range(config.heads):
        own = layers.part(p, f"heads.{head}")
        if not config.adaptive_query:
            own["w_query"] = np.eye(d)
        here = slice(head * d, (head + 1) * d)
        out, _ = self_modifying_titans(*(view[:, here].numpy() for view in views), own, config)
        normed.append(norm_in_torch(torch.tensor(out), t["head_norm"][here]))
    y = torch.tensor(x) + functional.linear(torch.cat(normed, dim=1), t["output"])
    return np.asarray(y)


def turned_in_torch(z: Any) -> Any:
    """(T, heads, d): channels i and i + d/2 as one complex number, times exp(i · position · frequency)."""
    half = z.shape[-1] // 2
    frequency = torch.tensor([1 / 10000 ** (2 * i / (2 * half)) for i in range(half)], dtype=torch.float64)
    angle = torch.outer(torch.arange(len(z), dtype=torch.float64), frequency)[:, None]
    number = torch.complex(z[..., :half], z[..., half:]) * torch.polar(torch.ones_like(angle), angle)
    return torch.cat([number.real, number.imag], dim=-1)


def attention_in_torch(x: Array, p: dict[str, Array], config: HopeConfig) -> Array:
    t = {name: torch.tensor(array) for name, array in p.items()}
    n = norm_in_torch(torch.tensor(x), t["norm"])
    names = ("w_query", "p_key", "p_value")
    query, key, value = (functional.linear(n, t[name]).reshape(len(x), config.heads, -1) for name in names)
    query, key = turned_in_torch(query), turned_in_torch(key)
    seen = torch.ones(len(x), len(x), dtype=torch.bool).tril()
    seen = seen.triu(1 - config.window) if config.window else seen
    answers = functional.scaled_dot_product_attention(
        *(z.transpose(0, 1)[None] for z in (query, key, value)), attn_mask=seen
    )
    flat = answers[0].transpose(0, 1).reshape(x.shape)
    return np.asarray(torch.tensor(x) + functional.linear(flat, t["output"]))


@each
def test_the_model_is_torch_plumbing_around_the_memories(config: HopeConfig) -> None:
    p = awake(config)
    x = p["embedding"][TOKENS]
    options = {
        n: getattr(config, n) for n in ("nested_rate", "variant", "order", "signal", "rule", "objective")
    }
    options |= {"levels_chunk_sizes": config.levels_chunk_sizes, "cms_rate": config.cms_rate}
    for index in range(2):
        own = layers.part(p, f"blocks.{index}")
        x = (titans_in_torch if config.mixer == "self_modifying_titans" else attention_in_torch)(
            x, own, config
        )
        x, _ = continuum_memory(x, levels(own, config), **options)
    want = norm_in_torch(torch.tensor(x), torch.tensor(p["norm"])) @ torch.tensor(p["embedding"]).T
    got, state = hope(TOKENS, p, config)
    np.testing.assert_allclose(got, np.asarray(want), rtol=0, atol=1e-12)
    assert state.position == len(TOKENS)


# --- promises --------------------------------------------------------------------------------------------------------


@most
def test_every_split_gives_the_same(config: HopeConfig) -> None:
    """In two: at both ends, in a chunk, at a boundary of the shorter chunks and of all; and token by token."""
    p = awake(config)
    whole, end = hope(TOKENS, p, config)
    for cut in (0, 1, 4, 6, len(TOKENS)):
        first, middle = hope(TOKENS[:cut], p, config)
        second, last = hope(TOKENS[cut:], p, config, middle)
        np.testing.assert_allclose(np.concatenate([first, second]), whole, rtol=0, atol=1e-10)
        assert largest_difference(last, end) < 1e-10
    state = None
    for t, token in enumerate(TOKENS):
        one, state = hope([token], p, config, state)
        np.testing.assert_allclose(one[0], whole[t], rtol=0, atol=1e-10)
    assert state is not None
    assert largest_difference(state, end) < 1e-10


@most
def test_the_past_does_not_see_the_future(config: HopeConfig) -> None:
    p = awake(config)
    before, _ = hope(TOKENS, p, config)
    for t in (0, 3, 4, 5, 8):
        other = TOKENS.copy()
        other[t] = (other[t] + 1) % 5
        moved = np.abs(hope(other, p, config)[0] - before).max(axis=1)
        assert moved[:t].max(initial=0) < 1e-13
        assert (moved[t:] > 1e-9).all(), "and every later token remembers"


@each
def test_no_tokens_change_nothing(config: HopeConfig) -> None:
    p = awake(config)
    logits, state = hope([], p, config)
    assert logits.shape == (0, 5)
    assert largest_difference(state, initial_state(p, config)) == 0


@most
def test_every_parameter_reaches_the_logits(config: HopeConfig) -> None:
    """By finite differences, in one random direction per array, in every head and level; where that is cheap, of two blocks."""
    cheap = config.mixer == "softmax_attention" or config.architecture == "linear"
    config = config.replace(blocks=2 if cheap else 1)
    p, rng, step = awake(config), np.random.default_rng(7), 1e-5
    tokens = TOKENS[:5]  # the last one is read from the copies at a boundary
    before, _ = hope(tokens, p, config)
    for name, array in p.items():
        nudged = p | {name: array + step * rng.normal(size=array.shape)}
        after, _ = hope(tokens, nudged, config)
        assert np.abs(after - before).max() / step > 1e-6, name


@each_head
def test_heads_keep_to_their_own_channels(heads: int) -> None:
    """Nudging a head's memories moves its own channels before the output projection, no others."""
    config = HopeConfig(**SMALL, heads=heads)
    p = layers.part(awake(config), "blocks.0") | {"output": np.eye(4)}
    x = np.random.default_rng(0).normal(size=(6, 4))
    start = layers.initial_titans_state(p, config)
    y, after = layers.titans_layer(x, p, config, start)
    assert len(after.heads) == heads
    nudged = p | {"heads.0.w1_memory": p["heads.0.w1_memory"] + 0.1}
    moved = (
        np.abs(layers.titans_layer(x, nudged, config, layers.initial_titans_state(nudged, config))[0] - y) > 0
    )
    assert moved[:, : 4 // heads].any(axis=0).all()
    assert not moved[:, 4 // heads :].any()


@each
def test_the_state_survives_its_file(config: HopeConfig, tmp_path: Path) -> None:
    p = awake(config)
    _, state = hope(TOKENS, p, config)
    save_state(tmp_path / "state.npz", state)
    back = load_state(tmp_path / "state.npz", initial_state(p, config))
    assert type(back) is HopeState
    assert largest_difference(back, state) == 0
    one, two = (hope([1, 2], p, config, s)[0] for s in (state, back))
    np.testing.assert_array_equal(one, two)


def test_attention_state_is_named_plainly() -> None:
    config = EACH["softmax_attention"]
    start = initial_state(awake(config), config)
    assert {"blocks.0.mixer.keys", "blocks.1.continuum.levels.0.w1", "position"} <= set(flattened(start))


def test_a_block_follows_its_state() -> None:
    config = EACH["softmax_attention"]
    p = awake(config)
    start = initial_state(p, config).blocks[0]
    _, after = block(p["embedding"][TOKENS], layers.part(p, "blocks.0"), config, start)
    assert isinstance(after.mixer, AttentionState)
    assert after.mixer.keys.shape == (9, 1, 4)


def test_an_overflow_is_seen_not_hidden() -> None:
    """What the sources print overflows; the tokens before it keep their logits, later ones are not made up."""
    config = HopeConfig.printed(width=4, vocabulary=5, memory_chunk_size=1, projection_chunk_size=1)
    p = awake(config) | {"blocks.0.heads.0.alpha_bias": np.array(9.0)}
    tokens = np.random.default_rng(0).integers(5, size=60)
    logits, state = hope(tokens, p, config)
    finite = np.isfinite(logits).all(axis=1)
    first = int(np.argmin(finite))
    assert 0 < first < 60
    assert finite[:first].all()
    assert not finite[first:].any()
    assert np.isnan(hope([0], p, config, state)[0]).all(), (
        "and a state that overflowed is taken back as it is"
    )


# --- bad input -------------------------------------------------------------------------------------------------------

CONFIG = HopeConfig(**SMALL)
GOOD = awake(CONFIG)
START = initial_state(GOOD, CONFIG)
FIRST = START.blocks[0]
WITH_ATTENTION = EACH["softmax_attention"]
ATTENTION = initial_state(awake(WITH_ATTENTION), WITH_ATTENTION)


def with_mixer(**changes: Any) -> HopeState:
    changed = FIRST._replace(mixer=FIRST.mixer._replace(**changes))
    return START._replace(blocks=(changed, START.blocks[1]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": [[1]]}, r"tokens must have shape \(T,\), got \(1, 1\)"),
        ({"tokens": [1.0]}, "tokens must be integers, got dtype float64"),
        ({"tokens": [True]}, "tokens must be integers, got dtype bool"),
        ({"tokens": [0, 5]}, r"tokens must be in \[0, 5\), got 0 to 5"),
        ({"tokens": [-1]}, r"tokens must be in \[0, 5\), got -1 to -1"),
        ({"config": {}}, "config must be a HopeConfig, got dict"),
        ({"config": CONFIG.replace(mixer="titans")}, "mixer must be one of 'self_modifying_titans', 'softmax_attention' in NumPy, got 'titans'"),
        ({"parameters": [1]}, "parameters must be a dict of named arrays, got list"),
        ({"parameters": GOOD | {"embedding": np.ones((0, 4))}}, r"embedding'. must have shape \(5, 4\), got \(0, 4\)"),
        ({"parameters": GOOD | {"extra": np.ones(1)}}, "missing: none, unknown: extra"),
        ({"parameters": {"embedding": GOOD["embedding"]}}, "missing: blocks.0.alpha|missing: blocks.0.conv_key"),
        ({"parameters": GOOD | {"norm": np.ones(3)}}, r"parameters\['norm'\] must have shape \(4,\), got \(3,\)"),
        ({"parameters": GOOD | {"norm": np.ones(4, np.float32)}}, "norm'. must be float64.*got dtype float32"),
        ({"parameters": GOOD | {"blocks.0.output": np.full((4, 4), np.nan)}}, "output'. must be finite, got 16 NaN"),
        ({"config": CONFIG.replace(width=6)}, r"embedding'. must have shape \(5, 6\), got \(5, 4\)"),
        ({"config": CONFIG.replace(vocabulary=7)}, r"embedding'. must have shape \(7, 4\), got \(5, 4\)"),
        ({"config": CONFIG.replace(blocks=1)}, "missing: none, unknown: blocks.1.conv_key"),
        ({"state": 3}, "state must be a HopeState or None, got int"),
        ({"state": START._replace(blocks=START.blocks[:1])}, "state.blocks must have 2 entries, got 1"),
        ({"state": START._replace(position=-1)}, "state.position must be an integer >= 0, got -1"),
        ({"state": ATTENTION}, "state.config must be that of the model, got mixer='softmax_attention' for 'self_modifying_titans'"),
        ({"state": ATTENTION._replace(config=CONFIG)}, r"state.blocks\[0\].mixer must be a TitansState, got AttentionState"),
        ({"state": with_mixer(heads=())}, r"mixer.heads must have 1 entries, got 0"),
        ({"state": with_mixer(key_inputs=None)}, "mixer.key_inputs must be a float64 array, got NoneType"),
        ({"state": with_mixer(key_inputs=np.ones((2, 4)))}, r"key_inputs must have shape \(3, 4\), got \(2, 4\)"),
        ({"state": with_mixer(heads=({},))}, r"state.blocks\[0\].mixer.heads\[0\] must be a State, got dict"),
        (
            {"state": START._replace(blocks=(FIRST._replace(continuum=FIRST.continuum._replace(levels=())),) * 2)},
            r"continuum.levels must have 2 entries, got 0",
        ),
        (
            {"state": ATTENTION._replace(position=2), "parameters": awake(WITH_ATTENTION), "config": WITH_ATTENTION},
            r"mixer.keys must have shape \(2, 1, 4\), got \(0, 1, 4\)",
        ),
    ],
)  # fmt: skip
def test_bad_input_is_named(changes: dict[str, Any], message: str) -> None:
    call = {"tokens": TOKENS, "parameters": GOOD, "config": CONFIG} | changes
    with pytest.raises(ValueError, match=message):
        hope(**call)
