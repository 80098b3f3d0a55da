"""What the self-modifying Titans cost, against what they could cost: one run, side by side. `python -m hope_ref bench`.

Compared are, in turns within one run, so that a busy machine disturbs all alike:

* the NumPy token loop, float64, which states the equations;
* the chunk-parallel form, forward, and forward with backward, float32;
* the **ceiling**: one large matrix product (T, d) @ (d, d), repeated until it has done the FLOPs that the exact chunk
  form cannot do without (`hope_ref.symbolic.flops.chunk_flops`); three times as many for forward with backward;
* on CUDA, the gated delta rule by every backend, and what the device itself reaches (`hope_ref.benchmarks.kernels`);
* a causal softmax-attention layer of the same width (projections q, k, v, o), the yardstick of the field.

With ``--updates`` nothing of that, but what it costs toy models to be trained through the updates of their levels
(`hope_ref.benchmarks.steps`), written to results/benchmark_updates.json. With ``--gain``, what one gain for five linear
memories saves (`hope_ref.benchmarks.shared_gain`), written to results/benchmark_gain.json.

Durations are reported, never asserted. The results go to results/benchmark_<device>_<width>.json, after each measurement.
"""

from __future__ import annotations

import argparse
import platform
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hope_ref import __version__
from hope_ref.benchmarks import kernels as benchmark_kernels
from hope_ref.benchmarks import peers as benchmark_peers
from hope_ref.benchmarks import shared_gain as benchmark_gain
from hope_ref.benchmarks import steps as benchmark_steps
from hope_ref.benchmarks.peers import spread, turn_by_turn
from hope_ref.benchmarks.runs import Attention, Hope, ceiling, hold_pages, memory
from hope_ref.benchmarks.timing import Run as Run
from hope_ref.benchmarks.timing import in_turns as in_turns
from hope_ref.common.files import write_json
from hope_ref.common.outputs import replaceable
from hope_ref.common.progress import progress
from hope_ref.parallel.ops import flushed_denormals
from hope_ref.parallel.self_modifying_titans import self_modifying_titans
from hope_ref.parallel.sizes import check_fits

LOOP_TOKENS = 64  # of the NumPy loop: enough for a time per token
DEVICES = ("cpu", "cuda")
Written = Callable[[dict[str, Any]], Any]


def add_arguments(sub: argparse.ArgumentParser) -> None:
    """The options of ``bench``."""
    sub.add_argument("--device", choices=DEVICES, default="cpu", help="where to measure (default: cpu)")
    sub.add_argument(
        "--width", type=int, default=256, metavar="D", help="width of the one head (default: 256)"
    )
    sub.add_argument(
        "--tokens", type=int, default=2048, metavar="T", help="length of the stream (default: 2048)"
    )
    sub.add_argument("--chunk-size", type=int, default=64, metavar="C", help="tokens per chunk (default: 64)")
    sub.add_argument(
        "--repeats", type=int, default=7, metavar="N", help="how often each is timed (default: 7)"
    )
    sub.add_argument(
        "--threads", type=int, default=1, metavar="N", help="CPU threads of PyTorch (default: 1)"
    )
    sub.add_argument("--quick", action="store_true", help="toy sizes, one repeat: does it run at all?")
    sub.add_argument("--full", action="store_true", help="time per token up to 65536 tokens")
    sub.add_argument(
        "--compile",
        action="store_true",
        help="also C = 1, and one chunk of the kernels' rule, under torch.compile: minutes",
    )
    sub.add_argument(
        "--peers", metavar="PYTHON", help="also nested-learning and titans-pytorch, with this Python"
    )
    sub.add_argument(
        "--kernels", action="store_true", help="also the gated delta rule by every backend (on CUDA: always)"
    )
    instead = sub.add_mutually_exclusive_group()
    instead.add_argument(
        "--updates",
        action="store_true",
        help="instead, a training step through the updates of the levels, beside an ordinary one",
    )
    instead.add_argument(
        "--gain",
        action="store_true",
        help="instead, one gain for five linear memories, beside five recurrences",
    )
    sub.add_argument(
        "--results", type=Path, default=Path("results"), metavar="FOLDER", help="where the JSON goes"
    )


