"""``make test-oldest``: the lower bounds of pyproject.toml as exact versions, for pip's ``-c``."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]


def lower_bounds(extras: tuple[str, ...] = ("test", "site", "triton")) -> list[str]:
    """``name==version`` for the dependencies and those of the extras; ValueError if one has no lower bound."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    texts = [*project["dependencies"], *(t for e in extras for t in project["optional-dependencies"][e])]
    lines = []
    for requirement in map(Requirement, texts):
        if requirement.name == project["name"]:
            continue
        (bound,) = [s.version for s in requirement.specifier if s.operator == ">="] or [None]
        if bound is None:
            raise ValueError(f"{requirement.name} must have a lower bound, got {requirement}")
        lines.append(f"{requirement.name}=={bound}")
    return lines


if __name__ == "__main__":
    sys.stdout.write("\n".join(lower_bounds()) + "\n")
