"""All that only a GPU can say, in one command of nine minutes: ``make cuda``, or ``python -m hope_ref cuda``.

Each part is a process of its own with its own limit (`hope_ref.benchmarks.cuda_parts` is what runs in it), so that none
can take another's result with it: what a part has found is in results/cuda_<device>.json as soon as the part is over, what it
had found when it was stopped included. A second call runs what is not complete yet; ``--again`` runs it all.

It needs PyTorch with CUDA, Triton, pytest, NumPy and SymPy; pytest-xdist and flash-linear-attention are used where they are.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hope_ref.common.files import one_line, read_json, write_json
from hope_ref.common.outputs import replaceable, repository_folder, writable_folder

ROOT = Path(__file__).parents[2]
WHAT = "hope_ref on a GPU: tests, benchmarks, trainings"
NOT_MEASURED = "No GPU figure is claimed: not measured yet."
CALL = (sys.executable, "-m", "hope_ref.benchmarks.cuda_parts")
TOTAL = 540.0  # seconds for all parts together
LARGEST = 2**24  # bytes of a record


class Part(NamedTuple):
    """One process."""

    name: str
    limit: float  # seconds
    text: str


PARTS = (
    Part("device", 25, "what the device is, and what runs on it"),
    Part("tests", 95, "pytest -m cuda"),
    Part("ceilings", 25, "large products in float32, TF32 and bfloat16, and a copy"),
    Part("kernels", 60, "the gated delta rule, eager and by the Triton kernels"),
    Part("fla", 60, "the same beside flash-linear-attention"),
    Part("titans", 50, "bench --device cuda: the self-modifying Titans"),
    Part("training hope", 112, "the preset small, 90 s"),
    Part("training gated_delta_rule", 112, "a gated delta rule of as many parameters, 90 s"),
    Part("compiled", 100, "the gated delta rule, each chunk under torch.compile"),
)
LAST = "compiled"  # has what time is left, and may not end


def add_arguments(sub: argparse.ArgumentParser) -> None:
    """The options of ``cuda``."""
    sub.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(p.name for p in PARTS)}")
    sub.add_argument("--again", action="store_true", help="also what has a complete result")
    sub.add_argument("--toy", action="store_true", help="toy sizes on a CPU, into a folder of its own")
    sub.add_argument("--folder", type=Path, metavar="FOLDER", help="where the JSON goes (results)")


def main(arguments: argparse.Namespace) -> int:
    """Run what has no complete result, print the table; exit status 1 if a part is not complete, 2 for a wrong call."""
    unknown = sorted(set(arguments.parts) - {part.name for part in PARTS})
    if unknown:
        raise ValueError(
            f"parts must be of {', '.join(part.name for part in PARTS)}, got {', '.join(unknown)}"
        )
    folder = place(arguments.folder, arguments.toy)
    start = time.monotonic()
    first = run(PARTS[0], arguments.toy, PARTS[0].limit)
    if first["status"] != "complete":
        print(f"device: {first['status']}: {first['why']}", file=sys.stderr)
        return 1
    if not first["result"]["cuda"] and not arguments.toy:
        print(
            "PyTorch sees no CUDA device here; --toy (make cuda TOY=1) runs every line on a CPU",
            file=sys.stderr,
        )
        return 2
    path = folder / f"cuda_{file_name(first['result']['name'])}.json"
    record = opened(path, arguments.toy)
    record["parts"]["device"] = first
    write_json(path, record)
    for part in PARTS[1:]:
        if arguments.parts and part.name not in arguments.parts:
            continue
        if is_complete(record, part.name) and not arguments.again:
            print(f"{part.name}: complete, left as it is", flush=True)
            continue
        left = TOTAL - (time.monotonic() - start)
        if left < 15:
            print(f"{part.name}: no time left; call again", flush=True)
            continue
        print(f"{part.name}: {part.text} …", flush=True)
        record["parts"][part.name] = run(part, arguments.toy, min(part.limit, left))
        write_json(path, record)
    print("\n".join(lines(record)))
    print(f"\n{path}")
    if not arguments.toy:
        print(f"README.md must say: {sentence(folder)}")
    wanted = arguments.parts or [part.name for part in PARTS if part.name != LAST]
    return 0 if all(is_complete(record, name) for name in wanted) else 1


def place(folder: Path | None, toy: bool) -> Path:
    """Where the record goes. Raises: ValueError if it cannot be written there, or if toys would lie among results."""
    if toy:
        folder = folder or Path(tempfile.mkdtemp(prefix="hope_ref_cuda_"))
        for results in (ROOT / "results", Path("results").resolve()):
            if results in (folder.resolve(), *folder.resolve().parents):
                raise ValueError(f"folder must be outside {results} with --toy, got {str(folder)!r}")
    folder = repository_folder("folder", folder, "results")
    writable_folder("folder", folder)
    return folder


def file_name(device: str) -> str:
    """A device's name as part of a file's."""
    return re.sub("[^a-z0-9]+", "_", device.lower()).strip("_") or "device"


def opened(path: Path, toy: bool) -> dict[str, Any]:
    """The record to go on with, or a new one. Raises: ValueError if another file is in its place."""
    replaceable("folder", path, WHAT)
    if not path.exists():
        return {"what": WHAT, "toy": toy, "parts": {}}
    record = read_json(path, LARGEST)
    if record.get("toy") is not toy:
        raise ValueError(f"folder must hold no record of {'a real' if toy else 'a toy'} run, got {path}")
    return record


def is_complete(record: dict[str, Any], name: str) -> bool:
    """Whether a part has come to its end, with success."""
    return bool(record["parts"].get(name, {}).get("status") == "complete")


def run(part: Part, toy: bool, limit: float) -> dict[str, Any]:
    """One part in a process of its own: its status ("complete", "failed", "time limit"), why, seconds, and what it found."""
    surroundings = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
    }
    if toy:
        surroundings["CUDA_VISIBLE_DEVICES"] = ""
    with tempfile.TemporaryDirectory() as folder:
        path, said = Path(folder) / "part.json", Path(folder) / "said.txt"
        call = [*CALL, part.name, str(path)]
        start, status = time.monotonic(), "failed"
        with open(said, "wb") as output:
            process = subprocess.Popen(
                [*call, *(["--toy"] if toy else [])],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=surroundings,
                start_new_session=True,
            )
            try:
                process.wait(limit)
            except subprocess.TimeoutExpired:
                status = "time limit"
            finally:
                ended(process)
        try:
            found = read_json(path, LARGEST) if path.exists() else {}
        except ValueError as error:
            found = {"why": one_line(error)}
        if process.returncode == 0 and found.get("complete") is True:
            status = "complete"
        words = said.read_text(encoding="utf-8", errors="replace").strip()
    why = (
        ""
        if status == "complete"
        else found.get("why") or one_line(words[-300:] or f"exit status {process.returncode}")
    )
    return {
        "status": status,
        "why": why,
        "seconds": round(time.monotonic() - start, 1),
        "versions": found.get("versions", {}),
        "result": found.get("result", {}),
    }  # fmt: skip


def ended(process: subprocess.Popen[bytes]) -> None:
    """End a process with all that it has started, if it has not ended."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)  # its own group: it began a session
    process.wait()


