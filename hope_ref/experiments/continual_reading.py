"""How the answer is read off the records of `hope_ref.experiments.continual`: rates, equal learning, tables, sentence. [D]"""

from __future__ import annotations

from statistics import mean, stdev

import numpy as np

from hope_ref.experiments.cells import Measures, Records, Table, spread
from hope_ref.experiments.findings import NONE, findings

SOURCES = ("Markov", "text")
CLOSE = 0.05  # bits: so near to its loss on A before B, a learner counts as recovered
BASELINE, DEEPER = "MLP", "3 levels, one frequency"


def chosen(records: Records, source: str, model: str) -> int | None:
    """The number of the model's rate: least loss while A and B are learnt, on the tuning seeds; None if not tuned."""
    found = records.of(f"{source}, tuning", model)
    sums: dict[int, float] = {}
    for number in range(len(found[0].cell.settings["rates"]) if found else 0):
        runs = [record.measures[f"rate{number}"] for record in found]
        if not any(run["diverged"] for run in runs):
            sums[number] = sum(run["online_learning"] for run in runs)
    return min(sums, key=lambda number: sums[number], default=None)


def frontier(measures: Measures) -> list[tuple[float, float]]:
    """(loss on B after B, forgetting) of all rates up to the one that learns B best, the quickest learner first."""
    runs = [measures[name] for name in measures if name.startswith("rate")]
    points = [(run["b_after_b"], run["forgetting"]) for run in runs if not run["diverged"]]
    best = points.index(min(points)) if points else -1
    return sorted(points[: best + 1])


def matched(mlp: Measures, other: Measures) -> tuple[float, float, float] | None:
    """A loss on B that both reach, and what each has forgotten of A there: lines between the rates of the grid.

    The loss is `CLOSE` above the least loss, over all rates, of the one that learns B worse. None where a grid does not go as far.
    """
    lines = frontier(mlp), frontier(other)
    if not all(lines):
        return None
    level = max(line[0][0] for line in lines) + CLOSE
    if any(line[-1][0] < level for line in lines):
        return None
    first, second = (float(np.interp(level, *np.array(line).T)) for line in lines)
    return level, first, second


def matches(records: Records, source: str, model: str) -> list[tuple[float, float, float]]:
    """`matched` of the model and the MLP, seed by seed."""
    of_mlp = {record.cell.seed: record.measures for record in records.of(source, BASELINE)}
    found = [
        matched(of_mlp[record.cell.seed], record.measures)
        for record in records.of(source, model)
        if record.cell.seed in of_mlp
    ]
    return [match for match in found if match is not None]


def tables(records: Records) -> list[Table]:
    """Every model at its own rate, for both streams; then all of them where they have learnt B equally well."""
    found = []
    for source in SOURCES:
        if records.of(source):
            rows = [row for model in _models(records) if (row := _row(records, source, model))]
            found.append(
                Table(f"{_stream(source)}: bits per symbol", HEADER, tuple(rows), _note(records, source))
            )
    rows = []
    for source in SOURCES:
        for model in _models(records):
            if model != BASELINE and (both := matches(records, source, model)):
                level, mlp, own = ([match[place] for match in both] for place in range(3))
                less = [first - second for first, second in zip(mlp, own, strict=True)]
                rows.append((source, model, *(spread(values, 2) for values in (level, mlp, own, less))))
    if rows:
        header = ("stream", "model", "loss on B after B", "MLP forgets", "model forgets", "less by")
        note = (
            "Where the model and the MLP have learnt B equally well, seed by seed: read off the lines between the rates of the "
            f"grid, {CLOSE} bits above the least loss on B of the one that learns B worse. Negative: it forgets more."
        )
        found.append(Table("Forgetting at equal learning, bits per symbol", header, tuple(rows), note))
    return found


HEADER = (
    "model",
    "rate",
    "A before B",
    "A after B",
    "forgetting",
    "B after B",
    "A after A again",
    "tokens to recover",
)


def _models(records: Records) -> list[str]:
    """The MLP, the deeper one beside it, then the continuum memories by name."""
    return sorted(records.models(), key=lambda name: (name != BASELINE, name != DEEPER, name))


