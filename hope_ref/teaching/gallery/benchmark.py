"""What the committed benchmark measured: the share of the ceiling, the time per token against the length and the chunk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from hope_ref.common.files import read_json
from hope_ref.config import HopeConfig
from hope_ref.symbolic import counts
from hope_ref.teaching.figures import BLUE, ORANGE, VERMILION, figure

RESULTS = Path(__file__).parents[3] / "results"
WIDTHS = (128, 256)


class Measured(NamedTuple):
    """One record of ``python -m hope_ref bench``, as far as it is drawn."""

    width: int
    device: str
    shares: dict[str, tuple[float, float, float]]  # forward, forward and backward -> median, min, max
    tokens: tuple[int, ...]
    ours: tuple[float, ...]  # microseconds per token
    attention: tuple[float, ...]


@contextmanager
def committed(width: int, folder: Path) -> Iterator[dict[str, Any]]:
    """The record of a width. Raises: OSError if it is not there; ValueError if it is damaged, or lacks what the block reads."""
    path = folder / f"benchmark_cpu_{width}.json"
    record = read_json(path)
    try:
        yield record
    except (LookupError, TypeError, ArithmeticError) as error:
        raise ValueError(f"{path} must be a record of python -m hope_ref bench: {error!r}") from error


def benchmark_data(folder: Path = RESULTS) -> tuple[Measured, ...]:
    """The committed CPU records. Raises: OSError if one is not there; ValueError if it is another file."""
    data = []
    for width in WIDTHS:
        with committed(width, folder) as record:
            shares = {
                name: (float(share["median"]), float(share["min"]), float(share["max"]))
                for name in ("forward", "forward and backward")
                for share in [record["ratios"][f"{name}, share of the ceiling"]]
            }
            rows = record["by_tokens"]
            columns = (
                [row[key] for row in rows]
                for key in ("tokens", "hope_us_per_token", "attention_us_per_token")
            )
            data.append(Measured(width, record["device"]["name"], shares, *map(tuple, columns)))
    return tuple(data)


@figure(
    "benchmark",
    alt="Left, bars: share of a plain matrix product's speed that the self-modifying Titans reach, two "
    "widths, one thread. Right, time per token against stream length, log axes: theirs is flat, softmax "
    "attention's rises and crosses it near 2¹⁴ tokens.",
    caption="Left: how close the chunks come to the machine's own limit. Right: a token costs the same "
    "after 64 thousand others, whereas attention pays for each of them.",
)
def benchmark(records: tuple[Measured, ...] | None = None) -> Figure:
    """Bars with their range, and lines."""
    records = records or benchmark_data()
    picture, (left, right) = plt.subplots(1, 2, figsize=(8.0, 3.8), width_ratios=(1, 1.4))
    for at, record in enumerate(records):
        for part, (middle, least, most) in enumerate(record.shares.values()):
            place = at + 0.38 * part
            left.bar(
                place,
                100 * middle,
                0.34,
                color=(BLUE, ORANGE)[part],
                hatch=("", "//")[part],
                edgecolor="white",
                label=("forward", "forward and backward")[part] if at == 0 else None,
            )
            left.plot([place, place], [100 * least, 100 * most], color="black")
    left.set_xticks([at + 0.19 for at in range(len(records))], [f"d = {record.width}" for record in records])
    left.legend(loc="upper left", fontsize=9)
    left.set_ylim(0, 100)
    left.set_ylabel("share of the ceiling (%)")
    wide = records[-1]
    right.plot(wide.tokens, wide.ours, "o-", color=BLUE)
    right.plot(wide.tokens, wide.attention, "s--", color=VERMILION)
    right.annotate(
        "self-modifying Titans",
        (wide.tokens[1], wide.ours[1]),
        (0, 8),
        textcoords="offset points",
        color=BLUE,
    )
    middle_one = len(wide.tokens) // 2
    right.annotate(
        "softmax attention",
        (wide.tokens[middle_one], wide.attention[middle_one]),
        (6, -14),
        textcoords="offset points",
        color=VERMILION,
    )
    right.set_xscale("log", base=2)
    right.set_yscale("log")
    right.set_yticks([20, 50, 100, 200, 400], ["20", "50", "100", "200", "400"])
    right.yaxis.set_minor_locator(NullLocator())
    right.set_xlabel("tokens in the stream")
    right.set_ylabel("µs per token, forward")
    right.set_title(f"d = {wide.width}, one thread", fontsize=10)
    return picture


class ChunkTimes(NamedTuple):
    """Time and arithmetic of a token by chunk size, both as multiples of what they are at C = 1."""

    width: int
    sizes: tuple[int, ...]
    time: tuple[float, ...]
    flops: tuple[float, ...]  # at C = 1 those of the token loop that multiplies nothing twice


def chunk_times_data(width: int = WIDTHS[-1], folder: Path = RESULTS) -> ChunkTimes:
    """The committed CPU record beside the counts. Raises: OSError if there is no record; ValueError if it is another file."""
    with committed(width, folder) as record:
        rows = sorted(record["by_chunk_size"], key=lambda row: row["chunk_size"])
        sizes = tuple(int(row["chunk_size"]) for row in rows)
        times = tuple(row["us_per_token"] / rows[0]["us_per_token"] for row in rows)
    config = HopeConfig()
    parts = counts.token_flops(config)
    once = counts.number(counts.total(parts), d=width, h=width) - counts.number(
        parts["repeated"], d=width, h=width
    )
    chunk = counts.total(counts.chunk_flops(config))
    flops = tuple(
        1.0 if C == 1 else float(counts.number(chunk, C=C, d=width, h=width) / C / once) for C in sizes
    )
    return ChunkTimes(width, sizes, times, flops)


@figure(
    "chunk_times",
    alt="Two lines over the chunk size from 1 to 256, both relative to chunks of one token, on logarithmic axes. The arithmetic of a "
    "token stays near 1 up to 64, and rises to 1.3 at 256. Its time falls to a tenth at C = 64, and rises a little at 256.",
    caption="The same multiplications, ten times as fast: chunks change not how much is computed but how "
    "much of it can be computed at once.",
)
def chunk_times(data: ChunkTimes | None = None) -> Figure:
    """Time and FLOPs of a token against C."""
    data = data or chunk_times_data()
    picture, axes = plt.subplots(figsize=(7.2, 3.9))
    axes.plot(data.sizes, data.flops, "s--", color=VERMILION)
    axes.plot(data.sizes, data.time, "o-", color=BLUE)
    last = data.sizes[-1] * 1.25
    axes.text(last, data.flops[-1], "arithmetic", color=VERMILION, va="center")
    axes.text(last, data.time[-1], "time", color=BLUE, va="center")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(data.sizes, [str(size) for size in data.sizes])
    axes.set_yticks([0.1, 0.2, 0.5, 1, 2], ["0.1", "0.2", "0.5", "1", "2"])
    axes.minorticks_off()
    axes.set(
        xlabel="chunk size C (tokens)",
        ylabel="of a token, C = 1 is 1",
        xlim=(0.85, data.sizes[-1] * 4),
        ylim=(0.07, 2),
    )
    axes.set_title(f"Five memories, d = {data.width}, one thread", fontsize=10)
    return picture
