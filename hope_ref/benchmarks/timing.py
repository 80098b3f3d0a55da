"""Seconds of several runs, in turns."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from hope_ref.common.progress import progress

Run = Callable[[], Any]


def in_turns(runs: dict[str, Run], repeats: int, device: str) -> dict[str, list[float]]:
    """Seconds of every run: first each once for nothing, then all of them in turns, ``repeats`` times."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for turn in progress(range(repeats + 1), "in turns", "turn"):
        for name, run in runs.items():
            seconds = _seconds(run, device)
            if turn:
                found[name].append(seconds)
    return found


def _seconds(run: Run, device: str) -> float:
    def wait() -> None:
        if device == "cuda":  # a GPU works on after the call has returned
            torch.cuda.synchronize()

    wait()
    start = time.perf_counter()
    run()
    wait()
    return time.perf_counter() - start
