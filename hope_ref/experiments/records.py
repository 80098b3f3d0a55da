"""Records on the disk: one JSON file for every cell that was run, whole or not there. [D]"""

from __future__ import annotations

import json
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from hope_ref import __version__
from hope_ref.common.files import write_json
from hope_ref.experiments.cells import Cell, Record, Records

FOLDER = Path("results/experiments")
FORMAT = 1


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
    return write_json(place(folder, cell), record)


def load(folder: Path, cell: Cell) -> Record | None:
    """A cell's record; None if it was not run, or with other settings.

    Raises: ValueError if the file is not a record.
    """
    path = place(folder, cell)
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["checksum"] != cell.checksum:
            return None
        return Record(cell, found["measures"], float(found["seconds"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"record must be one of hope_ref, got {str(path)!r}: {error!r}; remove it"
        ) from error


def load_all(folder: Path, cells: list[Cell]) -> Records:
    """The records that there are of these cells. Raises: ValueError if a file is not a record."""
    return Records(found for cell in cells if (found := load(folder, cell)) is not None)
