"""A long stream through one model: does its state stay finite and bounded, and its memory constant? Is it reproducible?

``python -m hope_ref soak``. Its exit status judges the state alone; whether rounding grows is reported (`reproducibility`).
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hope_ref.common.assignment import add_set
from hope_ref.common.validation import positive_integer
from hope_ref.config import HopeConfig
from hope_ref.laboratory import reproducibility
from hope_ref.laboratory.reproducibility import CUT, LEAST, LIMIT, PIECE, Drift, Reproducibility
from hope_ref.parallel.hope import Hope
from hope_ref.parallel.ops import flushed_denormals
from hope_ref.parallel.sizes import check_fits, parameter_count
from hope_ref.parallel.states import flattened

SIGNALS = ("none", "task", "associative")
VOCABULARY = 256
DEFAULTS = {"width": 64, "blocks": 1, "vocabulary": VOCABULARY}
TWINS = 40 * PIECE  # tokens that are compared with twins, unless another number is set
OPEN = re.compile(r"\.(sum|gram)[12]$")


class Mark(NamedTuple):
    """The state after some tokens."""

    tokens: int
    largest: (
        float  # entry of any memory, level or kept input, in absolute value; infinite if one is not finite
    )
    numbers: int  # in the whole state
    loss: float  # mean over the stretch, nats per token: the stream is random, so about log(vocabulary) or above


def soak(
    tokens: int = 1_000_000,
    *,
    signal: str = "none",
    width: int = 64,
    blocks: int = 1,
    vocabulary: int = VOCABULARY,
    stretch: int = 4096,
    marks: int = 10,
    seed: int = 0,
    report: Any = None,
    **options: Any,
) -> list[Mark]:
    """Stream random tokens through a model with the default options and measure its state at ``marks`` places.

    Args:
        tokens, width, blocks, vocabulary, stretch, marks: integers >= 1; a stretch is read in one call.
        signal: "none": the self-modifying Titans alone move; "associative": the levels, too, in the forward pass;
            "task": they follow the model's own loss, by `adapt`.
        seed: of parameters and stream.
        report: called with every `Mark` as it comes.
        options: of `HopeConfig`.
    Returns:
        the marks; a state that is not finite ends the stream.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    sizes = {"tokens": tokens, "stretch": stretch, "marks": marks}
    tokens, stretch, marks = (positive_integer(n, v) for n, v in sizes.items())
    model = random_model(
        **options, width=width, vocabulary=vocabulary, blocks=blocks, seed=seed, signal=signal
    )
    generator = torch.Generator().manual_seed(seed)
    state, found, read, loss, counted = None, [], 0, 0.0, 0
    while read < tokens:
        part = torch.randint(vocabulary, (min(stretch, tokens - read),), generator=generator)
        logits, state = reproducibility.read(model, part, state)
        loss += float(torch.nn.functional.cross_entropy(logits[:-1], part[1:], reduction="sum"))
        before, read, counted = read, read + len(part), counted + len(part) - 1
        if read * marks // tokens > before * marks // tokens:
            leaves = {
                name: leaf
                for name, leaf in flattened(state).items()
                if isinstance(leaf, torch.Tensor) and leaf.is_floating_point()
            }
            # What an open chunk has summed up so far depends on how far it is: it is no weight yet.
            weights = [leaf for name, leaf in leaves.items() if not OPEN.search(name) and leaf.numel()]
            finite = all(bool(torch.isfinite(leaf).all()) for leaf in weights)
            largest = max(float(leaf.abs().max()) for leaf in weights) if finite else float("inf")
            found.append(
                Mark(read, largest, sum(leaf.numel() for leaf in leaves.values()), loss / max(counted, 1))
            )
            loss, counted = 0.0, 0
            if report is not None:
                report(found[-1])
            if largest == float("inf"):
                break
    return found


def random_model(**options: Any) -> Hope:
    """An untrained model. Raises: ValueError, as `HopeConfig`, or if it does not fit into memory."""
    config = HopeConfig.from_dict(options)
    check_fits("width, blocks or vocabulary", 4 * parameter_count(config), torch.device("cpu"))
    return Hope(config)


def random_tokens(vocabulary: int, tokens: int, seed: int) -> Tensor:
    """A random stream, (T,), from a generator of its own."""
    return torch.randint(vocabulary, (tokens,), generator=torch.Generator().manual_seed(seed))