def _stream(source: str) -> str:
    return (
        "Two Markov languages"
        if source == "Markov"
        else "Python's manual, and the same with its bytes renamed"
    )


def _row(records: Records, source: str, model: str) -> tuple[str, ...] | None:
    number = chosen(records, source, model)
    if number is None or not records.of(source, model):
        return None

    def text_of(measure: str) -> str:
        return records.text(source, model, f"rate{number}.{measure}", 2)

    names = ("a_before_b", "a_after_b", "forgetting", "b_after_b", "a_again")
    runs = [record.measures[f"rate{number}"] for record in records.of(source, model)]
    back = [run["recovery_tokens"] for run in runs if run.get("recovery_tokens") is not None]
    never = len(runs) - len(back)
    recovered = spread(back, 0) if back else "never"
    if back and never:
        recovered += f" ({never} never)"
    lost = sum(run["diverged"] for run in runs)
    rate = f"{records.of(source, model)[0].cell.settings['rates'][number]:g}"
    return (model, rate + (f", {lost} diverged" if lost else ""), *map(text_of, names), recovered)


def _note(records: Records, source: str) -> str:
    """How to read the table; what a learner that stops after A would have is read off the MLP's own run."""
    first = records.of(source)[0]
    settings, shared = first.cell.settings, first.measures
    floor = f", the least possible {shared['floor']:.2f}" if shared["floor"] is not None else ""
    words = (
        f"Chance is {shared['chance']:.2f} bits{floor}. All models have {shared['parameters']} weights that learn, the same fixed "
        f"tables and streams, {settings['lanes']} learners per seed, {settings['phase']} tokens per phase, one pass, "
        f"{len(settings['rates'])} rates tried; the rate is the one with the least loss while A and B are learnt, on another seed. "
        f"Recovered: within {CLOSE} bits of the loss before B."
    )
    number = chosen(records, source, BASELINE)
    if number is None or not records.of(source, BASELINE):
        return words
    before, other = (
        records.text(source, BASELINE, f"rate{number}.{measure}", 2)
        for measure in ("a_before_b", "b_before_b")
    )
    return f"{words} An MLP frozen after A forgets nothing and learns nothing: A {before}, B {other}."


def sentence(records: Records) -> str:
    """Who forgets more or less than the MLP where both have learnt B equally well (`findings`)."""
    beside = {
        (source, model): [second - first for _, first, second in matches(records, source, model)]
        for source in SOURCES
        for model in _models(records)
        if model not in (BASELINE, DEEPER)
    }
    groups: dict[int, list[str]] = {1: [], 0: [], -1: []}
    for (source, model), way in findings(beside).items():
        more = beside[source, model]
        groups[way].append(f"{model} on {source} ({mean(more):+.2f} ± {stdev(more):.2f} bits)")
    if not any(groups.values()):
        return "Not run yet, or with too few seeds."
    said = []
    said.append(f"forgets more than the MLP: {', '.join(groups[1]) or 'none'}")
    if groups[0]:
        said.append(f"{NONE}: {', '.join(groups[0])}")
    said.append(f"forgets less: {', '.join(groups[-1]) or 'none'}")
    return f"Where both have learnt B equally well, {'; '.join(said)}.{_deeper(records)}{_forgotten(records)}"


def _deeper(records: Records) -> str:
    """The same depth without the frequencies: what of a difference is due to three levels in a row."""
    found = []
    for source in SOURCES:
        more = [second - first for _, first, second in matches(records, source, DEEPER)]
        if len(more) > 1:
            found.append(f"{mean(more):+.2f} ± {stdev(more):.2f} bits on {source}")
    return f" Depth alone, three levels at one frequency, forgets {' and '.join(found)}." if found else ""


def _forgotten(records: Records) -> str:
    """How much the MLP has lost at its own rate, so that a difference can be judged."""
    found = []
    for source in SOURCES:
        number = chosen(records, source, BASELINE)
        lost = records.values(source, BASELINE, f"rate{number}.forgetting")
        if lost:
            found.append(f"{mean(lost):.2f} bits on {source}")
    return f" At its own rate the MLP forgets {' and '.join(found)}." if found else ""
