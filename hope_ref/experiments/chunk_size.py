"""Larger chunks write from an older memory but run faster: what do they cost in quality, and what do they save? [P 8.2], [D]"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

from hope_ref.experiments import text_reading as reading
from hope_ref.experiments import text_runs
from hope_ref.experiments.cells import Cell, Experiment, Measures, Records, Table, spread

SIZES = (16, 8, 32, 4, 64, 128)  # of both groups of memories; the most important first
BESIDE = 16  # the default, which the others' time is measured beside
PLACES = (0, 128, 512)
STEPS, BATCH = 70, 16


def cells(scale: str, seeds: Sequence[int]) -> list[Cell]:
    """One chunk size after the other."""
    quick = scale == "quick"
    found = []
    for size in (2, 4) if quick else SIZES:
        options = {"memory_chunk_size": size, "projection_chunk_size": size}
        settings = text_runs.settings_of(scale, STEPS, options, training={"batch": BATCH})
        settings |= {
            "beside": 4 if quick else BESIDE,
            "places": [0, 16] if quick else list(PLACES),
        }
        if not quick:
            settings["long"]["stride"] = 512  # every byte is met beyond the training length, once
        found += [Cell("chunk_size", "text", f"C = {size}", seed, settings) for seed in seeds]
    return found


def measure(cell: Cell) -> Measures:
    """Train once; bits per byte of the test text, and the time of a step beside that of the default's."""
    settings, beside = dict(cell.settings), cell.settings["beside"]
    config = {**settings["config"], "memory_chunk_size": beside, "projection_chunk_size": beside}
    training = text_runs.training_of(settings, cell.seed)
    default = text_runs.built({**settings, "config": config}, cell.seed)
    own = text_runs.built(settings, cell.seed)
    losses = (text_runs.loss_of(own, training), text_runs.loss_of(default, training))
    ratio = text_runs.time_ratio(own, default, *losses, rounds=2)
    model, found = text_runs.trained(settings, cell.seed)
    found["time_beside_default"] = ratio
    return {**found, **text_runs.tested(model, settings, settings["places"])}


# --- what was found -------------------------------------------------------------------------------------------------


def _sizes(records: Records) -> dict[str, int]:
    """The chunk sizes that there are records of, by the name of the row, rising."""
    found = {record.cell.model: record.cell.settings["config"]["memory_chunk_size"] for record in records.all}
    return dict(sorted(found.items(), key=lambda item: item[1]))


def _default(records: Records) -> str:
    return f"C = {records.all[0].cell.settings['beside']}"


def _beside(records: Records, name: str) -> list[float]:
    """A size's bits per byte minus the default's, seed by seed."""
    models = (_default(records), name)
    return reading.between(*(reading.by_seed(records, "text", model, "bits_per_byte") for model in models))


def tables(records: Records) -> list[Table]:
    """Quality and time by chunk size."""
    if not len(records):
        return []
    rows = [
        (
            reading.named(records, "text", name),
            records.text("text", name, "bits_per_byte", 3),
            "–" if name == _default(records) else reading.signed(_beside(records, name)),
            records.text("text", name, "time_beside_default", 2),
            reading.signed(reading.drift(records, "text", name), 2),
        )
        for name in _sizes(records)
    ]
    settings, found = records.all[0].cell.settings, reading.stretches(records)
    recipe = settings["training"]
    within, beyond, _ = found or ("–", "–", [])
    default = _default(records)
    note = (
        f"{reading.told(records)} Both groups of memories have the same chunk size. All trained for {recipe['steps']} steps of "
        f"{recipe['batch']} windows of {recipe['tokens']} bytes with one recipe, found for {default}. Time: forward and backward "
        f"on one thread, beside {default} in the same process. Beyond the training length: places {beyond} minus places {within} "
        f"of windows of {settings['long']['length']} bytes; > 0 is worse."
    )
    header = (
        "chunk size",
        "bits per byte",
        f"beside {default}",
        f"time of a step beside {default}",
        "beyond the training length",
    )
    return [Table("Chunk size: quality and time", header, tuple(rows), note)]


def sentence(records: Records) -> str:
    """Which sizes are worse or better than the default, and which is quickest."""
    if not len(records):
        return "Not run yet."
    default = _default(records)
    beside = {name: _beside(records, name) for name in _sizes(records) if name != default}
    text = reading.listed(reading.grouped(beside, reading.verdicts(beside)))
    times = {
        name: mean(values)
        for name in _sizes(records)
        if (values := records.values("text", name, "time_beside_default"))
    }
    if not text or not times:
        return "Not run yet, or with too few seeds."
    quickest = min(times, key=lambda name: times[name])
    own = list(reading.by_seed(records, "text", default, "bits_per_byte").values())
    return (
        f"Bits per byte beside {default} ({spread(own, 2)}): {text}. Quickest here is {quickest}, "
        f"{times[quickest]:.2f} times the time of {default}; the slowest, {max(times, key=lambda name: times[name])}, takes "
        f"{max(times.values()):.2f} times as long."
    )


EXPERIMENT = Experiment(
    name="chunk_size",
    question="How long may a chunk be: what does it cost in bits per byte, and what does it save in time?",
    cells=cells,
    measure=measure,
    tables=tables,
    sentence=sentence,
)