def main(arguments: argparse.Namespace) -> int:
    """Measure, write the JSON, print the table; returns the exit status."""
    problem = _problem(arguments)
    if problem:
        print(problem, file=sys.stderr)
        return 2
    if arguments.quick:
        arguments.width, arguments.tokens, arguments.chunk_size, arguments.repeats = 16, 64, 16, 1
    name = "gain" if arguments.gain else f"{arguments.device}_{arguments.width}"
    name = "updates" if arguments.updates else name
    path = arguments.results / f"benchmark_{name}.json"
    try:
        replaceable("results", path, '"what"', '"hope_ref"')
        if arguments.updates or arguments.gain:
            record = (of_updates if arguments.updates else of_gain)(arguments)
        else:
            record = measure(arguments, lambda so_far: write_json(path, so_far))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    write_json(path, record)
    special = {"updates": benchmark_steps.lines, "gain": benchmark_gain.lines}
    print("\n".join(special[name](record)) if name in special else table(record))
    print(f"\n{path}")
    return 0


def _problem(arguments: argparse.Namespace) -> str:
    """What is wrong with the options, or nothing."""
    for name in ("width", "tokens", "chunk_size", "repeats", "threads"):
        value = getattr(arguments, name)
        if value < 1:
            return f"--{name.replace('_', '-')} must be >= 1, got {value}"
    least = 4 * (
        12 * arguments.width**2 + 8 * arguments.tokens * arguments.width
    )  # weights of a layer, and its activations
    try:
        check_fits("--width or --tokens", least, torch.device("cpu"))
    except ValueError as error:
        return str(error)
    for what in ("updates", "gain"):
        if getattr(arguments, what) and arguments.device == "cuda":
            return f"--{what} must be measured on cpu, got --device cuda"
    if arguments.device == "cuda" and not torch.cuda.is_available():
        return "--device cuda: PyTorch sees no CUDA device here; choose cpu"
    return ""


