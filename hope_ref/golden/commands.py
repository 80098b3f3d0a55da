"""``golden make``, ``golden list``, ``golden check``: the command line of the vectors."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from hope_ref.common.assignment import assignment
from hope_ref.config import HopeConfig
from hope_ref.golden.check import check, implementation
from hope_ref.golden.components import Options
from hope_ref.golden.files import CONTRACT, load, paths, save
from hope_ref.golden.make import FOLDER, make, make_shipped
from hope_ref.golden.registry import components
from hope_ref.golden.self_modifying import of_config


def run_make(arguments: argparse.Namespace) -> int:
    """Write one vector, or all that are shipped."""
    try:
        if arguments.shipped:
            if not arguments.out.is_dir():
                raise ValueError(f"OUT must be a folder with --shipped, got {arguments.out}")
            print(f"written: {len(make_shipped(arguments.out))} vectors in {arguments.out}")
            return 0
        if arguments.component is None:
            raise ValueError(f"--component must be one of {', '.join(components())}, got none")
        given: Options = dict(arguments.set)
        if arguments.printed:
            if arguments.component != "self_modifying_titans":
                raise ValueError(f"--printed must go with self_modifying_titans, got {arguments.component}")
            given = {**of_config(HopeConfig.printed()), **given}
        sizes = (arguments.tokens, arguments.width, arguments.hidden)
        save(arguments.out, make(arguments.component, given, arguments.seed, *sizes))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"written: {arguments.out} and {arguments.out.with_suffix('.json').name}, contract {CONTRACT}")
    return 0


def run_list(arguments: argparse.Namespace) -> int:
    """Print every vector with its component, size and options that are not at their default."""
    try:
        for path in paths(arguments.where):
            vector = load(path)
            known = components()[vector.component].options
            changed = [f"{n}={v!r}" for n, v in vector.options.items() if v != known[n][0]]
            print(
                f"{path.stem}  [{', '.join(vector.equations)}]  T={vector.tokens}  {' '.join(changed)}".rstrip()
            )
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def run_check(arguments: argparse.Namespace) -> int:
    """Exit 0 if all arrays of all vectors agree, 1 if one does not, 2 if nothing could be judged."""
    try:
        vectors = {path.stem: load(path) for path in paths(arguments.where)}
        wanted = arguments.component
        vectors = {n: v for n, v in vectors.items() if wanted is None or v.component == wanted}
        if not vectors:
            raise ValueError(f"--component must be that of a vector in {arguments.where}, got {wanted}")
        kinds = sorted({vector.component for vector in vectors.values()})
        if len(kinds) > 1 and ":" in arguments.implementation:
            raise ValueError(f"--component must say which one the function computes: {', '.join(kinds)}")
        if arguments.tolerance is not None:
            if not arguments.tolerance > 0:
                raise ValueError(f"--tolerance must be > 0, got {arguments.tolerance:g}")
            vectors = {n: v._replace(tolerance=arguments.tolerance) for n, v in vectors.items()}
        functions = {kind: implementation(arguments.implementation, kind) for kind in kinds}
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    failed = 0
    for name, vector in vectors.items():
        report = check(vector, functions[vector.component])
        failed += not report.agrees()
        print(f"{'agrees' if report.agrees() else 'DISAGREES'}  {name}")
        for finding in report.findings:
            if not report.agrees() or arguments.verbose:
                mark = "ok   " if finding.error <= report.tolerance else "WRONG"
                print(
                    f"  {mark}  {finding.array:<20} worst error {finding.error:.1e}  {finding.note}".rstrip()
                )
        if not report.agrees():
            print(
                f"  likely cause: {report.cause or 'none of the option values and mistakes that are known'}"
            )
    print(f"{len(vectors) - failed} of {len(vectors)} vectors agree")
    return 1 if failed else 0


def add_commands(commands: Any) -> None:
    """Add make, list and check to the subparsers; each sets ``function``, which returns the exit status."""

    def command(function: object, name: str, text: str) -> argparse.ArgumentParser:
        what = f"{text}; of contract {CONTRACT}, which help(hope_ref.golden) explains"
        sub: argparse.ArgumentParser = commands.add_parser(name, help=text, description=what)
        sub.set_defaults(function=function)
        return sub

    making = command(run_make, "make", "write one golden vector for any options")
    making.add_argument("--component", choices=sorted(components()), metavar="NAME", help="which one")
    making.add_argument(
        "--set", action="append", type=assignment, default=[], metavar="NAME=VALUE", help="an option"
    )
    making.add_argument("--printed", action="store_true", help="start from HopeConfig.printed()")
    for name, default in (("seed", 0), ("tokens", 11), ("width", 4), ("hidden", 5)):
        making.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"default {default}")
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
        type=float,
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
