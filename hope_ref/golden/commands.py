"""``golden make``, ``golden list``, ``golden check``: the command line of the vectors.

The exit status is 0 if the work is done; 1 if a vector disagrees, or for ``make`` if the disk is full; 2,
with one line on stderr, for a wrong argument and for a file that cannot be read or written; 130 for Ctrl-C.
"""

from __future__ import annotations

import argparse
import errno
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn

from hope_ref.common.assignment import add_set
from hope_ref.common.files import one_line
from hope_ref.common.progress import progress
from hope_ref.config import HopeConfig
from hope_ref.golden.check import Implementation, Report, check, implementation
from hope_ref.golden.components import Options
from hope_ref.golden.files import Vector, check_place, load, paths, save
from hope_ref.golden.make import DEFAULT, FOLDER, make, make_shipped
from hope_ref.golden.manifest import CONTRACT, checked_tolerance
from hope_ref.golden.registry import components
from hope_ref.golden.self_modifying import of_config

Command = Callable[[argparse.Namespace], int]
FULL = (errno.ENOSPC, errno.EDQUOT)  # of a disk


def answering(command: Command) -> Command:
    """The command, with one line and an exit status in the place of a traceback."""

    @wraps(command)
    def run(arguments: argparse.Namespace) -> int:
        try:
            return command(arguments)
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
            return 130
        except BrokenPipeError:
            raise  # nobody reads what is printed: the command line's own affair
        except OSError as error:
            print(one_line(error, 1000), file=sys.stderr)
            return 1 if error.errno in FULL else 2
        except (ValueError, MemoryError) as error:
            print(one_line(error, 5000), file=sys.stderr)
            return 2

    return run


def say(text: str) -> None:
    """Print a line, above the progress bar if there is one; a letter that the output lacks, by its number."""
    from tqdm import tqdm

    encoding = sys.stdout.encoding or "utf-8"
    tqdm.write(text.encode(encoding, "backslashreplace").decode(encoding))


def number(name: str, text: Any, kind: Callable[[Any], Any], words: str) -> Any:
    """The number that an option names. Raises: ValueError, which says what it must be."""
    try:
        return kind(text)
    except (ValueError, TypeError):
        raise ValueError(f"{name} must be {words}, got {one_line(repr(text), 60)}") from None


@answering
def run_make(arguments: argparse.Namespace) -> int:
    """Write one vector, or all that are shipped."""
    if arguments.shipped:
        if not arguments.out.is_dir():
            raise ValueError(f"OUT must be a folder with --shipped, got {arguments.out}")
        say(f"written: {len(make_shipped(arguments.out))} vectors in {arguments.out}")
        return 0
    if arguments.component is None:
        raise ValueError(f"--component must be one of {', '.join(components())}, got none")
    options: Options = dict(arguments.set)
    if arguments.printed:
        if arguments.component != "self_modifying_titans":
            raise ValueError(f"--printed must go with self_modifying_titans, got {arguments.component}")
        options = {**of_config(HopeConfig.printed()), **options}
    sizes = {
        name: number(f"--{name}", getattr(arguments, name), int, "an integer")
        for name in ("seed", *DEFAULT._fields)
    }
    check_place(arguments.out)
    save(arguments.out, make(arguments.component, options, **sizes))
    say(f"written: {arguments.out} and {arguments.out.with_suffix('.json').name}, contract {CONTRACT}")
    return 0


@answering
def run_list(arguments: argparse.Namespace) -> int:
    """Print every vector with its component, size and options that are not at their default."""
    for path in paths(arguments.where):
        vector = load(path)
        known = components()[vector.component].options
        changed = [f"{n}={v!r}" for n, v in vector.options.items() if v != known[n][0]]
        name = one_line(path.stem)
        say(f"{name}  [{', '.join(vector.equations)}]  T={vector.tokens}  {' '.join(changed)}".rstrip())
    return 0


@answering
def run_check(arguments: argparse.Namespace) -> int:
    """Exit 0 if all arrays of all vectors agree, 1 if one does not, 2 if nothing could be judged."""
    vectors, functions = _vectors(arguments), dict[str, Implementation]()
    for kind in sorted({vector.component for vector in vectors.values()}):
        functions[kind] = implementation(arguments.implementation, kind)
    failed = 0
    for name, vector in progress(vectors.items(), "check", "vector"):
        report = check(vector, functions[vector.component])
        failed += not report.agrees()
        for line in _lines(one_line(name), report, arguments.verbose):
            say(line)
    say(f"{len(vectors) - failed} of {len(vectors)} vectors agree")
    return 1 if failed else 0


