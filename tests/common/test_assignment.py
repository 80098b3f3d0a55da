"""NAME=VALUE on a command line, the same in every command."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from hope_ref.common.assignment import assignment


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4", 4),
        ("1e-3", 1e-3),
        ("true", True),
        ("False", False),
        ("null", None),
        ("None", None),
        ("(8, 32)", (8, 32)),
        ("[1.5]", [1.5]),
        ("post", "post"),
        ("'4'", "4"),
        ("a=b", "a=b"),
        ("", ""),
        ("-" * 10_000 + "1", "-" * 10_000 + "1"),
    ],
)
def test_a_value_is_read_as_python_or_json_writes_it_else_as_a_word(text: str, value: Any) -> None:
    name, found = assignment(f"option={text}")
    assert (name, found, type(found)) == ("option", value, type(value))


@pytest.mark.parametrize("text", ["option", "=4", "="])
def test_what_is_no_assignment_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="must be NAME=VALUE, got"):
        assignment(text)
