"""RESULTS.md, from the records alone: every table with the command that made it, its seeds and its time. [D]"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hope_ref.benchmarks.cuda import sentence
from hope_ref.experiments import NAMES, experiment, records
from hope_ref.experiments.cells import Experiment, Records, Table
from hope_ref.experiments.findings import in_words
from hope_ref.experiments.words import FIGURES

HEAD = """# Results

Written by `python -m hope_ref experiment all --report` from the records in `results/experiments/`: one JSON file for
every training, with everything that decides it. Do not edit. Mean ± standard deviation over 3 seeds unless a cell says
otherwise; "–" was not run. `python -m hope_ref experiment NAME --full` runs what is missing and changes nothing that is there.

> **What we claim.** These are toy sizes: one or two blocks, 10 to 250 thousand parameters, minutes on one CPU thread. At these
> sizes the tables say what each part of HOPE does, where it helps, and where it costs more than it gives. Code, seeds and
> settings are all here; anybody can run a cell again.
>
> **What we do not claim.** Nothing here confirms or refutes the paper's results at 340 million to 1.3 billion parameters: its
> figures stand beside ours to show which question is asked, not to be compared as numbers. Every model has the same steps,
> batches and learning-rate recipe, which was found for HOPE; where more was tuned, the note says what.

"""


MARKS = ("# Results", "python -m hope_ref experiment")  # of the page


def markdown(folder: Path, scale: str, seeds: Sequence[int]) -> str:
    """The whole report. Raises: ValueError if a file in the folder is no record."""
    found = []
    for name in NAMES:
        own = experiment(name)
        cells = own.cells(scale, seeds)
        found.append((own, len(cells), records.load_all(folder, cells)))
    on_a_gpu = f"> **On a GPU.** {sentence(folder.parent)}"
    lines = [HEAD + in_words(), on_a_gpu, "", "## In one sentence each", ""]
    for own, _, there in found:
        lines.append(
            f"* **[{_title(own)}](#{_title(own).lower().replace(' ', '-')})**: {own.sentence(there)}"
        )
    for own, count, there in found:
        lines += ["", f"## {_title(own)}", "", own.question, "", own.sentence(there), ""]
        lines += [f"Levels of the continuum memory {own.levels}.", ""]
        lines += [f"`python -m hope_ref experiment {own.name} --{scale}` · {_run_so_far(there, count)}", ""]
        lines += _picture(own.name) + section(there, own)
    return "\n".join(lines).rstrip() + "\n"


def section(found: Records, own: Experiment) -> list[str]:
    """The tables of one experiment, as lines of Markdown."""
    lines: list[str] = []
    for table in own.tables(found):
        lines += [f"**{table.title}**", "", *_rows(table), ""]
        if table.note:
            lines += [table.note, ""]
    return lines


def _picture(name: str) -> list[str]:
    """The figure of that experiment, drawn by `python -m hope_ref figures`, as lines of Markdown."""
    if name not in FIGURES:
        return []
    alt, caption = FIGURES[name]
    return [f"![{alt}](figures/results_{name}.png)", "", f"*{caption}*", ""]


def _rows(table: Table) -> list[str]:
    for row in table.rows:
        if len(row) != len(table.header):
            raise ValueError(
                f"rows of {table.title!r} must have {len(table.header)} entries, got {len(row)} in {row!r}"
            )
    clean = [tuple(entry.replace("|", "\\|") for entry in row) for row in (table.header, *table.rows)]
    lines = ["| " + " | ".join(row) + " |" for row in clean]
    return [lines[0], "|" + "---|" * len(table.header), *lines[1:]]


def _run_so_far(found: Records, count: int) -> str:
    minutes = sum(record.seconds for record in found.all) / 60
    seeds = sorted({record.cell.seed for record in found.all})
    which = ", ".join(map(str, seeds)) or "none"
    return f"{len(found)} of {count} trainings run · seeds {which} · {minutes:.0f} minutes on one thread"


def _title(own: Experiment) -> str:
    return own.name.replace("_", " ").capitalize()
