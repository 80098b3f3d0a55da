"""Each relative's recurrence, written out as its paper has it, is what its configuration computes; and what it is not."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch.nn import functional

from hope_ref import __main__ as command
from hope_ref import relatives
from hope_ref.common.validation import Array
from hope_ref.config import HopeConfig
from hope_ref.parallel import hope as models
from hope_ref.parallel.self_modifying_titans import self_modifying_titans as in_chunks
from hope_ref.parallel.shared_gain import shared_gain as gain_in_chunks
from hope_ref.reference import delta_rule, shared_gain, titans
from hope_ref.reference import self_modifying_titans as literal
from hope_ref.reference.self_modifying_titans import random_parameters
from hope_ref.relatives import RELATIVES, Relative, ridge

ROOT = Path(__file__).parents[1]
D, HIDDEN = 4, 6
CHUNKS, SEEDS, LENGTHS = (1, 3, 8), (0, 1), (7, 19)
OWN = (
    "linear_attention",
    "longhorn",
    "nlms",
    "ttt_linear",
    "ttt_mlp",
    "lact",
)  # made by HOPE's own mixer, exactly
WITHOUT = ("mesa", "rwkv_7", "kimi_delta_attention", "delta_product", "comba", "shared_gain")


class Stream(NamedTuple):
    """What the tokens make of themselves at the boundary, one row each, and where `memory` starts."""

    k: Array
    v: Array
    q: Array
    eta: Array
    alpha: Array
    weights: tuple[Array, ...]
    chunk_size: int


class Case(NamedTuple):
    """A configuration with parameters and three views of the tokens."""

    config: HopeConfig
    parameters: dict[str, Array]
    views: list[Array]

    def stream(self) -> Stream:
        start = literal.initial_state(self.parameters, self.config)
        tokens = [
            literal.generate(*rows, self.parameters, self.config, start.boundary)
            for rows in zip(*self.views, strict=True)
        ]
        rows = [np.array([getattr(token, name) for token in tokens]) for name in ("k", "v", "q")]
        eta = np.array([token.eta["memory"] for token in tokens])
        alpha = np.array([token.alpha for token in tokens])
        weights = literal.of(start.weights, "memory", self.config)
        return Stream(*rows, eta, alpha, weights, self.config.memory_chunk_size)

    def reference(self) -> list[Array]:
        outputs, state = literal.self_modifying_titans(*self.views, self.parameters, self.config)
        return [outputs, *literal.of(state.weights, "memory", self.config)]

    def parallel(self) -> list[Array]:
        parameters = {name: torch.as_tensor(value) for name, value in self.parameters.items()}
        x_key, x_value, x_query = map(torch.as_tensor, self.views)
        outputs, _ = in_chunks(x_key, x_value, x_query, parameters, self.config)
        return [outputs.numpy()]


def case(name: str, chunk_size: int = 3, length: int = 19, seed: int = 0, **changes: Any) -> Case:
    """A relative with random parameters; α is 1 to the last digit wherever the relative does not forget."""
    config = HopeConfig.relative(
        name, **{"memory_chunk_size": chunk_size, "projection_chunk_size": chunk_size, **changes}
    )
    parameters = random_parameters(config, D, HIDDEN, seed)
    if config.alpha_init > 0.9999:
        parameters |= {"alpha_readout": np.zeros(D), "alpha_bias": np.array(37.0)}
    rng = np.random.default_rng(100 + seed)
    return Case(config, parameters, [rng.normal(size=(length, D)) for _ in range(3)])


def far(one: list[Array], other: list[Array]) -> float:
    """The largest difference relative to the largest number."""
    return max(
        float(np.abs(a - b).max() / max(1.0, np.abs(b).max())) for a, b in zip(one, other, strict=False)
    )


# --- the papers' recurrences, in code of their own -----------------------------------------------------------------------


def linear_attention(s: Stream) -> list[Array]:
    """M_t = α_t M_{t-1} + (η_t v_t) k_tᵀ."""
    (m,) = s.weights
    y = []
    for k, v, q, eta, alpha in zip(s.k, s.v, s.q, s.eta, s.alpha, strict=True):
        m = alpha * m + np.outer(eta * v, k)
        y.append(m @ q)
    return [np.array(y), m]


def longhorn(s: Stream) -> list[Array]:
    """M_t = argmin ‖M - M_{t-1}‖² + η ‖M k - v‖²: M (I + η k kᵀ) = M_{t-1} + η v kᵀ, solved as it stands."""
    (m,) = s.weights
    y = []
    for k, v, q, eta in zip(s.k, s.v, s.q, s.eta, strict=True):
        m = np.linalg.solve(np.eye(D) + eta * np.outer(k, k), (m + eta * np.outer(v, k)).T).T
        y.append(m @ q)
    return [np.array(y), m]


def corrections(s: Stream, step: Callable[[Array, float], float]) -> list[Array]:
    """M_t = M_{t-1} + step (v - M_{t-1} k) kᵀ."""
    (m,) = s.weights
    y = []
    for k, v, q, eta in zip(s.k, s.v, s.q, s.eta, strict=True):
        m = m + step(k, eta) * np.outer(v - m @ k, k)
        y.append(m @ q)
    return [np.array(y), m]


nlms = partial(corrections, step=lambda k, eta: float(eta / (k @ k + 1e-6)))
kaczmarz = partial(corrections, step=lambda k, eta: float(1 / (k @ k)))


def network(weights: Any, z: torch.Tensor, skip: bool) -> torch.Tensor:
    *outer, inner = weights
    branch = inner @ z if not outer else outer[0] @ functional.silu(inner @ z)
    return z + branch if skip else branch


def trained_while_reading(
    s: Stream, skip: bool = True, dot: bool = False, late: bool = False, mu: float = 0.0
) -> list[Array]:
    """W_t = α W_{t-1} + B_t, B_t = μ B_{t-1} - η_t ∇ℓ at the boundary, by automatic differentiation; ``late`` reads there."""
    weights = frozen = [torch.tensor(w) for w in s.weights]
    momentum = [torch.zeros_like(w) for w in weights]
    y = []
    for t, (k, v, q) in enumerate(zip(*map(torch.as_tensor, (s.k, s.v, s.q)), strict=True)):
        if t % s.chunk_size == 0:
            frozen = [w.clone().requires_grad_() for w in weights]
        answer = network(frozen, k, skip)
        loss = -(answer @ v) if dot else 0.5 * (answer - v).square().sum()
        slopes = torch.autograd.grad(loss, frozen)
        momentum = [mu * b - s.eta[t] * g for b, g in zip(momentum, slopes, strict=True)]
        weights = [s.alpha[t] * w + b for w, b in zip(weights, momentum, strict=True)]
        y.append(network(frozen if late else weights, q, skip).detach().numpy())
    return [np.array(y), *(w.numpy() for w in weights)]


LOOPS: dict[str, Callable[[Stream], list[Array]]] = {
    "linear_attention": linear_attention,
    "longhorn": longhorn,
    "nlms": nlms,
    "ttt_linear": trained_while_reading,
    "ttt_mlp": trained_while_reading,
    "lact": partial(trained_while_reading, skip=False, dot=True, late=True),
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("chunk_size", CHUNKS)
@pytest.mark.parametrize("name", OWN)
def test_the_papers_loop_is_what_the_configuration_computes(
    name: str, chunk_size: int, length: int, seed: int
) -> None:
    one = case(name, chunk_size, length, seed)
    want = LOOPS[name](one.stream())
    assert far(one.reference(), want) < 1e-12
    assert far(one.parallel(), want) < 1e-10
    assert np.abs(want[0]).max() > 0.01


CHANGED = [
    ("linear_attention", {"erase": "full"}),
    ("linear_attention", {"objective": "l2"}),
    ("longhorn", {"step": "explicit"}),
    ("longhorn", {"erase": "none"}),
    ("longhorn", {"objective": "l2"}),
    ("longhorn", {"erase": "deviation"}),
    ("nlms", {"step": "implicit"}),
    ("ttt_linear", {"erase": "full"}),
    ("ttt_linear", {"objective": "dot"}),
    ("ttt_linear", {"read_skip": False}),
    ("ttt_mlp", {"step": "implicit"}),
    ("ttt_mlp", {"erase": "deviation"}),
    ("lact", {"objective": "l2"}),
    ("lact", {"read": "post"}),
]


@pytest.mark.parametrize(("name", "changes"), CHANGED, ids=lambda one: str(one))
def test_another_option_makes_another_model(name: str, changes: dict[str, Any]) -> None:
    one = case(name, **changes)
    assert far(one.reference(), LOOPS[name](one.stream())) > 1e-3


@pytest.mark.parametrize("name", ["linear_attention", "longhorn", "nlms"])
def test_a_given_matrix_memory_is_the_same_for_every_chunk_size(name: str) -> None:
    each = [case(name, chunk_size).reference() for chunk_size in CHUNKS]
    assert max(far(one, each[0]) for one in each) < 1e-13


@pytest.mark.parametrize("name", ["ttt_linear", "ttt_mlp", "lact"])
def test_a_frozen_gradient_makes_the_chunk_size_part_of_the_model(name: str) -> None:
    assert far(case(name, 1).reference(), case(name, 8).reference()) > 1e-3


# --- what is not exact ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["linear_attention", "kaczmarz"])
def test_the_rate_is_exactly_one_where_the_entry_says_so(name: str) -> None:
    one = case(name)
    one.parameters.update(eta_readout=np.zeros(D), eta_bias_memory=np.array(0.0))
    assert np.all(one.stream().eta == 1.0)


def test_retention_is_one_to_the_last_digit_from_a_bias_of_37_on() -> None:
    one = case("longhorn")
    assert np.all(one.stream().alpha == 1.0)
    one.parameters["alpha_bias"] = np.array(36.0)
    assert np.all(one.stream().alpha < 1.0)


def test_with_any_retention_longhorn_forgets() -> None:
    one = case("longhorn")
    one.parameters["alpha_bias"] = np.array(3.0)
    assert far(one.reference(), longhorn(one.stream())) > 1e-3


@pytest.mark.parametrize("seed", SEEDS)
def test_kaczmarz_is_met_to_one_part_in_a_million(seed: int) -> None:
    one = case("kaczmarz", seed=seed)
    one.parameters.update(eta_readout=np.zeros(D), eta_bias_memory=np.array(0.0))
    stream = one.stream()
    assert 1e-9 < far(one.reference(), kaczmarz(stream)) < 1e-5
    assert far(one.reference(), nlms(stream)) < 1e-12
    k, v = stream.k[-1], stream.v[-1]
    before = Case(one.config, one.parameters, [view[:-1] for view in one.views]).reference()[1]
    left = (one.reference()[1] @ k - v) / (before @ k - v)
    np.testing.assert_allclose(left, 1e-6 / (k @ k + 1e-6), rtol=1e-4)


def test_keys_are_a_little_shorter_than_one() -> None:
    one = case("longhorn")
    squares = (one.stream().k ** 2).sum(-1)
    assert np.all(squares < 1)
    assert np.all(squares > 0.99)


# --- the other mixers ----------------------------------------------------------------------------------------------------


def drawn(seed: int, length: int) -> list[Array]:
    rng = np.random.default_rng(seed)
    q, k, v = (rng.normal(size=(length, D)) for _ in range(3))
    return [q, k / np.linalg.norm(k, axis=-1, keepdims=True), v, *rng.uniform(0.1, 0.95, (3, length))]


def gated(q: Array, k: Array, v: Array, eta: Array, alpha: Array) -> list[Array]:
    """M_t = α_t M_{t-1} (I - η_t k_t k_tᵀ) + η_t v_t k_tᵀ, as printed."""
    m, y = np.zeros((D, D)), []
    for t in range(len(k)):
        m = alpha[t] * m @ (np.eye(D) - eta[t] * np.outer(k[t], k[t])) + eta[t] * np.outer(v[t], k[t])
        y.append(m @ q[t])
    return [np.array(y), m]


def mixer(name: str, **changes: Any) -> Any:
    """The first layer of a model that the relative's configuration makes, in float64, its rates drawn at random."""
    config = HopeConfig.relative(name, width=D, blocks=1, levels_chunk_sizes=(8,), **changes)
    layer: Any = models.Hope(config).double().blocks[0].mixer
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter, value in layer.named_parameters():
            if parameter.endswith(("_weight", "_bias")) or parameter in ("w", "w1"):
                value.copy_(0.5 * torch.randn(value.shape, generator=generator, dtype=value.dtype))
    return layer