@flushed_denormals()  # a denormal number is a hundred times slower than 0
def measure(
    arguments: argparse.Namespace, written: Written | None = None, with_kernels: bool = True
) -> dict[str, Any]:
    """Everything of one run, as data for JSON; ``written`` is called with what there is after each measurement.

    ``with_kernels``: else `hope_ref.benchmarks.kernels` is left out on CUDA, too.
    """
    written = written or (lambda record: None)
    torch.set_num_threads(arguments.threads)
    holds = hold_pages(2**30)
    width, tokens, chunk_size = arguments.width, arguments.tokens, arguments.chunk_size
    hope = Hope(width, chunk_size, arguments.device)
    work = hope.flops(tokens)
    timed = compare(hope, work, tokens, arguments)
    lengths = (tokens // 4, tokens // 2, tokens)
    if not arguments.quick:
        lengths = tuple(2**k for k in range(10, 17 if arguments.full else 13))
    sizes = sorted({size for size in (1, 4, 16, 64, 256, chunk_size) if size <= tokens})
    record: dict[str, Any] = {
        "what": "self-modifying Titans, one head, no layer around it, default options; B = 1",
        **_where(arguments),
        "settings": {
            "width": width,
            "tokens": tokens,
            "chunk_size": chunk_size,
            "repeats": arguments.repeats,
            "dtype": "float32, NumPy loop float64",
            "denormals_flushed": True,
            "allocator_keeps_pages": holds,
        },
        "flops": {"forward": work, "forward and backward": 3 * work},
        "timed": {name: _summary(seconds) for name, seconds in timed.items()},
        "ratios": ratios(timed, tokens),
    }
    given = arguments.device, arguments.repeats, arguments.quick, in_turns
    rest: dict[str, Run] = {
        "by_tokens": lambda: [by_tokens(hope, n, arguments) for n in progress(lengths, "by tokens")],
        "by_chunk_size": lambda: [
            by_chunk_size(width, size, min(tokens, 512), arguments)
            for size in progress(sizes, "by chunk size")
        ],
        "memory": lambda: memory(arguments),
    }
    if arguments.full:
        rest["long_stream"] = lambda: long_stream(hope, arguments)
    if arguments.peers:
        rounds = max(1, arguments.repeats // 2)
        rest["peers"] = lambda: benchmark_peers.measure(
            arguments.peers, width, tokens, chunk_size, arguments.threads, rounds
        )
    if with_kernels and (arguments.device == "cuda" or arguments.kernels):
        rest["ceilings"] = lambda: benchmark_kernels.ceilings(*given)
        rest["kernels"] = lambda: benchmark_kernels.measure(*given)
    if arguments.compile:  # last: it may take minutes
        rest["compiled"] = lambda: compiled(width, arguments)
        if "kernels" in rest:
            rest["compiled_kernels"] = lambda: benchmark_kernels.measure(*given, ("compiled",))
    for name, run in rest.items():
        written(record)
        record[name] = run()
    return record


def of_updates(arguments: argparse.Namespace) -> dict[str, Any]:
    """A training step through the updates of the levels, beside an ordinary one, as data for JSON."""
    what = "a training step of toy models, width 32: through the updates of the levels, and with levels held still"
    return _special(what, "models", benchmark_steps.measure, arguments)


def of_gain(arguments: argparse.Namespace) -> dict[str, Any]:
    """One gain for five linear memories, beside five recurrences, as data for JSON."""
    what = "five linear memories without the skip: moved by one gain, by five states behind one solve, one after another"
    return _special(what, "widths", benchmark_gain.measure, arguments)


@flushed_denormals()
def _special(
    what: str, of: str, measured: Callable[..., Any], arguments: argparse.Namespace
) -> dict[str, Any]:
    """The record of a measurement that stands in the place of all others; ``of`` names its results."""
    torch.set_num_threads(arguments.threads)
    holds = hold_pages(2**30)
    return {
        "what": what,
        **_where(arguments),
        "settings": {
            "repeats": arguments.repeats,
            "dtype": "float32",
            "denormals_flushed": True,
            "allocator_keeps_pages": holds,
        },
        of: measured(arguments.repeats, arguments.quick, in_turns),
    }


# --- what is timed --------------------------------------------------------------------------------------------------


def compare(hope: Hope, work: int, tokens: int, arguments: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of each, in turns; the ceiling's are scaled to exactly the forward FLOPs, the loop's to all tokens."""
    x, attention = hope.views(tokens), Attention(arguments.width, arguments.device)
    products, share = ceiling(work, tokens, arguments.width, arguments.device)
    loop_tokens = min(tokens, LOOP_TOKENS)
    runs: dict[str, Run] = {
        "ceiling": products,
        "forward": lambda: hope.forward(x),
        "forward and backward": lambda: hope.forward_backward(x),
        "attention forward": lambda: attention.forward(x[0]),
        "attention forward and backward": lambda: attention.forward_backward(x[0]),
        "NumPy loop": lambda: hope.loop(loop_tokens),
    }
    seconds = in_turns(runs, arguments.repeats, arguments.device)
    scale = {"ceiling": share, "NumPy loop": tokens / loop_tokens}
    return {name: [scale.get(name, 1.0) * s for s in found] for name, found in seconds.items()}


def ratios(timed: dict[str, list[float]], tokens: int) -> dict[str, dict[str, float]]:
    """Each turn's own ratios: of the ceiling to what was reached, and of others' times to that of the chunks."""
    pairs = {
        "forward, share of the ceiling": ("ceiling", "forward", 1),
        "forward and backward, share of the ceiling": ("ceiling", "forward and backward", 3),
        "NumPy loop over forward": ("NumPy loop", "forward", 1),
        "forward over attention": ("forward", "attention forward", 1),
        "forward and backward over attention": ("forward and backward", "attention forward and backward", 1),
    }
    found = {}
    for name, (above, below, factor) in pairs.items():
        found[name] = turn_by_turn(timed[above], timed[below], factor)
    return found


def by_tokens(hope: Hope, tokens: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Microseconds per token of forward, for a stream of so many tokens: constant here, growing for attention."""
    x, attention = hope.views(tokens), Attention(arguments.width, arguments.device)
    runs = {"hope": lambda: hope.forward(x), "attention": lambda: attention.forward(x[0])}
    seconds = in_turns(runs, max(1, arguments.repeats // 3), arguments.device)
    return {"tokens": tokens, **{f"{n}_us_per_token": 1e6 * median(s) / tokens for n, s in seconds.items()}}


def long_stream(hope: Hope, arguments: argparse.Namespace) -> dict[str, Any]:
    """Time per token of forward over a long stream, as a multiple of that over a short one: pairs, in turns."""
    short, long = (64, 256) if arguments.quick else (2048, 65536)
    few, many = hope.views(short), hope.views(long)
    runs: dict[str, Run] = {"short": lambda: hope.forward(few), "long": lambda: hope.forward(many)}
    seconds = in_turns(runs, arguments.repeats, arguments.device)
    found = [b / long / (a / short) for a, b in zip(seconds["short"], seconds["long"], strict=True)]
    return {"short": short, "long": long, "ratio_per_token": spread(found)}


def by_chunk_size(width: int, chunk_size: int, tokens: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Microseconds per token of forward in chunks of this size. Another chunk size is another model, too."""
    hope = Hope(width, chunk_size, arguments.device)
    x = hope.views(tokens)
    runs = {"": lambda: hope.forward(x)}
    seconds = in_turns(runs, max(1, arguments.repeats // 3), arguments.device)[""]
    return {"chunk_size": chunk_size, "tokens": tokens, "us_per_token": 1e6 * median(seconds) / tokens}


def compiled(width: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Microseconds per token at C = 1, one token per call with its state: as it is, and under torch.compile."""
    hope = Hope(width, 1, arguments.device)
    x_key, x_value, x_query = hope.views(1)

    def one(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        return self_modifying_titans(x, y, z, hope.parameters, hope.config)[0]

    fast = torch.compile(one)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler's own, on caches and deprecations
        runs: dict[str, Run] = {
            "eager": lambda: one(x_key, x_value, x_query),
            "compiled": lambda: fast(x_key, x_value, x_query),
        }
        seconds = in_turns(runs, 10 * arguments.repeats, arguments.device)
    return {f"{name}_us": 1e6 * median(found) for name, found in seconds.items()}


# --- the record -----------------------------------------------------------------------------------------------------


def _summary(seconds: list[float]) -> dict[str, Any]:
    return {"seconds": seconds, **spread(seconds)}


def _where(arguments: argparse.Namespace) -> dict[str, Any]:
    """The machine, and what ran on it."""
    return {
        "device": {
            "kind": arguments.device,
            "name": _device_name(arguments.device),
            "threads": arguments.threads,
        },
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "hope_ref": __version__,
        },
    }


def _device_name(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def table(record: dict[str, Any]) -> str:
    """The record for people."""
    device, settings = record["device"], record["settings"]
    lines = [
        f"{device['name']}, {device['kind']}, {device['threads']} thread(s), PyTorch {record['versions']['torch']}",
        f"d = {settings['width']}, T = {settings['tokens']}, C = {settings['chunk_size']}, five memories, one head, "
        f"{record['flops']['forward'] / 1e9:.3g} GFLOP forward",
        "",
        f"{'milliseconds':<44}{'median':>10}{'min':>10}{'max':>10}",
    ]
    for name, found in record["timed"].items():
        lines.append(
            f"{name:<44}" + "".join(f"{1e3 * found[key]:>10.2f}" for key in ("median", "min", "max"))
        )
    lines += ["", f"{'ratio, turn by turn':<44}{'median':>10}{'min':>10}{'max':>10}"]
    for name, found in record["ratios"].items():
        lines.append(f"{name:<44}" + "".join(f"{found[key]:>10.2f}" for key in ("median", "min", "max")))
    lines += ["", f"{'microseconds per token, forward':<44}{'chunks':>10}{'attention':>10}"]
    for row in record["by_tokens"]:
        numbers = (row["hope_us_per_token"], row["attention_us_per_token"])
        lines.append(f"T = {row['tokens']:<40}" + "".join(f"{number:>10.1f}" for number in numbers))
    for row in record["by_chunk_size"]:
        lines.append(f"C = {row['chunk_size']:<40}{row['us_per_token']:>10.1f}")
    if "long_stream" in record:
        found = record["long_stream"]
        ratio = f"{found['ratio_per_token']['median']:.3f}"
        lines.append(f"time per token at T = {found['long']} over that at T = {found['short']}: {ratio}")
    found = record["memory"]
    lines += ["", f"peak memory of forward and backward ({found['how']}):"]
    lines += [f"  {name:<42}{found[f'{name}_bytes'] / 2**20:>10.1f} MiB" for name in ("plain", "recompute")]
    if "peers" in record:
        lines += benchmark_peers.lines(record["peers"])
    if "ceilings" in record:
        lines += benchmark_kernels.ceiling_lines(record["ceilings"])
    for name in ("kernels", "compiled_kernels"):
        lines += benchmark_kernels.lines(record[name]) if name in record else []
    if "compiled" in record:
        eager, fast = record["compiled"]["eager_us"], record["compiled"]["compiled_us"]
        lines += ["", f"one token at C = 1: {eager:.0f} µs, compiled {fast:.0f} µs"]
    return "\n".join(lines)
