"""The laboratory: how large the states of the self-modifying Titans grow over a stream, under every option.

Everything here is measured with the reference floor, in float64; what overflows is the measurement, not an error.
`hope_ref.laboratory.skip_free` has the linear memories without the skip, in which the rule itself can be seen.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from hope_ref.common.validation import Array, float64, one_of, positive_integer
from hope_ref.config import CHOICES, HopeConfig, weight_names
from hope_ref.reference.parameters import init_memories, random_parameters
from hope_ref.reference.self_modifying_titans import (
    State,
    answer,
    at_boundary,
    generate,
    of,
    self_modifying_titans,
    write_all,
)

Arrays = dict[str, Array]

# --- one stream -----------------------------------------------------------------------------------------------------


class Trace(NamedTuple):
    """What one stream did to the states. Frobenius norms; NaN after an overflow.

    Attributes:
        norms: ‖W_t‖ by weight, (T + 1,): before the first token and after each.
        drift: ‖W_t - W_0‖ by weight, (T + 1,).
        errors: ‖M_b(k_t) - v̂_t‖ by memory that writes, (T,): what the write is to put right, at the boundary.
        room: `farthest_after` one write, and (1 - α) ‖R - E‖, minus ‖W_t - E‖, by weight that writes, (T,), where E is what
            the erase measures from: W_0 with ``erase="deviation"``, else 0; empty without a bound c.
        eta: by memory, (T,).
        alpha: the retention, (T,).
        alpha_learned: what the memory M_α adds to α's logit, beyond the bias and the bare token, (T,).
        overflow: the first token, counted from 0, after which a weight or the output is not finite; None: none.
    """

    norms: Arrays
    drift: Arrays
    errors: Arrays
    room: Arrays
    eta: Arrays
    alpha: Array
    alpha_learned: Array
    overflow: int | None


def norm(array: Array) -> float:
    """Frobenius norm that overflows only where an entry nearly does: 1e200 does not become infinite."""
    squares = float(np.vdot(array, array))
    if 1e-200 < squares < 1e200:  # nothing was lost: no scaling is needed
        return math.sqrt(squares)
    largest = float(np.abs(array).max(initial=0.0))
    if largest == 0 or not np.isfinite(largest):
        return largest
    return largest * math.sqrt(float(((array / largest) ** 2).sum()))


def measure(config: HopeConfig, parameters: Arrays, stream: Any) -> Trace:
    """Run the self-modifying Titans over one stream, all three views the token itself, and measure every state.

    Args: config; parameters as `init_memories` or `random_parameters` makes them; stream, (T, d).
    Returns: a `Trace`; after the first token that overflows nothing more is computed.
    Raises: ValueError, naming the argument, what it got and what it wants.
    """
    x = float64("stream", stream, ("T", "d"))
    _, state = self_modifying_titans(x[:0], x[:0], x[:0], parameters, config)  # checks, and starts
    length, root = len(x), math.sqrt(x.shape[1])
    written = [name for memory in config.writers for name in weight_names(memory, config)]
    trace = Trace(
        norms=_empty(state.weights, length + 1),
        drift=_empty(state.weights, length + 1),
        errors=_empty(config.writers, length),
        room=_empty(written if config.surprise_bound > 0 else (), length),
        eta=_empty(config.memories, length),
        alpha=np.full(length, np.nan),
        alpha_learned=np.full(length, np.nan),
        overflow=None,
    )
    _record(trace, 0, state, parameters)
    with np.errstate(over="ignore", invalid="ignore"):  # seen in the trace
        for t in range(length):
            frozen = at_boundary(state, config)
            token = generate(x[t], x[t], x[t], parameters, config, frozen)
            weights, momentum = write_all(token, parameters, config, frozen, state)
            source = {"post": weights, "pre": state.weights, "boundary": frozen}[config.read]
            state = State(weights, frozen, momentum, state.position + 1)
            said = answer(of(frozen, "alpha", config), x[t], skip=False)
            trace.alpha[t], trace.alpha_learned[t] = token.alpha, parameters["alpha_readout"] @ said / root
            for memory in config.memories:
                trace.eta[memory][t] = token.eta[memory]
            for memory in config.writers:
                own = of(frozen, memory, config)
                target = answer(own, token.v) if config.target == "self" else token.v  # v̂
                trace.errors[memory][t] = norm(answer(own, token.k) - target)
            _record(trace, t + 1, state, parameters)
            for name in trace.room:
                trace.room[name][t] = _room(trace, t, name, norm(parameters[name]), config)
            output = answer(of(source, "memory", config), token.q, skip=config.read_skip)
            if not all(np.isfinite(array).all() for array in (*weights.values(), output)):
                return trace._replace(overflow=t)
    return trace


def _empty(names: Iterable[str], length: int) -> Arrays:
    return {name: np.full(length, np.nan) for name in names}


def _record(trace: Trace, at: int, state: State, parameters: Arrays) -> None:
    for name, weight in state.weights.items():
        trace.norms[name][at], trace.drift[name][at] = norm(weight), norm(weight - parameters[name])


def _room(trace: Trace, t: int, name: str, initial: float, config: HopeConfig) -> float:
    """What the proved bound leaves: `farthest_after` this write, and (1 - α) ‖R - E‖, minus ‖W_t - E‖."""
    memory = name.split("_", 1)[1]
    forgets = memory == "memory" or config.retention_scope == "all"
    from_start = config.erase == "deviation"  # E is W_0, else 0; R is W_0 or 0
    apart = 0.0 if from_start == (config.retention_target == "initial") else initial  # ‖R - E‖
    alpha = float(trace.alpha[t]) if forgets else 1.0
    away = (trace.drift if from_start else trace.norms)[name]
    reach = farthest_after(
        float(away[t]), float(trace.eta[memory][t]), alpha, config.surprise_bound, config.erase != "none"
    )
    return float(reach + (1 - alpha) * apart - away[t + 1])


def farthest_after(distance: float, eta: float, alpha: float, bound: float, erases: bool = True) -> float:
    """How far W can be from E after one implicit write of a surprise shorter than c, if it was so far before and E = R.

    ‖W_t - E‖² < α² ‖W_{t-1} - E‖² + η α c² / 2 for α >= ½ (`self_modifying_titans.square_growth`, over all inputs), and
    ‖W_t - E‖ < α ‖W_{t-1} - E‖ + c √η / 2 (`longest_write`): the lesser of the two. Below ½, and where nothing is erased,
    the second alone, whose α is 1 below ½ for an erase.

    Args: distance, ‖W_{t-1} - E‖; eta, the rate before the implicit step; alpha, retention in [0, 1]; bound, c; erases, False
        for ``erase="none"``.
    """
    if erases and alpha < 0.5:
        return distance + bound * math.sqrt(eta) / 2
    added = alpha * distance + bound * math.sqrt(eta) / 2
    return min(added, math.hypot(alpha * distance, bound * math.sqrt(alpha * eta / 2))) if erases else added


def farthest(eta: float, alpha: float, bound: float, tokens: float = math.inf) -> float:
    """How far W can get from E = R in so many tokens from there, with rates of at most ``eta``, and α in [½, 1].

    c √(η α (1 - α^2T) / (2 (1 - α²))): without end for α = 1, where it is c √(η T / 2). It takes inputs as short as they
    please; with ‖φ‖ = 1 it is at most c √T, whatever η is. No bound on η, no bound on W: softplus has none.
    """
    if not 0.5 <= alpha <= 1:
        raise ValueError(f"alpha must be in [0.5, 1], got {alpha}")
    squares = tokens if alpha == 1 else (1 - alpha ** (2 * tokens)) / (1 - alpha**2)
    return bound * math.sqrt(eta * alpha * squares / 2)


def growth_is_proved(config: HopeConfig) -> bool:
    """Whether ‖W_t - E‖ <= `farthest_after` + (1 - α) ‖R - E‖ is proved: bounded surprises, implicit steps, no inner momentum.

    E is what the erase measures from, W_0 or 0. W - E obeys one recurrence in all cases, whose erase shortens it, and no
    erase leaves it. With R = E the term of the retention is gone, and squares add up: √T at α = 1.
    """
    return config.surprise_bound > 0 and config.step == "implicit" and config.inner_momentum == 0


def random_stream(length: int, width: int, seed: int) -> Array:
    """Tokens ~ N(0, 1), (T, d), from a generator of their own."""
    return np.random.default_rng([seed, 1]).normal(size=(length, width))


# --- every option, one at a time ------------------------------------------------------------------------------------

WIDTH = 16
STARTS = ("init", "random")
SHARES_OUT = ("heads", "input_projection", "convolution_width")  # split or feed the memories in a layer
CONTINUUM = (
    "levels_chunk_sizes",
    "cms_rate",
    "learned_rates",
    "nested_rate",
    "order",
    "signal",
    "rule",
    "variant",
)
AROUND = ("vocabulary", "blocks", "mixer", "window", "beta_max", "gated", "seed")  # of the model around them
VALUES: dict[str, tuple[Any, ...]] = {
    "width": (8, 16, 32),
    "hidden": (None, 64),
    "memory_chunk_size": (1, 16, 64),
    "projection_chunk_size": (1, 16, 64),
    **{name: values for name, values in CHOICES.items() if name not in CONTINUUM + AROUND},
    **{name: (True, False) for name in ("value_norm", "read_skip", "adaptive_query")},
    "eta_max": (1.0, 2.0),
    "surprise_bound": (1.0, 0.0, 10.0),
    "writing": (None, ("memory",), ("k", "v", "eta", "alpha"), ()),
    "inner_momentum": (0.0, 0.5, 0.9),
    "eta_init": ((0.7, 0.1), (0.9, 0.5)),
    "alpha_init": (0.999, 0.9),
    "memory_w1_std": (0.0, 0.1),
}  # every option of the self-modifying Titans; the others are in SHARES_OUT, CONTINUUM and AROUND

GROWN = 1e3  # a norm above so many times the largest initial norm: "grows"
FADED = 0.1  # a weight below this share of its initial norm: "erased"


class Row(NamedTuple):
    """One option value over several seeds."""

    option: str  # "base" for the base itself
    value: str
    base: str  # "default" or "printed"
    seeds: int
    overflows: int  # seeds that overflowed
    first: int | None  # the first token after which one of them did
    largest: float  # largest finite norm of any weight
    least_kept: float  # least ‖W_T‖ / ‖W_0‖ of a weight that starts from more than 0, over the seeds that stay finite; NaN: none
    verdict: str


def survey(
    tokens: int = 80, seeds: int = 3, option: str | None = None, start: str = "init", width: int = WIDTH
) -> list[Row]:
    """Measure `HopeConfig()` and `HopeConfig.printed()`, and every other value of every option, one at a time.

    Args:
        tokens, seeds, width: how long, how often (seeds 0, 1, …) and how wide; integers >= 1.
        option: only this one; None: all.
        start: "init" or "random", whose parameters.
    Returns:
        rows, each base first.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    tokens, seeds, width = (
        positive_integer(n, v) for n, v in (("tokens", tokens), ("seeds", seeds), ("width", width))
    )
    one_of("start", start, STARTS)
    if option is not None:
        one_of("option", option, tuple(VALUES))
    rows = []
    for base, config in (("default", HopeConfig(width=width)), ("printed", HopeConfig.printed(width=width))):
        rows.append(_row("base", "", base, config, tokens, seeds, start))
        for name in VALUES if option is None else (option,):
            others = (value for value in VALUES[name] if value != getattr(config, name))
            for value in others:
                changed = config.replace(**{name: value})
                rows.append(_row(name, _shown(value), base, changed, tokens, seeds, start))
    return rows


