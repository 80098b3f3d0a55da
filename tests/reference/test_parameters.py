"""Where training starts: names and counts of a model's parameters, rates and retentions as decided, the promised spreads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hope_ref.config import CHOICES, HopeConfig
from hope_ref.reference import hope as layers
from hope_ref.reference.hope import hope
from hope_ref.reference.parameters import (
    MIXERS,
    init,
    init_memories,
    orthogonal,
    parameter_shapes,
    random_parameters,
)
from hope_ref.reference.self_modifying_titans import generate, initial_state, self_modifying_titans

# --- the memories of one head ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", CHOICES["step"])
@pytest.mark.parametrize("adaptive", [True, False])
@pytest.mark.parametrize("architecture", CHOICES["architecture"])
def test_rates_and_retention_begin_as_decided(step: str, adaptive: bool, architecture: str) -> None:
    config = HopeConfig(
        width=12,
        heads=2,
        hidden=5,
        step=step,
        adaptive_query=adaptive,
        architecture=architecture,
        eta_max=0.9,
    )
    parameters = init_memories(config, 0)
    x = np.random.default_rng(0).normal(size=(3, 6))
    token = generate(*x, parameters, config, initial_state(parameters, config).boundary)
    want = {name: 0.7 if name == "memory" else 0.1 for name in config.memories}
    assert token.eta == pytest.approx(want, rel=1e-12)
    assert token.alpha == pytest.approx(0.999, rel=1e-12)
    outputs, _ = self_modifying_titans(x, x, x, parameters, config)  # the right names and shapes
    assert np.isfinite(outputs).all()


@pytest.mark.parametrize("eta", [1e-6, 1.0, 900.0])
def test_softplus_is_inverted_over_a_wide_range(eta: float) -> None:
    config = HopeConfig(width=2, eta_init=(eta, eta))
    parameters = init_memories(config, 0)
    token = generate(*np.ones((3, 2)), parameters, config, initial_state(parameters, config).boundary)
    assert token.eta["k"] == pytest.approx(eta, rel=1e-9)


@pytest.mark.parametrize("hidden", [4, 8, 20])
def test_w2_is_orthogonal_with_gain_two(hidden: int) -> None:
    parameters = init_memories(HopeConfig(width=8, hidden=hidden), 1)
    for memory in HopeConfig().memories:
        w2 = parameters[f"w2_{memory}"]
        gram = w2.T @ w2 if hidden >= 8 else w2 @ w2.T
        np.testing.assert_allclose(gram, 4 * np.eye(min(hidden, 8)), atol=1e-12)
    np.testing.assert_allclose(parameters["w_query"] @ parameters["w_query"].T, np.eye(8), atol=1e-12)


def test_orthogonal_draws_have_no_preferred_sign() -> None:
    rng = np.random.default_rng(0)
    traces = [np.trace(orthogonal(rng, 3, 3)) for _ in range(2000)]
    assert abs(np.mean(traces)) < 0.1  # without the sign rule it is about -0.5


@pytest.mark.parametrize("architecture", CHOICES["architecture"])
def test_w1_of_memory_is_empty_and_the_others_are_not(architecture: str) -> None:
    config = HopeConfig(width=80, hidden=50, architecture=architecture)
    layer, columns = ("w1", 50) if architecture == "mlp" else ("w", 80)
    parameters = init_memories(config, 0)
    assert not parameters[f"{layer}_memory"].any()
    assert parameters[f"{layer}_k"].std() == pytest.approx(0.5 / np.sqrt(columns), rel=0.05)
    filled = init_memories(config.replace(memory_w1_std=0.3), 0)
    assert filled[f"{layer}_memory"].std() == pytest.approx(0.3, rel=0.05)


def test_random_parameters_have_the_promised_spreads() -> None:
    parameters = random_parameters(HopeConfig(adaptive_query=True), 80, 50, 0)
    assert "w_query" not in parameters
    assert parameters["w1_q"].std() == pytest.approx(0.5 / np.sqrt(50), rel=0.05)
    assert parameters["w2_memory"].std() == pytest.approx(1 / np.sqrt(80), rel=0.05)
    assert parameters["alpha_bias"] == 3
    linear = random_parameters(HopeConfig(architecture="linear"), 80, 50, 0)
    assert linear["w_k"].std() == pytest.approx(0.5 / np.sqrt(80), rel=0.05)
    assert linear["w_query"].std() == pytest.approx(1 / np.sqrt(80), rel=0.05)
    assert linear["eta_readout"].std() == pytest.approx(1, rel=0.2)
    biases = [
        random_parameters(HopeConfig(), 1, 1, seed)[f"eta_bias_{m}"]
        for seed in range(200)
        for m in HopeConfig().memories
    ]
    assert np.std(biases) == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize(
    ("make", "other"),
    [
        (lambda s: init_memories(HopeConfig(width=4, memory_w1_std=1), s), 1),
        (lambda s: random_parameters(HopeConfig(), 4, 3, s), 1),
    ],
)
def test_the_seed_decides(make: Any, other: int) -> None:
    one, again, different = make(0), make(0), make(other)
    for name, array in one.items():
        np.testing.assert_array_equal(array, again[name])
    assert not np.array_equal(one["w1_memory"], different["w1_memory"])
    assert all(array.dtype == np.float64 for array in one.values())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: init_memories(HopeConfig(step="explicit", eta_max=0.5), 0),
            "eta_init must be < eta_max for step='explicit', got 0.7 and 0.5",
        ),
        (lambda: random_parameters(HopeConfig(), 0, 3, 0), "width must be an integer >= 1, got 0"),
        (lambda: random_parameters(HopeConfig(), 3, 1.5, 0), "hidden must be an integer >= 1, got 1.5"),
    ],
)
def test_bad_input_is_named(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


# --- a model ---------------------------------------------------------------------------------------------------------

SMALL: dict[str, Any] = {
    "memory_chunk_size": 2, "projection_chunk_size": 4, "levels_chunk_sizes": (2, 4), "signal": "associative",
    "width": 4, "hidden": 3, "vocabulary": 5, "seed": 3,
}  # fmt: skip
MODELS = [
    *(HopeConfig(**SMALL, heads=heads, mixer=mixer) for heads in (1, 2) for mixer in MIXERS),
    HopeConfig(**SMALL, input_projection=False, adaptive_query=True, blocks=1),
    HopeConfig(**SMALL, convolution_width=0, architecture="linear", variant="independent", blocks=3),
    HopeConfig(**SMALL | {"signal": "task"}),
]


@pytest.mark.parametrize("config", MODELS, ids=range(len(MODELS)))
def test_a_model_has_the_promised_names_and_its_seed_decides(config: HopeConfig) -> None:
    p = init(config)
    assert {n: a.shape for n, a in p.items()} == parameter_shapes(config)
    assert all(a.dtype == np.float64 for a in p.values())
    again, other = init(config), init(config.replace(seed=4))
    assert all(np.array_equal(p[n], again[n]) for n in p)
    drawn = [name for name, array in p.items() if np.unique(array).size > 2]  # no gain, no identity
    assert {"embedding", "blocks.0.output", "blocks.0.levels.1.w1"} <= set(drawn)
    assert any(".heads.0.w" in name for name in drawn) == (config.mixer == MIXERS[0])
    for name in drawn:
        alike = [n for n in drawn if p[n].shape == p[name].shape and np.array_equal(p[n], p[name])]
        assert alike == [name], "every draw is one of its own"
        assert not np.array_equal(p[name], other[name]), name
    logits, _ = hope([1, 2], p, config)  # the right names and shapes
    assert logits.shape == (2, 5)


def test_without_a_seed_every_start_is_another() -> None:
    config = HopeConfig(**SMALL | {"seed": None})
    assert not np.array_equal(init(config)["embedding"], init(config)["embedding"])


def test_the_options_of_the_start_reach_the_models_memories() -> None:
    config = HopeConfig(**SMALL, eta_init=(0.5, 0.2), alpha_init=0.9, memory_w1_std=0.3)
    p, default = init(config), init(config.replace(eta_init=(0.7, 0.1), alpha_init=0.999, memory_w1_std=0))
    for block in range(2):
        own = layers.part(p, f"blocks.{block}.heads.0")
        got = {m: np.log1p(np.exp(own[f"eta_bias_{m}"])) for m in config.memories}
        assert got == pytest.approx({m: 0.5 if m == "memory" else 0.2 for m in config.memories})
        assert 1 / (1 + np.exp(-own["alpha_bias"])) == pytest.approx(0.9)
        assert own["w1_memory"].any()
        assert not default[f"blocks.{block}.heads.0.w1_memory"].any()


def test_parameter_count_by_hand() -> None:
    """d = 4, two heads of width 2, hidden 3, two levels of hidden width 16 with V, two blocks, vocabulary 5."""
    head = 5 * (2 * 3 + 3 * 2) + 5 + 2 + 2 + 1  # five memories, five biases, two read-outs, one bias
    level = 2 * 4 * 16 + 4 + 4 * 4
    titans = 4 + 4 * 16 + 3 * 4 * 4 + 2 * head + 4
    config = HopeConfig(**SMALL, heads=2)
    assert sum(a.size for a in init(config).values()) == 5 * 4 + 4 + 2 * (titans + 2 * level)
    attention = sum(a.size for a in init(config.replace(mixer="softmax_attention")).values())
    assert attention == 5 * 4 + 4 + 2 * (4 + 4 * 16 + 2 * level)


def test_projections_start_orthogonal() -> None:
    p = init(HopeConfig(width=6, heads=2, levels_chunk_sizes=(2,), blocks=1))
    for name in ("p_key", "p_value", "w_query", "output"):
        w = p[f"blocks.0.{name}"]
        np.testing.assert_allclose(w @ w.T, np.eye(6), rtol=0, atol=1e-14)


def test_convolutions_start_as_the_identity_before_their_activation() -> None:
    kernel = init(HopeConfig(**SMALL))["blocks.0.conv_key"]
    x = np.random.default_rng(0).normal(size=(6, 4))
    y, _ = layers.convolution(x, kernel, np.ones((3, 4)))
    np.testing.assert_allclose(y, x / (1 + np.exp(-x)), rtol=0, atol=1e-15)


def test_a_tied_head_starts_with_logits_of_unit_variance() -> None:
    embedding = init(HopeConfig(width=100, heads=10, vocabulary=400, levels_chunk_sizes=(2,), blocks=1))[
        "embedding"
    ]
    assert embedding.std() == pytest.approx(0.1, rel=0.02)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "config must be a HopeConfig, got NoneType"),
        (
            HopeConfig(mixer="titans"),
            "mixer must be one of 'self_modifying_titans', 'softmax_attention' in NumPy, got 'titans'",
        ),
        (
            HopeConfig(step="normalized", eta_max=0.5),
            "eta_init must be < eta_max for step='normalized', got 0.7 and 0.5",
        ),
    ],
)
def test_a_model_that_cannot_start_is_named(config: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        init(config)
