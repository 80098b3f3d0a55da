"""HOPE on one page, PyTorch: equal to the reference and to the parallel floor, gradients and adaptation included."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from selection import some_slow
from torch import Tensor
from torch.nn import functional

from hope_ref import golden, minimal_torch
from hope_ref.config import HopeConfig
from hope_ref.parallel.hope import Hope
from hope_ref.parallel.hope_adaptation import adapt
from hope_ref.reference import hope as reference

FILE = Path(minimal_torch.__file__)
LINES = 170
C = HopeConfig().memory_chunk_size
CUTS = (0, 1, 2, C - 1, C, C + 1, 2 * C, 2 * C + 2, 2 * C + 3)
LEVELS = (4, 8, 24)
TOKENS = torch.tensor(np.random.default_rng(0).integers(7, size=(2, 2 * C + 3)))
MODELS = {
    f"{heads}-{blocks}-{name}": (heads, blocks, noise)
    for name, noise in (("awake", 0.2), ("start", 0.0))
    for heads, blocks in ((1, 1), (1, 2), (2, 1), (2, 2))
}
AT_ONCE = {"1-1-awake", "1-2-awake", "2-1-awake", "2-2-start"}
each = pytest.mark.parametrize(("heads", "blocks", "noise"), some_slow(MODELS, AT_ONCE))
VIEWS = ("p_key", "p_value", "w_query", "output"), ("conv_key", "conv_value", "conv_query")
MEMORIES = ("k", "v", "eta", "alpha", "memory")


def on_the_page(p: dict[str, Any]) -> dict[str, Tensor]:
    """The reference's parameters, or gradients under its names, as the page has them."""
    blocks = sum(name.endswith(".p_key") for name in p)
    heads = sum(name.startswith("blocks.0.") and name.endswith(".alpha_bias") for name in p)
    levels = sum(name.startswith("blocks.0.levels.") and name.endswith(".gain") for name in p)

    def stack(pattern: str, names: Any, axis: int = 0) -> Tensor:
        return torch.stack([torch.as_tensor(p[pattern.format(name)]) for name in names], axis)

    own = {"embedding": torch.as_tensor(p["embedding"]), "norm": torch.as_tensor(p["norm"])}
    theta, gains = [], []
    for block in range(blocks):
        here, there = f"blocks.{block}.", f"titans.{block}."
        head = [f"{here}heads.{index}." for index in range(heads)]
        own |= {
            f"{there}norm": torch.as_tensor(p[f"{here}norm"]),
            f"{there}head_norm": torch.as_tensor(p[f"{here}head_norm"]).reshape(heads, -1),
            f"{there}projections": stack(here + "{}", VIEWS[0]),
            f"{there}kernels": stack(here + "{}", VIEWS[1]),
            f"{there}W_0": torch.stack(
                [torch.stack([stack(h + part + "_{}", MEMORIES) for h in head]) for part in ("w1", "w2")]
            ),
            f"{there}eta_readout": stack("{}eta_readout", head)[:, None, None],
            f"{there}alpha_readout": stack("{}alpha_readout", head)[:, None, None],
            f"{there}eta_bias": torch.stack([stack(h + "eta_bias_{}", MEMORIES) for h in head])[..., None],
            f"{there}alpha_bias": stack("{}alpha_bias", head)[:, None, None],
        }
        level = [f"{here}levels.{index}." for index in range(levels)]
        theta.append(torch.stack([stack("{}w1", level), stack("{}w2", level).mT]))
        gains.append(stack("{}gain", level))
    return own | {"theta": torch.stack(theta, 1), "gains": torch.stack(gains)}


@cache
def parameters_of(heads: int, blocks: int, noise: float = 0.2) -> tuple[dict[str, Any], HopeConfig]:
    config = HopeConfig(width=8, heads=heads, vocabulary=7, blocks=blocks, levels_chunk_sizes=LEVELS)
    rng = np.random.default_rng(heads + 10 * blocks)
    start = reference.init(config)
    return {name: array + noise * rng.normal(size=array.shape) for name, array in start.items()}, config


def page(heads: int, blocks: int, noise: float = 0.2) -> minimal_torch.Hope:
    model = minimal_torch.Hope(7, 8, heads, blocks, C, LEVELS).double()
    model.load_state_dict(on_the_page(parameters_of(heads, blocks, noise)[0]))
    return model


def parallel(heads: int, blocks: int, noise: float = 0.2) -> Hope:
    return Hope.from_reference(*parameters_of(heads, blocks, noise))