def _vectors(arguments: argparse.Namespace) -> dict[str, Vector]:
    """The vectors to judge, by name. Raises: ValueError if there is none, or for a wrong argument."""
    kind, tolerance = arguments.component, arguments.tolerance
    if tolerance is not None:
        tolerance = number("--tolerance", tolerance, float, "a number in (0, 1]")
        tolerance = checked_tolerance("--tolerance", tolerance)
    every = {path.stem: load(path) for path in paths(arguments.where)}
    vectors = {name: vector for name, vector in every.items() if kind in (None, vector.component)}
    if not vectors:
        raise ValueError(f"--component must be that of a vector in {arguments.where}, got {kind}")
    kinds = sorted({vector.component for vector in vectors.values()})
    if len(kinds) > 1 and ":" in arguments.implementation:
        raise ValueError(f"--component must say which one the function computes: {', '.join(kinds)}")
    if tolerance is not None:
        vectors = {name: vector._replace(tolerance=tolerance) for name, vector in vectors.items()}
    return vectors


def _lines(name: str, report: Report, verbose: bool) -> list[str]:
    """What is printed of one vector."""
    agrees = report.agrees()
    lines = [f"{'agrees' if agrees else 'DISAGREES'}  {name}"]
    for finding in report.findings:
        if not agrees or verbose:
            mark = "ok   " if finding.error <= report.tolerance else "WRONG"
            lines.append(
                f"  {mark}  {finding.array:<20} worst error {finding.error:.1e}  {finding.note}".rstrip()
            )
    if not agrees:
        tried = report.tried or "the option values and mistakes that are known"
        lines.append(f"  likely cause: {report.cause or f'none of {tried}'}")
    return lines


def _refuse(message: str) -> NoReturn:
    """End the command for a wrong option."""
    print(one_line(message, 1000), file=sys.stderr)
    raise SystemExit(2)


def add_commands(commands: Any) -> None:
    """Add make, list and check to the subparsers; each sets ``function``, which returns the exit status."""

    def command(function: object, name: str, text: str) -> argparse.ArgumentParser:
        what = f"{text}; of contract {CONTRACT}, which help(hope_ref.golden) explains"
        sub: argparse.ArgumentParser = commands.add_parser(name, help=text, description=what)
        sub.set_defaults(function=function)
        setattr(sub, "error", _refuse)  # noqa: B010  # argparse prints its usage, too
        return sub

    making = command(run_make, "make", "write one golden vector for any options")
    making.add_argument("--component", choices=sorted(components()), metavar="NAME", help="which one")
    add_set(making, "an option")
    making.add_argument("--printed", action="store_true", help="start from HopeConfig.printed()")
    for name, default in {"seed": 0, **DEFAULT._asdict()}.items():
        making.add_argument(f"--{name}", default=default, metavar="N", help=f"default {default}")
    making.add_argument(
        "--shipped", action="store_true", help="write all vectors of the package; OUT is a folder"
    )
    making.add_argument("out", type=Path, metavar="OUT", help="OUT.npz; the manifest goes to OUT.json")
    listing = command(run_list, "list", "list golden vectors")
    checking = command(run_check, "check", "run anybody's function on golden vectors")
    for sub in (listing, checking):
        sub.add_argument("where", nargs="?", type=Path, default=FOLDER, metavar="FILE_OR_DIR")
    checking.add_argument(
        "--implementation",
        required=True,
        metavar="WHERE",
        help="package.module:function; or package.module, whose functions are named as the components",
    )
    checking.add_argument(
        "--component", choices=sorted(components()), metavar="NAME", help="only its vectors"
    )
    checking.add_argument(
        "--tolerance",
        metavar="X",
        help="in the place of the vectors' own, 1e-9; 1e-5, say, for what computes in float32",
    )
    checking.add_argument("--verbose", action="store_true", help="also list the arrays that agree")


def parser() -> argparse.ArgumentParser:
    """The command line of this package alone."""
    top = argparse.ArgumentParser(prog="python -m hope_ref golden", description="golden vectors")
    add_commands(top.add_subparsers(dest="golden", required=True, metavar="COMMAND"))
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    chosen = parser().parse_args(arguments)
    return int(chosen.function(chosen))
