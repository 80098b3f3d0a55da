r"""Numbers of parameters, sizes of states and FLOPs, as expressions: sums over the shapes of all arrays. [D]

In a layer d is the width of one head and H d that of the layer; h is the hidden width of a memory, w the width of the
convolutions, K the number of levels, N of blocks, V the size of the vocabulary, T the tokens that attention has seen. A
number here is a count of float64 entries of the arrays that the NumPy floor holds. FLOPs are in `flops`.
"""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import sympy as sp

from hope_ref.common.validation import one_of
from hope_ref.config import HopeConfig
from hope_ref.symbolic.flops import (
    CHUNK,
    HIDDEN,
    D,
    chunk_flops,
    crossover,
    layer_shapes,
    token_flops,
    total,
)
from hope_ref.symbolic.identity import Identity, Sides

__all__ = [
    "BLOCKS",
    "CHUNK",
    "D_K",
    "D_V",
    "HEADS",
    "HIDDEN",
    "IDENTITIES",
    "LENGTH",
    "LEVELS",
    "VOCABULARY",
    "D",
    "chunk_flops",
    "core_parameters",
    "core_state",
    "crossover",
    "layer_shapes",
    "level_parameters",
    "level_state",
    "matrix_state",
    "memory_parameters",
    "memory_state",
    "mixer_parameters",
    "mlp_parameters",
    "number",
    "optimiser_state",
    "parameters",
    "state_size",
    "titans_state",
    "token_flops",
    "total",
]  # fmt: skip

HEADS, LENGTH, VOCABULARY, BLOCKS, LEVELS, KERNEL, D_K, D_V, ROWS, COLUMNS = sp.symbols(
    "H T V N K w d_k d_v m n", integer=True, positive=True
)
WIDTH = HEADS * D  # of a layer
MIXERS = ("self_modifying_titans", "softmax_attention")
OPTIMISERS = {
    "gradient_descent": 0,
    "delta_gradient_descent": 0,
    "momentum": 1,  # m
    "delta_momentum": 1,
    "newton_schulz_momentum": 1,
    "adam": 2,  # m, V
    "m3": 5,  # m1, m2, the open window, O2, V
}  # arrays of the weight's shape that each keeps

Parts = dict[str, sp.Expr]


class Arrays(NamedTuple):
    """So many arrays of one shape; () is one number."""

    part: str
    shape: tuple[Any, ...]
    times: Any = 1


def _parts(arrays: list[Arrays]) -> Parts:
    found: Parts = {}
    for part, shape, times in arrays:
        found[part] = sp.expand(found.get(part, sp.Integer(0)) + times * prod(shape, start=sp.Integer(1)))
    return {part: size for part, size in found.items() if size != 0}


def number(size: sp.Expr, config: HopeConfig | None = None, **sizes: int) -> int:
    """Put numbers in: those of the configuration, and others by the names of the symbols, e.g. ``V=256, N=2``.

    Raises: ValueError if a symbol has got no number.
    """
    point: dict[str, int] = dict(sizes)
    if config is not None:
        point |= {"d": config.head_width, "h": config.hidden_width, "H": config.heads}
        point |= {"w": config.convolution_width, "K": len(config.levels_chunk_sizes)}
    left = sorted(symbol.name for symbol in size.free_symbols if symbol.name not in point)
    if left:
        raise ValueError(f"sizes must give {', '.join(left)}, got {', '.join(sizes) or 'none'}")
    return int(size.subs({symbol: point[symbol.name] for symbol in size.free_symbols}))


# --- parameters -----------------------------------------------------------------------------------------------------


def memory_parameters(config: HopeConfig, memory: str) -> sp.Expr:
    """What pre-training learns for one memory of one head: W_0, the bias of its η, and a read-out of M_η or M_α."""
    own = [Arrays("all", shape) for shape in layer_shapes(config)] + [Arrays("all", ())]
    if memory in ("eta", "alpha"):
        own.append(Arrays("all", (D,)))  # r
    if memory == "alpha":
        own.append(Arrays("all", ()))  # c_α
    return _parts(own)["all"]


def core_parameters(config: HopeConfig) -> Parts:
    """The bare equations, one head: `self_modifying_titans`."""
    found = {memory: memory_parameters(config, memory) for memory in config.memories}
    return found if config.adaptive_query else found | {"w_query": D**2}


def mixer_parameters(config: HopeConfig, mixer: str = MIXERS[0]) -> Parts:
    """The first sub-layer of a block: self-modifying Titans in heads, or rotary softmax attention."""
    one_of("mixer", mixer, MIXERS)
    square = (WIDTH, WIDTH)
    if mixer == "softmax_attention":
        return _parts([Arrays("norms", (WIDTH,)), Arrays("projections", square, 4)])
    projections = 1 + 2 * config.input_projection + (not config.adaptive_query)  # W_o; P_k, P_v; W_q
    found = [Arrays("norms", (WIDTH,), 2), Arrays("projections", square, projections)]
    if config.convolution_width:
        found.append(Arrays("convolutions", (WIDTH, KERNEL), 3))
    return _parts(found) | {m: sp.expand(HEADS * memory_parameters(config, m)) for m in config.memories}