def of_layer(layer: Any, q: Array, k: Array, v: Array) -> tuple[Array, Callable[[str], Array]]:
    """The layer's outputs for given q, k, v, and its rates by name."""
    n = torch.as_tensor(np.random.default_rng(9).normal(size=(len(k), D)))
    with torch.no_grad():
        views = [torch.as_tensor(z)[None] for z in (q, k, v)]
        y, _ = layer.memory(n, *views, layer.initial_memory((1,)), "torch")

    def rate(name: str) -> Array:
        weight, bias = (getattr(layer, f"{name}_{part}").detach().numpy()[0] for part in ("weight", "bias"))
        return np.asarray(1 / (1 + np.exp(-(n.numpy() @ weight + bias))))

    return y[0].numpy(), rate


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("length", LENGTHS)
def test_the_delta_rules(length: int, seed: int) -> None:
    q, k, v, eta, alpha, _ = drawn(seed, length)
    ones = np.ones(length)
    assert far(list(delta_rule.delta_rule(q, k, v, eta)), gated(q, k, v, eta, ones)) < 1e-12
    assert far(list(delta_rule.gated_delta_rule(q, k, v, eta, alpha)), gated(q, k, v, eta, alpha)) < 1e-12
    y, rate = of_layer(mixer("delta_net"), q, k, v)
    assert far([y], gated(q, k, v, rate("beta"), ones)) < 1e-10
    layer = mixer("gated_delta_net", beta_max=2)
    y, rate = of_layer(layer, q, k, v)
    assert far([y], gated(q, k, v, 2 * rate("beta"), rate("alpha"))) < 1e-10
    assert far([y], gated(q, k, v, 2 * rate("beta"), ones)) > 1e-3


