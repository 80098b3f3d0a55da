"""NAME=VALUE on a command line: what ``--set`` takes, in every command that has it."""

from __future__ import annotations

import argparse
import ast
from typing import Any

WORDS = {"true": "True", "false": "False", "null": "None"}  # as JSON writes them


def assignment(text: str) -> tuple[str, Any]:
    """The name and the value of NAME=VALUE: a value as Python or JSON writes it (``4``, ``1e-3``, ``true``, ``(8, 32)``), else a word.

    Raises: argparse.ArgumentTypeError if there is no name or no equals sign.
    """
    name, sign, value = text.partition("=")
    if not name or not sign:
        raise argparse.ArgumentTypeError(f"must be NAME=VALUE, got {text!r}")
    try:
        return name, ast.literal_eval(WORDS.get(value, value))
    except (
        ValueError,
        SyntaxError,
        MemoryError,
        RecursionError,
    ):  # the last two for what is nested too deeply
        return name, value


def add_set(parser: argparse.ArgumentParser, text: str) -> None:
    """``--set NAME=VALUE``, which may be given again; ``text``: what may be set."""
    parser.add_argument(
        "--set", type=assignment, action="append", default=[], metavar="NAME=VALUE", help=text
    )
