"""HopeConfig: every choice that the sources leave open, by name, as one frozen and validated dataclass.

`HopeConfig()` is what works, `HopeConfig.printed()` what the sources print; both compute the same equations with
other options. The options of the optimiser M3 belong to its functions and are not here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Any

from hope_ref.validation import one_of, positive_integer, scalar

MEMORIES = ("k", "v", "q", "eta", "alpha", "memory")  # q is there only with adaptive_query

CHOICES: dict[str, tuple[str, ...]] = {
    "architecture": ("mlp", "linear"),
    "objective": ("l2", "dot"),
    "step": ("implicit", "explicit", "normalized"),
    "retention_scope": ("memory", "all"),
    "retention_target": ("initial", "zero"),
    "erase": ("deviation", "full", "none"),
    "target": ("self", "shared"),
    "read": ("post", "pre", "boundary"),
    "target_gradient": ("flow", "stop"),
    "order": ("fast_to_slow", "slow_to_fast"),
    "signal": ("task", "associative", "none"),
    "rule": ("gd", "dgd"),
    "variant": ("sequential", "nested", "independent"),
}  # the default first
SWITCHES = ("value_norm", "input_projection", "read_skip", "adaptive_query")

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


@dataclass(frozen=True)
class HopeConfig:
    """Every option of the self-modifying Titans, the continuum memory and the layer around them [D].

    Raises:
        ValueError: naming the option, what it got and what it wants, e.g.
            ``read must be one of 'post', 'pre', 'boundary', got 'late'``.
    """

    # sizes
    width: int = 64  # of a token in a layer; the heads share it
    heads: int = 1  # each has its own memories, eta and alpha
    hidden: int | None = None  # hidden width of an MLP memory; None: the width of a head
    memory_chunk_size: int = 16  # of `memory`; the sources give no number
    projection_chunk_size: int = 16  # of all other memories; one of the two divides the other

    # the memories and their write
    architecture: str = "mlp"  # z + W1 silu(W2 z) [P 89]; "linear" is z + W z
    objective: str = (
        "l2"  # [P 93]; reaches negative eigenvalues with a moderate eta; the continuum memory's too
    )
    step: str = "implicit"  # the exact minimiser's step: cannot overshoot; "explicit" is printed
    eta_max: float = 1.0  # largest eta of explicit and normalized steps; implicit ones need none
    surprise_bound: float = 1.0  # c in ‖u‖ < c, keeps training finite; 0 switches it off, as printed
    value_norm: bool = True  # unit values: with the bound, the pair that keeps self-made targets from growing
    retention_scope: str = "memory"  # forgetting everywhere, as printed, erases the rule itself
    retention_target: str = "initial"  # forgetting returns to the meta-learned W_0, not to 0 as printed
    erase: str = "deviation"  # W - W_0 only; "full" [P 88] wears the meta-learned W_0 away, "none" is plain gradient descent
    writing: tuple[str, ...] | None = None  # which memories write; None: all that there are
    inner_momentum: float = 0.0  # in [0, 1); ablated by [P Table 6] but absent from its equations
    target: str = "self"  # [P 84]; "shared": every memory is to answer v_t [P 80]
    target_gradient: str = "flow"  # the outer loss also learns through the targets; "stop" cuts it there

    # the read and what feeds it
    read: str = "post"  # [S 34], after the token's own write; the paper prints all three
    read_skip: bool = False  # the layer's residual already carries the token; True as printed
    adaptive_query: bool = False  # "the only non-adaptive projection", yet q is in the set of [P 85]
    input_projection: bool = True  # linear maps before M_k and M_v: without them recall falls from 90 to 30 %
    convolution_width: int = 4  # causal, depthwise, then SiLU [P 8.3]; 0 drops both

    # where training starts
    eta_init: tuple[float, float] = (0.7, 0.1)  # of `memory`, of the others
    alpha_init: float = 0.999  # nearly everything is kept
    memory_w1_std: float = 0.0  # of W1 of `memory` (W when linear): 0 starts from an empty memory

    # the continuum memory
    levels_chunk_sizes: tuple[int, ...] = (512, 2048, 8192)  # fast to slow
    cms_rate: float | tuple[float, ...] | None = None  # for all levels, or one each; None: 0.1 / chunk size
    nested_rate: float = 0.1  # share of a level's result that its starting point takes over (nested only)
    order: str = "fast_to_slow"  # the figure and [S 14]; [P 73] counts the slow level first
    signal: str = "task"  # the model's own loss on tokens just seen; the paper names none
    rule: str = "gd"  # with a small signal "dgd" [S] erases pre-trained weights along their inputs
    variant: str = "sequential"  # [P 73]; [P 72] and [P 74] are the others

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
        for name in ("width", "heads", "memory_chunk_size", "projection_chunk_size"):
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

    def replace(self, **changes: Any) -> HopeConfig:
        """A copy with these options changed, validated anew."""
        return self.from_dict({**self.to_dict(), **changes})

    def to_dict(self) -> dict[str, Any]:
        """Every option by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_dict(cls, options: dict[str, Any]) -> HopeConfig:
        """The configuration with these options, the others at their defaults; an unknown name is an error."""
        known = [field.name for field in fields(cls)]
        unknown = [str(name) for name in options if name not in known]
        if unknown:
            raise ValueError(f"unknown option {', '.join(unknown)}; known: {', '.join(known)}")
        return cls(**options)

    def to_json(self) -> str:
        """Every option as JSON text."""
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_json(cls, text: str) -> HopeConfig:
        """The configuration that `to_json` wrote; anything but one JSON object is an error."""
        try:
            options = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"text must be JSON: {error}") from error
        if not isinstance(options, dict):
            raise ValueError(f"text must be one JSON object, got {type(options).__name__}")
        return cls.from_dict(options)


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