@pytest.mark.parametrize("chunk_size", CHUNKS)
def test_hopes_own_write_is_the_delta_rule_and_not_the_gated_one(chunk_size: int) -> None:
    one = case("longhorn", chunk_size, step="explicit")
    one.parameters["w_memory"] = np.zeros((D, D))
    s = one.stream()
    assert far(one.reference(), gated(s.q, s.k, s.v, s.eta, s.alpha)) < 1e-12
    one.parameters["alpha_bias"] = np.array(1.0)
    s = one.stream()
    assert far(one.reference(), gated(s.q, s.k, s.v, s.eta, s.alpha)) > 1e-3


def test_with_a_free_retention_it_is_comba_without_its_two_shares() -> None:
    one = case("longhorn", step="explicit")
    one.parameters["alpha_bias"] = np.array(1.0)
    s = one.stream()
    (m,) = s.weights
    for k, v, eta, alpha in zip(s.k, s.v, s.eta, s.alpha, strict=True):
        m = m @ (alpha * np.eye(D) - eta * np.outer(k, k)) + eta * np.outer(v, k)
    assert far(one.reference()[1:], [m]) < 1e-12


@pytest.mark.parametrize("architecture", ["linear", "mlp"])
@pytest.mark.parametrize("chunk_size", CHUNKS)
@pytest.mark.parametrize("seed", SEEDS)
def test_titans(seed: int, chunk_size: int, architecture: str) -> None:
    """The layer against `reference.titans`, and that against a loop with automatic differentiation, at one μ."""
    q, k, v, eta, alpha, _ = drawn(seed, 19)
    rng = np.random.default_rng(seed)
    shapes = [(D, D)] if architecture == "linear" else [(D, HIDDEN), (HIDDEN, D)]
    weights = tuple(0.4 * rng.normal(size=shape) for shape in shapes)
    y, state = titans.titans(q, k, v, eta / 8, alpha, 0.6, titans.start(*weights), chunk_size)
    s = Stream(k, v, q, eta / 8, alpha, weights, chunk_size)
    skip = architecture == "mlp"
    assert far([y, *state.weights], trained_while_reading(s, skip=skip, mu=0.6)) < 1e-12

    layer = mixer("titans", memory_chunk_size=chunk_size, projection_chunk_size=1, architecture=architecture)
    y, rate = of_layer(layer, q, k, v)
    inside = ("w",) if architecture == "linear" else ("w1", "w2")
    start = titans.start(*(getattr(layer, name).detach().numpy()[0] for name in inside))
    rates = rate("eta") / chunk_size, rate("alpha"), rate("mu")
    assert far([y], [titans.titans(q, k, v, *rates, start, chunk_size)[0]]) < 1e-10


