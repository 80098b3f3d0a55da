"""What `hope_ref.laboratory.anatomy` knows: one function per model or optimiser that lists its components as rows. [D]

Sizes come from `hope_ref.symbolic.counts`, which is loaded when a number is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from hope_ref.config import HopeConfig


class Row(NamedTuple):
    """One component."""

    name: str
    context: str  # what it compresses
    frequency: float  # changes per tick of its clock, math.inf to 0
    clock: str  # "token" or "step"
    rule: str  # how it learns, with the number of its equation
    state: int  # numbers that it carries along
    parameters: int  # numbers that pre-training learns for it, its initial state among them

    def updates(self) -> str:
        """The frequency in words: ∞, 1 / token, 1 / 16 tokens, 0."""
        if self.frequency in (0, math.inf):
            return "∞" if self.frequency else "0"
        ticks = round(1 / self.frequency)
        return f"1 / {self.clock}" if ticks == 1 else f"1 / {ticks:,} {self.clock}s"


Builder = Callable[..., list[Row]]
PRETRAINING, OUTER = "the pre-training data", "the outer optimiser; then frozen"
BUILDERS: dict[str, Builder] = {}


def _model(build: Builder) -> Builder:
    BUILDERS[build.__name__.removeprefix("_")] = build
    return build


def _frozen(name: str, parameters: int) -> Row:
    return Row(name, PRETRAINING, 0, "token", OUTER, 0, parameters)


def _counts() -> Any:
    """SymPy's floor, loaded when a number is asked for."""
    from hope_ref.symbolic import counts

    return counts


def _number(size: Any, config: HopeConfig | None = None, **sizes: int) -> int:
    return int(_counts().number(size, config, **sizes))


# --- memories of tokens -----------------------------------------------------------------------------------------------

PAIRS = "tokens, as pairs (k, v)"


def _matrix(name: str, rule: str, d_k: int, d_v: int) -> list[Row]:
    counts = _counts()
    return [Row(name, PAIRS, 1, "token", rule, _number(counts.matrix_state(), d_k=d_k, d_v=d_v), 0)]


@_model
def _linear_attention(d_k: int = 64, d_v: int = 64) -> list[Row]:
    return _matrix("memory M", "one gradient step on −⟨M k, v⟩: M += v kᵀ [S 3, P 18]", d_k, d_v)


@_model
def _delta_rule(d_k: int = 64, d_v: int = 64) -> list[Row]:
    return _matrix("memory M", "one gradient step on ½‖M k − v‖²: M −= η (M k − v) kᵀ [S 5, P 65]", d_k, d_v)


@_model
def _gated_delta_rule(d_k: int = 64, d_v: int = 64) -> list[Row]:
    return _matrix("memory M", "fade by α, then the delta rule [P 65]", d_k, d_v)


NADARAYA_WATSON = "none: the softmax-weighted mean of what is kept [P 62]"


@_model
def _softmax_attention(d_k: int = 64, d_v: int = 64, length: int = 1024) -> list[Row]:
    kept = "tokens so far, kept, not compressed"
    return [Row("attention", kept, math.inf, "token", NADARAYA_WATSON, length * (d_k + d_v), 0)]


@_model
def _mlp(width: int = 64, hidden: int = 256) -> list[Row]:
    counts = _counts()
    return [_frozen("MLP", _number(counts.mlp_parameters(), d=width, h=hidden))]


@_model
def _titans(architecture: str = "mlp", width: int = 64, hidden: int = 64) -> list[Row]:
    counts = _counts()
    parts = {
        part: _number(size, d=width, h=hidden, d_k=width, d_v=width)
        for part, size in counts.titans_state(architecture).items()
    }
    surprises = "the memory's own gradients, its surprises"
    return [
        Row("momentum B", surprises, 1, "token", "B ← μ B − η ∇½‖M(k) − v‖² [Titans]", parts["momentum"], 0),
        Row(
            "memory M",
            PAIRS,
            1,
            "token",
            "M ← α M + B [Titans]",
            parts["weights"] + parts["boundary"],
            parts["weights"],
        ),
    ]


# --- HOPE and its parts -----------------------------------------------------------------------------------------------

MAKES = {
    "k": "M_k, makes keys",
    "v": "M_v, makes values",
    "q": "M_q, makes queries",
    "eta": "M_η, makes learning rates",
    "alpha": "M_α, makes the retention",
    "memory": "M_memory, answers queries",
}


def _configured(config: Any, options: dict[str, Any]) -> HopeConfig:
    if config is None:
        return HopeConfig.from_dict(options)
    if not isinstance(config, HopeConfig):
        raise ValueError(f"config must be a HopeConfig, got {type(config).__name__}")
    return config.replace(**options)


