"""Starting values: rates and retentions as decided, orthogonal features, and the promised spreads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hope_ref.config import CHOICES, HopeConfig
from hope_ref.reference.memory_parameters import orthogonal
from hope_ref.reference.memory_states import initial_state
from hope_ref.reference.self_modifying_titans import generate, init, random_parameters, self_modifying_titans


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
    parameters = init(config, seed=0)
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
    parameters = init(config, 0)
    token = generate(*np.ones((3, 2)), parameters, config, initial_state(parameters, config).boundary)
    assert token.eta["k"] == pytest.approx(eta, rel=1e-9)


@pytest.mark.parametrize("hidden", [4, 8, 20])
def test_w2_is_orthogonal_with_gain_two(hidden: int) -> None:
    parameters = init(HopeConfig(width=8, hidden=hidden), seed=1)
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
    parameters = init(config, 0)
    assert not parameters[f"{layer}_memory"].any()
    assert parameters[f"{layer}_k"].std() == pytest.approx(0.5 / np.sqrt(columns), rel=0.05)
    filled = init(config.replace(memory_w1_std=0.3), 0)
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
        (lambda s: init(HopeConfig(width=4, memory_w1_std=1), s), 1),
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
            lambda: init(HopeConfig(step="explicit", eta_max=0.5), 0),
            "eta_init must be < eta_max for step='explicit', got 0.7 and 0.5",
        ),
        (lambda: random_parameters(HopeConfig(), 0, 3, 0), "width must be an integer >= 1, got 0"),
        (lambda: random_parameters(HopeConfig(), 3, 1.5, 0), "hidden must be an integer >= 1, got 1.5"),
    ],
)
def test_bad_input_is_named(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