@pytest.mark.parametrize("chunk_size", CHUNKS)
def test_hopes_own_write_is_titans_with_one_momentum_decay(chunk_size: int) -> None:
    one = case("ttt_mlp", chunk_size, retention_target="zero", inner_momentum=0.6, eta_max=0.2)
    one.parameters["alpha_bias"] = np.array(3.0)
    s = one.stream()
    want = titans.titans(s.q, s.k, s.v, s.eta, s.alpha, 0.6, titans.start(*s.weights), chunk_size)
    assert far(one.reference(), [want[0], *want[1].weights]) < 1e-12
    assert far(one.parallel(), [want[0]]) < 1e-10
    assert far(case("ttt_mlp", chunk_size, eta_max=0.2).reference(), [want[0]]) > 1e-3


# --- VisionHOPE ----------------------------------------------------------------------------------------------------------


def five_memories(x: Array, p: dict[str, Array], chunk_size: int) -> tuple[Array, dict[str, Array]]:
    """Three matrices and two rows, each W ← α W - η (W k + W_b k - W_b v) kᵀ by itself; y = W_memory,b q; η held in its limits."""

    def unit(z: Array) -> Array:
        return z / np.sqrt(z @ z + 1e-6)

    def sigmoid(z: Any) -> Any:
        return 1 / (1 + np.exp(-z))

    now = {name: p[name] for name in ("w_k", "w_v", "w_eta", "w_alpha", "w_memory")}
    y, b = [], now
    for t, token in enumerate(x):
        b = dict(now) if t % chunk_size == 0 else b
        k, v = unit(b["w_k"] @ token), b["w_v"] @ token
        alpha = sigmoid(b["w_alpha"] @ token + p["alpha_bias"])
        limit = (1 - alpha) / (np.linalg.norm(k) * np.linalg.norm(k - v))
        eta = limit * (1 - np.exp(-sigmoid(b["w_eta"] @ token + p["eta_bias"]) / limit))
        eta = min(eta, 2 * alpha / (k @ k))
        y.append(b["w_memory"] @ unit(p["w_query"] @ token))
        for name, w in now.items():
            slip = np.atleast_1d(w @ k + b[name] @ k - b[name] @ v)
            now[name] = alpha * w - eta * np.outer(slip, k).reshape(w.shape)
    return np.array(y), now


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("chunk_size", CHUNKS)
@pytest.mark.parametrize("seed", SEEDS)
def test_one_gain_moves_the_five_memories_of_vision_hope(seed: int, chunk_size: int, length: int) -> None:
    parameters = shared_gain.random_parameters(D, "vector", seed)
    x = np.random.default_rng(seed).normal(size=(length, D))
    want, memories = five_memories(x, parameters, chunk_size)
    y, state = shared_gain.shared_gain(x, parameters, chunk_size=chunk_size, read="boundary")
    moved = shared_gain.current(state)
    assert far([y, *moved.values()], [want, *(memories[name] for name in moved)]) < 1e-12
    tensors = {name: torch.as_tensor(value) for name, value in parameters.items()}
    in_torch, _ = gain_in_chunks(torch.as_tensor(x), tensors, chunk_size=chunk_size, read="boundary")
    assert far([in_torch.numpy()], [want]) < 1e-12
    assert far([y], [want[:1].repeat(length, 0)]) > 1e-3


