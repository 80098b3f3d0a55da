"""What runs in the processes of ``python -m hope_ref cuda``: ``python -m hope_ref.benchmarks.cuda_parts PART FILE [--toy]``.

Each part writes what it has found so far into its file, and at its end that it is complete.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import math
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from hope_ref.benchmarks.cuda import OUTCOMES, ROOT
from hope_ref.common.files import one_line, write_json

Write = Callable[[dict[str, Any]], None]
SECONDS = {
    False: (75.0, 15.0),
    True: (0.3, 0.2),
}  # of a training: by PyTorch, then by the kernels; of a toy one
POINTS = 200  # of a curve
# A line of pytest -v about one test, alone and under xdist.
ALONE = re.compile(r"^(tests/.*) (PASSED|FAILED|ERROR|SKIPPED)(?: \(.*\))? +\[ *\d+%\]$")
UNREAD = re.compile(r"^ERROR (tests/\S+\.py)(?: - .*)?$")  # a file that could not be read, in the summary
SPREAD = re.compile(r"^\[gw\d+\] \[ *\d+%\] (PASSED|FAILED|ERROR|SKIPPED) (tests/.*?)\s*$")


def device(toy: bool, write: Write) -> None:
    """What there is to measure on."""
    import torch

    there = torch.cuda.is_available() and not toy
    found = {"cuda": there, "name": "cpu", "cores": os.cpu_count()}
    if there:
        properties = torch.cuda.get_device_properties(0)
        found |= {
            "name": properties.name,
            "capability": [properties.major, properties.minor],
            "memory_bytes": properties.total_memory,
            "multiprocessors": properties.multi_processor_count,
        }
    write(found)


def tests(toy: bool, write: Write) -> None:
    """pytest -m cuda, test by test. Raises: RuntimeError if one failed, or none ran on a GPU."""
    call = [sys.executable, "-m", "pytest", "-v", "--tb=line", "-m", "cuda", "-p", "no:cacheprovider"]
    call += ["--continue-on-collection-errors", "tests/kernels", "tests/parallel"]
    if find_spec("xdist") and not toy:
        call += ["-n", str(min(8, os.cpu_count() or 1))]
    found: dict[str, Any] = {**dict.fromkeys(OUTCOMES, 0), "names": []}
    process = subprocess.Popen(
        call,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": "200"},
    )
    assert process.stdout is not None
    said, wrote = "", time.monotonic()
    for line in process.stdout:
        said = line.strip() or said
        if outcome := outcome_of(line.rstrip()):
            kind, name = outcome
            found[kind] += 1
            if kind in ("failed", "error"):
                found["names"].append(name)
        if time.monotonic() - wrote > 2:
            write(found)
            wrote = time.monotonic()
    write(found)
    if process.wait() != 0:
        raise RuntimeError(f"pytest: {said}")
    if not found["passed"] and not toy:
        raise RuntimeError(f"no test ran: {said}")


def outcome_of(line: str) -> tuple[str, str] | None:
    """What a line of pytest says of a test, and its name; None if it is about none."""
    if match := ALONE.match(line):
        return match[2].lower(), match[1]
    if match := SPREAD.match(line):
        return match[1].lower(), match[2]
    if match := UNREAD.match(line):
        return "error", match[1]
    return None


def ceilings(toy: bool, write: Write) -> None:
    """What the device itself reaches."""
    from hope_ref.benchmarks import kernels
    from hope_ref.benchmarks.timing import in_turns

    write(kernels.ceilings(*_sizes(toy), in_turns))


def _sizes(toy: bool) -> tuple[str, int, bool]:
    """Device, repeats, toy: as the benchmarks take them."""
    return ("cpu", 1, True) if toy else ("cuda", 10, False)


def of_kernels(*names: str) -> Callable[[bool, Write], None]:
    """The gated delta rule by these ways."""

    def part(toy: bool, write: Write) -> None:
        from hope_ref.benchmarks import kernels
        from hope_ref.benchmarks.timing import in_turns

        kernels.measure(*_sizes(toy), in_turns, names, write)

    return part


def compiled(toy: bool, write: Write) -> None:
    """The same, each chunk compiled; a toy compiles nothing, which would take half a minute."""
    of_kernels(*(() if toy else ("compiled",)))(toy, write)


def titans(toy: bool, write: Write) -> None:
    """``bench --device cuda`` without the kernels, which are a part of their own."""
    from hope_ref.benchmarks import command

    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    arguments = parser.parse_args(["--device", _sizes(toy)[0]])
    arguments.quick = toy
    if toy:
        arguments.width, arguments.tokens, arguments.chunk_size, arguments.repeats = 16, 64, 16, 1
    write(command.measure(arguments, write, with_kernels=False))


def training(mixer: str) -> Callable[[bool, Write], None]:
    """A minute and a half of training on Python's own manual: by PyTorch, then, going on, by the Triton kernels."""

    def part(toy: bool, write: Write) -> None:
        import torch

        from hope_ref.parallel.ops import flushed_denormals
        from hope_ref.training import data
        from hope_ref.training.loop import Trainer
        from hope_ref.training.processes import Objective, World

        run, parts = data.prepared(recipe(mixer, toy))
        trainer = Trainer(run, parts, World(0, 1, torch.device(run.training.device)))
        objective = cast(Objective, trainer.objective)
        found: dict[str, Any] = {
            "run": run.to_dict(),
            "parameters": run.parameters(),
            "tokens_per_second": {},
            "curve": [],
            "without": {},
        }
        curve: list[list[float]] = []
        start, seconds = time.perf_counter(), 0.0
        with flushed_denormals():
            for backend, more in zip(("torch", "triton"), SECONDS[toy], strict=True):
                objective.settings = run.changed(backend=backend).training
                seconds += more
                try:
                    speed = _steps(trainer, start, seconds, curve, lambda: write(_with(found, curve)))
                except Exception as error:  # a backend that fails: what the other one has found stays
                    if backend == "torch":
                        raise
                    found["without"][backend] = one_line(f"{type(error).__name__}: {error}", 200)
                    continue
                found["tokens_per_second"][backend] = speed
            objective.settings = run.training
            found["validation_bits_per_byte"] = trainer.validate()
        if run.training.device == "cuda":
            found["peak_bytes"] = torch.cuda.max_memory_allocated()
        write(_with(found, curve))

    return part


