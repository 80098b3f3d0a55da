"""``make mutants``: plant each fault in a copy of the repository and see which test turns red.

For each fault the tests named by it run first, until one is red; if none is, the whole selection of ``make test`` runs.
A fault counts as caught if a test is red with it and the same test is green without it. The exit status is 1 if a fault
survives, 2 if one can no longer be planted.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

sys.path.insert(0, str(Path(__file__).parent))
from faults import ROOT, Fault, faults

TIMEOUT = 1800  # seconds, for one run of the tests
OUTSIDE = shutil.ignore_patterns(
    ".git",
    ".venv*",
    "build",
    "runs",
    "__pycache__",
    ".*_cache",
    "*.egg-info",
    ".ipynb_checkpoints",
    ".coverage*",
)
NOT_THESE = "--ignore=tests/mutations"  # they are red for every fault, since its text no longer stands
NOT_FOUND = 4  # of pytest: no such test
RED = re.compile(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", re.MULTILINE)


def selection() -> tuple[list[str], list[str]]:
    """What ``make test`` gives to pytest, from the Makefile itself, but for the tests of the list: options and paths."""
    call = ["make", "--no-print-directory", "-s", "show-selection"]
    shown = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    options, paths = shown.splitlines()
    return [*shlex.split(options), NOT_THESE], shlex.split(paths)


def pytest_in(copy: Path, arguments: list[str]) -> tuple[int, str]:
    """Run pytest on the copy's own package; the exit status and what it printed."""
    surroundings = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    call = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-rfE",
        "--tb=line",
        "-p",
        "no:cacheprovider",
        *arguments,
    ]
    try:
        done = subprocess.run(
            call, cwd=copy, env=surroundings, capture_output=True, text=True, check=False, timeout=TIMEOUT
        )
    except subprocess.TimeoutExpired:
        return -1, f"no answer after {TIMEOUT} s"
    return done.returncode, done.stdout + done.stderr


def first_red(copy: Path, where: list[str], options: list[str]) -> str:
    """The first test that fails; '' if none does; RuntimeError if pytest itself could not run them."""
    status, shown = pytest_in(copy, [*options, *where])
    if status == -1:
        return "(hangs)"
    if status in (0, 5):
        return ""
    found = RED.search(shown)
    if status != 1 or found is None:
        raise RuntimeError(f"pytest ended with {status}:\n{shown[-1500:]}")
    return found[1]


def tried(fault: Fault, copy: Path, options: list[str], paths: list[str], green: set[str]) -> str:
    """The test that catches the fault, '' if it survives."""
    path = copy / fault.file
    right = path.read_text(encoding="utf-8")
    for where in (fault.first(copy), paths):
        path.write_text(right.replace(fault.stands, fault.put), encoding="utf-8")
        try:
            red = first_red(copy, where, options)
        finally:
            path.write_text(right, encoding="utf-8")
        if red and red != "(hangs)" and red not in green:
            name = red.split("::")[0] if ".ipynb::" in red else red  # a cell needs those before it
            status, shown = pytest_in(copy, [*options, name])
            if status == NOT_FOUND:  # the fault changes the name of the case
                status, shown = pytest_in(copy, [*options, name.split("[")[0]])
            if status != 0:
                raise RuntimeError(f"{red} is red without the fault:\n{shown[-1500:]}")
            green.add(red)
        if red:
            return red
    return ""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="faults by name, or parts of names; all if none")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="copies at work at the same time"
    )
    parser.add_argument("--list", action="store_true", help="name the faults and stop")
    given = parser.parse_args(arguments)
    chosen = [f for f in faults() if not given.names or any(name in f.name for name in given.names)]
    if given.list:
        print("\n".join(f"{fault.name:44} {fault.breaks}" for fault in chosen))
        return 0
    if not chosen:
        print(f"no fault has {' or '.join(given.names)} in its name", file=sys.stderr)
        return 2
    stale = [text for fault in chosen if (text := fault.problem())]
    if stale:
        print("\n".join(stale), file=sys.stderr)
        return 2
    return report(chosen, max(1, min(given.jobs, len(chosen))))


def report(chosen: list[Fault], jobs: int) -> int:
    """Try the faults in copies of the repository and print a line for each."""
    copies: SimpleQueue[Path] = SimpleQueue()
    (options, paths), green, start = selection(), set[str](), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for job in range(jobs):
            copy = Path(folder) / f"copy{job}"
            shutil.copytree(ROOT, copy, ignore=OUTSIDE)
            copies.put(copy)

        def one(fault: Fault) -> str:
            copy, begun = copies.get(), time.perf_counter()
            try:
                verdict = tried(fault, copy, options, paths, green)
                said = f"caught by {verdict}" if verdict else "SURVIVED"
            except RuntimeError as error:
                said, verdict = f"NOT JUDGED: {error}", ""
            finally:
                copies.put(copy)
            print(f"{fault.name:44} {time.perf_counter() - begun:5.0f} s  {said}", flush=True)
            return verdict

        with ThreadPoolExecutor(jobs) as pool:
            verdicts = list(pool.map(one, chosen))
    survived = [fault for fault, verdict in zip(chosen, verdicts, strict=True) if not verdict]
    print(f"\n{len(chosen)} planted, {len(survived)} survived, {time.perf_counter() - start:.0f} s")
    for fault in survived:
        print(f"  {fault.name} in {fault.file}: {fault.breaks}")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