# --- ridge ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_ridge_is_recursive_least_squares_after_every_token(seed: int) -> None:
    """P_t = P_{t-1} - η P k kᵀ P / (1 + η kᵀ P k), M_t = M_{t-1} + η (v - M_{t-1} k) kᵀ P_t, from P_0 = I."""
    _, k, v, eta, *_ = drawn(seed, 19)
    start = np.random.default_rng(seed).normal(size=(D, D))
    p, m = np.eye(D), start
    for t in range(len(k)):
        p = p - eta[t] * np.outer(p @ k[t], p @ k[t]) / (1 + eta[t] * k[t] @ p @ k[t])
        m = m + eta[t] * np.outer(v[t] - m @ k[t], p @ k[t])
        np.testing.assert_allclose(ridge(k[: t + 1], v[: t + 1], eta[: t + 1], start), m, rtol=0, atol=1e-12)


@pytest.mark.parametrize("chunk_size", CHUNKS)
def test_ridge_is_the_minimiser(chunk_size: int) -> None:
    _, k, v, *_ = drawn(0, chunk_size)
    m = ridge(k, v, 0.8)
    slope = 0.8 * (k @ m.T - v).T @ k + m  # of ½ η Σ ‖M k - v‖² + ½ ‖M‖²
    assert np.abs(slope).max() < 1e-13


