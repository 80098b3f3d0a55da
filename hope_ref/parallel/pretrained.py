"""A model as a folder: ``config.json`` and ``model.safetensors``, as Hugging Face's libraries keep them. [D]

The weights carry, in the metadata of their file, the configuration and a checksum. Where these are there, as in every file
that `save` writes, `load` compares them; files of other programs need neither.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hope_ref.common.files import (
    check_regular,
    json_object,
    one_line,
    read_bytes,
    read_json,
    replacing,
    write_json,
)
from hope_ref.common.validation import name_difference
from hope_ref.config import HopeConfig
from hope_ref.parallel.sizes import parameter_shapes

CONFIG, WEIGHTS = "config.json", "model.safetensors"
MODEL_TYPE = "hope_ref"
CHECKSUM, OPTIONS = "hope_ref.sha256", "hope_ref.config"  # names in the metadata of the weights
BYTES = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
}  # of a number, by the names that safetensors has for a model's dtypes
LONGEST = 2**23  # bytes of a header: some 60,000 parameters


class Header(NamedTuple):
    """The beginning of a file of safetensors."""

    entries: dict[str, tuple[str, tuple[int, ...]]]  # dtype and shape by name
    metadata: dict[str, Any]


# --- save -----------------------------------------------------------------------------------------------------------


def save(model: Any, folder: Path) -> None:
    """Both files of a `hope_ref.parallel.hope.Hope`, the weights first. Raises: OSError."""
    from safetensors.torch import save as to_bytes

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: parameter.detach().cpu().contiguous() for name, parameter in model.named_parameters()}
    metadata = {"format": "pt", OPTIONS: json.dumps(model.config.to_dict()), CHECKSUM: checksum(tensors)}
    content = to_bytes(tensors, metadata=metadata)
    end = 8 + int.from_bytes(content[:8], "little")
    # safetensors writes the metadata in an order that changes from call to call; the same model is to make the same file
    header = json.dumps(json.loads(content[8:end]), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    with replacing(folder / WEIGHTS) as file:
        file.write(content[:8])
        file.write(header.encode().ljust(end - 8))
        file.write(memoryview(content)[end:])
    write_json(folder / CONFIG, {"model_type": MODEL_TYPE, **model.config.to_dict()})


def checksum(tensors: dict[str, Tensor]) -> str:
    """SHA-256 over names, dtypes, shapes and numbers, whatever their order in a file."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


# --- load -----------------------------------------------------------------------------------------------------------


def load(kind: type[Any], folder: Path, device: torch.device | str) -> Any:
    """The model that `save` wrote; names, shapes and sizes are compared before anything is allocated.

    Raises: ValueError if a file is not one of such a model, whole and finite; OSError if it cannot be read.
    """
    if folder.is_file():
        raise ValueError(f"{folder} must be a folder with {CONFIG} and {WEIGHTS}, got a file")
    config, header = configuration(folder / CONFIG), read_header(folder / WEIGHTS)
    _check_sizes(header, config, folder)
    _check_parameters(header, shapes(kind, config, folder / CONFIG), folder)
    tensors = _read_tensors(folder / WEIGHTS, header)
    model = kind(config)
    for name, parameter in model.named_parameters():
        parameter.data = tensors[name]
    return model.to(device)


def configuration(path: Path) -> HopeConfig:
    """The configuration in a ``config.json``. Raises: ValueError naming the file; OSError."""
    options = read_json(path)
    try:
        if options.pop("model_type", MODEL_TYPE) != MODEL_TYPE:
            raise ValueError(f"its model_type must be {MODEL_TYPE!r}")
        return HopeConfig.from_dict(options)
    except ValueError as error:
        raise ValueError(f"{path} must be the configuration of a HOPE: {one_line(error)}") from error


def read_header(path: Path) -> Header:
    """The header of a file of safetensors, whose size is the one that it says. Raises: ValueError naming the file; OSError."""
    check_regular(path)
    with open(path, "rb") as file:
        size, begin = os.fstat(file.fileno()).st_size, file.read(8)
        length = int.from_bytes(begin, "little")
        if not 2 <= length <= min(LONGEST, size - 8):
            raise ValueError(f"{path} must be a file of safetensors, got {size} bytes without its header")
        raw = file.read(length)
    try:
        entries = json_object(raw.decode("utf-8"), "its header")
        metadata = entries.pop("__metadata__", {})
        if not isinstance(metadata, dict):
            raise ValueError(f"its metadata must be texts by name, got {type(metadata).__name__}")
        header = Header({name: _entry(name, value) for name, value in entries.items()}, metadata)
        numbers = sum(math.prod(shape) * BYTES.get(dtype, 0) for dtype, shape in header.entries.values())
        known = all(dtype in BYTES for dtype, _ in header.entries.values())
        if known and 8 + length + numbers != size:
            raise ValueError(f"it must have {8 + length + numbers} bytes, as its header says, got {size}")
    except ValueError as error:
        raise ValueError(f"{path} must be a file of safetensors: {one_line(error)}") from error
    return header


