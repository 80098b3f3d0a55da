"""Files that are whole or not there: checkpoints, metrics, the loss curve. [D]"""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor, nn

from hope_ref.common.files import one_line, read_json, replacing
from hope_ref.common.validation import name_difference
from hope_ref.parallel.states import read_torch
from hope_ref.training.settings import Run

FORMAT = 2
KEPT = 2  # checkpoints in a folder
METRICS, RUN, CURVE = "metrics.jsonl", "run.json", "loss.png"


def write(path: Path, filled: Callable[[IO[bytes]], None]) -> None:
    """Fill a file that takes the place of ``path`` when it is whole. Raises: OSError, and then ``path`` is what it was."""
    try:
        with replacing(path) as file:
            filled(file)
    except (OSError, RuntimeError) as error:  # a RuntimeError is torch.save's word for a full disk
        raise OSError(f"cannot write {path}: {error}") from error


def write_text(path: Path, text: str) -> None:
    """As `write`, for text."""
    write(path, lambda file: void(file.write(text.encode("utf-8"))))


def void(_: Any) -> None:
    """Nothing, whatever came."""


# --- checkpoints ----------------------------------------------------------------------------------------------------


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first."""
    return sorted(folder.glob("checkpoint-????????.pt"))


def checkpoint_name(step: int) -> str:
    """The name of the checkpoint after so many steps."""
    return f"checkpoint-{step:08d}.pt"


def last_step(folder: Path) -> int:
    """The step of a folder's newest checkpoint, as its name says it."""
    return int(checkpoints(folder)[-1].stem.removeprefix("checkpoint-"))


def held_run(folder: Path) -> Run | None:
    """The run that a folder holds: its newest checkpoint's, else the one that was about to start; None for neither.

    Raises: ValueError if the file that says it is damaged.
    """
    if checkpoints(folder):
        run: Run = load_checkpoint(folder)["run"]
        return run
    path = folder / RUN
    return read_run(path) if path.is_file() else None


def read_run(path: Path) -> Run:
    """The run that a run.json describes. Raises: ValueError naming the file."""
    try:
        return Run.from_dict(read_json(path))
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} must describe a run of hope_ref: {one_line(error)}") from error


def save_checkpoint(folder: Path, step: int, content: dict[str, Any]) -> Path:
    """Write the checkpoint after ``step`` steps, then remove all but the last two; returns its path. Raises: OSError."""
    path = folder / checkpoint_name(step)
    write(path, lambda file: torch.save({"format": FORMAT, "step": step, **content}, file))
    for old in checkpoints(folder)[:-KEPT]:
        old.unlink(missing_ok=True)
    return path


def load_checkpoint(path: Path) -> dict[str, Any]:
    """What `save_checkpoint` wrote, its "run" as a `Run`; ``path`` may be a folder: then its newest.

    Raises: ValueError if there is none, it is truncated or damaged, or no checkpoint of ours.
    """
    if os.path.isdir(path):
        newest = checkpoints(path)
        if not newest:
            raise ValueError(
                f"checkpoint must be a file or a folder with checkpoints, got {str(path)!r} without any"
            )
        path = newest[-1]
    if not os.path.isfile(path):
        raise ValueError(f"checkpoint must be a file that exists, got {str(path)!r}")
    try:
        content = read_torch(path)
    except (ValueError, OSError) as error:
        raise ValueError(
            f"checkpoint must be whole and one of hope_ref: {one_line(error)}{_hint(path)}"
        ) from error
    version = content.get("format") if isinstance(content, dict) and "run" in content else None
    if version != FORMAT:
        note = f", of format {version}, an earlier version's: train it anew" if version == 1 else ""
        raise ValueError(f"checkpoint must be one of format {FORMAT} of hope_ref, got {str(path)!r}{note}")
    try:
        return {**content, "run": _checked(content)}
    except ValueError as error:
        raise ValueError(f"checkpoint {str(path)!r}: {one_line(error)}{_hint(path)}") from error


CONTENT = {"format": int, "step": int, "run": str, "model": dict, "optimizer": dict, "random": dict}


def _checked(content: dict[str, Any]) -> Run:
    """The run of a checkpoint in which every part has its type. Raises: ValueError naming the part."""
    for name, kind in CONTENT.items():
        if type(content.get(name)) not in (kind, OrderedDict if kind is dict else kind):
            got = type(content[name]).__name__ if name in content else "nothing"
            raise ValueError(f"{name} must be of type {kind.__name__}, got {got}")
    run = Run.from_json(content["run"])
    if not 0 <= content["step"] <= run.training.steps:
        raise ValueError(f"step must be in [0, {run.training.steps}], got {content['step']}")
    return run


def _hint(path: Path) -> str:
    """What to go on from if a run's newest checkpoint is of no use."""
    older = [one for one in checkpoints(path.parent) if one < path and path in checkpoints(path.parent)]
    return f"; {older[-1].name} beside it is older: move {path.name} away to go on from that" if older else ""


