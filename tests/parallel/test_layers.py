"""The layer around a memory, and the baselines that stand in it, against NumPy: the reference's memories head by head, with the plumbing around them written out here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from hope_ref.common.validation import Array
from hope_ref.config import HopeConfig
from hope_ref.parallel import states
from hope_ref.parallel.delta_rule import GatedDeltaRule
from hope_ref.parallel.hope import MIXERS
from hope_ref.parallel.layers import Mixer
from hope_ref.parallel.linear_attention import LinearAttention
from hope_ref.parallel.titans import Titans
from hope_ref.reference import delta_rule, linear_attention, titans

WIDTH, HEADS, LENGTH = 6, 2, 9
SIZES: dict[str, Any] = {
    "width": WIDTH,
    "heads": HEADS,
    "hidden": 4,
    "memory_chunk_size": 3,
    "projection_chunk_size": 3,
}
EACH: dict[str, HopeConfig] = {
    "linear attention": HopeConfig(**SIZES, mixer="linear_attention"),
    "linear attention, no convolution": HopeConfig(**SIZES, mixer="linear_attention", convolution_width=0),
    "gated delta rule": HopeConfig(**SIZES, mixer="gated_delta_rule"),
    "gated delta rule, beta to 2": HopeConfig(**SIZES, mixer="gated_delta_rule", convolution_width=2, beta_max=2.0),
    "delta rule": HopeConfig(**SIZES, mixer="gated_delta_rule", gated=False),
    "titans": HopeConfig(**SIZES, mixer="titans"),
    "titans, linear": HopeConfig(**SIZES, mixer="titans", architecture="linear"),
    "titans, token by token": HopeConfig(**(SIZES | {"memory_chunk_size": 1}), mixer="titans"),
}  # fmt: skip
each = pytest.mark.parametrize("config", EACH.values(), ids=EACH)


def awake(config: HopeConfig) -> Any:
    """The start of training, shaken, so that nothing is zero, one or the identity any more."""
    generator = torch.Generator().manual_seed(0)
    mixer = MIXERS[config.mixer](config, generator).double()
    with torch.no_grad():
        for name, parameter in mixer.named_parameters():
            if name == "alpha_bias":
                parameter.fill_(2.0)  # at 0.999 α hardly answers
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64), alpha=0.4)
    return mixer


def tokens(*lead: int) -> Array:
    return np.random.default_rng(len(lead)).normal(size=(*lead, LENGTH, WIDTH))


def run(mixer: Mixer, x: Any, state: Any = None) -> tuple[torch.Tensor, Any]:
    return mixer(torch.as_tensor(x), state)


# --- the same, in NumPy -----------------------------------------------------------------------------------------------


def sigmoid(z: Any) -> Any:
    return 1 / (1 + np.exp(-z))


def normed(z: Array) -> Array:
    return z / np.sqrt(np.mean(z**2, axis=-1, keepdims=True) + 1e-6)


def unit(z: Array) -> Array:
    return z / np.sqrt(np.sum(z**2, axis=-1, keepdims=True) + 1e-6)


def convolved(x: Array, kernel: Array) -> Array:
    padded = np.concatenate([np.zeros((kernel.shape[1] - 1, WIDTH)), x])
    z = np.array([sum(kernel[:, j] * padded[t + j] for j in range(kernel.shape[1])) for t in range(len(x))])
    return z * sigmoid(z)


def in_numpy(mixer: Any, x: Array) -> tuple[Array, list[list[Array]]]:
    """y, (T, d), and every head's final weights."""
    p = {name: parameter.detach().numpy() for name, parameter in mixer.named_parameters()}
    n, config = normed(x) * p["norm"], mixer.config
    views = []
    for projection, kernel in (("w_query", "conv_query"), ("p_key", "conv_key"), ("p_value", "conv_value")):
        view = n @ p[projection].T
        views.append(convolved(view, p[kernel]) if kernel in p else view)
    answers, d, final = np.zeros_like(x), WIDTH // HEADS, []
    for head in range(HEADS):
        here = slice(head * d, (head + 1) * d)
        q, k, v = (view[:, here] for view in views)
        rates = {
            name: sigmoid(n @ p[f"{name}_weight"][head] + p[f"{name}_bias"][head])
            for name in ("alpha", "beta", "eta", "mu")
            if f"{name}_bias" in p
        }
        if isinstance(mixer, Titans):
            weights = [p[name][head] for name in (("w1", "w2") if config.architecture == "mlp" else ("w",))]
            order = (rates["eta"] / config.memory_chunk_size, rates["alpha"], rates["mu"])
            start = titans.start(*weights)
            y, state = titans.titans(unit(q), unit(k), v, *order, start, config.memory_chunk_size)
            final.append(list(state.weights))
        elif isinstance(mixer, GatedDeltaRule):
            beta = config.beta_max * rates["beta"]
            alpha = rates.get("alpha", 1.0)
            y, memory = delta_rule.gated_delta_rule(unit(q), unit(k), v, beta, alpha)
            final.append([memory])
        else:
            y, memory = linear_attention.linear_attention(unit(q), unit(k), v)
            final.append([memory])
        answers[:, here] = normed(y) * p["head_norm"][here]
    return x + answers @ p["output"].T, final


