"""Real text, byte by byte: HOPE beside others at equal steps and at equal time, and beyond the length of training. [D]"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean

from hope_ref.experiments import text_reading as reading
from hope_ref.experiments import text_runs
from hope_ref.experiments.cells import Cell, Experiment, Measures, Records, Table, spread
from hope_ref.experiments.findings import NONE
from hope_ref.training.settings import TrainingSettings

STEPS, TIME = "equal steps", "equal time"  # the tasks
HOPE, FULL = "HOPE", "HOPE, erases all"
BASELINES = ("gated delta rule", "Titans", "linear attention", "softmax attention")
PLACES = (0, 64, 128, 256, 512, 768)  # where the stretches begin that a mean is taken of


def cells(scale: str, seeds: Sequence[int]) -> list[Cell]:
    """HOPE twice, then the others for as many steps, then the others for as long."""
    quick = scale == "quick"
    places = {"places": [0, 16] if quick else list(PLACES)}
    found = []
    for model, options in ((HOPE, {}), (FULL, {"erase": "full"})):
        settings = {**text_runs.settings_of(scale, 300, options), **places}
        found += [Cell("text", STEPS, model, seed, settings) for seed in seeds]
    for task in (STEPS, TIME):
        for model in BASELINES[: 1 if quick else None]:
            settings = {**text_runs.settings_of(scale, 300, model=model), **places}
            if task == TIME:
                settings["as_long_as"] = HOPE
            found += [Cell("text", task, model, seed, settings) for seed in seeds]
    return found


def measure(cell: Cell) -> Measures:
    """Train once; bits per byte of the test text."""
    settings = dict(cell.settings)
    found: Measures = {}
    if "as_long_as" in settings:
        ratio = steps_in_one(settings, cell.seed)
        steps = max(1, round(ratio * settings["training"]["steps"]))
        settings["training"] = {**settings["training"], "steps": steps}
        found["steps_in_one_of_hope"] = ratio
    model, training = text_runs.trained(settings, cell.seed)
    return {**found, **training, **text_runs.tested(model, settings, settings["places"])}


def steps_in_one(settings: dict[str, object], seed: int) -> float:
    """How many steps of this model take as long as one of HOPE's, on this machine and now."""
    training: TrainingSettings = text_runs.training_of(settings, seed)
    hope = text_runs.built({**settings, "model": settings["as_long_as"]}, seed)
    own = text_runs.built(settings, seed)
    return text_runs.time_ratio(
        hope, own, text_runs.loss_of(hope, training), text_runs.loss_of(own, training)
    )


# --- what was found -------------------------------------------------------------------------------------------------

MODELS = (HOPE, FULL, *BASELINES)


def tables(records: Records) -> list[Table]:
    """What the models are worth in windows of the training length, and by the place in windows eight times as long."""
    return [table for table in (_worth(records), _places(records)) if table.rows]


def _worth(records: Records) -> Table:
    rows = []
    for model in MODELS:
        steps, longer = records.of(STEPS, model), records.of(TIME, model)
        if not steps and not longer:
            continue
        name = reading.named(records, STEPS, model)
        taken = [record.measures["steps"] for record in longer]
        ratios = records.values(TIME, model, "steps_in_one_of_hope")
        rows.append(
            (
                reading.named(records, TIME, model, name),
                records.text(STEPS, model, "bits_per_byte", 3),
                records.text(STEPS if model == HOPE else TIME, model, "bits_per_byte", 3),
                f"{mean(taken):.0f}" if taken else "–",
                f"1/{mean(ratios):.1f}" if ratios else "1" if model == HOPE else "–",
                f"{(steps or longer)[0].measures['parameters']:,}",
            )
        )
    header = (
        "model",
        "bits per byte, equal steps",
        "bits per byte, equal time",
        "steps in HOPE's time",
        "time of a step",
        "parameters",
    )
    note = ""
    if rows:
        recipe = records.all[0].cell.settings["training"]
        note = (
            f"{reading.told(records)} Equal for all: windows of {recipe['tokens']} bytes, {recipe['batch']} in a step, the "
            f"learning-rate recipe (found for HOPE), parameters within a few per cent. Equal steps are {_steps(records)}; for "
            f"equal time the schedule is stretched to as many steps as fit in HOPE's training, by the time of a step (forward "
            f"and backward) measured just before. HOPE's own row is the same training in both columns."
        )
    return Table("Bits per byte of unseen text", header, tuple(rows), note)