def tensors(state: Any) -> list[Tensor]:
    """All tensors of a state, in order."""
    if isinstance(state, Tensor):
        return [state]
    return [one for part in state for one in tensors(part)] if isinstance(state, list | tuple) else []


def close(one: Tensor, other: Any, bound: float = 1e-12) -> None:
    torch.testing.assert_close(one, torch.as_tensor(other), rtol=0, atol=bound)


@each
def test_it_is_the_reference(heads: int, blocks: int, noise: float) -> None:
    model = page(heads, blocks, noise)
    parameters, config = parameters_of(heads, blocks, noise)
    other, other_state = reference.hope([], parameters, config)
    for length in (0, 1, C - 1, C, C + 1, 2 * C + 3):
        more = TOKENS[1, len(other) : length].numpy()  # the reference goes on, the page begins again
        answers, other_state = reference.hope(more, parameters, config, other_state)
        other = np.concatenate([other, answers])
        logits, state = model(TOKENS[:, :length])
        close(logits[1], other)
        same_state(state, other_state, 1, model)


def same_state(state: Any, other: reference.HopeState, stream: int, model: minimal_torch.Hope) -> None:
    """Inputs of the convolutions, memories and their copies, levels: one stream of a state against the reference's."""
    position, layers, theta = state
    assert position == other.position
    for n, ((past, D, copy), block) in enumerate(zip(layers, other.blocks, strict=True)):
        mixer = block.mixer
        close(past[:, stream], np.stack([mixer.key_inputs, mixer.value_inputs, mixer.query_inputs]))
        for h, head in enumerate(mixer.heads):
            for m, memory in enumerate(MEMORIES):
                for part, name in enumerate((f"w1_{memory}", f"w2_{memory}")):
                    W_0 = model.titans[n].W_0[part, h, m]
                    close(W_0 + D[part, stream, h, m], head.weights[name])
                    close(W_0 + copy[part, stream, h, m], head.boundary[name])
        for level, own in enumerate(block.continuum.levels):
            close(theta[0, stream, n, level], own.w1)
            close(theta[1, stream, n, level].mT, own.w2)


@each
def test_it_is_the_parallel_floor_and_so_is_every_gradient(heads: int, blocks: int, noise: float) -> None:
    ours, theirs = page(heads, blocks, noise), parallel(heads, blocks, noise)
    weights = torch.randn(2, 2 * C + 3, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    logits, other = ours(TOKENS)[0], theirs(TOKENS)[0]
    close(logits, other)
    (logits * weights).sum().backward()
    (other * weights).sum().backward()
    with torch.no_grad():
        for parameter in theirs.parameters():
            assert parameter.grad is not None
            parameter.copy_(parameter.grad)
    expected = on_the_page(theirs.to_reference())
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
        close(parameter.grad, expected[name], 1e-10 * max(1.0, expected[name].abs().max().item()))


@pytest.mark.parametrize(("heads", "blocks"), [(1, 2), (2, 1)])
@torch.no_grad()
def test_a_stream_may_be_cut_anywhere(heads: int, blocks: int) -> None:
    model = page(heads, blocks)
    whole, end = model(TOKENS)
    for cut in CUTS:
        first, state = model(TOKENS[:, :cut])
        second, state = model(TOKENS[:, cut:], state)
        close(torch.cat([first, second], 1), whole)
        assert state[0] == end[0]
        for one, other in zip(tensors(state), tensors(end), strict=True):
            close(one, other)


@torch.no_grad()
def test_token_by_token() -> None:
    model = page(2, 2)
    whole, end = model(TOKENS)
    state = None
    for t in range(TOKENS.shape[1]):
        logits, state = model(TOKENS[:, t : t + 1], state)
        close(logits[:, 0], whole[:, t])
    for one, other in zip(tensors(state), tensors(end), strict=True):
        close(one, other)


@torch.no_grad()
def test_no_logit_depends_on_a_later_token_or_on_another_stream() -> None:
    model = page(2, 2)
    for read in (model, model.adapt):
        logits, _ = read(TOKENS)
        for changed in (LEVELS[0], C - 1, C):
            tokens = TOKENS.clone()
            tokens[0, changed] = (tokens[0, changed] + 1) % 7
            other, _ = read(tokens)
            close(other[0, :changed], logits[0, :changed])
            close(other[1], logits[1])
            assert (other[0, changed:] - logits[0, changed:]).abs().amax(-1).gt(1e-9).all()


# --- learning while it reads --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("heads", "blocks"), [(1, 1), (2, 2)])
def test_it_learns_as_the_parallel_floor_does(heads: int, blocks: int) -> None:
    model, other_model = page(heads, blocks), parallel(heads, blocks)
    logits, state = model.adapt(TOKENS)
    other, other_state = adapt(other_model, TOKENS)
    close(logits, other)
    _, now, segment, _ = state
    assert segment.tolist() == other_state.segment.tolist()
    theta = now[2]
    for n, block in enumerate(other_state.now.blocks):
        for level, own in enumerate(block.continuum.levels):
            close(theta[0, :, n, level], own.w1)
            close(theta[1, :, n, level].mT, own.w2)
    moved = (theta - model.start(2)[2]).abs().amax((-2, -1))  # (2, B, blocks, levels)
    assert moved.gt(1e-6).all()
    assert (logits - model(TOKENS)[0]).abs().max() > 1e-3


def test_learning_may_be_cut_anywhere() -> None:
    model = page(1, 2)
    whole, end = model.adapt(TOKENS)
    for cut in (3, 4, 24):  # within a segment and at the ends of two
        first, state = model.adapt(TOKENS[:, :cut])
        nothing, state = model.adapt(TOKENS[:, :0], state)
        second, state = model.adapt(TOKENS[:, cut:], state)
        close(torch.cat([first, nothing, second], 1), whole)
        for one, other in zip(tensors(state), tensors(end), strict=True):
            close(one, other)


def test_learning_leaves_the_parameters_and_their_gradients_alone() -> None:
    model = page(1, 1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    logits, state = model.adapt(TOKENS)
    assert not any(tensor.requires_grad for tensor in (logits, *tensors(state)))
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name])
        assert parameter.grad is None


