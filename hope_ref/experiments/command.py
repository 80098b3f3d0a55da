"""``python -m hope_ref experiment``: run what has no record yet, then write RESULTS.md from all records."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace
from tqdm import tqdm

from hope_ref.common import command_line
from hope_ref.common.documented import documented
from hope_ref.common.files import replacing
from hope_ref.common.outputs import replaceable, writable_folder
from hope_ref.experiments import NAMES, Cell, experiment, records, report, runner

QUICK = Path("runs/experiments-quick")
EPILOG = """examples:
  python -m hope_ref experiment recall               a few steps, seconds: does it run? (into runs/experiments-quick)
  python -m hope_ref experiment recall --full        every cell that has no record yet; Ctrl-C and the same again goes on
  python -m hope_ref experiment all --full --jobs 4  everything, four cells at a time (hours on two cores)
  python -m hope_ref experiment all --report         RESULTS.md again from the records, nothing is run

exit status: 0 done, 1 a cell failed (the others are kept), 2 wrong input, 130 Ctrl-C (what is done is kept)
"""


TEXT = "answer a question by training: run it, resume it, report it"


@documented
@dataclass(frozen=True)
class Options:
    """What is run or reported, and where it lies."""

    seeds: int | None = None
    """How many seeds (--quick: 1, --full and --report: 3)."""
    jobs: int | None = None
    """Cells side by side, one thread each (--quick: 1, --full: one per core)."""
    only: str | None = None
    """Only the cells whose name contains this."""
    records: str | None = None
    """The folder of the records (--quick: runs/experiments-quick, else results/experiments)."""
    results: str | None = None
    """The report's file (--quick: beside its records, else RESULTS.md)."""


def parser(prog: str) -> ArgumentParser:
    """The command line."""
    own = command_line.parser(prog, TEXT, EPILOG)
    own.add_argument("name", choices=(*NAMES, "all"), metavar="NAME", help=", ".join((*NAMES, "all")))
    scale = own.add_mutually_exclusive_group()
    scale.add_argument(
        "--quick", action="store_true", help="tiny sizes, one seed: does it run? (the default)"
    )
    scale.add_argument("--full", action="store_true", help="the sizes and seeds of RESULTS.md")
    scale.add_argument("--report", action="store_true", help="run nothing; write the report from the records")
    own.add_class_arguments(Options)
    return own


def main(arguments: Namespace) -> int:
    """Run, report; the exit status is in the help."""
    chosen = vars(arguments)
    name, reporting = chosen.pop("name"), chosen.pop("report", False)
    quick = not (chosen.pop("full", False) or reporting)
    chosen.pop("quick", None)
    options, scale = Options(**chosen), "quick" if quick else "full"
    folder = Path(options.records) if options.records else QUICK if quick else records.FOLDER
    results = Path(options.results) if options.results else (folder if quick else Path()) / "RESULTS.md"
    seeds = options.seeds if options.seeds is not None else 1 if quick else 3
    jobs = options.jobs if options.jobs is not None else 1 if quick else runner.sensible_jobs()
    names = NAMES if name == "all" else (name,)
    try:
        check(seeds, jobs, folder, results)
        failed = 0
        if not reporting:
            failed = _run(names, scale, range(seeds), folder, jobs, options.only)
        # The report is of all experiments, whatever was asked for: it is one page.
        text = report.markdown(folder, scale, range(seeds))
        results.parent.mkdir(parents=True, exist_ok=True)
        with replacing(results) as file:
            file.write(text.encode())
    except KeyboardInterrupt:
        print("\nstopped; what is done is kept: the same command goes on", file=sys.stderr)
        return 130
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if not reporting:
        for name in names:
            own = experiment(name)
            found = records.load_all(folder, own.cells(scale, range(seeds)))
            print(f"\n{name}: {own.question}\n")
            print("\n".join(report.section(found, own)))
    print(f"\nwritten: {results}")
    return 1 if failed else 0


MOST_SEEDS, MOST_JOBS = 1000, 256


def check(seeds: int, jobs: int, folder: Path, results: Path) -> None:
    """Raise a ValueError for what cannot be run or written, before anything is run."""
    for name, value, most in (("seeds", seeds, MOST_SEEDS), ("jobs", jobs, MOST_JOBS)):
        if not 1 <= value <= most:
            raise ValueError(f"{name} must be in [1, {most}], got {value}")
    writable_folder("records", folder)
    replaceable("results", results, *report.MARKS)


def _run(
    names: Sequence[str], scale: str, seeds: Sequence[int], folder: Path, jobs: int, only: str | None
) -> int:
    cells: list[Cell] = []
    for name in names:
        own = experiment(name)
        missing = runner.lacking(own.needs)
        if missing:
            print(f"{name} is left out: it needs {', '.join(missing)}", file=sys.stderr)
            continue
        cells += [cell for cell in own.cells(scale, seeds) if only is None or only in cell.key]
    if not cells and only:
        raise ValueError(f"only must be a part of a cell's name, got {only!r}")
    if not cells:
        print("no cell to run", file=sys.stderr)
        return 0
    there = sum(records.load(folder, cell) is not None for cell in cells)
    with tqdm(total=len(cells), initial=there, unit="cell", disable=not sys.stderr.isatty()) as bar:

        def said(cell: Cell, seconds: float, wrong: str) -> None:
            bar.update()
            line = f"FAILED {cell.key}: {wrong}" if wrong else f"{cell.key}  {seconds:.0f} s"
            tqdm.write(line, file=sys.stderr)

        return runner.run(cells, folder, jobs, said)
