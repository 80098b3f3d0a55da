"""The continuum memory system, segment by segment. Equal to `hope_ref.reference.continuum_memory`. Source: [S 14-15], [P 70-74].

Between two boundaries of *any* level no weight moves, so all tokens of such a segment go through all levels in plain
matrix products, and what they ask of a level is a sum over them. θ is per sequence: the state's weights have the leading
axes of the tokens, while the parameters may have fewer (usually none) and are shared. `continuum_memory` is the forward pass;
`adapt` is the driver that lets levels learn from a model's own loss on the tokens just seen. An overflow is not hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from hope_ref.common.validation import one_of, positive_integer, scalar, shape_is
from hope_ref.config import CHOICES, CmsOptions, HopeConfig, cms_options
from hope_ref.parallel import checks
from hope_ref.parallel.layers import rms_norm
from hope_ref.parallel.ops import through_silu, whole
from hope_ref.parallel.states import checked

Levels = Sequence["Level"]  # fast to slow
Weights = tuple[tuple[Tensor, Tensor], ...]  # (W1, W2) of every level, fast to slow
Collect = Callable[[int, Tensor, Tensor], None]  # level, φ of its W1, φ of its W2


class Level(NamedTuple):
    """The parameters of one level. W1 and W2 are where θ starts; the others are slow and do not move here."""

    w1: Tensor  # (..., d, h), applied last
    w2: Tensor  # (..., h, d)
    gain: Tensor  # (..., d), of RMSNorm
    value: Tensor | None = None  # V, (..., d, d): what an "associative" level is to answer
    weight: Tensor | float = 1.0  # a_ℓ, (...), of the "independent" variant


class LevelState(NamedTuple):
    """What one level carries from token to token, for every sequence."""

    w1: Tensor  # θ, (..., d, h)
    w2: Tensor  # θ, (..., h, d)
    start1: Tensor  # θ_0, moves only in the "nested" variant
    start2: Tensor
    sum1: Tensor  # Σ u φᵀ over the open chunk, (..., d, h): carried, however short the chunk still is
    sum2: Tensor  # (..., h, d)
    gram1: Tensor  # Σ φ φᵀ over the open chunk, (..., h, h), for rule "dgd"
    gram2: Tensor  # (..., d, d)


class ContinuumState(NamedTuple):
    """The state of all levels, fast to slow, and the number of tokens whose signals they have taken in."""

    levels: tuple[LevelState, ...]
    position: int


class Pass(NamedTuple):
    """What a level computes on its way, for c tokens."""

    z: Tensor  # what it was given, (..., c, d)
    n: Tensor  # RMSNorm(z), (..., c, d), the input φ of W2
    hidden: Tensor  # W2 n, (..., c, h)
    phi: Tensor  # σ(W2 n), (..., c, h), the input φ of W1
    answer: Tensor  # f_θ(z), (..., c, d)


class Signal(NamedTuple):
    """What c tokens ask of one level: wanted outputs u = -∂L/∂(W φ) and inputs φ, one token per row."""

    u1: Tensor  # (..., c, d)
    phi1: Tensor  # (..., c, h), σ(W2 n)
    u2: Tensor  # (..., c, h)
    phi2: Tensor  # (..., c, d), n


class Sums(NamedTuple):
    """The sums of some tokens' signals; grams are None where the rule needs none."""

    sum1: Tensor  # Σ u φᵀ, (..., d, h)
    sum2: Tensor  # (..., h, d)
    gram1: Tensor | None = None  # Σ φ φᵀ, (..., h, h)
    gram2: Tensor | None = None  # (..., d, d)


class AdaptState(NamedTuple):
    """What `adapt` carries: the levels, the model's own state at the open segment's start and now, the open tokens."""

    continuum: ContinuumState
    start: Any
    running: Any
    segment: Tensor  # (..., s, ...), s <= the smallest chunk size


def level_pass(z: Tensor, w1: Tensor, w2: Tensor, gain: Tensor) -> Pass:
    """f_θ(z) = W1 σ(W2 n), n = RMSNorm(z), and everything on the way, for tokens z (..., c, d) [P 89, D]."""
    z, w1, w2, gain = whole(z, w1, w2, gain)
    n = rms_norm(z, gain)
    hidden = n @ w2.mT
    phi = silu(hidden)
    return Pass(z, n, hidden, phi, phi @ w1.mT)