def _memory_rows(config: HopeConfig, copies: int) -> list[Row]:
    """The memories of so many heads."""
    counts = _counts()
    found = []
    for memory in ("memory", *(name for name in config.memories if name != "memory")):
        chunk_size = config.chunk_size(memory)
        seen_at_once = memory == "memory" and config.read != "boundary"
        moves = memory in config.writers
        context = (
            ("pairs (k, its own answer to v)" if config.target == "self" else PAIRS) if moves else PRETRAINING
        )
        rule = _memory_rule(config, memory, seen_at_once) if moves else OUTER
        state = counts.total(counts.memory_state(config))
        sizes = [copies * _number(size, config) for size in (state, counts.memory_parameters(config, memory))]
        frequency = 0.0 if not moves else 1.0 if seen_at_once else 1 / chunk_size
        found.append(Row(MAKES[memory], context, frequency, "token", rule, *sizes))
    return found


def _memory_rule(config: HopeConfig, memory: str, seen_at_once: bool) -> str:
    name = "gradient descent" if config.erase == "none" else "Delta Gradient Descent"
    loss = {"l2": "½‖M(k) − v̂‖²", "dot": "−⟨M(k), v̂⟩"}[config.objective]
    rule = f"{name} on {loss}"
    if config.inner_momentum > 0:
        rule += " with momentum"
    if memory == "memory" or config.retention_scope == "all":
        rule += ", α"
    rule += " [S 29, P 88]"
    return rule if seen_at_once else rule + "; seen from the next chunk on"


def _level_rows(config: HopeConfig, blocks: int) -> list[Row]:
    """The levels of so many blocks."""
    counts = _counts()
    context = {
        "task": "tokens just seen, by the model's own loss",
        "associative": "tokens, as pairs (n, V n)",
        "none": PRETRAINING,
    }[config.signal]
    rule = {"gd": "one gradient step a chunk [S 15, P 71]", "dgd": "one implicit step a chunk [S 15, D]"}[
        config.rule
    ]
    if config.signal == "task":
        rule += ", taken by `adapt`, not by the forward pass"
    if config.variant == "nested":
        rule += "; the next slower level restarts it [P 72]"
    sizes = [
        blocks * _number(size, config)
        for size in (counts.total(counts.level_state()), counts.level_parameters(config))
    ]
    return [
        Row(f"level {index}, MLP", context, 1 / chunk_size, "token", rule, *sizes)
        if config.signal != "none"
        else Row(f"level {index}, MLP", context, 0, "token", OUTER, *sizes)
        for index, chunk_size in enumerate(config.levels_chunk_sizes, start=1)
    ]


@_model
def _self_modifying_titans(config: Any = None, **options: Any) -> list[Row]:
    counts = _counts()
    chosen = _configured(config, options)
    rows = _memory_rows(chosen, 1)
    query = counts.core_parameters(chosen).get("w_query")
    return rows if query is None else [*rows, _frozen("query projection", _number(query, chosen))]


@_model
def _continuum_memory(config: Any = None, **options: Any) -> list[Row]:
    return _level_rows(_configured(config, options), 1)


@_model
def _hope(config: Any = None, **options: Any) -> list[Row]:
    counts = _counts()
    chosen = _configured(config, options)
    if chosen.mixer != "self_modifying_titans":
        raise ValueError(f"mixer must be 'self_modifying_titans' for 'hope', got {chosen.mixer!r}")
    own = _own_parts(chosen)
    rows = _memory_rows(chosen, chosen.blocks * chosen.heads) + _level_rows(chosen, chosen.blocks)
    if "convolutions" in own:
        state = counts.state_size(chosen).get("convolutions", counts.D * 0)
        window = f"the last {chosen.convolution_width} tokens, kept, not compressed"
        sizes = (_number(state, chosen, N=chosen.blocks), own["convolutions"])
        rows.insert(
            0, Row("convolutions", window, math.inf, "token", "none: fixed weights on a window", *sizes)
        )
    return rows + [_frozen(part, own[part]) for part in ("projections", "norms")] + [_embedding(own)]


@_model
def _hope_attention(config: Any = None, length: int = 1024, **options: Any) -> list[Row]:
    chosen = _configured(config, {**options, "mixer": "softmax_attention"})
    return _attention_rows(chosen, length, _level_rows(chosen, chosen.blocks))


@_model
def _transformer(
    width: int = 64, heads: int = 1, vocabulary: int = 256, blocks: int = 2, length: int = 1024
) -> list[Row]:
    """HOPE-Attention with one level that never moves, and so needs no state."""
    chosen = HopeConfig(
        width=width,
        heads=heads,
        vocabulary=vocabulary,
        blocks=blocks,
        levels_chunk_sizes=(1,),
        signal="none",
        mixer="softmax_attention",
    )
    (level,) = _level_rows(chosen, blocks)
    return _attention_rows(chosen, length, [level._replace(name="MLP", state=0)])