def _steps(records: Records) -> str:
    asked = sorted({record.measures["asked_steps"] for record in records.of(STEPS)})
    return ", ".join(map(str, asked)) or "–"


def _places(records: Records) -> Table:
    found = reading.stretches(records)
    if found is None:
        return Table("", (), ())
    within, beyond, names = found
    rows = []
    for task in (STEPS, TIME):
        for model in MODELS:
            if not records.of(task, model):
                continue
            name = model if task == STEPS else f"{model}, {TIME}"
            values = [records.text(task, model, f"places.{place}", 2) for place in names]
            more = reading.signed(reading.drift(records, task, model), 2)
            rows.append((reading.named(records, task, model, name), *values, more))
    settings = next(record.cell.settings for record in records.all)
    note = (
        f"Windows of {settings['long']['length']} bytes, read from a fresh state, one beginning every "
        f"{settings['long']['stride']} bytes, so that all places are compared on nearly the same text; trained on windows of "
        f"{settings['training']['tokens']}. Last column: places {beyond} minus places {within}, seed by seed; > 0 is worse."
    )
    header = ("model", *(f"places {name}" for name in names), "beyond − within")
    return Table("Bits per byte by the place in a long window", header, tuple(rows), note)


def sentence(records: Records) -> str:
    """At equal time, at equal steps, beyond the training length: what speaks against HOPE first."""
    # One table holds both comparisons with HOPE, so they are judged together.
    beside = {(task, model): _beside(records, task, model) for task in (TIME, STEPS) for model in MODELS[1:]}
    judged = reading.verdicts(beside)
    said = [
        part
        for part in (*(_at(records, task, beside, judged) for task in (TIME, STEPS)), _beyond(records))
        if part
    ]
    if not said:
        return "Not run yet, or with too few seeds."
    return " ".join(text for _, text in sorted(said, key=lambda part: not part[0]))


def _beside(records: Records, task: str, model: str) -> list[float]:
    """A model's bits per byte minus HOPE's, seed by seed."""
    own, other = (reading.by_seed(records, *of, "bits_per_byte") for of in ((STEPS, HOPE), (task, model)))
    return reading.between(own, other)


def _at(
    records: Records,
    task: str,
    beside: Mapping[tuple[str, str], Sequence[float]],
    judged: Mapping[tuple[str, str], str],
) -> tuple[bool, str] | None:
    """Whether it is bad news for HOPE, and the news."""
    own = reading.by_seed(records, STEPS, HOPE, "bits_per_byte")
    of_task = {model: values for (where, model), values in beside.items() if where == task}
    groups = reading.grouped(
        of_task, {model: judged[task, model] for model in of_task if (task, model) in judged}
    )
    text = reading.listed(groups, ("better", NONE, "worse"))
    if not text:
        return None
    bad = bool(groups["better"])
    return bad, f"With {task}, bits per byte beside HOPE's {spread(list(own.values()), 2)}: {text}."


def _beyond(records: Records) -> tuple[bool, str] | None:
    """Whether HOPE gets worse beyond its training length, and by how much beside the others."""
    drifts = {
        (task, model): reading.drift(records, task, model) for task in (STEPS, TIME) for model in MODELS
    }
    verdicts, found = reading.verdicts(drifts), reading.stretches(records)  # of the table's whole last column
    judged = verdicts.get((STEPS, HOPE))
    if judged is None or found is None:
        return None
    within, beyond, _ = found
    opening = {
        "worse": "HOPE gets worse beyond the length it was trained on",
        "better": "HOPE gets better beyond the length it was trained on",
        NONE: "No difference found between HOPE within the length it was trained on and beyond",
    }[judged]
    others = [
        f"{model} {reading.signed(drifts[STEPS, model], 2)}"
        for model in MODELS[1:]
        if (STEPS, model) in verdicts
    ]
    beside = f"; the others: {', '.join(others)}" if others else ""
    own = reading.signed(drifts[STEPS, HOPE], 2)
    return (
        judged == "worse",
        f"{opening}: {own} bits from places {within} to {beyond} of a window{beside}.",
    )


EXPERIMENT = Experiment(
    name="text",
    question="Bytes of real text: what is HOPE worth beside others with equal steps, with equal time, and beyond the length it was trained on?",
    cells=cells,
    measure=measure,
    tables=tables,
    sentence=sentence,
)
