"""Docstrings of options: written once, behind each option of a dataclass, shown by `help`, by editors and on command lines."""

from __future__ import annotations

import ast
import inspect
from itertools import pairwise
from typing import Literal, TypeVar, get_args, get_origin, get_type_hints

Kind = TypeVar("Kind", bound=type)


def documented(cls: Kind) -> Kind:
    """Put the docstring of every option into that of the class, so that `help` shows what an editor shows."""
    try:
        body = ast.parse(inspect.getsource(cls)).body[0].body  # type: ignore[attr-defined]
    except OSError:  # no source at hand, e.g. in a frozen application
        return cls
    hints = get_type_hints(cls)
    lines = []
    for option, text in pairwise(body):
        if isinstance(option, ast.AnnAssign) and isinstance(text, ast.Expr):
            name, default = ast.unparse(option.target), ast.unparse(option.value)  # type: ignore[arg-type]
            words = get_args(hints[name]) if get_origin(hints[name]) is Literal else ()
            kind = " | ".join(map(repr, words)) or ast.unparse(option.annotation)
            lines.append(f"    {name} ({kind}, default {default}): {ast.literal_eval(text.value)}")
    cls.__doc__ = inspect.cleandoc(cls.__doc__ or "") + "\n\nAttributes:\n" + "\n".join(lines)
    return cls
