"""Every count against arrays that exist and products that are made."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import self_modifying_titans_minimal
import sympy as sp
import torch
from entries import entries
from torch.utils.flop_counter import FlopCounterMode

from hope_ref import parallel, reference
from hope_ref.config import HopeConfig
from hope_ref.parallel.self_modifying_titans import self_modifying_titans as in_chunks
from hope_ref.reference import hope
from hope_ref.reference.parameters import init_memories, parameter_shapes, random_parameters
from hope_ref.reference.self_modifying_titans import State, initial_state, stream
from hope_ref.symbolic import counts
from hope_ref.symbolic.counts import number, total

WIDTH, HIDDEN, LENGTH = 3, 5, 7  # different primes: a wrong exponent cannot hide


def grid(**choices: tuple[Any, ...]) -> list[HopeConfig]:
    return [HopeConfig(**dict(zip(choices, values, strict=True))) for values in product(*choices.values())]


CORES = grid(
    architecture=("mlp", "linear"),
    adaptive_query=(False, True),
    inner_momentum=(0.0, 0.5),
    width=(5,),
    hidden=(7,),
)
MODELS = [
    HopeConfig(width=14, heads=2, hidden=3, levels_chunk_sizes=(2, 4, 8)),
    HopeConfig(
        width=14, heads=1, hidden=3, architecture="linear", inner_momentum=0.5, levels_chunk_sizes=(2,)
    ),
    HopeConfig(
        width=22, heads=11, hidden=5, adaptive_query=True, convolution_width=3, levels_chunk_sizes=(2, 4)
    ),
    HopeConfig(
        width=6, heads=3, input_projection=False, convolution_width=0, signal="none", levels_chunk_sizes=(3,)
    ),
    HopeConfig(
        width=6, heads=1, hidden=5, convolution_width=1, signal="associative", levels_chunk_sizes=(3, 5)
    ),
    HopeConfig(width=10, heads=1, adaptive_query=True, input_projection=False, variant="independent"),
    HopeConfig(
        width=10, heads=5, signal="associative", variant="independent", writing=("memory",), rule="dgd"
    ),
    HopeConfig.printed(width=14, heads=7, hidden=3),
]


@pytest.mark.parametrize("config", CORES, ids=str)
def test_core_is_what_the_arrays_hold(config: HopeConfig) -> None:
    arrays = init_memories(config, 0)
    assert number(total(counts.core_parameters(config)), config) == entries(arrays)
    state = initial_state(arrays, config)
    parts = counts.core_state(config)
    for part in State._fields[:-1]:  # but the position
        assert number(parts.get(part, sp.Integer(0)), config) == entries(getattr(state, part)), part
    for memory in config.memories:
        own = [
            a for name, a in arrays.items() if name.split("_", 1)[1] == memory or name == f"eta_bias_{memory}"
        ]
        extra = [a for name, a in arrays.items() if name in (f"{memory}_readout", f"{memory}_bias")]
        assert number(counts.memory_parameters(config, memory), config) == sum(a.size for a in own + extra)


@pytest.mark.parametrize("mixer", ["self_modifying_titans", "softmax_attention"])
@pytest.mark.parametrize("config", MODELS, ids=range(len(MODELS)))
@pytest.mark.parametrize("blocks", [1, 3])
def test_model_is_what_the_arrays_hold(config: HopeConfig, mixer: str, blocks: int) -> None:
    heads = 1 if mixer == "softmax_attention" and config.head_width % 2 else config.heads
    config = config.replace(heads=heads, vocabulary=13, blocks=blocks, mixer=mixer)
    shapes = parameter_shapes(config)
    held: dict[str, int] = {}
    for name, shape in shapes.items():
        held[part_of(name)] = held.get(part_of(name), 0) + int(np.prod(shape))  # type: ignore[arg-type]
    got = counts.parameters(config, mixer)
    assert {part: number(size, config, V=13, N=blocks) for part, size in got.items()} == held
    if config.width > 10:  # building three levels of a wide model takes its time
        return
    arrays = hope.init(config)
    assert number(total(got), config, V=13, N=blocks) == entries(arrays)
    tokens = np.arange(4) % 13
    state = hope.hope(tokens, arrays, config)[1]
    parts = {
        part: number(size, config, N=blocks, T=4) for part, size in counts.state_size(config, mixer).items()
    }
    assert sum(parts.values()) == entries(state)
    assert parts["levels"] == sum(entries(block.continuum) for block in state.blocks)


def part_of(name: str) -> str:
    """The part of `counts.parameters` that an array of the model belongs to."""
    if name == "embedding" or ".levels." in name:
        return "embedding" if name == "embedding" else "levels"
    if ".conv_" in name:
        return "convolutions"
    if ".heads." in name:
        last = name.rsplit(".", 1)[1]
        return (
            last.removesuffix("_readout")
            if "readout" in last
            else {"alpha_bias": "alpha"}.get(last, last.rsplit("_", 1)[1])
        )
    return "norms" if "norm" in name else "projections"


@pytest.mark.parametrize("architecture", ["linear", "mlp"])
def test_titans_state(architecture: str) -> None:
    rng = np.random.default_rng(0)
    shapes = {"linear": [(3, 5)], "mlp": [(5, 7), (7, 5)]}[architecture]
    state = reference.titans.start(*(rng.normal(size=shape) for shape in shapes))
    for part, size in counts.titans_state(architecture).items():
        assert number(size, d=5, h=7, d_v=3, d_k=5) == entries(getattr(state, part))
    assert number(total(counts.titans_state(architecture)), d=5, h=7, d_v=3, d_k=5) == entries(state)


def test_matrix_memories_and_the_plain_network() -> None:
    rng = np.random.default_rng(0)
    q, k, v = rng.normal(size=(2, 5)), rng.normal(size=(2, 5)), rng.normal(size=(2, 3))
    for memory in (
        reference.linear_attention.linear_attention(q, k, v)[1],
        reference.delta_rule.delta_rule(q, k, v, 0.5)[1],
        reference.delta_rule.gated_delta_rule(q, k, v, 0.5, 0.9)[1],
    ):
        assert number(counts.matrix_state(), d_v=3, d_k=5) == memory.size
    w1, w2 = rng.normal(size=(5, 7)), rng.normal(size=(7, 5))
    assert reference.gradient_descent.mlp(w1, w2, q).shape == q.shape
    assert number(counts.mlp_parameters(), d=5, h=7) == w1.size + w2.size


def test_optimiser_states() -> None:
    w = np.ones((3, 5))
    kept = {
        "gradient_descent": (),
        "delta_gradient_descent": (),
        "momentum": reference.momentum.momentum_step(w, w, w, 0.1, 0.9)[1],
        "delta_momentum": reference.momentum.delta_momentum_step(w, w, w, 0.1, 0.9)[1],
        "newton_schulz_momentum": reference.momentum.ema_step(w, w, 0.9),
        "adam": reference.momentum.adam_step(w, w)[1],
        "m3": reference.m3.m3_step(w, w)[1],
    }
    assert set(kept) == set(counts.OPTIMISERS)
    for name, state in kept.items():
        assert number(counts.optimiser_state(name), m=3, n=5) == entries(state), name


def test_wrong_words_and_missing_sizes() -> None:
    with pytest.raises(
        ValueError, match="mixer must be one of 'self_modifying_titans', 'softmax_attention', got 'mamba'"
    ):
        counts.parameters(HopeConfig(), "mamba")
    with pytest.raises(ValueError, match="mixer must be one of"):
        counts.state_size(HopeConfig(), "mamba")
    with pytest.raises(ValueError, match="architecture must be one of 'linear', 'mlp', got 'cnn'"):
        counts.titans_state("cnn")
    with pytest.raises(ValueError, match="name must be one of 'gradient_descent'"):
        counts.optimiser_state("sgd")
    with pytest.raises(ValueError, match="sizes must give V, got N"):
        number(total(counts.parameters(HopeConfig())), HopeConfig(), N=2)
    with pytest.raises(ValueError, match="sizes must give d_k, d_v, got none"):
        number(counts.matrix_state())


# --- FLOPs ----------------------------------------------------------------------------------------------------------

OPTIONS = grid(
    architecture=("mlp", "linear"),
    objective=("l2", "dot"),
    target=("self", "shared"),
    erase=("full", "deviation", "none"),
    retention_target=("initial", "zero"),
    inner_momentum=(0.0, 0.6),
)
READS = grid(
    architecture=("mlp", "linear"),
    writing=(None, (), ("memory",), ("k", "alpha")),
    read=("post", "pre", "boundary"),
    adaptive_query=(False, True),
    retention_scope=("memory", "all"),
    erase=("full", "none"),
)
MORE = [
    HopeConfig.printed(),
    HopeConfig(step="normalized"),
    HopeConfig(step="explicit", erase="deviation", retention_scope="all"),
]


class Counted(np.ndarray):
    """An array that counts the FLOPs of its products; norms, z @ z of one and the same z, go to their own account."""

    products, norms = 0, 0

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **named: Any) -> Any:
        plain = [np.asarray(i) for i in inputs]
        if ufunc is np.matmul:
            left, right = plain
            size = 2 * left.size * (right.shape[1] if right.ndim == 2 else 1)
            if inputs[0] is inputs[1]:
                Counted.norms += size
            else:
                Counted.products += size
        else:
            assert ufunc.signature is None, f"{ufunc.__name__} is a product that nobody counts"
        found = getattr(ufunc, method)(*plain, **named)
        return found.view(Counted) if isinstance(found, np.ndarray) else found

    def __array_function__(self, function: Any, types: Any, arguments: Any, named: Any) -> Any:
        assert function in (np.outer, np.zeros_like, np.where), f"{function.__name__} may hide a product"
        plain = [np.asarray(a) for a in arguments]
        if function is np.outer:
            Counted.products += 2 * plain[0].size * plain[1].size
        return function(*plain, **named).view(Counted)


def arrays_of(config: HopeConfig) -> tuple[list[Any], dict[str, Any]]:
    rng = np.random.default_rng(0)
    parameters = random_parameters(config, WIDTH, HIDDEN, 0)
    return [rng.normal(size=(LENGTH, WIDTH)) for _ in range(3)], parameters


def at_sizes(parts: dict[str, Any], **more: int) -> int:
    return number(total(parts), d=WIDTH, h=HIDDEN, **more)


@pytest.mark.parametrize("configs", [OPTIONS, READS + MORE], ids=["losses", "reads and writers"])
def test_token_flops_are_the_products_that_the_reference_makes(configs: list[HopeConfig]) -> None:
    for config in configs:
        views, parameters = arrays_of(config)
        parameters = {name: array.view(Counted) for name, array in parameters.items()}
        state = initial_state(parameters, config)
        Counted.products = Counted.norms = 0
        stream(*(view[:3].view(Counted) for view in views), parameters, config, state)
        assert Counted.products == 3 * at_sizes(counts.token_flops(config)), config
        norms = 4 if config.value_norm else 2  # of k, of q; of v
        assert Counted.norms >= 3 * norms * WIDTH


@pytest.mark.parametrize(
    ("options", "forwards", "rank_ones"),
    [
        ({}, 1, 2),
        ({"objective": "dot"}, 0, 2),
        ({"erase": "none"}, 1, 0),
        ({"inner_momentum": 0.5}, 1, 0),  # B needs the written part by itself
        ({"architecture": "linear"}, 0, 1),
        ({"architecture": "linear", "erase": "none"}, 0, 0),
    ],
)
def test_a_product_made_twice_is_under_repeated(
    options: dict[str, Any], forwards: int, rank_ones: int
) -> None:
    """W2 k of five memories, after M(k) has made it; and of two rank-one matrices along one φ, the second."""
    linear = "architecture" in options
    matrix = 2 * WIDTH * (WIDTH if linear else HIDDEN)
    repeated = counts.token_flops(HopeConfig(**options)).get("repeated", sp.Integer(0))
    assert number(repeated, d=WIDTH, h=HIDDEN) == 5 * matrix * (forwards + rank_ones)


def solved(system: Any, right: Any, *_: Any, **__: Any) -> int:
    """Forward substitution with a unit diagonal: C (C - 1)/2 multiply-adds for each column."""
    size, columns = right[-2:]
    return size * (size - 1) * columns


def added(_: Any, left: Any, right: Any, **__: Any) -> int:
    """A product written onto a sum."""
    return 2 * int(np.prod(left)) * right[-1]


def counter() -> FlopCounterMode:
    """PyTorch's own, taught what it does not know: the solve, and products in place."""
    aten = torch.ops.aten
    more = {aten.linalg_solve_triangular: solved, aten.baddbmm_: added, aten.addmm_: added}
    return FlopCounterMode(display=False, custom_mapping=more)


