"""Reading records of the experiments on text: differences seed by seed, and what may be said of them. [D]"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean, stdev

from hope_ref.experiments.cells import Records
from hope_ref.experiments.findings import NONE, Name, findings

VERDICTS = {1: "worse", 0: NONE, -1: "better"}  # of differences in bits, where more is worse


def by_seed(records: Records, task: str, model: str, measure: str) -> dict[int, float]:
    """One measure, a number per seed; a seed that has none is left out."""
    found = {}
    for record in records.of(task, model):
        values = Records([record]).values(task, model, measure)
        found.update(dict.fromkeys([record.cell.seed], values[0]) if values else {})
    return found


def between(first: Mapping[int, float], second: Mapping[int, float]) -> list[float]:
    """Second minus first, for every seed that both have."""
    return [second[seed] - first[seed] for seed in sorted(first.keys() & second.keys())]


def signed(values: Sequence[float], digits: int = 3) -> str:
    """A difference as the tables print it: its sign, mean ± standard deviation over seeds (n - 1)."""
    if not values:
        return "–"
    if len(values) == 1:
        return f"{values[0]:+.{digits}f} (1 seed)"
    seeds = "" if len(values) == 3 else f" ({len(values)} seeds)"
    return f"{mean(values):+.{digits}f} ± {stdev(values):.{digits}f}{seeds}"


def verdicts(differences: Mapping[Name, Sequence[float]]) -> dict[Name, str]:
    """Of all comparisons of one table, in bits, where more is worse (`findings`); those of too few seeds are left out."""
    return {name: VERDICTS[way] for name, way in findings(differences).items()}


def grouped(
    differences: Mapping[str, Sequence[float]], judged: Mapping[str, str], digits: int = 2
) -> dict[str, list[str]]:
    """The names with their differences, by verdict; those without one are left out."""
    found: dict[str, list[str]] = {name: [] for name in VERDICTS.values()}
    for name, values in differences.items():
        if name in judged:
            found[judged[name]].append(f"{name} ({signed(values, digits)})")
    return found


def listed(groups: Mapping[str, Sequence[str]], order: Sequence[str] = tuple(VERDICTS.values())) -> str:
    """Groups as a part of a sentence: "worse: a, b; better: c"; "" if all are empty."""
    return "; ".join(f"{name}: {', '.join(groups[name])}" for name in order if groups[name])


def stretches(records: Records) -> tuple[str, str, list[str]] | None:
    """The last stretch within the training length, the last of all, and the names of all; None without records."""
    for record in records.all:
        names = list(record.measures.get("places", {}))
        length = record.cell.settings["training"]["tokens"]
        within = [name for name in names if int(name.split("-")[1]) < length]
        if within and within[-1] != names[-1]:
            return within[-1], names[-1], names
    return None


def drift(records: Records, task: str, model: str) -> list[float]:
    """By how much bytes far beyond the training length cost more than those within it, seed by seed."""
    found = stretches(records)
    if found is None:
        return []
    within, beyond, _ = found
    first, second = (by_seed(records, task, model, f"places.{name}") for name in (within, beyond))
    return between(first, second)


def named(records: Records, task: str, model: str, name: str | None = None) -> str:
    """The model's name, with how many of its trainings stopped early or read a loss that is no number."""
    lost = [
        record
        for record in records.of(task, model)
        if record.measures["steps"] < record.measures["asked_steps"]
        or record.measures.get("bits_per_byte", 0.0) is None
    ]
    return (name or model) + (f" ({len(lost)} of {len(records.of(task, model))} diverged)" if lost else "")


def told(records: Records) -> str:
    """What the text is, and what it costs without a model."""
    about = records.all[0].measures["text"]
    return (
        f"{about['name']}, SHA-256 {about['sha256'][:8]}…, {about['train_bytes']:,} bytes to train on; tested on the last "
        f"{about['test_bytes']:,}. Without a model: {about['entropy']:.2f} bits per byte by the frequencies of bytes, "
        f"{about['bigram']:.2f} by pairs, {about['gzip']:.2f} by gzip."
    )
