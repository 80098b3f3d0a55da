"""HopeConfig: every choice that the sources leave open, by name, as one frozen and validated dataclass.

`HopeConfig()` is what works, `HopeConfig.printed()` what the sources print; both compute the same equations with
other options. A configuration is a model but for its parameters: `Hope(config)` needs nothing else. The options of the
optimiser M3 belong to its functions and are not here.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from hope_ref.common.documented import documented
from hope_ref.common.files import json_object, one_line
from hope_ref.common.validation import float64, one_of, positive_integer, scalar

MEMORIES = ("k", "v", "q", "eta", "alpha", "memory")  # q is there only with adaptive_query

Architecture = Literal["mlp", "linear"]
Objective = Literal["l2", "dot"]
Step = Literal["implicit", "explicit", "normalized"]
RetentionScope = Literal["memory", "all"]
RetentionTarget = Literal["initial", "zero"]
Erase = Literal["deviation", "full", "none"]
Target = Literal["self", "shared"]
Read = Literal["post", "pre", "boundary"]
TargetGradient = Literal["flow", "stop"]
Order = Literal["fast_to_slow", "slow_to_fast"]
Signal = Literal["task", "associative", "none"]
Rule = Literal["gd", "dgd"]
Variant = Literal["sequential", "nested", "independent"]
Mixer = Literal[
    "self_modifying_titans", "softmax_attention", "linear_attention", "gated_delta_rule", "titans"
]

CHOICES: dict[str, tuple[str, ...]] = {
    "architecture": get_args(Architecture),
    "objective": get_args(Objective),
    "step": get_args(Step),
    "retention_scope": get_args(RetentionScope),
    "retention_target": get_args(RetentionTarget),
    "erase": get_args(Erase),
    "target": get_args(Target),
    "read": get_args(Read),
    "target_gradient": get_args(TargetGradient),
    "order": get_args(Order),
    "signal": get_args(Signal),
    "rule": get_args(Rule),
    "variant": get_args(Variant),
    "mixer": get_args(Mixer),
}  # the default first
SWITCHES = ("value_norm", "input_projection", "read_skip", "adaptive_query", "gated", "learned_rates")
STARTS = ("eta_init", "alpha_init", "memory_w1_std", "seed")  # where training starts: no matter to a state

PRINTED: dict[str, Any] = {
    "step": "explicit",
    "surprise_bound": 0.0,
    "value_norm": False,
    "retention_scope": "all",
    "retention_target": "zero",
    "erase": "full",
    "input_projection": False,
    "read_skip": True,
    "rule": "dgd",
}  # where the sources' choice is not the default


@documented
@dataclass(frozen=True)
class HopeConfig:
    """A HOPE, whole: its sizes, every option of its memories and of the layer around them, and where training starts [D].

    Raises:
        ValueError: naming the option, what it got and what it wants, e.g.
            ``read must be one of 'post', 'pre', 'boundary', got 'late'``.
    """

    # --- sizes

    width: int = 64
    """Width of a token in a layer, d_model; the heads share it."""
    heads: int = 1
    """Number of heads; each has its own memories, η and α."""
    vocabulary: int = 256
    """Number of different tokens; 256 for bytes."""
    blocks: int = 2
    """Number of blocks, each a mixer and a continuum memory."""
    hidden: int | None = None
    """Hidden width of an MLP memory; None: the width of a head."""
    memory_chunk_size: int = 16
    """Tokens between two boundaries of the memory called `memory`; the sources give no number."""
    projection_chunk_size: int = 16
    """The same of all other memories; one of the two divides the other."""

    # --- the memories and their write

    architecture: Architecture = "mlp"
    """M(z) = z + W1 σ(W2 z) for "mlp" [P 89], z + W z for "linear"."""
    objective: Objective = "l2"
    """Inner loss ½‖M(k) - v̂‖² or -⟨M(k), v̂⟩ [P 93], of the continuum memory too; "l2" reaches negative eigenvalues with a moderate η."""
    step: Step = "implicit"
    """Step of a write: "implicit" is the exact minimiser's and cannot overshoot; "explicit" is printed."""
    eta_max: float = 1.0
    """Largest η of explicit and normalized steps; implicit ones need none."""
    surprise_bound: float = 1.0
    """c in ‖u‖ < c, which keeps training finite; 0 switches it off, as printed."""
    value_norm: bool = True
    """Unit values: with the bound, the pair that keeps self-made targets from growing."""
    retention_scope: RetentionScope = "memory"
    """Which memories forget; forgetting everywhere ("all"), as printed, erases the rule itself."""
    retention_target: RetentionTarget = "initial"
    """What forgetting returns to: the meta-learned W_0, or 0 as printed."""
    erase: Erase = "deviation"
    """What a write erases: W - W_0 only; "full" [P 88] wears W_0 away, "none" is plain gradient descent."""
    writing: tuple[str, ...] | None = None
    """Which memories write, by name; None: all that there are."""
    inner_momentum: float = 0.0
    """Momentum of the writes, in [0, 1); ablated by [P Table 6] but absent from its equations."""
    target: Target = "self"
    """What a memory is to answer: its own M(v) [P 84], or v itself ("shared") [P 80]."""
    target_gradient: TargetGradient = "flow"
    """Whether the outer loss also learns through the targets; "stop" cuts it there."""

    # --- the read, and what feeds it

    read: Read = "post"
    """When `memory` answers: after the token's own write [S 34], before it, or as at the boundary; the paper prints all three."""
    read_skip: bool = False
    """Whether the answer holds q itself, as printed; the layer's residual already carries the token."""
    adaptive_query: bool = False
    """Whether a memory makes the queries: "the only non-adaptive projection", yet q is in the set of [P 85]."""
    input_projection: bool = True
    """Linear maps before M_k and M_v: without them recall falls from 90 to 30 %."""
    convolution_width: int = 4
    """Width of the causal depthwise convolutions before SiLU [P 8.3]; 0 drops both."""

    # --- the continuum memory

    levels_chunk_sizes: tuple[int, ...] = (512, 2048, 8192)
    """Tokens between two updates of each level, fast to slow."""
    cms_rate: float | tuple[float, ...] | None = None
    """Learning rate of all levels, or one each; None: 0.1 / chunk size."""
    learned_rates: bool = False
    """Whether training learns the levels' rates, one for each level, from where ``cms_rate`` has them: exp of a parameter [D]."""
    nested_rate: float = 0.1
    """Share of a level's result that its starting point takes over (variant "nested" only)."""
    order: Order = "fast_to_slow"
    """Which level a token meets first: the fast one in the figure and in [S 14]; [P 73] counts the slow one first."""
    signal: Signal = "task"
    """What moves the levels: the model's own loss on tokens just seen, an associative loss, or nothing; the paper names none."""
    rule: Rule = "gd"
    """Update of a level: with a small signal "dgd" [S] erases pre-trained weights along their inputs."""
    variant: Variant = "sequential"
    """Levels in a row [P 73] (its learned starts: training's continuum="meta"), each restarted by a slower one [P 72; the step: D], or side by side [P 74]."""

    # --- what stands in the Titans' place

    mixer: Mixer = "self_modifying_titans"
    """First sub-layer of a block: HOPE's own, "softmax_attention" for HOPE-Attention [P 8.3], or a baseline."""
    window: int = 0
    """Tokens that "softmax_attention" sees, the token itself among them [P 63]; 0: all so far."""
    beta_max: float = 1.0
    """Largest β of "gated_delta_rule", in (0, 2]; above 1 its factor along the key may be negative."""
    gated: bool = True
    """Whether "gated_delta_rule" forgets; False is the plain delta rule, α = 1."""

    # --- where training starts

    eta_init: tuple[float, float] = (0.7, 0.1)
    """η of `memory`, and of the other memories."""
    alpha_init: float = 0.999
    """Retention: nearly everything is kept."""
    memory_w1_std: float = 0.0
    """Standard deviation of W1 of `memory` (W when linear): 0 starts from an empty memory."""
    seed: int | None = 0
    """Seed of the starting values; None takes the generator's own state."""

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            one_of(name, getattr(self, name), allowed)
        for name in SWITCHES:
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be True or False, got {getattr(self, name)!r}")
        self._check_sizes()
        self._check_numbers()
        self._check_levels()
        if self.writing is not None:
            object.__setattr__(self, "writing", _subset("writing", self.writing, self.memories))

    def _check_sizes(self) -> None:
        for name in ("width", "heads", "vocabulary", "blocks", "memory_chunk_size", "projection_chunk_size"):
            object.__setattr__(self, name, positive_integer(name, getattr(self, name)))
        if self.hidden is not None:
            object.__setattr__(self, "hidden", positive_integer("hidden", self.hidden))
        if self.width % self.heads:
            raise ValueError(f"width must be a multiple of heads, got {self.width} and {self.heads}")
        one, other = self.memory_chunk_size, self.projection_chunk_size
        if one % other and other % one:
            raise ValueError(
                f"memory_chunk_size and projection_chunk_size: one must divide the other, got {one} and {other}"
            )
        if self.convolution_width != 0 or isinstance(self.convolution_width, bool):
            width = _described("convolution_width", self.convolution_width, "a width >= 1, or 0 for none")
            object.__setattr__(self, "convolution_width", width)
        if self.window != 0 or isinstance(self.window, bool):
            window = _described("window", self.window, "a number of tokens >= 1, or 0 for all")
            object.__setattr__(self, "window", window)
        if self.mixer == "softmax_attention" and self.head_width % 2:
            raise ValueError(f"width of a head must be even for rotary positions, got {self.head_width}")
        seed = self.seed
        if seed is not None and (isinstance(seed, bool) or not hasattr(seed, "__index__") or seed < 0):
            raise ValueError(f"seed must be an integer >= 0 or None, got {seed!r}")
        if seed is not None and int(seed) >= 2**63:
            raise ValueError(f"seed must be < 2**63, got {seed}")
        object.__setattr__(self, "seed", None if seed is None else int(seed))

    def _check_numbers(self) -> None:
        pair = _tuple("eta_init", self.eta_init)
        if len(pair) != 2:
            raise ValueError(
                f"eta_init must be two numbers, of memory and of the others, got {self.eta_init!r}"
            )
        object.__setattr__(self, "eta_init", tuple(_above_zero("eta_init", number) for number in pair))
        for name, low, high in (
            ("surprise_bound", 0, float("inf")),
            ("inner_momentum", 0, 1),
            ("memory_w1_std", 0, float("inf")),
            ("nested_rate", 0, 1),
        ):
            object.__setattr__(self, name, scalar(name, getattr(self, name), low=low, high=high))
        for name in ("eta_max", "alpha_init"):
            object.__setattr__(self, name, _above_zero(name, getattr(self, name)))
        object.__setattr__(self, "beta_max", _above_zero("beta_max", self.beta_max))
        if self.beta_max > 2:
            raise ValueError(f"beta_max must be in (0, 2], got {self.beta_max!r}")
        for name in ("inner_momentum", "alpha_init"):
            if getattr(self, name) >= 1:
                raise ValueError(f"{name} must be < 1, got {getattr(self, name):g}")

    def _check_levels(self) -> None:
        given = _tuple("levels_chunk_sizes", self.levels_chunk_sizes)
        sizes = tuple(positive_integer("levels_chunk_sizes", size) for size in given)
        object.__setattr__(self, "levels_chunk_sizes", sizes)
        if list(sizes) != sorted(sizes):
            raise ValueError(f"levels_chunk_sizes must be listed fast to slow (rising), got {sizes}")
        faster = {"nested": sizes[:-1]}.get(self.variant, sizes[:1] * (len(sizes) - 1))
        for fast, slow in zip(faster, sizes[1:], strict=True):
            if slow % fast and (self.variant == "nested" or self.signal == "task"):
                why = "variant='nested'" if self.variant == "nested" else "signal='task'"
                raise ValueError(f"levels_chunk_sizes: {why} needs multiples of {fast}, got {slow}")
        if isinstance(self.cms_rate, tuple | list):
            rates = tuple(scalar("cms_rate", rate, low=0) for rate in self.cms_rate)
            if len(rates) != len(sizes):
                raise ValueError(
                    f"cms_rate must be one number or one per level ({len(sizes)}), got {len(rates)}"
                )
            object.__setattr__(self, "cms_rate", rates)
        elif self.cms_rate is not None:
            object.__setattr__(self, "cms_rate", scalar("cms_rate", self.cms_rate, low=0))
        if self.learned_rates and self.signal != "task":
            raise ValueError(f"signal must be 'task' for learned_rates, got {self.signal!r}")
        if self.learned_rates and min(self.level_rates) <= 0:
            raise ValueError(f"cms_rate must be > 0 to be learned, got {min(self.level_rates):g}")

    @property
    def head_width(self) -> int:
        """Width of one head, d in the equations."""
        return self.width // self.heads

    @property
    def hidden_width(self) -> int:
        """Hidden width of an MLP memory, h in the equations."""
        return self.head_width if self.hidden is None else self.hidden

    @property
    def memories(self) -> tuple[str, ...]:
        """The memories that there are: k, v, eta, alpha, memory, and q if it is adaptive."""
        return tuple(name for name in MEMORIES if name != "q" or self.adaptive_query)

    @property
    def writers(self) -> tuple[str, ...]:
        """The memories that write; the others stay at their initial state."""
        return self.memories if self.writing is None else self.writing

    @property
    def level_rates(self) -> tuple[float, ...]:
        """The learning rate of each level of the continuum memory."""
        if self.cms_rate is None:
            return tuple(0.1 / size for size in self.levels_chunk_sizes)
        one_each = isinstance(self.cms_rate, tuple)
        return self.cms_rate if one_each else (self.cms_rate,) * len(self.levels_chunk_sizes)  # type: ignore[return-value]

    @property
    def cms_options(self) -> CmsOptions:
        """The options of the continuum memory's levels, together."""
        names = ("levels_chunk_sizes", "nested_rate", "variant", "order", "rule")
        chosen = {name: getattr(self, name) for name in names}
        return cms_options(len(self.levels_chunk_sizes), cms_rate=self.level_rates, **chosen)

    def chunk_size(self, memory: str) -> int:
        """Tokens between two boundaries of that memory's group."""
        return self.memory_chunk_size if memory == "memory" else self.projection_chunk_size

    @classmethod
    def printed(cls, **changes: Any) -> HopeConfig:
        """The sources' own choice of every option; ``changes`` on top, e.g. sizes.

        Where they give none (sizes, starting values, rates) the defaults stay; where they contradict each other
        the convolution is 4 wide [P 8.3] and the read is after the write [S 34].
        """
        return cls.from_dict({**PRINTED, **changes})

    @classmethod
    def relative(cls, name: str, **changes: Any) -> HopeConfig:
        """The configuration that makes another model of the field, e.g. "longhorn"; ``changes`` on top.

        `hope_ref.relatives.RELATIVES` lists the names, and what else must be true for the two to be equal.

        Raises: ValueError naming ``name``, what it got and the known names; for a model that no configuration makes,
            what does.
        """
        from hope_ref.relatives import options

        return cls.from_dict({**options(name), **changes})

    def replace(self, **changes: Any) -> HopeConfig:
        """A copy with these options changed, validated anew."""
        return self.from_dict({**self.to_dict(), **changes})

    def difference(self, other: HopeConfig) -> str:
        """The first option in which a model with the other configuration computes something else; empty if there is none.

        Where training starts (``eta_init``, ``alpha_init``, ``memory_w1_std``, ``seed``) does not count.
        """
        for name, value in self.to_dict().items():
            if name not in STARTS and getattr(other, name) != value:
                return name
        return ""

    def to_dict(self) -> dict[str, Any]:
        """Every option by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_dict(cls, options: dict[str, Any]) -> HopeConfig:
        """The configuration with these options, the others at their defaults; an unknown name is an error."""
        if not isinstance(options, dict):
            raise ValueError(f"options must be a dict of options by name, got {type(options).__name__}")
        known = [field.name for field in fields(cls)]
        unknown = [str(name) for name in options if name not in known]
        if unknown:
            raise ValueError(f"unknown option {', '.join(unknown)}; known: {', '.join(known)}")
        return cls(**options)

    def to_json(self) -> str:
        """Every option as JSON text."""
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_json(cls, text: str, name: str = "text") -> HopeConfig:
        """The configuration that `to_json` wrote; anything but one JSON object is an error, which says ``name``."""
        options = json_object(text, name)
        try:
            return cls.from_dict(options)
        except ValueError as error:
            raise ValueError(f"{name}: {one_line(error)}" if name != "text" else str(error)) from error


def _above_zero(name: str, value: Any) -> float:
    number = scalar(name, value)
    if number <= 0:
        raise ValueError(f"{name} must be > 0, got {number:g}")
    return number


def _described(name: str, value: Any, want: str) -> int:
    try:
        return positive_integer(name, value)
    except ValueError as error:
        raise ValueError(f"{name} must be {want}, got {value!r}") from error


def _tuple(name: str, value: Any) -> tuple[Any, ...]:
    """A tuple of at least one entry; JSON and YAML bring lists."""
    if not isinstance(value, tuple | list) or not value:
        raise ValueError(f"{name} must be a tuple of at least one number, got {value!r}")
    return tuple(value)


def _subset(name: str, value: Any, allowed: tuple[str, ...]) -> tuple[str, ...]:
    """Some of the allowed names, in their order; a repeated or unknown one is an error."""
    if not isinstance(value, tuple | list):
        raise ValueError(f"{name} must be a tuple of names or None, got {value!r}")
    for entry in value:
        one_of(f"{name}: each name", entry, allowed)
    if len(set(value)) != len(value):
        raise ValueError(f"{name} must name each memory once, got {tuple(value)!r}")
    return tuple(entry for entry in allowed if entry in value)


# --- the levels of the continuum memory -------------------------------------------------------------------


class CmsOptions(NamedTuple):
    """The validated options of all levels."""

    chunk_sizes: tuple[int, ...]
    rates: tuple[Any, ...]  # numbers; tensors where they are learned
    nested_rate: float
    variant: str
    order: str
    rule: str


def cms_options(
    count: int,
    levels_chunk_sizes: Any = (512, 2048, 8192),
    cms_rate: Any = None,
    nested_rate: Any = 0.1,
    variant: str = "sequential",
    order: str = "fast_to_slow",
    rule: str = "gd",
) -> CmsOptions:
    """Validate the options of the levels, for ``count`` levels.

    Raises: ValueError, naming the option, what it got and what it wants.
    """
    one_of("variant", variant, CHOICES["variant"])
    one_of("order", order, CHOICES["order"])
    one_of("rule", rule, CHOICES["rule"])
    sizes = tuple(positive_integer("levels_chunk_sizes", size) for size in levels_chunk_sizes)
    if len(sizes) != count:
        raise ValueError(f"levels_chunk_sizes must have one entry per level ({count}), got {len(sizes)}")
    if list(sizes) != sorted(sizes):
        raise ValueError(f"levels_chunk_sizes must be listed fast to slow (rising), got {sizes}")
    if variant == "nested" and any(slow % fast for fast, slow in pairwise(sizes)):
        raise ValueError(
            f"levels_chunk_sizes must each be a multiple of the one before (nested), got {sizes}"
        )
    rates = np.array([0.1 / size for size in sizes]) if cms_rate is None else float64("cms_rate", cms_rate)
    rates = float64("cms_rate", np.full(count, rates) if rates.ndim == 0 else rates, (count,))
    if rates.min() < 0:
        raise ValueError(f"cms_rate must be >= 0, got min {rates.min():g}")
    nested_rate = scalar("nested_rate", nested_rate, low=0, high=1)
    return CmsOptions(sizes, tuple(map(float, rates)), nested_rate, variant, order, rule)


# --- the memories of the self-modifying Titans by name ----------------------------------------------------


def layers(config: HopeConfig) -> tuple[str, ...]:
    """The layers of one memory, the outer one first: w1 and w2, or w if linear."""
    return ("w1", "w2") if config.architecture == "mlp" else ("w",)


def weight_names(memory: str, config: HopeConfig) -> tuple[str, ...]:
    """Names of a memory's weights: (w1_k, w2_k), or (w_k,) if linear."""
    return tuple(f"{layer}_{memory}" for layer in layers(config))


