"""Which models are reproducible along a stream, and which are chaotic, so that rounding grows until it is all that is left? [D]

A model reads one stream in float64; twins read the same in float32, or cut elsewhere. `hope_ref.laboratory.reproducibility` measures
how far they drift, and the largest Lyapunov exponent. Streams are random tokens, or the text that the shipped model was
trained on; nothing is trained here.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

import torch
from torch import Tensor

from hope_ref.experiments.cells import Cell, Experiment, Measures, Record, Records, Table
from hope_ref.laboratory import reproducibility, soak
from hope_ref.parallel.hope import Hope
from hope_ref.parallel.pretrained import WEIGHTS
from hope_ref.tasks import text
from hope_ref.training.evaluation import SHIPPED, trained

CHUNKS_OF_32 = {"memory_chunk_size": 32, "projection_chunk_size": 32}
UNTRAINED: dict[str, dict[str, Any]] = {
    "default: width 64, V = 256": {"width": 64},
    "width 32, V = 256": {"width": 32},
    "width 16, V = 256": {"width": 16},
    "width 16, V = 256, levels learn": {"width": 16, "signal": "task"},
    "width 32, V = 11": {"width": 32, "vocabulary": 11},
    "width 16, V = 11": {"width": 16, "vocabulary": 11},
    "width 16, V = 11, C = 32": {"width": 16, "vocabulary": 11, **CHUNKS_OF_32},
    "width 16, V = 11, C = 32, 2 blocks": {"width": 16, "vocabulary": 11, "blocks": 2, **CHUNKS_OF_32},
    "width 16, V = 11, C = 32, erases nothing": {
        "width": 16,
        "vocabulary": 11,
        "erase": "none",
        **CHUNKS_OF_32,
    },
}  # name of the row -> what differs from one block of width 64 over 256 tokens
TRAINED = "trained, its own text"


def cells(scale: str, seeds: Sequence[int]) -> list[Cell]:
    """One model and stream after the other; a seed is that of parameters and stream, or the place in the text."""
    quick = scale == "quick"
    tokens = reproducibility.LEAST if quick else 48 * reproducibility.PIECE
    settings: dict[str, dict[str, Any]] = {}
    for name, options in UNTRAINED.items():
        settings[name] = {"options": {"blocks": 1, "vocabulary": 256, "signal": "none", **options}}
        if quick:
            settings[name]["options"]["width"] //= 8
    weights = hashlib.sha256((SHIPPED / WEIGHTS).read_bytes()).hexdigest()[:16]
    settings[TRAINED] = {"weights": weights}
    return [
        Cell("reproducibility", "stream", name, seed, {"tokens": tokens, **own})
        for name, own in settings.items()
        for seed in seeds
    ]


def measure(cell: Cell) -> Measures:
    """Drifts and exponent of one model on one stream."""
    model, tokens = model_and_stream(cell.settings, cell.seed)
    twins = reproducibility.measure(model, tokens, learning="options" in cell.settings)
    return {
        "tokens": twins.tokens,
        "exponent_per_1000": 1000 * twins.exponent,
        "chaotic": twins.chaotic,
        "float32": twins.float32._asdict(),
        "cut": twins.cut._asdict(),
    }


def model_and_stream(settings: Mapping[str, Any], seed: int) -> tuple[Hope, Tensor]:
    """An untrained model with random tokens, or the shipped one with its own text."""
    count = settings["tokens"]
    if "options" in settings:
        options = dict(settings["options"])
        return soak.random_model(seed=seed, **options), soak.random_tokens(options["vocabulary"], count, seed)
    data = text.load().data[seed * count : (seed + 1) * count]
    return trained(SHIPPED, "cpu").model, torch.from_numpy(data.astype("int64"))


# --- what was found -------------------------------------------------------------------------------------------------


def names(records: Records) -> list[str]:
    """The models that there are records of, in the order of the cells."""
    there = records.models()
    return [name for name in (*UNTRAINED, TRAINED) if name in there]


def _numbers(of: list[Record], twin: str, what: str) -> str:
    """Of every seed, in a row."""
    values = [record.measures[twin][what] for record in of]
    if what == "left":
        return " · ".join("–" if value is None else f"{value:,}" for value in values)
    return " · ".join(f"{value:.0e}" for value in values)


def _doubling(of: list[Record]) -> str:
    """Tokens in which a difference doubles, by the mean exponent of the chaotic seeds; a dash where there is none."""
    grown = [record.measures["exponent_per_1000"] for record in of if record.measures["chaotic"]]
    return f"{1000 * math.log(2) / mean(grown):,.0f}" if grown else "–"


def _exponent(of: list[Record]) -> str:
    values = [record.measures["exponent_per_1000"] for record in of]
    if len(values) == 1:
        return f"{values[0]:+.2f} (1 seed)"
    return f"{mean(values):+.2f} ± {stdev(values):.2f}" + (
        "" if len(values) == 3 else f" ({len(values)} seeds)"
    )


def tables(records: Records) -> list[Table]:
    """Exponents and drifts, model by model."""
    if not len(records):
        return []
    rows = []
    for name in names(records):
        of = records.of(None, name)
        drifts = [_numbers(of, twin, what) for twin in ("float32", "cut") for what in ("left", "largest")]
        chaotic = sum(record.measures["chaotic"] for record in of)
        rows.append((name, _exponent(of), f"{chaotic} of {len(of)}", _doubling(of), *drifts))
    header = (
        "model, stream",
        "largest Lyapunov exponent per 1,000 tokens",
        "chaotic seeds",
        "a difference doubles in … tokens",
        "float32: token of the first error above 1e-3, seed by seed",
        "float32: largest error",
        "cut elsewhere: token of the first error above 1e-3",
        "cut elsewhere: largest error",
    )
    count = records.all[0].measures["tokens"]
    note = (
        f"{count:,} tokens, read in float64 in pieces of {reproducibility.PIECE}, beside a twin in float32 and one in float64 that "
        f"is cut every {reproducibility.CUT} tokens. Untrained models have one block and chunks of C = 16 unless the name says "
        "otherwise, and read random tokens out of V. The shipped model has two blocks of width 64; its levels hold still. Error: "
        "‖difference of the logits‖ / ‖logits‖ of a token. Chaotic: differences grow by more than a factor e over the stream. The "
        "exponent is measured by Benettin's method over the second half of the stream."
    )
    return [Table("Reproducibility: does rounding grow?", header, tuple(rows), note)]


def sentence(records: Records) -> str:
    """Which models are chaotic, how soon float32 leaves float64 there, and which are not."""
    if not len(records):
        return "Not run yet."
    groups: dict[str, list[str]] = {"chaotic": [], "in some seeds": [], "not chaotic": []}
    for name in names(records):
        of = records.of(None, name)
        count = sum(record.measures["chaotic"] for record in of)
        if count == 0:
            groups["not chaotic"].append(name)
        elif count == len(of):
            groups["chaotic"].append(f"{name} (doubles in {_doubling(of)} tokens)")
        else:
            groups["in some seeds"].append(f"{name} ({count} of {len(of)})")
    text = "; ".join(f"{group}: {' / '.join(names) or 'none'}" for group, names in groups.items())
    calm = [r for r in records.all if not r.measures["chaotic"]]
    if calm:
        worst = [max(r.measures[twin]["largest"] for r in calm) for twin in ("float32", "cut")]
        text += (
            f". Where it is not chaotic, float32 stays within {worst[0]:.0e} of float64, and a stream that is cut elsewhere "
            f"within {worst[1]:.0e}"
        )
    return f"Rounding grows in some models; {text}."


EXPERIMENT = Experiment(
    name="reproducibility",
    question="When is a long stream the same, up to rounding, if it is cut elsewhere or read in another precision?",
    cells=cells,
    measure=measure,
    tables=tables,
    sentence=sentence,
    levels="stand still, but for the row whose name says that they learn",
)