def level_function(z: Tensor, w1: Tensor, w2: Tensor, gain: Tensor) -> Tensor:
    """f_θ(z), the residual branch of a level, (..., c, d); equals `reference.continuum_memory.level_function` on every token."""
    return level_pass(z, w1, w2, gain).answer.to(z.dtype)


def associative_signal(seen: Pass, w1: Tensor, value: Tensor, objective: str) -> Signal:
    """What tokens ask of a level that is to answer V n; equals `reference.continuum_memory.associative_signal`, all tokens at once.

    e = f_θ(z) - V n ("l2") or -V n ("dot"); W1: φ = σ(W2 n), u = -e; W2: φ = n, u = -(W1ᵀ e) ⊙ σ′(W2 n) [D].
    """
    w1, value = whole(w1, value)
    target = seen.n @ value.mT  # (..., c, d)
    error = seen.answer - target if objective == "l2" else -target
    return Signal(-error, seen.phi, -through_silu(error @ w1, seen.hidden), seen.n)


def sums(signal: Signal, rule: str) -> Sums:
    """Σ u φᵀ and, for "dgd", Σ φ φᵀ over the tokens."""
    u1, phi1, u2, phi2 = signal
    written = Sums(u1.mT @ phi1, u2.mT @ phi2)
    return written._replace(gram1=phi1.mT @ phi1, gram2=phi2.mT @ phi2) if rule == "dgd" else written


def taken_in(state: LevelState, demand: Sums) -> LevelState:
    """Add some tokens' sums to the level's; θ holds still."""
    state = state._replace(sum1=state.sum1 + demand.sum1, sum2=state.sum2 + demand.sum2)
    if demand.gram1 is not None and demand.gram2 is not None:
        state = state._replace(gram1=state.gram1 + demand.gram1, gram2=state.gram2 + demand.gram2)
    return state


def chunk_step(w: Tensor, total: Tensor, gram: Tensor, rate: Any, rule: str) -> Tensor:
    """One update for a whole chunk, from its sums alone; equals `reference.continuum_memory.chunk_step` on every leading index.

    "gd": W + η Σ u φᵀ; "dgd": (W + η Σ u φᵀ)(I + η Σ φ φᵀ)⁻¹, one implicit step for the chunk [S 35, D].
    """
    dtype = w.dtype
    w, total, gram = whole(w, total, gram)
    explicit = w + rate * total
    if rule == "gd":
        return explicit.to(dtype)
    identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    # the system is positive definite: a GPU need not report back whether it was singular (`solve_ex`)
    return torch.linalg.solve_ex(identity + rate * gram, explicit.mT)[0].mT.to(dtype)


def moved(state: LevelState, rate: Any, rule: str) -> LevelState:
    """The level at the end of its chunk: one update, and empty sums."""
    return state._replace(
        w1=chunk_step(state.w1, state.sum1, state.gram1, rate, rule),
        w2=chunk_step(state.w2, state.sum2, state.gram2, rate, rule),
        **{
            name: _zeros(state.w1, *getattr(state, name).shape) for name in ("sum1", "sum2", "gram1", "gram2")
        },
    )


def restarted(state: LevelState, rate: float) -> LevelState:
    """θ_0 ← θ_0 + ε (θ - θ_0), then θ ← θ_0: a slower boundary sends the level back to a start that has learned [D]."""
    start1 = state.start1 + rate * (state.w1 - state.start1)
    start2 = state.start2 + rate * (state.w2 - state.start2)
    return state._replace(w1=start1, w2=start2, start1=start1, start2=start2)