def momentum_name(weight_name: str) -> str:
    """b1_k belongs to w1_k."""
    return "b" + weight_name[1:]


def weight_shapes(config: HopeConfig, d: int, hidden: int | str) -> dict[str, tuple[int | str, ...]]:
    """The shape of every weight by name, its last two axes if it has more: w1_□ (d, h), w2_□ (h, d), or w_□ (d, d) if linear."""
    shapes: tuple[tuple[int | str, ...], ...] = ((d, hidden), (hidden, d))
    if config.architecture == "linear":
        shapes = ((d, d),)
    return {
        name: shape
        for memory in config.memories
        for name, shape in zip(weight_names(memory, config), shapes, strict=True)
    }


def logit(probability: float) -> float:
    """The inverse of sigmoid."""
    return math.log(probability) - math.log1p(-probability)


def eta_bias(eta: float, config: HopeConfig) -> float:
    """The bias at which the learning rate is eta: the inverse of softplus, or of eta_max · sigmoid.

    Raises: ValueError if eta is not below eta_max where a sigmoid has to reach it.
    """
    if config.step == "implicit":
        return eta + math.log(-math.expm1(-eta))  # log(exp(eta) - 1), without the overflow
    if eta >= config.eta_max:
        raise ValueError(
            f"eta_init must be < eta_max for step='{config.step}', got {eta:g} and {config.eta_max:g}"
        )
    return logit(eta / config.eta_max)