def test_one_token_at_a_time_ridge_is_longhorn_and_a_chunk_is_not() -> None:
    s = case("longhorn").stream()
    (m,) = s.weights
    for t in range(len(s.k)):
        m = ridge(s.k[t : t + 1], s.v[t : t + 1], s.eta[t], m)
    np.testing.assert_allclose(m, longhorn(s)[1], rtol=0, atol=1e-12)
    assert np.abs(ridge(s.k, s.v, s.eta, s.weights[0]) - m).max() > 1e-2


def test_ridge_of_nothing_and_of_no_weight_is_the_start() -> None:
    start = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(ridge(np.zeros((0, 3)), np.zeros((0, 2)), 1.0, start), start)
    np.testing.assert_array_equal(ridge(np.ones((4, 3)), np.ones((4, 2)), 0, start), start)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones(3), np.ones((1, 2)), 1.0), r"k must have shape \(C, d_k\)"),
        ((np.ones((4, 3)), np.ones((3, 2)), 1.0), r"v must have shape \(4, d_v\)"),
        ((np.ones((4, 3)), np.ones((4, 2)), -1.0), "eta must be >= 0, got min -1"),
        ((np.ones((4, 3)), np.ones((4, 2)), 1.0, np.ones((3, 2))), r"memory must have shape \(2, 3\)"),
    ],
)
def test_what_ridge_cannot_take_is_named(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ridge(*arguments)


# --- the registry --------------------------------------------------------------------------------------------------------


def test_every_relative_is_made_by_a_configuration_or_says_what_is_missing() -> None:
    made = [name for name, entry in RELATIVES.items() if entry.options is not None]
    assert set(made) == {*OWN, "kaczmarz", "delta_net", "gated_delta_net", "titans"}
    assert set(RELATIVES) == {*made, *WITHOUT}


@pytest.mark.parametrize("entry", RELATIVES.values(), ids=RELATIVES)
def test_an_entry_is_whole_and_its_paper_is_listed(entry: Relative) -> None:
    assert RELATIVES[entry.name] is entry
    assert entry.model
    assert entry.needs
    assert entry.lacks
    assert entry.equation.count("{") == entry.equation.count("}")
    where = "doi" if entry.paper.startswith("10.") else "arXiv"
    assert f"[{where}:{entry.paper}]" in (ROOT / "REFERENCES.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [name for name in RELATIVES if name not in WITHOUT])
def test_a_relative_is_a_configuration_and_takes_changes(name: str) -> None:
    config = HopeConfig.relative(name)
    assert config == HopeConfig.relative(name, **config.to_dict())
    assert HopeConfig.relative(name, width=8).width == 8
    assert HopeConfig.from_json(config.to_json()) == config


def test_what_a_model_of_a_relative_starts_from_is_what_it_needs() -> None:
    """In float64, to the last digit: a model whose configuration is Kaczmarz's has η = 1 and α = 1."""
    config = HopeConfig.relative("kaczmarz", width=D, blocks=1, levels_chunk_sizes=(8,))
    block: Any = models.Hope(config).double().blocks[0]
    parameters = dict(block.mixer.named_parameters())
    (eta,) = [value for name, value in parameters.items() if name.endswith("eta_bias_memory")]
    (alpha,) = [value for name, value in parameters.items() if name.endswith("alpha_bias")]
    assert float(eta.detach().abs().max()) == 0.0
    assert float((1 - torch.sigmoid(alpha.detach())).abs().max()) <= 2.0**-52


@pytest.mark.parametrize("name", ["Longhorn", "", None, 3, ["longhorn"]])
def test_an_unknown_name_is_named_with_the_known_ones(name: Any) -> None:
    message = f"name must be one of 'linear_attention', 'longhorn', .*, got {re.escape(repr(name))}$"
    with pytest.raises(ValueError, match=message):
        HopeConfig.relative(name)


@pytest.mark.parametrize("name", WITHOUT)
def test_a_model_that_no_configuration_makes_says_what_does(name: str) -> None:
    with pytest.raises(ValueError, match=f"got '{name}': no configuration makes .*; .*") as raised:
        HopeConfig.relative(name)
    known = str(raised.value).split(", got")[0]
    assert not any(repr(one) in known for one in WITHOUT)


def test_mesa_points_to_ridge_and_vision_hope_to_the_shared_gain() -> None:
    places = {"mesa": r"hope_ref\.relatives\.ridge", "shared_gain": r"hope_ref\.parallel\.shared_gain"}
    for name, where in places.items():
        with pytest.raises(ValueError, match=where):
            HopeConfig.relative(name)


def test_a_wrong_change_is_named() -> None:
    with pytest.raises(ValueError, match="unknown option depth"):
        HopeConfig.relative("longhorn", depth=3)


def test_changing_a_configuration_leaves_the_registry_as_it_is() -> None:
    before = dict(RELATIVES["longhorn"].options or {})
    HopeConfig.relative("longhorn", step="explicit")
    assert RELATIVES["longhorn"].options == before


def test_the_command_prints_every_relative(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["relatives"]) == 0
    shown = capsys.readouterr().out
    for entry in RELATIVES.values():
        assert f"{entry.name}: {entry.model} [" in shown
        assert entry.paper in shown
    assert shown.count("  options  none\n") == len(WITHOUT)
    assert max(map(len, shown.splitlines())) <= 110


def test_the_page_has_a_row_for_every_relative_and_the_call_that_makes_it() -> None:
    rows = [line for line in relatives.markdown().splitlines() if line.startswith("| ")][1:]
    assert len(rows) == len(RELATIVES)
    for row, entry in zip(rows, RELATIVES.values(), strict=True):
        assert row.count(" | ") == 3, "a bar of the formula would end its cell"
        assert f"| {entry.model} | [{entry.paper}](https://" in row
        assert row.endswith(f'`HopeConfig.relative("{entry.name}")` |') is (entry.options is not None)