def level_parameters(config: HopeConfig) -> sp.Expr:
    """One level of the continuum memory: W1, W2 and the gain; V if it is told to answer V n, a_ℓ if it is weighed."""
    found = [Arrays("level", (WIDTH, 4 * WIDTH), 2), Arrays("level", (WIDTH,))]
    if config.signal == "associative":
        found.append(Arrays("level", (WIDTH, WIDTH)))
    if config.variant == "independent":
        found.append(Arrays("level", ()))
    return _parts(found)["level"]


def parameters(config: HopeConfig, mixer: str = MIXERS[0]) -> Parts:
    """The whole model: embedding (tied to the head), N blocks of mixer and K levels, the last norm.

    Args: config: its options, not its sizes; mixer: "self_modifying_titans" (HOPE) or "softmax_attention" (HOPE-Attention).
    Returns: expressions in d, h, H, w, K, N and V by part; `number` puts sizes in, `total` adds them up.
    Raises: ValueError if the mixer is no known word.
    """
    found = {part: sp.expand(BLOCKS * size) for part, size in mixer_parameters(config, mixer).items()}
    found["norms"] += WIDTH
    found["levels"] = sp.expand(BLOCKS * LEVELS * level_parameters(config))
    return {"embedding": VOCABULARY * WIDTH} | found


def mlp_parameters() -> sp.Expr:
    """A plain network y = W1 σ(W2 x) without biases, d to h to d."""
    return 2 * D * HIDDEN


# --- states ---------------------------------------------------------------------------------------------------------


def matrix_state() -> sp.Expr:
    """A matrix memory M, (d_v, d_k): linear attention, the delta rule, plain or gated."""
    return D_V * D_K


def titans_state(architecture: str = "linear") -> Parts:
    """Titans' memory M, its momentum B and the copy at the boundary; "linear" is a matrix (d_v, d_k), "mlp" W1 and W2."""
    one_of("architecture", architecture, ("linear", "mlp"))
    one = D_V * D_K if architecture == "linear" else 2 * D * HIDDEN
    return {"weights": one, "boundary": one, "momentum": one}


def memory_state(config: HopeConfig) -> Parts:
    """One memory of one head: W_t, its copy at b(t), and B_t with inner momentum."""
    kept = ["weights", "boundary"] + (["momentum"] if config.inner_momentum > 0 else [])
    return _parts([Arrays(part, shape) for part in kept for shape in layer_shapes(config)])


def core_state(config: HopeConfig) -> Parts:
    """All memories of one head: the bare equations."""
    return {part: len(config.memories) * size for part, size in memory_state(config).items()}


def level_state() -> Parts:
    """One level of the continuum memory: θ, θ_0, the open chunk's sum, and Σ φφᵀ of both layers (held as zeros unless rule="dgd")."""
    hidden = 4 * WIDTH
    found = [Arrays(part, (WIDTH, hidden), 2) for part in ("weights", "starts", "sums")]
    return _parts([*found, Arrays("grams", (hidden, hidden)), Arrays("grams", (WIDTH, WIDTH))])


def state_size(config: HopeConfig, mixer: str = MIXERS[0]) -> Parts:
    """All that a later token can see of earlier ones, for one sequence; the position, an integer, is not counted.

    Args, Raises: as `parameters`. Returns: expressions by part; attention's grows with T, the tokens seen.
    """
    one_of("mixer", mixer, MIXERS)
    found: list[Arrays] = []
    if mixer == "softmax_attention":
        kept = config.window - 1 if config.window else LENGTH  # once so many have been seen
        found.append(Arrays("keys and values", (kept, WIDTH), 2))
    elif config.convolution_width:
        found.append(Arrays("convolutions", (KERNEL - 1, WIDTH), 3))
    parts = _parts(found)
    if mixer == "self_modifying_titans":
        one = total(memory_state(config))
        parts |= {memory: HEADS * one for memory in config.memories}
    parts["levels"] = LEVELS * total(level_state())
    return {part: sp.expand(BLOCKS * size) for part, size in parts.items()}


def optimiser_state(name: str) -> sp.Expr:
    """What an optimiser keeps for a weight of m rows and n columns, by its name in `OPTIMISERS`."""
    one_of("name", name, tuple(OPTIMISERS))
    return OPTIMISERS[name] * ROWS * COLUMNS


# --- the closed forms of the default configuration -------------------------------------------------------------------


