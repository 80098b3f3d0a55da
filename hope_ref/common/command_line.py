"""Command lines whose options are those of dataclasses: jsonargparse reads them, this adds one line for what is wrong."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

from jsonargparse import ArgumentError, ArgumentParser, Namespace

from hope_ref.common.files import one_line

WRONG = re.compile(r'Parser key "(?P<name>.+?)": (?:Expected an? |)(?P<want>.+?)\. Got value: (?P<got>.*)')
KINDS = {
    "<class 'int'>": "an integer",
    "<class 'float'>": "a number",
    "<class 'bool'>": "true or false",
    "<class 'tuple'>": "a list such as [1,2]",
    "<class 'str'>": "a text",
}


def parser(prog: str, text: str, epilog: str = "") -> ArgumentParser:
    """An empty parser, to which options and whole dataclasses are added. Names may not be abbreviated."""
    return ArgumentParser(
        prog=prog,
        usage=f"{prog} [-h] [--OPTION VALUE ...]",
        description=text,
        epilog=epilog,
        exit_on_error=False,
        allow_abbrev=False,
        default_env=False,
    )


def parsed(own: ArgumentParser, arguments: Sequence[str]) -> Namespace:
    """The options that are on the command line, without defaults. One line on stderr and exit status 2 for a wrong one."""
    try:
        return own.parse_args(list(arguments), defaults=False)
    except (ArgumentError, ValueError, ArithmeticError, RecursionError, MemoryError) as error:
        print(f"error: {_reason(error)}", file=sys.stderr)
        raise SystemExit(2) from None


def _reason(error: BaseException) -> str:
    """What is wrong, as NAME must be …, got …, where the library says as much."""
    text = one_line(error)
    wrong = WRONG.match(text)
    if wrong is None:
        return text
    want = wrong["want"]
    kind = KINDS.get(want) or want.replace("typing.Literal", "one of ").replace("typing.", "")
    return f"{wrong['name']} must be {kind}, got {wrong['got']}"