@each
def test_equals_the_composition_in_numpy(config: HopeConfig) -> None:
    mixer, x = awake(config), tokens(3)
    y, state = run(mixer, x)
    for index in range(3):
        want, final = in_numpy(mixer, x[index])
        np.testing.assert_allclose(y[index].detach().numpy(), want, rtol=0, atol=1e-10)
        weights = state.memory.weights if config.mixer == "titans" else (state.memory,)
        for head in range(HEADS):
            for got, expected in zip(weights, final[head], strict=True):
                np.testing.assert_allclose(got[index, head].detach().numpy(), expected, rtol=0, atol=1e-10)
    assert y.shape == (3, LENGTH, WIDTH)


def test_a_sequence_longer_than_a_block_of_the_computation() -> None:
    for config in EACH.values():
        mixer, x = awake(config), np.random.default_rng(0).normal(size=(70, WIDTH))
        if config.mixer == "titans":  # gradients frozen over a chunk overflow at a larger rate
            with torch.no_grad():
                mixer.eta_bias.fill_(-3.0)
        want, _ = in_numpy(mixer, x)
        assert np.isfinite(want).all()
        np.testing.assert_allclose(run(mixer, x)[0].detach().numpy(), want, rtol=0, atol=1e-9)


# --- promises, of every mixer -----------------------------------------------------------------------------------------

ALL = EACH | {
    "hope": HopeConfig(**SIZES),
    "attention": HopeConfig(**(SIZES | {"heads": 3}), mixer="softmax_attention"),
    "attention in a window": HopeConfig(**(SIZES | {"heads": 3}), mixer="softmax_attention", window=3),
}
every = pytest.mark.parametrize("config", ALL.values(), ids=ALL)


@every
def test_every_split_gives_the_same(config: HopeConfig) -> None:
    mixer, x = awake(config), torch.tensor(tokens(2))
    whole, end = run(mixer, x)
    for cut in (0, 1, 3, 4, LENGTH):  # chunks of 3
        first, middle = run(mixer, x[:, :cut])
        states.checked(middle, mixer.like_state((2,), cut))
        second, last = run(mixer, x[:, cut:], middle)
        torch.testing.assert_close(torch.cat([first, second], 1), whole, rtol=0, atol=1e-10)
        for name, leaf in states.flattened(last).items():
            other = states.flattened(end)[name]
            if isinstance(leaf, torch.Tensor):
                torch.testing.assert_close(leaf, other, rtol=0, atol=1e-10)
            else:
                assert leaf == other


@every
@torch.no_grad()
def test_the_past_does_not_see_the_future(config: HopeConfig) -> None:
    x = torch.tensor(tokens()).repeat(LENGTH + 1, 1, 1)  # row t has another token t, the last one none
    x[range(LENGTH), range(LENGTH)] += torch.tensor([1.0, -1, 0.5, 2, -1, 0.3])
    y, _ = run(awake(config), x)
    for t, moved in enumerate((y[:-1] - y[-1]).abs().amax(-1)):
        assert (moved[:t] < 1e-13).all()
        assert (moved[t : t + (config.window or LENGTH)] > 1e-8).all()


@every
def test_every_parameter_has_a_gradient(config: HopeConfig) -> None:
    mixer = awake(config)
    y, _ = run(mixer, tokens())
    (y * torch.tensor(np.random.default_rng(1).normal(size=y.shape))).sum().backward()
    for name, parameter in mixer.named_parameters():
        assert parameter.grad is not None, name
        assert (parameter.grad.flatten(1 if parameter.ndim > 1 else 0).abs().amax(-1) > 1e-9).all(), name


@each
def test_gradients_equal_central_differences_of_numpy(config: HopeConfig) -> None:
    mixer, x, rng, h = awake(config), tokens(), np.random.default_rng(2), 2e-6
    weights = rng.normal(size=x.shape)
    (run(mixer, x)[0] * torch.tensor(weights)).sum().backward()
    for name, parameter in mixer.named_parameters():
        assert parameter.grad is not None
        direction, kept, ends = (
            torch.tensor(rng.normal(size=tuple(parameter.shape))),
            parameter.detach().clone(),
            [],
        )
        direction /= direction.norm()
        for distance in (h, -h, 0):
            with torch.no_grad():
                parameter.copy_(kept + distance * direction)
            if distance:
                ends.append(float(np.sum(weights * in_numpy(mixer, x)[0])))
        slope = (ends[0] - ends[1]) / (2 * h)
        got = float((parameter.grad * direction).sum())
        assert abs(got - slope) <= 1e-7 * max(1.0, abs(slope)), name


