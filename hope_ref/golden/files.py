"""A golden vector on disk: NAME.npz holds the arrays, NAME.json says what they are and what their checksum is.

The bytes depend on the arrays and the version of zlib alone: every time stamp is the same. Each file is written
beside its place and renamed, the arrays first: a pair that does not belong together is refused.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hope_ref.common.files import replacing
from hope_ref.golden.components import Arrays, Options
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


def _npz(arrays: Arrays) -> bytes:
    """The arrays as a compressed .npz file, the same bytes at every time."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            entry, content = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), io.BytesIO()
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            little = np.array(array, dtype="<f8", order="C")  # ascontiguousarray would give a number an axis
            np.lib.format.write_array(content, little, version=(1, 0), allow_pickle=False)
            archive.writestr(entry, content.getvalue(), zipfile.ZIP_DEFLATED, 9)
    return buffer.getvalue()


def _digest(manifest: dict[str, Any]) -> str:
    rest = {name: value for name, value in manifest.items() if name != "manifest_sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def save(path: Path, vector: Vector) -> None:
    """Write path (.npz) and the manifest beside it. Raises: ValueError if the name is another; OSError."""
    if path.suffix != ".npz":
        raise ValueError(f"OUT must end in .npz, got {path.name}")
    content = _npz({**vector.inputs, **vector.results})
    manifest = {"format": FORMAT, "contract": CONTRACT, **vector._asdict()}
    manifest["sha256"] = hashlib.sha256(content).hexdigest()
    for part in ("inputs", "results"):
        manifest[part] = {name: list(np.shape(array)) for name, array in getattr(vector, part).items()}
    manifest["manifest_sha256"] = _digest(json.loads(json.dumps(manifest)))
    with replacing(path) as file:
        file.write(content)
    lines = ",\n".join(
        f" {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in manifest.items()
    )
    with replacing(path.with_suffix(".json")) as file:
        file.write(f"{{\n{lines}\n}}\n".encode())


def _manifest(path: Path) -> dict[str, Any]:
    """The manifest, if it is whole and unchanged."""
    try:
        manifest = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise ValueError(f"{path} must be there: the manifest of the vector") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} must be JSON: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        got = manifest.get("format") if isinstance(manifest, dict) else type(manifest).__name__
        raise ValueError(f"{path}: format must be {FORMAT}, got {got}")
    if manifest.get("contract") != CONTRACT:
        raise ValueError(f"{path}: contract must be {CONTRACT}, got {manifest.get('contract', 'none')}")
    wrong = [name for name, kind in FIELDS.items() if not isinstance(manifest.get(name), kind)]
    if wrong or set(manifest) != set(FIELDS):
        raise ValueError(
            f"{path} must hold {', '.join(FIELDS)}; wrong or missing: {', '.join(wrong) or 'none'}"
        )
    if _digest(manifest) != manifest["manifest_sha256"]:
        raise ValueError(f"{path}: the manifest was changed, its checksum does not fit")
    return manifest


def load(path: Path) -> Vector:
    """Read what `save` wrote. Raises: ValueError if either file is missing, cut short or changed."""
    manifest = _manifest(path.with_suffix(".json"))
    content = path.with_suffix(".npz").read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != manifest["sha256"]:
        raise ValueError(f"{path.with_suffix('.npz')}: sha256 must be {manifest['sha256']}, got {found}")
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    fields = {name: manifest[name] for name in Vector._fields if name in manifest}
    for part in ("inputs", "results"):
        fields[part] = {name: arrays[name] for name in manifest[part]}
    given = {name: _tupled(value) for part in ("options", "draws") for name, value in manifest[part].items()}
    fields["options"], fields["draws"] = component(manifest["component"]).completed(given)
    return Vector(**{**fields, "equations": tuple(manifest["equations"])})


def _tupled(value: Any) -> Any:
    """JSON has lists where options are tuples."""
    return tuple(value) if isinstance(value, list) else value


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
