"""Where the whole model starts, and how its parameters go to the reference and back."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hope_models import ATTENTION, FEW, SMALL, awake, model_of
from hope_models import TOKENS as NUMBERS
from selection import some_slow

from hope_ref.config import HopeConfig
from hope_ref.parallel import layers
from hope_ref.parallel.hope import MIXERS, Hope
from hope_ref.reference import hope as literal
from hope_ref.reference.parameters import init_memories, parameter_shapes

EACH, TOKENS = FEW, torch.tensor(NUMBERS)
each = pytest.mark.parametrize("config", EACH.values(), ids=EACH)
OWN = EACH.keys() - {"no convolution"}  # "bare" has none either


# --- where training starts --------------------------------------------------------------------------------------------


@each
def test_names_and_shapes_are_those_of_the_reference(config: HopeConfig) -> None:
    config = config.replace(blocks=3)
    model = Hope(config)
    arrays = model.to_reference()
    assert {n: a.shape for n, a in arrays.items()} == parameter_shapes(config)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    literal.hope(TOKENS.numpy(), arrays, config)


@pytest.mark.parametrize("step", ["implicit", "explicit", "normalized"])
def test_starting_values(step: str) -> None:
    sizes = {"width": 64, "heads": 4, "hidden": 24, "vocabulary": 300, "blocks": 1}
    sizes |= {"eta_init": (0.6, 0.2), "alpha_init": 0.99}
    config = HopeConfig(**sizes, step=step, memory_w1_std=0.3, variant="independent", signal="associative")
    model = Hope(config)
    p = {name: parameter.detach().double() for name, parameter in model.named_parameters()}
    eye = torch.eye(64).double()
    for name in ("p_key", "p_value", "w_query", "output"):
        w = p[f"blocks.0.mixer.{name}"]
        torch.testing.assert_close(w @ w.mT, eye, rtol=0, atol=1e-5)
        assert (w - eye).abs().max() > 0.1
    for name in layers.CONVOLUTIONS:
        kernel = p[f"blocks.0.mixer.{name}"]
        assert torch.equal(kernel, torch.tensor([0.0, 0, 0, 1]).double().expand(64, 4))
    ones = ["norm", "blocks.0.mixer.norm", "blocks.0.mixer.head_norm"]
    ones += [f"blocks.0.continuum.levels.{i}.{n}" for i in range(3) for n in ("gain", "weight")]
    for name in ones:
        assert torch.equal(p[name], torch.ones_like(p[name])), name
    assert float(p["embedding"].std() * 8) == pytest.approx(1, abs=0.03)
    for level in range(3):
        at = f"blocks.0.continuum.levels.{level}."
        assert float(p[at + "w1"].std() * 16 * 2) == pytest.approx(1, abs=0.03)
        assert float(p[at + "w2"].std() * 8) == pytest.approx(1, abs=0.03)
        torch.testing.assert_close(p[at + "value"] @ p[at + "value"].mT, eye, rtol=0, atol=1e-5)
    own = {n.rsplit(".", 1)[1]: t for n, t in p.items() if ".mixer." in n}
    like = init_memories(config, 0)
    for memory in config.memories:
        w2 = own[f"w2_{memory}"]  # (4, 24, 16), twice an orthonormal one, every head's its own
        torch.testing.assert_close(
            w2.mT @ w2, 4 * torch.eye(16).double().expand(4, 16, 16), rtol=0, atol=1e-5
        )
        assert (w2[0] - w2[1]).abs().max() > 0.1
        want = 0.3 if memory == "memory" else 0.5 / math.sqrt(24)
        assert float(own[f"w1_{memory}"].std()) == pytest.approx(want, rel=0.05)
        for name in (f"eta_bias_{memory}", "alpha_bias"):
            np.testing.assert_allclose(own[name].numpy(), np.full(4, like[name]), rtol=1e-5, atol=1e-5)
        rate = torch.nn.functional.softplus if step == "implicit" else torch.sigmoid
        eta = rate(own[f"eta_bias_{memory}"])
        torch.testing.assert_close(
            eta, torch.full_like(eta, 0.6 if memory == "memory" else 0.2), rtol=0, atol=1e-6
        )
    torch.testing.assert_close(
        torch.sigmoid(own["alpha_bias"]), torch.full((4,), 0.99).double(), rtol=0, atol=1e-6
    )
    for name in ("eta_readout", "alpha_readout"):
        assert torch.equal(own[name], torch.zeros(4, 16).double())


def test_memories_start_empty_by_default_and_linear_ones_small() -> None:
    model = Hope(HopeConfig(width=64, architecture="linear", blocks=1))
    own = dict(model.blocks[0].mixer.named_parameters())
    assert torch.equal(own["w_memory"], torch.zeros(1, 64, 64))
    assert float(own["w_k"].detach().std() * 16) == pytest.approx(1, abs=0.05)


def test_the_gradient_where_training_starts_is_the_measured_slope() -> None:
    """Where memories start empty some surprises are exactly 0; their norm must have a gradient all the same."""
    config = HopeConfig(
        width=4,
        vocabulary=5,
        blocks=1,
        memory_chunk_size=2,
        projection_chunk_size=2,
        levels_chunk_sizes=(2, 4),
    )
    model, generator = Hope(config).double(), torch.Generator().manual_seed(0)
    tokens = torch.tensor([1, 2, 3, 0, 4])

    def loss() -> torch.Tensor:
        return model(tokens)[0].square().sum()

    loss().backward()
    named = [(name, p) for name, p in model.named_parameters() if p.grad is not None]
    assert not [name for name, p in named if not p.grad.isfinite().all()]  # type: ignore[union-attr]
    along = [torch.randn(p.shape, dtype=p.dtype, generator=generator) for _, p in named]
    slope = sum(float((p.grad * d).sum()) for (_, p), d in zip(named, along, strict=True))  # type: ignore[operator]
    values = []
    with torch.no_grad():
        for step in (1e-5, -2e-5):
            for (_, p), d in zip(named, along, strict=True):
                p += step * d
            values.append(float(loss()))
    assert (values[0] - values[1]) / 2e-5 == pytest.approx(slope, rel=1e-6)


def test_logits_start_with_about_unit_variance() -> None:
    model = Hope(HopeConfig(width=64, vocabulary=300, blocks=1))
    with torch.no_grad():
        logits, _ = model(torch.randint(300, (8, 32), generator=torch.Generator().manual_seed(0)))
    assert 0.5 < float(logits.std()) < 2


@pytest.mark.parametrize("mixer", MIXERS)
def test_the_seed_decides(mixer: str) -> None:
    def drawn(seed: int | None) -> list[torch.Tensor]:
        return [p.detach() for p in Hope(HopeConfig(**SMALL, mixer=mixer, seed=seed)).parameters()]

    before = torch.random.get_rng_state()
    one, again, other = drawn(3), drawn(3), drawn(4)
    assert torch.equal(torch.random.get_rng_state(), before), "PyTorch's own generator is left alone"
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(one, other, strict=True))
    torch.manual_seed(11)
    free = drawn(None)
    torch.manual_seed(11)
    assert all(torch.equal(a, b) for a, b in zip(free, drawn(None), strict=True))
    assert not torch.equal(free[0], drawn(None)[0])


# --- the reference's parameters ---------------------------------------------------------------------------------------


@each
def test_there_and_back(config: HopeConfig) -> None:
    parameters = awake(config)
    back = Hope.from_reference(parameters, config).to_reference()
    assert back.keys() == parameters.keys()
    for name, array in parameters.items():
        np.testing.assert_array_equal(back[name], array, err_msg=name)
        assert back[name].dtype == np.float64
        assert not np.shares_memory(back[name], array)
    single = Hope.from_reference(parameters, config, dtype=torch.float32)
    assert {p.dtype for p in single.parameters()} == {torch.float32}


@pytest.mark.parametrize("mixer", MIXERS)
def test_baselines_go_there_and_back_too(mixer: str) -> None:
    options = {"gated": False, "beta_max": 2.0} if mixer == "gated_delta_rule" else {}
    config = HopeConfig(**SMALL, heads=2, mixer=mixer, seed=5, **options)
    model = Hope(config).double()
    back = Hope.from_reference(model.to_reference(), config)
    assert torch.equal(back(TOKENS)[0], model(TOKENS)[0])


def test_reference_names_stay_differentiable() -> None:
    config = EACH["two heads"]
    leaves = {n: torch.tensor(a, requires_grad=True) for n, a in awake(config).items()}
    model = Hope(config).double()
    named = model.from_reference_names(leaves)
    torch.func.functional_call(model, named, (TOKENS,))[0].square().sum().backward()
    assert all(leaf.grad is not None for leaf in leaves.values())
    assert torch.equal(leaves["blocks.0.heads.1.w1_k"], named["blocks.0.mixer.w1_k"][1])


GOOD = awake(HopeConfig(**SMALL))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ([1], "parameters must be a dict by name, got list"),
        ({"norm": np.ones(4)}, "parameters must be those of such a model; missing: blocks.0.conv_key, .*unknown: none"),
        (GOOD | {"extra": np.ones(1)}, "missing: none, unknown: extra"),
        (GOOD | {"blocks.x.norm": np.ones(4)}, "missing: none, unknown: blocks.x.norm"),
        (GOOD | {"blocks.999999999.norm": np.ones(4)}, "missing: none, unknown: blocks.999999999.norm"),
        ({n: a for n, a in GOOD.items() if n != "blocks.1.heads.0.w1_k"}, "missing: blocks.1.heads.0.w1_k, unknown: none"),
        ({n: a for n, a in GOOD.items() if not n.startswith("blocks.")}, "missing: blocks.0.conv_key"),
        (GOOD | {"norm": np.ones(3)}, r"parameters: norm must have shape \(4,\), got \(3,\)"),
        (GOOD | {"blocks.0.heads.0.w2_v": np.ones((4, 3))}, r"w2_v must have shape \(1, 3, 4\), got \(1, 4, 3\)"),
    ],
)  # fmt: skip
def test_bad_parameters_are_named(parameters: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Hope.from_reference(parameters, HopeConfig(**SMALL))


@pytest.mark.parametrize("config", some_slow(EACH, OWN))
def test_state_dict_goes_round(config: HopeConfig) -> None:
    model, other = model_of(config), Hope(config.replace(seed=9)).double()
    logits, _ = model(TOKENS[:5])
    assert not torch.equal(logits, other(TOKENS[:5])[0])
    other.load_state_dict(model.state_dict())
    assert torch.equal(logits, other(TOKENS[:5])[0])
    assert list(model.state_dict()) == [name for name, _ in model.named_parameters()], "no hidden buffers"


def test_a_model_says_what_it_is() -> None:
    shown = repr(Hope(HopeConfig(**SMALL, mixer=ATTENTION)))
    assert "vocabulary=5, mixer='softmax_attention'" in shown
    assert "width=4, heads=1" in shown