def _row(option: str, value: str, base: str, config: HopeConfig, tokens: int, seeds: int, start: str) -> Row:
    traces = [
        measure(config, started(config, seed, start), random_stream(tokens, config.width, seed))
        for seed in range(seeds)
    ]
    overflows = [trace.overflow for trace in traces if trace.overflow is not None]
    largest = max(_largest(trace) for trace in traces)
    kept = [share for t in traces if t.overflow is None for share in kept_shares(t).values()]
    first, least = min(overflows, default=None), min(kept, default=math.nan)
    return Row(option, value, base, seeds, len(overflows), first, largest, least, verdict(traces))


def started(config: HopeConfig, seed: int, start: str) -> Arrays:
    """Parameters of one head: `init`, where training starts, or `random_parameters`, in which everything matters."""
    one_of("start", start, STARTS)
    if start == "init":
        return init_memories(config, seed)
    return random_parameters(config, config.head_width, config.hidden_width, seed)


def kept_shares(trace: Trace) -> dict[str, float]:
    """‖W_T‖ / ‖W_0‖ of every weight that starts from more than 0."""
    return {name: float(along[-1] / along[0]) for name, along in trace.norms.items() if along[0] > 0}


def _largest(trace: Trace) -> float:
    return max(float(along[np.isfinite(along)].max()) for along in trace.norms.values())