def random_levels(width: int, count: int, seed: int, dtype: torch.dtype | None = None) -> tuple[Level, ...]:
    """Levels to start from, the numbers of `reference.continuum_memory.random_levels`: W1 ~ N(0, 0.25/h), W2 ~ N(0, 1/d), V orthogonal [D]."""
    rng, hidden = np.random.default_rng(seed), 4 * positive_integer("width", width)
    dtype = torch.get_default_dtype() if dtype is None else dtype
    drawn = []
    for _ in range(positive_integer("count", count)):
        w1 = rng.normal(size=(width, hidden)) * np.sqrt(0.25 / hidden)
        w2 = rng.normal(size=(hidden, width)) / np.sqrt(width)
        value = np.linalg.qr(rng.normal(size=(width, width))).Q
        drawn.append(Level(*(torch.from_numpy(p).to(dtype) for p in (w1, w2, np.ones(width), value))))
    return tuple(drawn)


def initial_state(parameters: Levels, lead: Sequence[int] = ()) -> ContinuumState:
    """Every level at its parameters, with empty sums, for sequences in the leading axes ``lead``."""
    return first_state(checked_levels(parameters, False, tuple(lead)), lead)


def first_state(parameters: Levels, lead: Sequence[int], *, copy: bool = True) -> ContinuumState:
    """`initial_state`, with nothing checked; parameters in half precision make a state in float32.

    Without ``copy`` the weights are views of the parameters.
    """
    states = []
    for level in parameters:
        weights = [w.clone() if copy else w for w in 2 * whole(level.w1, level.w2)]
        w1, w2, start1, start2 = (w.expand(*lead, *w.shape[-2:]) for w in weights)
        d, hidden = w1.shape[-2:]
        sums = (_zeros(w1, *lead, *shape) for shape in ((d, hidden), (hidden, d), (hidden, hidden), (d, d)))
        states.append(LevelState(w1, w2, start1, start2, *sums))
    return ContinuumState(tuple(states), 0)


def _zeros(like: Tensor, *shape: int) -> Tensor:
    """Zeros that take no room until something is added: a gram that no rule uses costs one number."""
    return torch.zeros((), dtype=like.dtype, device=like.device).expand(shape)


def weights_of(state: ContinuumState) -> Weights:
    """(W1, W2) of every level, as they are now."""
    return tuple((level.w1, level.w2) for level in state.levels)


