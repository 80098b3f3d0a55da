"""``python -m hope_ref experiment``: run what has no record yet, then write RESULTS.md from all records."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from hope_ref.common.files import replacing
from hope_ref.experiments import NAMES, Cell, experiment, records, report, runner

QUICK = Path("runs/experiments-quick")
EPILOG = """examples:
  python -m hope_ref experiment recall               a few steps, seconds: does it run? (into runs/experiments-quick)
  python -m hope_ref experiment recall --full        every cell that has no record yet; Ctrl-C and the same again goes on
  python -m hope_ref experiment all --full --jobs 4  everything, four cells at a time (hours on two cores)
  python -m hope_ref experiment all --report         RESULTS.md again from the records, nothing is run

exit status: 0 done, 1 a cell failed (the others are kept), 2 wrong input, 130 Ctrl-C (what is done is kept)
"""


def add_arguments(sub: argparse.ArgumentParser) -> None:
    """The arguments of ``python -m hope_ref experiment``."""
    sub.epilog, sub.formatter_class = EPILOG, argparse.RawDescriptionHelpFormatter
    sub.add_argument("name", choices=(*NAMES, "all"), metavar="NAME", help=", ".join((*NAMES, "all")))
    scale = sub.add_mutually_exclusive_group()
    scale.add_argument(
        "--quick", action="store_true", help="tiny sizes, one seed: does it run? (the default)"
    )
    scale.add_argument("--full", action="store_true", help="the sizes and seeds of RESULTS.md")
    scale.add_argument("--report", action="store_true", help="run nothing; write the report from the records")
    sub.add_argument(
        "--seeds", type=int, metavar="N", help="how many seeds (--quick: 1, --full and --report: 3)"
    )
    sub.add_argument(
        "--jobs", type=int, metavar="N", help="cells side by side, one thread each (default: one per core)"
    )
    sub.add_argument("--only", metavar="TEXT", help="only the cells whose name contains this")
    sub.add_argument(
        "--records", type=Path, metavar="FOLDER", help=f"where records lie ({records.FOLDER}; {QUICK})"
    )
    sub.add_argument(
        "--results", type=Path, metavar="FILE", help="the report (RESULTS.md; --quick: beside its records)"
    )


def main(arguments: argparse.Namespace) -> int:
    """Run, report; the exit status is in the help."""
    scale = "full" if arguments.full or arguments.report else "quick"
    folder = arguments.records or (records.FOLDER if scale == "full" else QUICK)
    results = arguments.results or (Path("RESULTS.md") if scale == "full" else folder / "RESULTS.md")
    seeds = arguments.seeds if arguments.seeds is not None else (3 if scale == "full" else 1)
    jobs = (
        arguments.jobs if arguments.jobs is not None else (runner.sensible_jobs() if scale == "full" else 1)
    )
    if seeds < 1 or jobs < 1:
        print(f"error: seeds and jobs must be >= 1, got {seeds} and {jobs}", file=sys.stderr)
        return 2
    names = NAMES if arguments.name == "all" else (arguments.name,)
    try:
        failed = 0
        if not arguments.report:
            failed = _run(names, scale, range(seeds), folder, jobs, arguments.only)
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
    if not arguments.report:
        for name in names:
            own = experiment(name)
            found = records.load_all(folder, own.cells(scale, range(seeds)))
            print(f"\n{name}: {own.question}\n")
            print("\n".join(report.section(found, own)))
    print(f"\nwritten: {results}")
    return 1 if failed else 0


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
    if not cells:
        print(f"no cell to run{f' has {only!r} in its name' if only else ''}", file=sys.stderr)
        return 0
    there = sum(records.load(folder, cell) is not None for cell in cells)
    with tqdm(total=len(cells), initial=there, unit="cell", disable=not sys.stderr.isatty()) as bar:

        def said(cell: Cell, seconds: float, wrong: str) -> None:
            bar.update()
            line = f"FAILED {cell.key}: {wrong}" if wrong else f"{cell.key}  {seconds:.0f} s"
            tqdm.write(line, file=sys.stderr)

        return runner.run(cells, folder, jobs, said)