def passed(found: list[Mark]) -> bool:
    """Finite, no larger at the end than ten times what it was at the first mark, and of constant size."""
    first, last = found[0], found[-1]
    bounded = last.largest < float("inf") and last.largest <= 10 * first.largest
    return bounded and len({mark.numbers for mark in found}) == 1


def in_words(twins: Reproducibility, default: bool = False) -> str:
    """What became of rounding, line by line; ``default``: the model has its default size and options."""
    lines = []
    for drift, what in (
        (twins.float32, "read in float32"),
        (twins.cut, f"cut every {CUT} tokens"),
    ):
        lines.append(
            f"  {what}: {_left(drift)}; largest error {drift.largest:.1e}, at the end {drift.last:.1e}"
        )
    grows = (
        f"differences double every {twins.doubling:.0f} tokens"
        if twins.chaotic
        else "differences do not grow"
    )
    lines.append(f"  largest Lyapunov exponent {1000 * twins.exponent:+.3f} per 1,000 tokens: {grows}")
    if twins.reproducible:
        verdict = f"reproducible to {LIMIT:g}" + (" so far, but chaotic" if twins.chaotic else "")
    else:
        whose = "a default model" if default else "this model"
        verdict = f"NOT REPRODUCIBLE: rounding changes the outputs of {whose}"
    return "\n".join(
        [f"{verdict}. {twins.tokens} tokens beside the same in float64, cut every {PIECE}:", *lines]
    )


def _left(drift: Drift) -> str:
    if drift.left is None:
        return f"never beyond {LIMIT:g}"
    return f"beyond {LIMIT:g} at token {drift.left}"


def add_arguments(sub: argparse.ArgumentParser) -> None:
    """What ``python -m hope_ref soak`` takes."""
    sub.add_argument("--tokens", type=int, default=1_000_000, metavar="N", help="default 1000000")
    sub.add_argument("--signal", default="none", choices=SIGNALS, help="what moves the levels (none)")
    for name, default in {**DEFAULTS, "seed": 0}.items():
        sub.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"default {default}")
    add_set(sub, "another option of HopeConfig, e.g. memory_chunk_size=32; may be given again")
    sub.add_argument(
        "--twins",
        type=int,
        default=TWINS,
        metavar="N",
        help=f"compare so many tokens with twins that round elsewhere ({TWINS}); fewer than {LEAST}: none",
    )


@flushed_denormals()
def main(arguments: argparse.Namespace) -> int:
    """Print the marks; exit 1 if the state did not stay finite, bounded and constant in size, 2 on bad input."""
    start = time.perf_counter()
    sizes = {name: getattr(arguments, name) for name in (*DEFAULTS, "seed", "signal")}
    options = dict(arguments.set)
    default = not options and all(sizes[name] == value for name, value in DEFAULTS.items())

    def report(mark: Mark) -> None:
        speed = mark.tokens / (time.perf_counter() - start)
        left = int((arguments.tokens - mark.tokens) / speed)
        print(
            f"{mark.tokens:>9} tokens  largest entry {mark.largest:8.3g}  {mark.numbers} numbers  "
            f"{mark.loss:.3f} nats per token  {speed:7.0f} tokens/s  {left // 60}:{left % 60:02d} left",
            flush=True,
        )

    try:
        if repeated := sorted(options.keys() & sizes.keys()):
            raise ValueError(f"set must not name what has an option of its own, got {', '.join(repeated)}")
        model = random_model(**sizes, **options)
        check_fits("tokens", 8 * min(arguments.twins, arguments.tokens), torch.device("cpu"))
        found = soak(arguments.tokens, report=report, **sizes, **options)
    except ValueError as error:
        own = str(error).split()[0] in ("tokens", "set", *sizes)
        print(f"--{error}" if own else f"--set: {error}", file=sys.stderr)
        return 2
    print("finite, bounded, constant in size" if passed(found) else "FAILED: the state did not stay bounded")
    compared = min(arguments.twins, arguments.tokens)
    if compared >= LEAST:
        stream = random_tokens(arguments.vocabulary, compared, arguments.seed)
        print(in_words(reproducibility.measure(model, stream), default))
    return 0 if passed(found) else 1