def _attention_rows(config: HopeConfig, length: int, levels: list[Row]) -> list[Row]:
    counts = _counts()
    own = _own_parts(config)
    size = counts.state_size(config, config.mixer)["keys and values"]
    kept = _number(size, config, N=config.blocks, T=length)
    context = f"{length:,} tokens, kept, not compressed"
    return [
        Row("softmax attention", context, math.inf, "token", NADARAYA_WATSON, kept, 0),
        *levels,
        *(_frozen(part, own[part]) for part in ("projections", "norms")),
        _embedding(own),
    ]


def _embedding(own: dict[str, int]) -> Row:
    return _frozen("embedding, tied head", own["embedding"])


def _own_parts(config: HopeConfig) -> dict[str, int]:
    parts = _counts().parameters(config, config.mixer).items()
    return {part: _number(size, config, V=config.vocabulary, N=config.blocks) for part, size in parts}


# --- optimisers: memories of gradients --------------------------------------------------------------------------------

GRADIENTS, SURPRISES, ANSWERS = (
    "gradients",
    "inputs x and surprises −∇_y L",
    "the answers of the memories of gradients",
)
ORTHOGONAL = "gradient descent on ‖OᵀO − I‖², anew at every step [P 42-44]"
EMA, HEAVY_BALL = "m ← β m + (1 − β) g [S 36]", "W ← W + m [S 11]"
SLOW = "m² ← β₃ m² + (1 − β₃) Σ g over the window, O₂ = NS(m²) [S 37, P Alg. 1]"
WEIGHT = -1  # in the place of a share: the weight itself, a parameter

_OPTIMISERS: dict[str, tuple[tuple[str, str, float, str, int], ...]] = {
    "gradient_descent": (("weight W", SURPRISES, 1, "W ← W − η ∇_y L xᵀ [S 7, P 8]", WEIGHT),),
    "delta_gradient_descent": (
        ("weight W", SURPRISES, 1, "W ← W (I − η′ x xᵀ) − η′ ∇_y L xᵀ [S 21, P 57]", WEIGHT),
    ),
    "momentum": (
        ("momentum m", GRADIENTS, 1, "m ← μ m − η g [S 12, P 33]", 1),
        ("weight W", ANSWERS, 1, HEAVY_BALL, WEIGHT),
    ),
    "delta_momentum": (
        ("momentum m", GRADIENTS, 1, "m ← m (μ I − η̃ gᵀg) − η P g [P 48-49]", 1),
        ("weight W", ANSWERS, 1, HEAVY_BALL, WEIGHT),
    ),
    "adam": (
        ("mean m", GRADIENTS, 1, EMA, 1),
        ("second moment V", "squared gradients", 1, "V ← β₂ V + (1 − β₂) g² [D]", 1),
        ("weight W", ANSWERS, 1, "W ← W − η m̂ / (√V̂ + ε) [D]", WEIGHT),
    ),
    "newton_schulz_momentum": (
        ("orthogonal O", "the momentum", math.inf, ORTHOGONAL, 0),
        ("mean m", GRADIENTS, 1, EMA, 1),
        ("weight W", ANSWERS, 1, "W ← W − η O [P 42]", WEIGHT),
    ),
    "m3": (
        ("orthogonal O₁", "the fast momentum", math.inf, ORTHOGONAL, 0),
        ("fast momentum m¹", GRADIENTS, 1, "m¹ ← β₁ m¹ + (1 − β₁) g [S 36, P Alg. 1]", 1),
        ("second moment V", "squared updates", 1, "V ← β₂ V + (1 − β₂) (O₁ + a O₂)² [D]", 1),
        ("slow momentum m²", "gradients, a window at a time", 0, SLOW, 3),  # once in `slow_every` steps
        ("weight W", ANSWERS, 1, "W ← W − η (O₁ + a O₂) / (√V̂ + ε) [P Alg. 1]", WEIGHT),
    ),
}  # name, context, frequency, rule, and how many of the arrays that the optimiser keeps


def _optimiser(name: str, rows: int, columns: int, slow_every: int = 1) -> list[Row]:
    counts = _counts()
    kept = counts.number(counts.optimiser_state(name), m=rows, n=columns)
    one = kept // max(1, sum(share for *_, share in _OPTIMISERS[name] if share != WEIGHT))
    return [
        Row(
            part,
            context,
            frequency or 1 / slow_every,
            "step",
            rule,
            one * max(share, 0),
            rows * columns * (share == WEIGHT),
        )
        for part, context, frequency, rule, share in _OPTIMISERS[name]
    ]


def _two_sizes(name: str) -> Builder:
    def build(rows: int = 64, columns: int = 64) -> list[Row]:
        return _optimiser(name, rows, columns)

    return build


BUILDERS |= {name: _two_sizes(name) for name in _OPTIMISERS}


@_model
def _m3(rows: int = 64, columns: int = 64, slow_every: int = 100) -> list[Row]:
    return _optimiser("m3", rows, columns, slow_every)