# --- where training starts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "want"),
    [
        ({"mixer": "gated_delta_rule"}, {"beta": 0.5, "alpha": 0.98}),
        ({"mixer": "gated_delta_rule", "gated": False}, {"beta": 0.5}),
        ({"mixer": "titans"}, {"eta": 0.2, "alpha": 0.98, "mu": 0.1}),
    ],
)
def test_rates_start_the_same_for_every_token(options: dict[str, Any], want: dict[str, float]) -> None:
    mixer: Any = MIXERS[options["mixer"]](HopeConfig(**SIZES, alpha_init=0.98, **options))
    found = {name.removesuffix("_bias") for name, _ in mixer.named_parameters() if name.endswith("_bias")}
    assert found == set(want)
    for name, start in want.items():
        rate = mixer.rate(name, torch.tensor(tokens(2)).float())
        assert rate.shape == (2, HEADS, LENGTH)
        torch.testing.assert_close(rate, torch.full_like(rate, start), rtol=0, atol=1e-6)


def test_memories_start_empty() -> None:
    generator = torch.Generator().manual_seed(0)
    plain = LinearAttention(HopeConfig(**SIZES), generator).initial_state((3,)).memory
    assert torch.equal(plain, torch.zeros(3, HEADS, 3, 3))
    perceptron = Titans(HopeConfig(**SIZES), generator)
    assert torch.equal(perceptron.w1.detach(), torch.zeros(HEADS, 3, 4))
    gram = perceptron.w2.detach().mT @ perceptron.w2.detach()
    torch.testing.assert_close(gram, 4 * torch.eye(3).expand(HEADS, 3, 3), rtol=0, atol=1e-5)
    assert (perceptron.w2[0] - perceptron.w2[1]).abs().max() > 0.1
    linear = Titans(HopeConfig(**SIZES, architecture="linear"), generator)
    assert torch.equal(linear.w.detach(), torch.zeros(HEADS, 3, 3))
    assert [tuple(b.shape) for b in linear.initial_state((2,)).memory.momentum] == [(2, HEADS, 3, 3)]


@each
def test_projections_and_convolutions_start_as_hope_has_them(config: HopeConfig) -> None:
    mixer: Any = MIXERS[config.mixer](config, torch.Generator().manual_seed(0))
    for w in (mixer.p_key, mixer.p_value, mixer.w_query, mixer.output):
        torch.testing.assert_close(w @ w.mT, torch.eye(WIDTH), rtol=0, atol=1e-5)
    assert torch.equal(mixer.head_norm.detach(), torch.ones(WIDTH))
    if config.convolution_width:
        assert mixer.conv_key.tolist() == [[0.0] * (config.convolution_width - 1) + [1.0]] * WIDTH
    else:
        assert not hasattr(mixer, "conv_key")


# --- precision and refusals -------------------------------------------------------------------------------------------


@each
def test_under_autocast_the_memory_stays_in_float32(config: HopeConfig) -> None:
    mixer, x = awake(config).float(), torch.tensor(tokens(2)).float()
    plain, _ = run(mixer, x)
    with torch.autocast("cpu", torch.bfloat16):
        _, middle = run(mixer, x[:, :4])
        y, state = run(mixer, x[:, 4:], middle)
    leaves = [leaf for leaf in states.flattened(state).values() if isinstance(leaf, torch.Tensor)]
    assert {leaf.dtype for leaf in leaves} == {torch.float32}
    assert (y - plain[:, 4:]).abs().max() < 0.1 * plain.abs().max()
    memory = torch.eye(3).expand(2, HEADS, 3, 3) * 1.001  # what bfloat16 would round to 1
    if config.mixer == "linear_attention":
        with torch.autocast("cpu", torch.bfloat16):
            _, state = run(mixer, x[:, :1] * 0, middle._replace(memory=memory, value_inputs=0 * middle[1]))
        torch.testing.assert_close(state.memory, memory, rtol=0, atol=1e-7)


def test_a_mixer_must_say_where_it_starts() -> None:
    mixer = Mixer(HopeConfig(**SIZES))
    with pytest.raises(NotImplementedError):
        mixer.initial_state()
    with pytest.raises(NotImplementedError):
        mixer(torch.zeros(1, WIDTH))


@pytest.mark.parametrize("architecture", ["mlp", "linear"])
@pytest.mark.parametrize("chunk_size", [1, 16, 64])
@pytest.mark.parametrize("repeated", [False, True])
def test_titans_stay_bounded_where_training_starts(
    architecture: str, chunk_size: int, repeated: bool
) -> None:
    """One token again and again is the hardest stream: every gradient of a chunk points the same way."""
    config = HopeConfig(
        width=16,
        heads=2,
        architecture=architecture,
        memory_chunk_size=chunk_size,
        projection_chunk_size=chunk_size,
    )
    mixer = Titans(config, torch.Generator().manual_seed(0))
    tokens = torch.randn(512, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        _, state = mixer(tokens[:1].expand(512, 16) if repeated else tokens, mixer.initial_state())
    assert max(float(w.abs().max()) for w in state.memory.weights) < 10