@pytest.mark.parametrize("component", ["hope", "hope_adaptation"])
def test_golden_models(component: str) -> None:
    """With chunks of one length and square weights, as the page has them; else as the shipped vectors are drawn."""
    options = {"memory_chunk_size": 4, "projection_chunk_size": 4, "architecture": "mlp", "signal": "task"}
    vector = golden.make(component, options, seed=7, tokens=7, width=4, hidden=4)
    inputs = {name: np.asarray(array) for name, array in vector.inputs.items()}
    tokens = torch.as_tensor(np.rint(inputs.pop("tokens")).astype(np.int64))[None]
    levels = vector.options["levels_chunk_sizes"]
    model = minimal_torch.Hope(len(inputs["embedding"]), 4, 1, 1, 4, levels).double()
    model.load_state_dict(on_the_page(inputs))
    logits, _ = model(tokens) if component == "hope" else model.adapt(tokens)
    close(logits[0], vector.results["outputs"], vector.tolerance)


# --- what a learner's own training relies on ----------------------------------------------------------------------


def test_a_state_shares_no_storage_with_a_parameter() -> None:
    model = page(2, 2)
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    for state in (
        model.start(1),
        model.start(2),
        model(TOKENS)[1],
        model(TOKENS[:, :0])[1],
        *model.adapt(TOKENS)[1],
    ):
        assert not own & {tensor.untyped_storage().data_ptr() for tensor in tensors(state)}


@pytest.mark.parametrize("noise", [0.2, 0.0], ids=["awake", "start"])
def test_second_derivatives_are_finite(noise: float) -> None:
    """With a token whose embedding is 0, so that every view is 0, and at D = 0."""
    model = page(1, 1, noise)
    with torch.no_grad():
        model.embedding[0] = 0
    tokens = torch.tensor([[0, 0, 1, 0, 2, 3]])
    loss = functional.cross_entropy(model(tokens)[0].mT, (tokens + 1) % 7)
    parameters = list(model.parameters())
    first = torch.autograd.grad(loss, parameters, create_graph=True)
    second = torch.autograd.grad(sum(slope.square().sum() for slope in first), parameters)
    assert all(tensor.isfinite().all() for tensor in (*first, *second))
    assert all(tensor.abs().max() > 0 for tensor in second)