# --- for people -----------------------------------------------------------------------------------------------------


def records(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    """What was measured on GPUs, by file; toys do not count."""
    found = [(path, read_json(path, LARGEST)) for path in sorted(folder.glob("cuda_*.json"))]
    return [(path, record) for path, record in found if record.get("toy") is False]


def sentence(folder: Path) -> str:
    """What was measured, in words, for README.md and RESULTS.md; `NOT_MEASURED` where nothing was."""
    found = [_measured(path, record) for path, record in records(folder)]
    return " ".join(found) if found else NOT_MEASURED


def _measured(path: Path, record: dict[str, Any]) -> str:
    """One device's sentence: of what has a complete result alone, and what has none."""
    parts, said = record["parts"], []
    if is_complete(record, "tests"):
        tests = parts["tests"]["result"]
        said.append(f"{tests['passed']} of {sum(tests[key] for key in OUTCOMES)} CUDA tests pass")
    if is_complete(record, "kernels"):
        result = parts["kernels"]["result"]
        ratios = [
            result["ratios"].get(f"eager over triton, float32, {part}")
            for part in ("forward", "forward and backward")
        ]
        if all(ratios):
            forward, both = (f"{ratio['median']:.1f}" for ratio in ratios)
            said.append(
                f"eager PyTorch takes {forward} times as long as the kernels forward, {both} with backward (float32)"
            )
    for name, what in (("hope", "`small`"), ("gated_delta_rule", "a gated delta rule of equal size")):
        if is_complete(record, f"training {name}"):
            speed = max(parts[f"training {name}"]["result"]["tokens_per_second"].values())
            said.append(f"{what} reads {speed:,.0f} tokens/s in training")
    lacking = [part.name for part in PARTS if part.name != LAST and not is_complete(record, part.name)]
    said += [f"not measured: {', '.join(lacking)}"] if lacking else []
    name = parts["device"]["result"]["name"]
    return f"On one {name} ([{path.name}](results/{path.name})): {'; '.join(said)}."


OUTCOMES = ("passed", "failed", "error", "skipped")


def lines(record: dict[str, Any]) -> list[str]:
    """The record as a table."""
    from hope_ref.benchmarks import kernels

    device = record["parts"]["device"]["result"]
    rows = [f"\n{device['name']}" + (", toy sizes: no number means anything" if record["toy"] else "")]
    rows.append(f"{'part':<28}{'status':<12}{'seconds':>8}")
    for part in PARTS:
        found = record["parts"].get(part.name)
        if found is None:
            rows.append(f"{part.name:<28}not run")
            continue
        why = f"  {found['why']}" if found["why"] else ""
        rows.append(f"{part.name:<28}{found['status']:<12}{found['seconds']:>8.1f}{why}")
    results = {name: found["result"] for name, found in record["parts"].items() if found["result"]}
    if "tests" in results:
        counts = ", ".join(f"{results['tests'].get(key, 0)} {key}" for key in OUTCOMES)
        rows += ["", f"tests: {counts}", *(f"  {name}" for name in results["tests"].get("names", [])[:20])]
    if "per_second" in results.get("ceilings", {}):
        rows += kernels.ceiling_lines(results["ceilings"])
    for name in ("kernels", "fla", "compiled"):
        rows += kernels.lines(results[name]) if "seconds" in results.get(name, {}) else []
    rows += _titans(results.get("titans", {}))
    for name in ("training hope", "training gated_delta_rule"):
        rows += _training(name, results[name]) if name in results else []
    return rows


def _titans(found: dict[str, Any]) -> list[str]:
    if "timed" not in found:
        return []
    rows = ["", f"{'self-modifying Titans, one head':<56}{'ms':>10}"]
    return rows + [f"{name:<56}{1e3 * one['median']:>10.2f}" for name, one in found["timed"].items()]


def _training(name: str, found: dict[str, Any]) -> list[str]:
    speeds = ", ".join(f"{speed:,.0f} by {by}" for by, speed in found.get("tokens_per_second", {}).items())
    rows = ["", f"{name}: {found['parameters']:,} parameters; tokens/s: {speeds}"]
    for step, seconds, bits in _some(found.get("curve", []), 6):
        rows.append(f"  step {step:>6} {seconds:>8.1f} s {bits:>8.3f} bits per byte")
    return rows + [f"  without {by}: {why}" for by, why in found.get("without", {}).items()]


def _some(points: Sequence[Any], count: int) -> list[Any]:
    """The first, the last and those evenly between."""
    last = len(points) - 1
    places = sorted({round(last * i / (count - 1)) for i in range(count)}) if points else []
    return [points[i] for i in places]