def recipe(mixer: str, toy: bool) -> Any:
    """The preset `small` for minutes instead of an afternoon; with another mixer, of the width that has as many parameters."""
    from hope_ref.training.presets import PRESETS

    run = PRESETS["small"].changed(
        device="cpu" if toy else "cuda", schedule="constant", warmup=0.01, evaluate_every=0
    )
    if toy:
        run = run.changed(width=16, heads=1, blocks=1, batch=2, tokens=32, evaluate_bytes=64)
    if mixer == "hope":
        return run
    widths = range(run.config.width, 2 * run.config.width, 2 * run.config.heads)
    others = [run.changed(mixer=mixer, width=width) for width in widths]
    return min(others, key=lambda one: abs(one.parameters() - run.parameters()))


def _steps(
    trainer: Any, start: float, until: float, curve: list[list[float]], write: Callable[[], None]
) -> float:
    """Steps until so many seconds have gone by, at least three; tokens per second, the first two left out.

    Raises: ValueError if the loss is not finite.
    """
    settings, times, wrote = trainer.run.training, [time.perf_counter()], time.monotonic()
    while len(times) < 4 or times[-1] - start < until:
        before, measured = trainer.step, trainer.advance([])
        if trainer.step == before:
            raise ValueError(f"the loss or its gradient is not finite after {before} steps: {measured.loss}")
        times.append(time.perf_counter())
        curve.append([trainer.step, round(times[-1] - start, 3), measured.loss / math.log(2)])
        if time.monotonic() - wrote > 5:
            write()
            wrote = time.monotonic()
    return float(settings.batch * settings.tokens * (len(times) - 3) / (times[-1] - times[2]))


def _with(found: dict[str, Any], curve: list[list[float]]) -> dict[str, Any]:
    """The record with the curve so far, thinned, its last point included: step, seconds, bits per byte."""
    stride = max(1, math.ceil(len(curve) / POINTS))
    return {**found, "curve": [*curve[:-1:stride], *curve[-1:]]}


RUNS: dict[str, Callable[[bool, Write], None]] = {
    "device": device,
    "tests": tests,
    "ceilings": ceilings,
    "kernels": of_kernels("triton"),
    "fla": of_kernels("triton", "flash-linear-attention"),
    "titans": titans,
    "training hope": training("hope"),
    "training gated_delta_rule": training("gated_delta_rule"),
    "compiled": compiled,
}


def versions() -> dict[str, str]:
    """Of all that takes part."""
    from hope_ref import __version__

    found = {"python": platform.python_version(), "hope_ref": __version__}
    for name in ("torch", "triton", "numpy", "fla-core", "flash-linear-attention"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run one part; exit status 1, with the reason in its file, if it fails."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("part", choices=tuple(RUNS))
    parser.add_argument("file", type=Path)
    parser.add_argument("--toy", action="store_true")
    given = parser.parse_args(arguments)
    content: dict[str, Any] = {"complete": False, "versions": versions(), "result": {}}

    def write(found: dict[str, Any]) -> None:
        content["result"] = found
        write_json(given.file, content)

    try:
        RUNS[given.part](given.toy, write)
    except Exception as error:
        write_json(given.file, content | {"why": one_line(f"{type(error).__name__}: {error}")})
        raise
    write_json(given.file, content | {"complete": True})
    return 0


if __name__ == "__main__":
    sys.exit(main())