def _entry(name: str, value: Any) -> tuple[str, tuple[int, ...]]:
    """The dtype and the shape that a header says. Raises: ValueError if it says none."""
    entry = value if isinstance(value, dict) else {}
    dtype, shape = entry.get("dtype"), entry.get("shape")
    if not isinstance(dtype, str) or not isinstance(shape, list):
        raise ValueError(f"{name} must have a dtype and a shape, got {value!r}")
    if not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"{name} must have a shape of integers >= 0, got {shape!r}")
    return dtype, tuple(shape)


def _check_sizes(header: Header, config: HopeConfig, folder: Path) -> None:
    """Raise a ValueError if the weights are of another configuration, as far as that is seen without a model of it."""
    entries, metadata = header
    if OPTIONS in metadata:
        saved = HopeConfig.from_json(str(metadata[OPTIONS]), f"{folder / WEIGHTS}: {OPTIONS}")
        if option := config.difference(saved):
            got, want = (one_line(repr(getattr(one, option)), 100) for one in (config, saved))
            raise ValueError(
                f"{folder / CONFIG} must be that of {folder / WEIGHTS}, got {option}={got} for {want}"
            )
    least = config.blocks * (3 * len(config.levels_chunk_sizes) + 5)  # whatever the mixer
    if least > len(entries):
        raise ValueError(
            f"{folder / WEIGHTS} must hold the parameters of {folder / CONFIG}; "
            f"{config.blocks} blocks have at least {least}, got {len(entries)}"
        )


def shapes(kind: type[Any], config: HopeConfig, path: Path) -> dict[str, tuple[int, ...]]:
    """The shape of each parameter of such a model. Raises: ValueError, which names the file, if there is no such model."""
    try:
        return parameter_shapes(kind, config)
    except ValueError as error:
        raise ValueError(f"{path} must be the configuration of a HOPE: {one_line(error)}") from error


def _check_parameters(header: Header, own: dict[str, tuple[int, ...]], folder: Path) -> None:
    """Raise a ValueError unless the weights have these names and shapes, and dtypes that a model can have."""
    if difference := name_difference(header.entries, own):
        raise ValueError(
            f"{folder / WEIGHTS} must hold the parameters of {folder / CONFIG}; {one_line(difference)}"
        )
    for name, shape in own.items():
        dtype, got = header.entries[name]
        if dtype not in BYTES or got != shape:
            raise ValueError(
                f"{folder / WEIGHTS}: {name} must be {', '.join(BYTES)} of shape {shape}, "
                f"got {one_line(f'{dtype} of shape {got}', 100)}"
            )


def _read_tensors(path: Path, header: Header) -> dict[str, Tensor]:
    """The weights by name. Raises: ValueError if the file is damaged or a number is not finite; OSError."""
    from safetensors import SafetensorError
    from safetensors.torch import load as from_bytes

    try:
        tensors: dict[str, Tensor] = from_bytes(read_bytes(path))
    except SafetensorError as error:
        raise ValueError(f"{path} must be a file of safetensors: {one_line(error)}") from error
    if CHECKSUM in header.metadata and header.metadata[CHECKSUM] != checksum(tensors):
        raise ValueError(
            f"{path} must be as it was saved, got weights whose checksum is not its {CHECKSUM}: it is damaged, or another "
            "program has changed the weights and left the checksum as it was"
        )
    for name, tensor in tensors.items():
        if not (finite := tensor.isfinite()).all():
            raise ValueError(
                f"{path}: {name} must be finite, got {int((~finite).sum())} NaN or infinite entries of {tensor.numel()}; "
                "safetensors.torch.load_file reads them as they are"
            )
    return tensors


def folder_of(name: str, revision: str | None) -> Path:
    """The folder of that name, or a copy of the repository of that name on the Hugging Face Hub. Raises: ValueError."""
    if Path(name).is_dir():
        return Path(name)
    if Path(name).is_file():
        raise ValueError(f"{name} must be a folder with {CONFIG} and {WEIGHTS}, got a file")
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise ValueError(
            f"pretrained_model_name_or_path must be a folder, got {name!r} (from the Hugging Face Hub with huggingface_hub installed)"
        ) from error
    return Path(snapshot_download(name, revision=revision, allow_patterns=[CONFIG, WEIGHTS]))