def tensors(named: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(array) for name, array in named.items()}


@pytest.mark.parametrize(
    "configs",
    [
        pytest.param(OPTIONS, marks=pytest.mark.slow, id="losses"),
        pytest.param(READS[::10] + MORE, id="reads and writers"),
        pytest.param(READS[::5], marks=pytest.mark.slow, id="more of them"),
    ],
)
def test_chunk_flops_are_made_by_a_minimal_chunk_form_that_is_right(configs: list[HopeConfig]) -> None:
    """It starts from a state that is not the initial one, with momentum in it; its numbers are the token loop's."""
    run = self_modifying_titans_minimal.chunk
    for config in configs:
        config = config.replace(memory_chunk_size=LENGTH, projection_chunk_size=LENGTH)
        views, parameters = arrays_of(config)
        state = reference.self_modifying_titans.self_modifying_titans(*views, parameters, config)[1]
        later = [view[::-1].copy() for view in views]
        want, after = reference.self_modifying_titans.self_modifying_titans(*later, parameters, config, state)
        x = {name: torch.tensor(view) for name, view in zip("kvq", later, strict=True)}
        held = state._replace(weights=tensors(state.weights), momentum=tensors(state.momentum))
        with counter() as count:
            got, weights, momenta = run(x, tensors(parameters), config, held)
        assert count.get_total_flops() == at_sizes(counts.chunk_flops(config), C=LENGTH), config
        for name, array, other in [
            ("outputs", got, want),
            *((n, weights[n], after.weights[n]) for n in weights),
            *((n, momenta[n], after.momentum[n]) for n in momenta),
        ]:
            np.testing.assert_allclose(
                array.numpy(), other, rtol=0, atol=1e-10 * (1 + np.abs(other).max()), err_msg=name
            )