def test_second_derivatives_are_those_of_differences() -> None:
    model = page(1, 1)
    parameters = dict(model.named_parameters())
    generator = torch.Generator().manual_seed(1)
    direction = {n: torch.randn(p.shape, generator=generator, dtype=p.dtype) for n, p in parameters.items()}

    def slope(at: float) -> Tensor:
        """Of the loss along the direction, at a distance from the parameters along it."""
        moved = {n: (p + at * direction[n]).detach().requires_grad_() for n, p in parameters.items()}
        loss = functional.cross_entropy(
            torch.func.functional_call(model, moved, (TOKENS[:, :6],))[0].mT, TOKENS[:, 1:7]
        )
        slopes = torch.autograd.grad(loss, list(moved.values()), create_graph=True)
        along = sum((s * d).sum() for s, d in zip(slopes, direction.values(), strict=True))
        if at:
            return along.detach()
        curvature = torch.autograd.grad(along, list(moved.values()))
        return sum((c * d).sum() for c, d in zip(curvature, direction.values(), strict=True))

    h = 1e-4
    near, far = slope(h) - slope(-h), slope(2 * h) - slope(-2 * h)
    close(slope(0.0), (8 * near - far) / (12 * h), 1e-6)


def test_it_starts_where_the_models_start() -> None:
    torch.manual_seed(0)
    model, config = minimal_torch.Hope(), HopeConfig()
    assert [len(model.titans), *model.embedding.shape] == [config.blocks, config.vocabulary, config.width]
    assert model.level_chunks == config.levels_chunk_sizes
    other = Hope(config).to_reference()
    expected = on_the_page(other)
    eye = torch.eye(config.width)
    for name, parameter in model.named_parameters():
        assert parameter.shape == expected[name].shape, name
        value, like = parameter.detach(), expected[name].float()
        if name.endswith("projections"):
            close(value.mT @ value, eye.expand_as(value), 1e-5)
        elif name.endswith("W_0"):
            close(value[1].mT @ value[1], (4 * eye).expand_as(value[1]), 1e-4)
            assert torch.equal(value[0, :, minimal_torch.MEMORY], torch.zeros_like(like[0, :, 4:]))
            close(value[0, :, :4].std(), like[0, :, :4].std(), 0.02 * like[0].std().item())
        elif name in ("theta", "embedding"):
            close(value.std((-2, -1)), like.std((-2, -1)), 0.03 * like.std().item())
        else:
            close(value, like, 1e-4)
    for layer in model.titans:
        close(functional.softplus(layer.eta_bias.detach())[0, :, 0], torch.tensor([0.1] * 4 + [0.7]), 1e-6)
        close(layer.alpha_bias.detach().sigmoid().item() * torch.ones(()), 0.999 * torch.ones(()), 1e-6)


def test_streams_are_as_many_as_one_likes_and_single_precision_stays() -> None:
    torch.manual_seed(0)
    model = minimal_torch.Hope(7, 8, 2, 1, level_chunks=LEVELS)
    for streams in (1, 3):
        tokens = torch.arange(9).remainder(7).repeat(streams, 1)
        for logits, state in (model(tokens), model.adapt(tokens)):
            assert logits.shape == (streams, 9, 7)
            assert logits.isfinite().all()
            floats = [tensor for tensor in tensors(state) if tensor.is_floating_point()]
            assert {tensor.dtype for tensor in (logits, *floats)} == {torch.float32}


def test_it_goes_on_with_the_likeliest_token_when_cold() -> None:
    model = page(1, 1)
    new = model.generate(TOKENS[:, :5], C, temperature=1e-6)
    read = torch.cat([TOKENS[:, :5], new], 1)
    assert torch.equal(model(read)[0][:, 4:-1].argmax(-1), new)


# --- the file and its demonstration -------------------------------------------------------------------------------


def test_it_needs_torch_alone_and_fits_on_a_page() -> None:
    text = FILE.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LINES
    names = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add("." * node.level + (node.module or "").split(".")[0])
    assert names - set(sys.stdlib_module_names) == {"torch"}


def test_the_demonstration_shows_loss_sample_and_both_readings(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    generate = minimal_torch.Hope.generate
    monkeypatch.setattr(
        minimal_torch.Hope, "generate", lambda model, tokens, _, at: generate(model, tokens, 8, at)
    )
    minimal_torch.main(steps=1, length=70)
    shown = capsys.readouterr().out
    assert "70 bytes not trained on" in shown
    assert "held still" in shown
    assert "learning while it reads" in shown


@pytest.mark.slow
def test_a_copy_of_the_file_trains_and_learning_while_it_reads_helps(tmp_path: Path) -> None:
    shutil.copy(FILE, tmp_path)
    call = [sys.executable, "-I", FILE.name]
    shown = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=600).stdout
    losses = [float(line.split()[2]) for line in shown.splitlines() if line.startswith("step ")]
    assert losses[-1] < losses[0] - 0.5
    still, learning = (float(line.split()[-4]) for line in shown.splitlines()[-2:])
    assert learning < still - 0.05
