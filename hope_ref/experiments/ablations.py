"""One change to HOPE at a time, on real text, beside the ablations of [P Table 6]. [D]"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hope_ref.experiments import text_reading as reading
from hope_ref.experiments import text_runs
from hope_ref.experiments.cells import Cell, Experiment, Measures, Records, Table, spread
from hope_ref.experiments.findings import NONE

DEFAULT = "default"
MEMORIES = ("k", "v", "eta", "alpha", "memory")  # that write by default
PLACES = (0, 128, 512)  # where the stretches begin that a mean is taken of
STEPS, BATCH = 100, 8
PAPER_COSTS = (
    6  # rows of [P Table 6] above the full model's perplexity: DGD, momentum, weight decay, CMS, k, v
)


class Change(NamedTuple):
    """What differs from the default, and the row of [P Table 6] that asks the same: perplexity, accuracy in %."""

    options: dict[str, Any]
    training: dict[str, Any] | None = None
    paper: str = ""
    costs: bool = False  # the paper's perplexity, clearly


# The paper's own full model: 12.24 / 58.1. Where ours is the other way round, both of the paper's are named.
CHANGES: dict[str, Change] = {
    DEFAULT: Change({}, paper="12.24 / 58.1"),
    "no DGD (erases nothing)": Change({"erase": "none"}, paper="13.41 / 56.5", costs=True),
    "no forgetting (alpha = 1)": Change({"alpha_init": 1 - 1e-12}, paper="13.71 / 57.2", costs=True),
    "no continuum (one MLP)": Change({"levels_chunk_sizes": [128]}, paper="13.04 / 57.3", costs=True),
    "with inner momentum": Change({"inner_momentum": 0.5}, paper="12.24 / 58.1 with, 13.58 / 56.9 without"),
    "k does not write": Change(
        {"writing": [m for m in MEMORIES if m != "k"]}, paper="13.77 / 56.9", costs=True
    ),
    "v does not write": Change(
        {"writing": [m for m in MEMORIES if m != "v"]}, paper="13.90 / 55.1", costs=True
    ),
    "adaptive q": Change({"adaptive_query": True}, paper="12.24 / 58.1 with, 12.19 / 57.4 without"),
    "only `memory` writes": Change({"writing": ["memory"]}),
    "erases all of W, as printed": Change({"erase": "full"}),
    "one target for all, v": Change({"target": "shared"}),
    "values of any length": Change({"value_norm": False}),
    "no surprise bound": Change({"surprise_bound": 0.0}),
    "no input projection": Change({"input_projection": False}),
    "slow level trained at its own pace": Change({}, {"continuum": "scheduled"}),
}


def cells(scale: str, seeds: Sequence[int]) -> list[Cell]:
    """The default, then one change each."""
    quick = scale == "quick"
    found = []
    for name in list(CHANGES)[: 2 if quick else None]:
        change = CHANGES[name]
        training = {"batch": BATCH, **(change.training or {})}
        settings = text_runs.settings_of(scale, STEPS, change.options, training=training)
        settings["places"] = [0, 16] if quick else list(PLACES)
        if not quick:
            settings["long"]["stride"] = 512  # every byte is met beyond the training length, once
        found += [Cell("ablations", "text", name, seed, settings) for seed in seeds]
    return found


def measure(cell: Cell) -> Measures:
    """Train once; bits per byte of the test text."""
    model, found = text_runs.trained(cell.settings, cell.seed)
    return {**found, **text_runs.tested(model, cell.settings, cell.settings["places"])}


# --- what was found -------------------------------------------------------------------------------------------------


def _beside(records: Records, name: str) -> list[float]:
    """A change's bits per byte minus the default's, seed by seed."""
    measures = (reading.by_seed(records, "text", model, "bits_per_byte") for model in (DEFAULT, name))
    return reading.between(*measures)


def tables(records: Records) -> list[Table]:
    """All changes in one table."""
    rows = []
    for name, change in CHANGES.items():
        if not records.of("text", name):
            continue
        more = "–" if name == DEFAULT else reading.signed(_beside(records, name))
        size = records.of("text", name)[0].measures["parameters"]
        rows.append(
            (
                reading.named(records, "text", name),
                records.text("text", name, "bits_per_byte", 3),
                more,
                reading.signed(reading.drift(records, "text", name), 2),
                f"{size:,}",
                change.paper or "–",
            )
        )
    if not rows:
        return []
    settings = records.all[0].cell.settings
    recipe, found = settings["training"], reading.stretches(records)
    within, beyond, _ = found or ("–", "–", [])
    note = (
        f"{reading.told(records)} All trained for {recipe['steps']} steps of {recipe['batch']} windows of {recipe['tokens']} bytes "
        f"with one recipe, which is short: a change that only slows the first steps down shows as a loss. Changes are beside the "
        f"default, seed by seed; > 0 is worse. Beyond the training length: places {beyond} minus places {within} of windows of "
        f"{settings['long']['length']} bytes. The paper's column: perplexity / mean accuracy (%) at 1.3 billion parameters; "
        f"its full model has momentum and an adaptive q, ours has neither by default. One MLP has fewer parameters."
    )
    header = (
        "change",
        "bits per byte",
        "beside the default",
        "beyond the training length",
        "parameters",
        "paper [P Table 6]",
    )
    return [Table("One change to HOPE at a time", header, tuple(rows), note)]


def sentence(records: Records) -> str:
    """Which changes cost or gain something (`findings`), and how that fits the paper's."""
    beside = {name: _beside(records, name) for name in CHANGES if name != DEFAULT}
    judged = reading.verdicts(beside)
    text = reading.listed(reading.grouped(beside, judged, digits=3), ("better", "worse", NONE))
    if not text:
        return "Not run yet, or with too few seeds."
    own = list(reading.by_seed(records, "text", DEFAULT, "bits_per_byte").values())
    return f"{_as_in_the_paper(judged)}Bits per byte beside the default's {spread(own, 2)}: {text}.{_broken(records)}"


def _as_in_the_paper(judged: Mapping[str, str]) -> str:
    """How many of the changes that cost the paper perplexity were found to cost something here, and how many the opposite."""
    found = [judged[name] for name, change in CHANGES.items() if change.costs and name in judged]
    if not found:
        return ""
    against = f", to gain: {found.count('better')}" if "better" in found else ""
    return (
        f"Of the {PAPER_COSTS} changes that cost the paper perplexity {len(found)} are made here (our default has no inner momentum "
        f"to take away); found to cost bits: {found.count('worse') or 'none'}{against}. "
    )


def _broken(records: Records) -> str:
    names = [name for name in CHANGES if "diverged" in reading.named(records, "text", name)]
    return f" Diverged: {', '.join(reading.named(records, 'text', name) for name in names)}." if names else ""


EXPERIMENT = Experiment(
    name="ablations",
    question="One part of HOPE taken away or changed at a time: what does each cost on real text?",
    cells=cells,
    measure=measure,
    tables=tables,
    sentence=sentence,
)