def read(
    x: Tensor,
    weights: Weights,
    levels: Levels,
    variant: str,
    order: str,
    collect: Collect | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """Send tokens through all levels; returns y and what each level was given; equals `reference.continuum_memory.read` on every token.

    Args:
        x: tokens, (..., T, d).
        weights: (W1, W2) of every level, with leading axes that broadcast to those of x.
        levels: the slow parameters.
        variant, order: as `continuum_memory`.
        collect: called with the number of each level and the inputs φ of its W1, (..., T, h), and of its W2,
            (..., T, d): what `adapt` hands to a model.
    Returns:
        y, (..., T, d), and one (..., T, d) per level.
    """
    y, passes = _through(x, weights, levels, variant, order)
    if collect is not None:
        for index, seen in enumerate(passes):
            collect(index, seen.phi, seen.n)
    return y, [seen.z for seen in passes]


def _through(
    x: Tensor, weights: Weights, levels: Levels, variant: str, order: str
) -> tuple[Tensor, list[Pass]]:
    """y, and what every level computed on the way, in float32 at least."""
    dtype = x.dtype
    (x,) = whole(x)
    if variant == "independent":
        passes = [level_pass(x, *theta, level.gain) for theta, level in zip(weights, levels, strict=True)]
        branches = [
            checks.as_tensor(level.weight, x).to(x.dtype)[..., None, None] * seen.answer
            for seen, level in zip(passes, levels, strict=True)
        ]
        return (x + sum(branches)).to(dtype), passes
    of_level: dict[int, Pass] = {}
    indices = range(len(levels)) if order == "fast_to_slow" else reversed(range(len(levels)))
    for index in indices:
        of_level[index] = level_pass(x, *weights[index], levels[index].gain)
        x = x + of_level[index].answer
    return x.to(dtype), [of_level[index] for index in range(len(levels))]


def after(state: ContinuumState, demands: Sequence[Sums], length: int, options: CmsOptions) -> ContinuumState:
    """Take in what ``length`` tokens ask of every level; then move the levels whose chunk is complete [S 15, P 71].

    The others stay as they are. In the nested variant a boundary of a level also restarts the next faster one, after
    every level has applied its own update. No boundary may lie inside the tokens.
    """
    levels = [taken_in(level, total) for level, total in zip(state.levels, demands, strict=True)]
    position = state.position + length
    due = [position % size == 0 for size in options.chunk_sizes]
    for index, rate in enumerate(options.rates):
        if due[index]:
            levels[index] = moved(levels[index], rate, options.rule)
    if options.variant == "nested":
        for faster, slower_is_due in enumerate(due[1:]):
            if slower_is_due:
                levels[faster] = restarted(levels[faster], options.nested_rate)
    return ContinuumState(tuple(levels), position)


def continuum_memory(
    x: Tensor,
    parameters: Levels,
    state: ContinuumState | None = None,
    *,
    levels_chunk_sizes: Any = (512, 2048, 8192),
    cms_rate: Any = None,
    nested_rate: Any = 0.1,
    variant: str = "sequential",
    order: str = "fast_to_slow",
    signal: str = "task",
    rule: str = "gd",
    objective: str = "l2",
) -> tuple[Tensor, ContinuumState]:
    """y = MLP^(K)(… MLP^(1)(x)), levels moving at their boundaries; equals `reference.continuum_memory`.

    Differentiable in x and in every parameter, through every update.

    Args:
        x: tokens, (..., T, d).
        parameters: one `Level` each, fast to slow; leading axes, if any, broadcast to those of x.
        state: what the last call returned, with the leading axes of x; None starts every level at its parameters.
        levels_chunk_sizes: C^(ℓ), fast to slow.
        cms_rate: η^(ℓ) >= 0, a number or one per level; None is 0.1/C^(ℓ).
        nested_rate: ε in [0, 1], see `restarted`.
        variant: "sequential", "nested" (each C a multiple of the one before) or "independent".
        order: "fast_to_slow" or "slow_to_fast": which level a token meets first; no matter to "independent".
        signal: "associative": levels move in here; "task": only `adapt` moves them; "none": they are plain MLPs. With
            the last two the state comes back as it went in.
        rule: "gd" or "dgd", see `chunk_step`.
        objective: "l2" or "dot", see `associative_signal`.
    Returns:
        outputs y, (..., T, d), and the state after the last token.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    checks.tensors(x=x)
    lead = tuple(x.shape[:-2])
    levels = checked_levels(parameters, signal == "associative", lead)
    checks.tensors(**{"parameters[0].w1": levels[0].w1, "x": x})
    shape_is("x", tuple(x.shape), (*lead, "T", levels[0].gain.shape[-1]))
    checks.values(x=x)
    one_of("signal", signal, CHOICES["signal"])
    one_of("objective", objective, CHOICES["objective"])
    options = cms_options(len(levels), levels_chunk_sizes, cms_rate, nested_rate, variant, order, rule)
    state = initial_state(levels, lead) if state is None else checked_state(state, levels, lead)
    return stream(x, levels, state, options, signal, objective)


def stream(
    x: Tensor, levels: Levels, state: ContinuumState, options: CmsOptions, signal: str, objective: str
) -> tuple[Tensor, ContinuumState]:
    """The loop over segments of `continuum_memory`, which has checked the arguments; equals `reference.continuum_memory.stream`."""
    if signal != "associative":
        return read(x, weights_of(state), levels, options.variant, options.order)[0], state
    outputs, at = [x[..., :0, :]], 0
    while at < x.shape[-2]:
        to_boundary = min(size - state.position % size for size in options.chunk_sizes)
        part = x[..., at : at + to_boundary, :]
        y, passes = _through(part, weights_of(state), levels, options.variant, options.order)
        demands = []
        for (w1, _), level, seen in zip(weights_of(state), levels, passes, strict=True):
            assert level.value is not None  # checked_levels
            demands.append(sums(associative_signal(seen, w1, level.value, objective), options.rule))
        state = after(state, demands, part.shape[-2], options)
        outputs.append(y)
        at += part.shape[-2]
    return torch.cat(outputs, -2), state


# --- learning from the model's own loss -----------------------------------------------------------------------------


def adapt(
    tokens: Tensor,
    parameters: Levels,
    forward: Callable[[Tensor, Weights, Any, Collect | None], tuple[Tensor, Any]],
    loss: Callable[[Tensor, Tensor], Tensor],
    state: AdaptState | None = None,
    *,
    model_state: Any = None,
    token_axis: int = 0,
    lead: Sequence[int] | None = None,
    differentiable: bool = False,
    **options: Any,
) -> tuple[Tensor, AdaptState]:
    """Stream tokens through a model whose levels learn from its loss on tokens just seen; equals `reference.continuum_memory.adapt`.

    Segments are the smallest chunk long. When the token after a segment arrives, it is the segment's last target: the
    segment is run once more, from the model's state at its start (a constant), and Σ u φᵀ is minus the gradient of its
    summed loss with respect to each W, so that no u has to be known. Then levels whose chunk is complete move, and
    the token is processed: no output depends on a later token.

    Several continuum memories in one model (one per block) adapt together as one whose parameters have an axis more:
    `lead` is then (blocks, batch), W1 of a level (blocks, 1, d, h), and block n takes entry n of its weights.

    Args:
        tokens: of any dtype, (T, ...), or with leading axes, see ``token_axis``.
        parameters: as `continuum_memory`.
        forward: (tokens, weights, model state, collect) -> outputs, model state: the model on some tokens. It hands
            ``collect``, which is None or a function, on to `read`: so rule "dgd" learns Σ φ φᵀ.
        loss: (outputs, targets) -> losses, of any shape; their sum is differentiated.
        state: what the last call returned; None starts from the parameters and ``model_state``.
        model_state: where the model's own state starts; anything, None if it has none.
        token_axis: which axis of tokens and outputs counts the tokens.
        lead: leading axes of θ, one weight per sequence; None: the axes of ``tokens`` before ``token_axis``.
        differentiable: keep the graph of outputs and state, through every update; else nothing is kept.
        options: levels_chunk_sizes (all multiples of the smallest), cms_rate, nested_rate, variant, order and rule,
            as `continuum_memory`. Variant and order are the model's to obey, too.
    Returns:
        outputs, the token axis in its place, and the state. With no tokens the model is asked for none.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    if not isinstance(tokens, Tensor) or not 0 <= token_axis < tokens.ndim:
        got = tuple(tokens.shape) if isinstance(tokens, Tensor) else type(tokens).__name__
        raise ValueError(f"tokens must be a tensor with a token axis {token_axis}, got {got}")
    lead = tuple(tokens.shape[:token_axis] if lead is None else lead)
    levels = checked_levels(parameters, False, lead)
    chosen = cms_options(len(levels), **options)
    length = chosen.chunk_sizes[0]
    if any(size % length for size in chosen.chunk_sizes):
        raise ValueError(
            f"levels_chunk_sizes must all be multiples of the smallest (task), got {chosen.chunk_sizes}"
        )
    with torch.set_grad_enabled(differentiable):
        if state is None:
            empty = tokens.narrow(token_axis, 0, 0)
            state = AdaptState(first_state(levels, lead), model_state, model_state, empty)
        state = state._replace(continuum=checked_state(state.continuum, levels, lead))
    return adapt_stream(tokens, forward, loss, state, chosen, token_axis, differentiable)


def adapt_stream(
    tokens: Tensor,
    forward: Callable[[Tensor, Weights, Any, Collect | None], tuple[Tensor, Any]],
    loss: Callable[[Tensor, Tensor], Tensor],
    state: AdaptState,
    options: CmsOptions,
    token_axis: int,
    differentiable: bool,
) -> tuple[Tensor, AdaptState]:
    """What `adapt` computes, with nothing checked."""
    length = options.chunk_sizes[0]
    with torch.set_grad_enabled(differentiable):
        continuum, start, running, segment = state
        if not differentiable:  # without a gradient mode, but views of a parameter would still ask for one
            detached = (LevelState(*(part.detach() for part in level)) for level in continuum.levels)
            continuum = continuum._replace(levels=tuple(detached))
        outputs: list[Tensor] = []
        at, total = 0, tokens.shape[token_axis]
        while at < total or not outputs:
            if segment.shape[token_axis] == length and at < total:
                # the token that has come is the segment's last target
                targets = torch.cat(
                    [segment.narrow(token_axis, 1, length - 1), tokens.narrow(token_axis, at, 1)], token_axis
                )
                demands, _, _ = demanded(
                    segment,
                    targets,
                    weights_of(continuum),
                    start,
                    forward,
                    loss,
                    options.rule,
                    differentiable,
                )
                continuum = after(continuum, demands, length, options)
                start, segment = running, segment.narrow(token_axis, 0, 0)
            part = tokens.narrow(token_axis, at, min(length - segment.shape[token_axis], total - at))
            output, later = forward(part, weights_of(continuum), running, None)
            outputs.append(output)
            if part.shape[token_axis]:
                running, segment = later, torch.cat([segment, part], token_axis)
            at += part.shape[token_axis]
    return torch.cat(outputs, token_axis), AdaptState(continuum, start, running, segment)


def demanded(
    segment: Tensor,
    targets: Tensor,
    weights: Weights,
    start: Any,
    forward: Callable[..., tuple[Tensor, Any]],
    loss: Callable[[Tensor, Tensor], Tensor],
    rule: str,
    differentiable: bool,
) -> tuple[list[Sums], Tensor, Any]:
    """Σ u φᵀ of every level, as minus the gradient of the segment's summed loss, its grams if the rule needs them; outputs, state."""
    all_grams: dict[int, tuple[Tensor, Tensor]] = {}

    def collect(index: int, phi1: Tensor, phi2: Tensor) -> None:
        grams = []
        for w, phi in zip(weights[index], (phi1, phi2), strict=True):
            shape_is(f"collect: φ of level {index}", tuple(phi.shape), (*w.shape[:-2], "c", w.shape[-1]))
            phi = phi if differentiable else phi.detach()
            grams.append(phi.mT @ phi)
        if index in all_grams:  # a model may read its tokens in parts
            grams = [old + new for old, new in zip(all_grams[index], grams, strict=True)]
        all_grams[index] = grams[0], grams[1]

    with torch.enable_grad():
        # Fresh copies: the model's state at the start depends on the same θ, and must count as a constant.
        copies = tuple((_copy(w1, differentiable), _copy(w2, differentiable)) for w1, w2 in weights)
        outputs, later = forward(segment, copies, start, collect if rule == "dgd" else None)
        total = loss(outputs, targets).sum()
        flat = [w for pair in copies for w in pair]
        if not total.requires_grad:
            raise ValueError("loss must depend on the weights that forward was given, got a constant")
        gradients = torch.autograd.grad(total, flat, create_graph=differentiable, allow_unused=True)
    for index in range(len(weights)):
        if any(g is None for g in gradients[2 * index : 2 * index + 2]):
            raise ValueError(f"forward must use the weights of every level, got none of level {index}")
        if rule == "dgd" and index not in all_grams:
            raise ValueError(
                f"forward must hand collect on to read (rule='dgd'), got nothing of level {index}"
            )
    pairs = zip(gradients[::2], gradients[1::2], strict=True)
    asked = [Sums(-g1, -g2, *all_grams.get(index, ())) for index, (g1, g2) in enumerate(pairs)]
    return asked, outputs, later


def _copy(w: Tensor, differentiable: bool) -> Tensor:
    return w.clone() if differentiable and w.requires_grad else w.detach().clone().requires_grad_()


# --- modules --------------------------------------------------------------------------------------------------------


class LevelParameters(nn.Module):
    """The parameters of one level: W1 and W2, where θ starts, and what is slow: the gain, V and a if they are used."""

    def __init__(self, config: HopeConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        width, hidden = config.width, 4 * config.width
        w1, w2 = torch.empty(width, hidden), torch.empty(hidden, width)
        self.w1 = nn.Parameter(nn.init.normal_(w1, std=(0.25 / hidden) ** 0.5, generator=generator))
        self.w2 = nn.Parameter(nn.init.normal_(w2, std=width**-0.5, generator=generator))
        self.gain = nn.Parameter(torch.ones(width))
        self.value = self.weight = None
        if config.signal == "associative":
            self.value = nn.Parameter(nn.init.orthogonal_(torch.empty(width, width), generator=generator))
        if config.variant == "independent":
            self.weight = nn.Parameter(torch.ones(()))

    def level(self) -> Level:
        """As the functions of this module take it."""
        return Level(self.w1, self.w2, self.gain, self.value, 1.0 if self.weight is None else self.weight)


class ContinuumMemory(nn.Module):
    """MLPs in a row, each holding still for its own number of tokens: `continuum_memory` as a module [S 14-15, P 70-74]."""

    def __init__(self, config: HopeConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config, self.options = config, config.cms_options
        self.levels = nn.ModuleList(LevelParameters(config, generator) for _ in config.levels_chunk_sizes)

    def parameters_of_levels(self) -> tuple[Level, ...]:
        """The levels, fast to slow."""
        return tuple(level.level() for level in self.levels)  # type: ignore[operator]

    def initial_state(self, lead: tuple[int, ...] = (), *, copy: bool = True) -> ContinuumState:
        """Every level at its parameters, for sequences in ``lead``; without ``copy`` the weights are views of parameters."""
        return first_state(self.parameters_of_levels(), lead, copy=copy)

    def forward(self, x: Tensor, state: ContinuumState | None = None) -> tuple[Tensor, ContinuumState]:
        """y, (..., T, d), and the state after the last token; None starts a stream."""
        levels = self.parameters_of_levels()
        state = first_state(levels, x.shape[:-2]) if state is None else state
        return stream(x, levels, state, self.options, self.config.signal, self.config.objective)


# --- checks ---------------------------------------------------------------------------------------------------------


def checked_levels(parameters: Levels, with_value: bool, lead: tuple[int, ...]) -> tuple[Level, ...]:
    """Validate the parameters: one width d for all levels, any hidden width for each, leading axes that suit ``lead``."""
    if len(parameters) == 0:
        raise ValueError("parameters must have at least one level, got none")
    levels, first = [], parameters[0].w1
    checks.tensors(**{"parameters[0].w1": first})
    width = tuple(first.shape[-2:-1])
    for index, level in enumerate(parameters):
        name = f"parameters[{index}]"
        if level.value is None and with_value:
            raise ValueError(f"{name}.value must be given for signal='associative', got None")
        weight = level.weight
        if not isinstance(weight, Tensor):
            weight = checks.as_tensor(scalar(f"{name}.weight", weight), first)
        level = level._replace(weight=weight)
        _fits(f"{name}.w1", level.w1, (*(width or ("d",)), "h"), lead, first)
        d, hidden = level.w1.shape[-2:]
        _fits(f"{name}.w2", level.w2, (hidden, d), lead, first)
        _fits(f"{name}.gain", level.gain, (d,), lead, first)
        if level.value is not None:
            _fits(f"{name}.value", level.value, (d, d), lead, first)
        _fits(f"{name}.weight", weight, (), lead, first)
        levels.append(level)
    return tuple(levels)


def _fits(name: str, value: Any, core: tuple[int | str, ...], lead: tuple[int, ...], first: Tensor) -> None:
    """A finite tensor of shape (..., *core) like the first one, whose leading axes broadcast to ``lead``."""
    checks.tensors(**{"parameters[0].w1": first, name: value})
    shape, cut = tuple(value.shape), value.ndim - len(core)
    shape_is(name, shape[max(cut, 0) :], core)
    before = shape[:cut]
    fits = len(before) <= len(lead) and all(
        have in (1, want) for have, want in zip(reversed(before), reversed(lead), strict=False)
    )
    if not fits:
        raise ValueError(f"{name} must have leading axes that broadcast to {lead}, got shape {shape}")
    checks.values(**{name: value})


def checked_state(state: Any, levels: Levels, lead: tuple[int, ...]) -> ContinuumState:
    """Validate what an earlier call returned. It need not be finite: an overflow goes on, so that it is seen."""
    start = first_state(levels, lead, copy=False)
    return checked(state, start._replace(position=None))  # type: ignore[arg-type]