def check_weights(model: nn.Module, weights: dict[str, Any]) -> None:
    """Raise a ValueError if a name, shape, type or number among the weights of a checkpoint is not one of the model's."""
    own = dict(model.named_parameters())
    if difference := name_difference(weights, own):
        raise ValueError(f"model must hold the parameters of its run; {difference}")
    for name, tensor in weights.items():
        if (
            not isinstance(tensor, Tensor)
            or tensor.shape != own[name].shape
            or not tensor.is_floating_point()
        ):
            got = (
                f"{tensor.dtype} of shape {tuple(tensor.shape)}"
                if isinstance(tensor, Tensor)
                else repr(tensor)
            )
            want = f"floating point of shape {tuple(own[name].shape)}"
            raise ValueError(f"model: {name} must be {want}, got {one_line(got, 100)}")
        if not tensor.isfinite().all():
            raise ValueError(f"model: {name} must be finite, got NaN or infinite entries")


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Whatever goes wrong while a checkpoint is put to use becomes one ValueError that names it."""
    try:
        yield
    except (
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        RuntimeError,
        ArithmeticError,
    ) as error:
        what = f"{type(error).__name__} {error}" if isinstance(error, KeyError | IndexError) else error
        raise ValueError(
            f"checkpoint {str(path)!r} must fit its run: {one_line(what)}{_hint(path)}"
        ) from error


def random_states() -> dict[str, Any]:
    """Where every random generator of this process stands: Python's, NumPy's, PyTorch's on all devices."""
    version, numbers, gauss = random.getstate()
    name, keys, place, has_gauss, cached = np.random.get_state()  # noqa: NPY002
    return {
        "python": [version, list(numbers), gauss],
        "numpy": [name, torch.from_numpy(np.asarray(keys).astype(np.int64)), place, has_gauss, cached],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_states(states: dict[str, Any]) -> None:
    """Put every random generator where `random_states` found it."""
    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, place, has_gauss, cached = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), place, has_gauss, cached))  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if states["cuda"] and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])


# --- metrics --------------------------------------------------------------------------------------------------------


def append_line(path: Path, record: dict[str, Any]) -> None:
    """One more line of JSON, flushed. Raises: OSError, and then the file ends where it did."""
    line = (json.dumps(record) + "\n").encode("utf-8")
    with open(path, "ab", buffering=0) as file:
        before = file.seek(0, os.SEEK_END)
        try:
            if file.write(line) != len(line):
                raise OSError("only a part of the line fits")
        except OSError as error:
            with contextlib.suppress(OSError):
                file.truncate(before)
            raise OSError(f"cannot write {path}: {error}") from error


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Every whole line; a last one that a killed process left half written is passed over."""
    found = []
    if path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(record, dict) and isinstance(record.get("step"), int):
                found.append(record)
    return found


def drop_after(path: Path, step: int) -> None:
    """Drop the lines of later steps, which will come again, and an end that is half written; other lines stay as they are."""
    if not path.exists():
        write_text(path, "")
        return
    whole = path.read_bytes().splitlines(keepends=True)
    lines = [line for line in whole if line.endswith(b"\n") and _step_of(line) <= step]
    write(path, lambda file: void(file.write(b"".join(lines))))


def _step_of(line: bytes) -> float:
    """The step that a line of metrics is about; -inf for a line that is about none."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return -math.inf
    step = record.get("step") if isinstance(record, dict) else None
    return step if isinstance(step, int) else -math.inf


def draw_curve(folder: Path) -> None:
    """Draw the metrics so far: bits per byte against the step, training and validation. Raises: OSError."""
    from matplotlib.backends.backend_agg import (
        FigureCanvasAgg,  # without a display, and not touching pyplot's state
    )
    from matplotlib.figure import Figure

    records = read_lines(folder / METRICS)
    figure = Figure(figsize=(6.4, 4.0), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    ends: list[tuple[float, float, str, str]] = []
    for name, label, style in (
        ("bits_per_byte", "training\nbatch", {"color": "#0072B2", "linewidth": 1.2}),
        ("validation_bits_per_byte", "validation", {"color": "#D55E00", "linestyle": "--", "marker": "o"}),
    ):
        points = [(record["step"], record[name]) for record in records if name in record]
        if points:
            axes.plot(*zip(*points, strict=True), **style)
            ends.append((points[-1][1], points[-1][0], label, str(style["color"])))
    for place, (y, x, label, color) in enumerate(sorted(ends)):  # the lower one's name below its end
        shift = 0 if len(ends) == 1 else (-7, 7)[place]
        axes.annotate(label, (x, y), (8, shift), textcoords="offset points", va="center", color=color)
    axes.margins(x=0.03)
    axes.set_xlabel("step")
    axes.set_ylabel("bits per byte")
    axes.spines[["top", "right"]].set_visible(False)
    write(folder / CURVE, lambda file: figure.savefig(file, format="png", metadata={"Software": ""}))