def test_pieces_of_the_parallel_floor() -> None:
    """`chunks.writes`, `reads` and `final_state` make the products that are counted under solve, reads and state."""
    d, h, c = WIDTH, HIDDEN, LENGTH
    phi, u = torch.randn(c, d, dtype=torch.float64), torch.randn(c, h, dtype=torch.float64)
    decay = parallel.chunks.decays(torch.full((c,), 0.9, dtype=torch.float64))
    state = torch.zeros(h, d, dtype=torch.float64)
    with counter() as count:
        parallel.chunks.reads(phi @ phi.T, decay.ratio, u, u)
    assert count.get_total_flops() == 2 * c * c * d + 2 * c * c * h
    with counter() as count:
        parallel.chunks.final_state(phi, decay.ratio, u, state)
    assert count.get_total_flops() == 2 * c * d * h
    with counter() as count:
        parallel.chunks.writes(phi @ phi.T, torch.ones(c, dtype=torch.float64), decay.ratio_before, u)
    inverse = c * c * (c - 1) + 2 * c * c * h  # it makes the inverse, for its backward pass, then multiplies
    assert count.get_total_flops() == 2 * c * c * d + inverse


@pytest.mark.parametrize(
    "config",
    [HopeConfig(), HopeConfig(architecture="linear"), HopeConfig(inner_momentum=0.5), HopeConfig.printed()],
    ids=["default", "linear", "momentum", "printed"],
)
def test_the_parallel_floor_makes_little_more_than_the_least(config: HopeConfig) -> None:
    """Never less: the count would be wrong. And no more than a third above it, so that the count speaks of what is run."""
    d, c = 32, 16
    parameters = tensors(random_parameters(config, d, d, 0))
    x = torch.randn(2 * c, d, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with counter() as count, torch.no_grad():
        in_chunks(x, x, x, parameters, config)
    ratio = count.get_total_flops() / 2 / number(total(counts.chunk_flops(config)), d=d, h=d, C=c)
    assert 1 <= ratio <= 4 / 3


@pytest.mark.parametrize(
    ("erase", "repeated", "near"), [("deviation", True, 1.0), ("full", True, 1.53), ("full", False, 0.53)]
)
def test_crossover_is_where_the_two_costs_meet(erase: str, repeated: bool, near: float) -> None:
    config = HopeConfig(erase=erase)
    point = {counts.D: 64, counts.HIDDEN: 64}
    where = float(counts.crossover(config, repeated).subs(point))  # type: ignore[union-attr]
    token = {n: size for n, size in counts.token_flops(config).items() if repeated or n != "repeated"}
    costs = [
        number(total(counts.chunk_flops(config)), d=64, h=64, C=c) / c - number(total(token), d=64, h=64)
        for c in (int(where), int(where) + 1)
    ]
    assert costs[0] <= 0 < costs[1]
    assert where / 64 == pytest.approx(near, abs=0.02)


def test_without_writers_chunks_never_cross() -> None:
    assert counts.crossover(HopeConfig(writing=())) is None


def test_by_default_chunks_never_cost_less_than_a_loop_that_makes_nothing_twice() -> None:
    where = counts.crossover(HopeConfig(), repeated=False)
    assert where is not None
    assert not where.subs({counts.D: 64, counts.HIDDEN: 64}).is_real