def verdict(traces: list[Trace]) -> str:
    """What happened, in words: overflow by seeds; growth past GROWN; weights below FADED of their start; or steady."""
    broken = sum(trace.overflow is not None for trace in traces)
    if broken:
        return "overflows" if broken == len(traces) else f"overflows on {broken} of {len(traces)} seeds"
    grown = sum(_largest(t) > GROWN * max(float(along[0]) for along in t.norms.values()) for t in traces)
    if grown:
        return f"grows past {GROWN:g} times its start"
    shares = [kept_shares(trace) for trace in traces]
    faded = [name for name in shares[0] if all(share[name] < FADED for share in shares)]
    if len(faded) == len(shares[0]):
        return "erases everything"
    return f"erases {', '.join(faded)}" if faded else "steady"


def _shown(value: Any) -> str:
    return "(" + ", ".join(map(str, value)) + ")" if isinstance(value, tuple) else str(value)


# --- the command ----------------------------------------------------------------------------------------------------


def table(rows: list[Row]) -> str:
    """The survey as aligned columns."""
    head = (
        "base",
        "option",
        "value",
        "overflow",
        "first token",
        "largest norm",
        "least kept",
        "what happens",
    )
    lines = [head]
    for row in rows:
        first = "" if row.first is None else str(row.first)
        kept = "" if math.isnan(row.least_kept) else f"{row.least_kept:.2g}"
        counted = (f"{row.overflows} of {row.seeds}", first, f"{row.largest:.2g}", kept)
        lines.append((row.base, row.option, row.value, *counted, row.verdict))
    wide = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shape = "  ".join(f"{{:{'<' if i in (0, 1, 2, 7) else '>'}{size}}}" for i, size in enumerate(wide))
    return "\n".join(shape.format(*line).rstrip() for line in lines)


def add_arguments(sub: argparse.ArgumentParser) -> None:
    """What `python -m hope_ref stability` takes."""
    sub.add_argument("--tokens", type=int, default=80, metavar="N", help="length of the stream (80)")
    sub.add_argument("--seeds", type=int, default=3, metavar="N", help="seeds 0, 1, … (3)")
    sub.add_argument("--option", metavar="NAME", help="only this option, e.g. surprise_bound")
    sub.add_argument("--start", default="init", metavar="NAME", help=f"parameters: {' or '.join(STARTS)}")


def main(arguments: argparse.Namespace) -> int:
    """Print the survey; exit 2 on a bad argument."""
    try:
        rows = survey(arguments.tokens, arguments.seeds, arguments.option, arguments.start)
    except ValueError as error:
        print(f"--{error}", file=sys.stderr)
        return 2
    print(table(rows))
    return 0
