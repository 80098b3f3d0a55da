"""A golden vector on disk: NAME.npz holds the arrays, NAME.json says what they are and what their checksum is.

The bytes depend on the arrays and the version of zlib alone: every time stamp is the same. Both files are
written beside their places, then renamed, the arrays first; a pair that does not belong together is refused.
No file is trusted: `hope_ref.golden.manifest` checks the manifest, `hope_ref.golden.archive` the arrays.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hope_ref.common.files import PART, check_regular, one_line, read_json, replacing
from hope_ref.golden import archive, manifest
from hope_ref.golden.components import Arrays, Options
from hope_ref.golden.manifest import CONTRACT, FORMAT, TOLERANCE, of_file

__all__ = ["CONTRACT", "FORMAT", "TOLERANCE", "Vector", "check_place", "load", "paths", "save"]


class Vector(NamedTuple):
    """Inputs, options and the results that an implementation is to reproduce."""

    component: str
    equations: tuple[str, ...]
    options: Options
    draws: Options
    seed: int
    tokens: int
    width: int
    hidden: int
    inputs: Arrays
    results: Arrays
    tolerance: float = TOLERANCE


def save(path: Path, vector: Vector) -> None:
    """Write path (.npz) and the manifest beside it: both, or neither.

    Args: path, a new file or a golden vector, which is replaced; vector, one that `load` would take.
    Raises: ValueError if the name is another, if another file is there, or if the vector is none; OSError.
    """
    _check_replaceable(path)
    content = archive.pack({**vector.inputs, **vector.results})
    fields = _fields(vector, content)
    shapes = manifest.checked(fields)
    archive.unpack(content, shapes.inputs | shapes.results)
    fields["manifest_sha256"] = manifest.digest(fields)
    lines = ",\n".join(
        f" {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in fields.items()
    )
    _write_pair(path, content, f"{{\n{lines}\n}}\n".encode())


def _fields(vector: Vector, content: bytes) -> dict[str, Any]:
    """What the manifest says, as JSON has it."""
    fields: dict[str, Any] = {"format": FORMAT, "contract": CONTRACT, **vector._asdict()}
    fields["sha256"] = hashlib.sha256(content).hexdigest()
    for part in ("inputs", "results"):
        fields[part] = {name: list(np.shape(array)) for name, array in getattr(vector, part).items()}
    try:
        fields = json.loads(json.dumps(fields))
    except TypeError as error:
        raise ValueError(f"vector must hold plain numbers and words beside its arrays: {error}") from error
    manifest.check_fields({**fields, "manifest_sha256": ""})
    return fields


def _write_pair(path: Path, content: bytes, text: bytes) -> None:
    """Arrays and manifest in place of what was there. If anything fails, what was there stays."""
    before = path.read_bytes() if path.exists() else None
    beside = path.with_suffix(".json")
    try:
        with replacing(beside) as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())  # what can fill the disk has happened before the arrays are renamed
            with replacing(path) as arrays:
                arrays.write(content)
    except BaseException:
        if not beside.exists() or beside.read_bytes() != text:
            _put_back(path, before)
        raise


def _put_back(path: Path, before: bytes | None) -> None:
    if before is None:
        path.unlink(missing_ok=True)
    elif path.read_bytes() != before:
        with replacing(path) as file:
            file.write(before)


def check_place(path: Path) -> None:
    """Raise a ValueError unless `save` can write there, and nothing but a golden vector would be replaced."""
    _check_replaceable(path)
    try:
        handle, trial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PART)
    except OSError as error:
        raise ValueError(
            f"OUT must be in a folder that can be written, got {path}: {error.strerror}"
        ) from error
    os.close(handle)
    os.unlink(trial)


def _check_replaceable(path: Path) -> None:
    if path.suffix != ".npz":
        raise ValueError(f"OUT must end in .npz, got {path.name}")
    pair = (path, path.with_suffix(".json"))
    if any(os.path.isdir(file) for file in pair):  # False, too, for a path that no file can have
        raise ValueError(f"OUT must be a file, got a folder: {path} or its manifest")
    if any(os.path.lexists(file) for file in pair) and (reason := _difference(path)):
        raise ValueError(
            f"OUT must be new or a golden vector, got {path}: {reason}; it stays, take another name"
        )


def _difference(path: Path) -> str:
    """What tells the files there from a golden vector of any contract; "" if nothing does."""
    try:
        fields = read_json(path.with_suffix(".json"))
        if "component" not in fields or manifest.digest(fields) != fields.get("manifest_sha256"):
            return "what is beside it is no manifest of a vector"
        check_regular(path)
        with open(path, "rb") as file:
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
    except (ValueError, OSError, RecursionError) as error:
        return one_line(error)
    return "" if checksum == fields.get("sha256") else "the arrays are not those of its manifest"


def load(path: Path) -> Vector:
    """Read what `save` wrote.

    Nothing is unpacked or allocated before its size is known.

    Raises: ValueError, one line that begins with the path of the file, if either is missing, cut short,
        changed, or not what it must be.
    """
    with of_file(path):
        arrays_path, manifest_path = path.with_suffix(".npz"), path.with_suffix(".json")
    with of_file(manifest_path):
        known = manifest.read(manifest_path)
    with of_file(arrays_path):
        content = archive.read(arrays_path, known.inputs | known.results)
        checksum = hashlib.sha256(content).hexdigest()
        if checksum != known.sha256:
            raise ValueError(f"sha256 must be {known.sha256}, got {checksum}")
        arrays = archive.unpack(content, known.inputs | known.results)
    inputs, results = ({name: arrays[name] for name in part} for part in (known.inputs, known.results))
    named = (known.component, known.equations, known.options, known.draws, known.seed)
    return Vector(*named, *known.sizes, inputs, results, known.tolerance)


def paths(where: Path) -> list[Path]:
    """One vector, or all of a folder, by name. Raises: ValueError if there is none."""
    if where.is_dir():
        stems = {file.with_suffix("") for ending in ("npz", "json") for file in where.glob(f"*.{ending}")}
        if not stems:
            raise ValueError(f"{where} must hold golden vectors (.npz), got none")
        return sorted(stem.with_name(stem.name + ".npz") for stem in stems)
    if not where.exists():
        raise ValueError(f"{where} must be a golden vector or a folder of them, got nothing there")
    return [where]
