"""The manifest of a golden vector: what it must say, looked at before any array is."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from hope_ref.common.files import check_regular, one_line, read_json
from hope_ref.common.validation import name_difference
from hope_ref.golden.archive import MOST, total
from hope_ref.golden.components import Options, Shapes, Sizes, checked_sizes
from hope_ref.golden.registry import component

FORMAT = 1  # of the two files
CONTRACT = 1  # of what they mean: see the head of `hope_ref.golden`
TOLERANCE = (
    1e-9  # relative to the largest entry, or to 1: far above the rounding of float64, far below any mistake
)
FIELDS = {
    "format": int,
    "contract": int,
    "component": str,
    "equations": list,
    "options": dict,
    "draws": dict,
    "seed": int,
    "tokens": int,
    "width": int,
    "hidden": int,
    "inputs": dict,
    "results": dict,
    "tolerance": float,
    "sha256": str,
    "manifest_sha256": str,
}
LARGEST_SEED = 2**128 - 1  # what NumPy draws from the system has as many bits


class Manifest(NamedTuple):
    """What a manifest says, looked at."""

    component: str
    equations: tuple[str, ...]
    options: Options
    draws: Options
    seed: int
    sizes: Sizes
    inputs: Shapes
    results: Shapes
    tolerance: float
    sha256: str


@contextmanager
def of_file(path: Path) -> Iterator[None]:
    """Whatever goes wrong with the file in the block is one ValueError, a line that begins with its path."""
    try:
        yield
    except (ValueError, OSError, RecursionError, MemoryError) as error:
        text = _words(error).removeprefix(str(path)).removeprefix(":").strip()
        between = " " if text.startswith("must ") else ": "
        raise ValueError(one_line(f"{path}{between}{text}", 600 + len(str(path)))) from error


def _words(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "must be there: a vector is a manifest (.json) and its arrays (.npz)"
    if isinstance(error, RecursionError):
        return "must be JSON, got one that is nested too deeply"
    return str(getattr(error, "strerror", None) or error) or type(error).__name__


def digest(manifest: dict[str, Any]) -> str:
    """The checksum of all fields but itself."""
    rest = {name: value for name, value in manifest.items() if name != "manifest_sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def read(path: Path) -> Manifest:
    """The manifest, if it is whole, unchanged and can be that of a vector. Raises: ValueError; OSError."""
    check_regular(path)
    manifest = read_json(path)
    check_fields(manifest)
    if digest(manifest) != manifest["manifest_sha256"]:
        raise ValueError("the manifest was changed, its checksum does not fit")
    return checked(manifest)


def check_fields(manifest: dict[str, Any]) -> None:
    """Raise a ValueError unless format and contract are ours, and the fields those of `FIELDS`."""
    if manifest.get("format") != FORMAT:
        raise ValueError(f"format must be {FORMAT}, got {one_line(manifest.get('format'), 40)}")
    if manifest.get("contract") != CONTRACT:
        raise ValueError(f"contract must be {CONTRACT}, got {one_line(manifest.get('contract', 'none'), 40)}")
    wrong = [
        f"{name} (must be {kind.__name__}, got {type(manifest[name]).__name__})" if name in manifest else name
        for name, kind in FIELDS.items()
        if type(manifest.get(name)) is not kind
    ]
    if wrong or set(manifest) != set(FIELDS):
        raise ValueError(f"must hold {', '.join(FIELDS)}; wrong or missing: {', '.join(wrong) or 'none'}")


def checked(manifest: dict[str, Any]) -> Manifest:
    """Every field of a manifest whose types are right.

    Raises: ValueError, which names the field, what it got and what it wants.
    """
    chosen = component(manifest["component"])
    equations = tuple(manifest["equations"])
    if not all(isinstance(one, str) for one in equations) or not equations:
        raise ValueError(f"equations must be a list of words, got {one_line(manifest['equations'], 80)}")
    if not 0 <= manifest["seed"] <= LARGEST_SEED:
        raise ValueError(f"seed must be an integer in [0, 2^128), got {manifest['seed']}")
    sizes = checked_sizes(manifest["tokens"], manifest["width"], manifest["hidden"])
    tolerance = checked_tolerance("tolerance", manifest["tolerance"])
    for part in ("options", "draws"):
        if unknown := set(manifest[part]) - set(getattr(chosen, part)):
            known, names = ", ".join(getattr(chosen, part)) or "none", ", ".join(sorted(unknown))
            raise ValueError(f"{part} of {chosen.name} must be among {known}, got {one_line(names, 80)}")
    options, draws = chosen.completed({**manifest["options"], **manifest["draws"]})
    inputs, results = _checked_shapes(manifest, *chosen.shapes(options, draws, sizes))
    parts = (options, draws, manifest["seed"], sizes, inputs, results, tolerance, manifest["sha256"])
    return Manifest(chosen.name, equations, *parts)


def _checked_shapes(manifest: dict[str, Any], *want: Shapes) -> tuple[Shapes, Shapes]:
    """The shapes of inputs and results: those of the component at these sizes, in the manifest's order."""
    got: list[Shapes] = []
    for part, shapes in zip(("inputs", "results"), want, strict=True):
        if difference := name_difference(manifest[part], shapes):
            raise ValueError(f"{part} must be those of the component; {one_line(difference)}")
        for name, shape in manifest[part].items():
            whole = isinstance(shape, list) and all(type(length) is int for length in shape)
            if not whole or tuple(shape) != shapes[name]:
                raise ValueError(
                    f"{part}: {name} must have shape {list(shapes[name])}, got {one_line(shape, 80)}"
                )
        got.append({name: tuple(shape) for name, shape in manifest[part].items()})
    inputs, results = got
    if not total(results):
        raise ValueError(
            "results must hold at least one number, got none: nothing can be judged without a token"
        )
    if (size := total(inputs) + total(results)) > MOST:
        raise ValueError(f"inputs and results must have at most {MOST} bytes, got {size}")
    return inputs, results


def checked_tolerance(name: str, value: Any) -> float:
    """The tolerance, a number in (0, 1]: above 1 an array of zeros would agree. Raises: ValueError."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not 0 < value <= 1:
        raise ValueError(f"{name} must be a number in (0, 1], got {one_line(value, 40)}")
    return float(value)
