"""Runs cells that have no record yet, one process each, as many side by side as wanted; what is there is never run again. [D]"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

import torch

from hope_ref.experiments import records
from hope_ref.experiments.cells import Cell
from hope_ref.parallel.ops import flushed_denormals

Said = Callable[[Cell, float, str], None]  # cell, seconds, what went wrong or ""


def run_cell(cell: Cell, folder: Path) -> float:
    """Run one cell and write its record; returns the seconds it took. One thread, denormals flushed."""
    from hope_ref.experiments import experiment

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with (
            flushed_denormals()
        ):  # and as they were, afterwards: with one job this is the caller's own process
            torch.manual_seed(cell.seed)
            start = time.perf_counter()
            measures = experiment(cell.experiment).measure(cell)
            seconds = time.perf_counter() - start
    finally:
        torch.set_num_threads(threads)
    records.save(folder, cell, measures, seconds)
    return seconds


def run(cells: Sequence[Cell], folder: Path, jobs: int, said: Said) -> int:
    """Run what has no record; returns how many failed. A cell that fails leaves no record and does not stop the others.

    Ctrl-C: those that run are dropped, those that are done are kept.
    """
    missing = [cell for cell in cells if records.load(folder, cell) is None]
    if jobs == 1:
        return sum(_tried(cell, folder, said) for cell in missing)
    failed, waiting = 0, list(missing)
    # Fresh processes: a forked one would inherit PyTorch's threads in whatever state they are.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=context, max_tasks_per_child=1)
    try:
        running: dict[Future[float], Cell] = {}
        while waiting or running:
            while waiting and len(running) < jobs:
                cell = waiting.pop(0)
                running[pool.submit(run_cell, cell, folder)] = cell
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                cell = running.pop(future)
                error = future.exception()
                said(cell, 0.0 if error else future.result(), repr(error) if error else "")
                failed += error is not None
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return failed


def _tried(cell: Cell, folder: Path, said: Said) -> bool:
    try:
        seconds = run_cell(cell, folder)
    except Exception as error:
        said(cell, 0.0, repr(error))
        return True
    said(cell, seconds, "")
    return False


def lacking(needs: Sequence[str]) -> list[str]:
    """The modules among these that are not installed."""
    return [name for name in needs if importlib.util.find_spec(name) is None]


def sensible_jobs() -> int:
    """As many processes as this machine gives us cores."""
    usable: Any = getattr(os, "sched_getaffinity", None)
    return max(1, len(usable(0)) if usable else (os.cpu_count() or 1))