def _core_parameters() -> Sides:
    """Ten matrices of d h entries, one of d², two read-outs, six biases: added up array by array; symbols are general."""
    stated = D * (10 * HIDDEN + D + 2) + 6
    return Sides(total(core_parameters(HopeConfig())), stated)


def _hope_parameters() -> Sides:
    """Array by array over the model; N blocks and K levels are equal to each other, so they enter as factors.

    Stated with W = H d: the embedding and last norm, then per block four projections and three convolutions, the
    memories of all heads, two norms, and per level two matrices of 4 W² and a gain.
    """
    memories = HEADS * (10 * D * HIDDEN + 2 * D + 6)
    block = 4 * WIDTH**2 + (3 * KERNEL + 2) * WIDTH + memories + LEVELS * (8 * WIDTH**2 + WIDTH)
    return Sides(total(parameters(HopeConfig())), (VOCABULARY + 1) * WIDTH + BLOCKS * block)


def _hope_state() -> Sides:
    """Array by array: two copies of ten matrices per head, w - 1 inputs of three convolutions, 41 W² per level.

    41 = 8 each for θ, θ_0 and the sum, 16 + 1 for the two Gram matrices.
    """
    stated = BLOCKS * (20 * HEADS * D * HIDDEN + 3 * (KERNEL - 1) * WIDTH + 41 * LEVELS * WIDTH**2)
    return Sides(total(state_size(HopeConfig())), stated)


def _token_flops() -> Sides:
    """Product by product, h = d: what the token loop multiplies for one token, repeats and all."""
    return Sides(total(token_flops(HopeConfig())).subs(HIDDEN, D), 142 * D**2 + 4 * D)


def _chunk_flops() -> Sides:
    """Product by product, h = d, C tokens: at every size, because each product is 2·m·n·k with m, n, k ∈ {C, d, 1}."""
    stated = 112 * CHUNK * D**2 + 30 * CHUNK**2 * D - 2 * CHUNK * D + 4 * D**2
    return Sides(total(chunk_flops(HopeConfig())).subs(HIDDEN, D), stated)


def _crossover() -> Sides:
    """The larger root of C_chunk(C) = C · C_token per d, as d grows with h = d.

    With repeats in the token loop for both erases; without them for the full one: else there is no root.
    """
    found = []
    full = HopeConfig(erase="full")
    for config, repeated in ((HopeConfig(), True), (full, True), (full, False)):
        where = crossover(config, repeated)
        assert where is not None
        found.append(sp.limit(where.subs(HIDDEN, D) / D, D, sp.oo))
    return Sides(sp.Matrix([found]), sp.Matrix([[1, sp.Rational(23, 15), sp.Rational(8, 15)]]))


def _identity(name: str, claim: str, latex: str, proof: Any, sizes: str) -> Identity:
    return Identity(f"counts.{name}", "D", claim, None, latex, proof, sizes=sizes)


IDENTITIES = (
    _identity(
        "parameters_of_self_modifying_titans",
        "One head of the bare equations has d(10h + d + 2) + 6 parameters, W_q among them.",
        r"d\,(10h + d + 2) + 6",
        _core_parameters,
        sizes="d and h as symbols; every size",
    ),
    _identity(
        "parameters_of_hope",
        "HOPE of N blocks, H heads and K levels: embedding and last norm, then the same for each block.",
        r"(V+1)W + N\left[4W^2 + (3w+2)W + H(10dh + 2d + 6) + K(8W^2 + W)\right], \quad W = Hd",
        _hope_parameters,
        sizes="all sizes as symbols; every size",
    ),
    _identity(
        "state_of_hope",
        "HOPE carries per block two copies of its memories, the convolutions' last inputs, and 41 W² for each level.",
        r"N\left[20Hdh + 3(w-1)W + 41KW^2\right], \quad W = Hd",
        _hope_state,
        sizes="all sizes as symbols; every size",
    ),
    _identity(
        "token_flops",
        "With h = d the token loop multiplies 142 d² + 4 d for each token and head.",
        r"142\,d^2 + 4d",
        _token_flops,
        sizes="d as a symbol, h = d; every size",
    ),
    _identity(
        "chunk_flops",
        "With h = d a chunk of C tokens costs 112 C d² + 30 C² d and lower terms: per token 112 d² + 30 C d.",
        r"112\,Cd^2 + 30\,C^2d - 2\,Cd + 4\,d^2",
        _chunk_flops,
        sizes="C and d as symbols, h = d; every size",
    ),
    _identity(
        "crossover",
        "For large d = h chunks cost as much as the token loop at C = d; at 23d/15, or 8d/15 if the loop repeats nothing, with erase full.",
        r"C^\ast \to d, \quad \tfrac{23}{15}\,d, \quad \tfrac{8}{15}\,d",
        _crossover,
        sizes="d to infinity, h = d; no size in it",
    ),
)
