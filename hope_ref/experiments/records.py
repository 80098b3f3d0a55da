"""Records on the disk: one JSON file for every cell that was run, whole or not there. [D]"""

from __future__ import annotations

import hashlib
import json
import math
import platform
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from hope_ref import __version__
from hope_ref.common.files import one_line, read_json, write_json
from hope_ref.common.validation import name_difference
from hope_ref.experiments.cells import Cell, Record, Records

FOLDER = Path("results/experiments")
FORMAT = 1
DIGEST = "sha256"  # of all the rest of a record
KINDS: dict[str, type | tuple[type, ...]] = {
    "format": int,
    "experiment": str,
    "task": str,
    "model": str,
    "seed": int,
    "settings": dict,
    "checksum": str,
    "measures": dict,
    "seconds": (int, float),
    "when": str,
    "versions": dict,
    "machine": str,
}


def place(folder: Path, cell: Cell) -> Path:
    """Where a cell's record lies."""
    return folder / f"{cell.key}.json"


def save(folder: Path, cell: Cell, measures: dict[str, Any], seconds: float) -> Path:
    """Write a cell's record; returns its path. Raises: OSError, and then there is none."""
    record = {
        "format": FORMAT,
        **cell.to_dict(),
        "checksum": cell.checksum,
        "measures": measures,
        "seconds": round(seconds, 1),
        "when": datetime.now(UTC).strftime("%Y-%m-%d"),
        "versions": {
            "hope_ref": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
        "machine": f"{platform.system()} {platform.machine()}, one thread",
    }
    return write_json(place(folder, cell), {**record, DIGEST: _digest(record)})


def _digest(record: dict[str, Any]) -> str:
    record = json.loads(
        json.dumps(record)
    )  # names that were numbers are sorted as the names that they become
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def load(folder: Path, cell: Cell) -> Record | None:
    """A cell's record; None if it was not run, or with other settings.

    A measure may be NaN or infinite: so ends a training that diverges.

    Raises: ValueError if the file is not a record, or is not as it was written; OSError if it cannot be read.
    """
    path = place(folder, cell)
    if not path.exists():
        return None
    try:
        record = read_json(path, finite=False)
        digest = record.pop(DIGEST, None)  # records of earlier versions have none
        if digest is not None and digest != _digest(record):
            raise ValueError(
                f"{path} must be as it was written, got another {DIGEST}: it was changed or is damaged"
            )
        if _cell(path, record).checksum != cell.checksum:
            return None
    except ValueError as error:
        raise ValueError(f"{error}; move it elsewhere to run {cell.key} again") from error
    return Record(cell, record["measures"], float(record["seconds"]))


def _cell(path: Path, record: dict[str, Any]) -> Cell:
    """The cell that a record says it is of. Raises: ValueError unless it is a whole record."""
    if difference := name_difference(record, KINDS):
        raise ValueError(f"{path} must be a record; {one_line(difference)}")
    for name, kind in KINDS.items():
        if not isinstance(record[name], kind) or isinstance(record[name], bool):
            words = " or ".join(one.__name__ for one in (kind if isinstance(kind, tuple) else (kind,)))
            raise ValueError(f"{path}: {name} must be {words}, got {type(record[name]).__name__}")
    if record["format"] != FORMAT:
        raise ValueError(f"{path}: format must be {FORMAT}, got {record['format']}")
    if not 0 <= record["seconds"] < math.inf:
        raise ValueError(f"{path}: seconds must be finite and >= 0, got {record['seconds']}")
    cell = Cell(**{field.name: record[field.name] for field in fields(Cell)})
    if record["checksum"] != cell.checksum:
        raise ValueError(f"{path}: checksum must be that of its settings, {cell.checksum}, got another")
    return cell


def load_all(folder: Path, cells: list[Cell]) -> Records:
    """The records that there are of these cells. Raises: ValueError if a file is not a record."""
    return Records(found for cell in cells if (found := load(folder, cell)) is not None)
