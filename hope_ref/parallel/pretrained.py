"""A model as a folder: ``config.json`` and ``model.safetensors``, as Hugging Face's libraries keep them. [D]"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from hope_ref.common.files import replacing, write_json
from hope_ref.common.validation import name_difference
from hope_ref.config import HopeConfig

CONFIG, WEIGHTS = "config.json", "model.safetensors"
MODEL_TYPE = "hope_ref"


def save(model: Any, folder: Path) -> None:
    """Both files of a `hope_ref.parallel.hope.Hope`, the weights first. Raises: OSError."""
    from safetensors.torch import save as to_bytes

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: parameter.detach().cpu().contiguous() for name, parameter in model.named_parameters()}
    with replacing(folder / WEIGHTS) as file:
        file.write(to_bytes(tensors, metadata={"format": "pt"}))
    write_json(folder / CONFIG, {"model_type": MODEL_TYPE, **model.config.to_dict()})


def load(kind: type[Any], folder: Path, device: torch.device | str) -> Any:
    """The model that `save` wrote. Raises: ValueError if a file is not one of such a model; OSError if it cannot be read."""
    from safetensors import SafetensorError
    from safetensors.torch import load as from_bytes

    config = configuration(folder / CONFIG)
    raw = (folder / WEIGHTS).read_bytes()
    try:
        tensors = from_bytes(raw)
    except SafetensorError as error:
        raise ValueError(f"{folder / WEIGHTS} must be a file of safetensors: {error}") from error
    model = kind(config)
    own = dict(model.named_parameters())
    if difference := name_difference(tensors, own):
        raise ValueError(f"{folder / WEIGHTS} must hold the parameters of {folder / CONFIG}; {difference}")
    for name, parameter in own.items():
        if tensors[name].shape != parameter.shape or not tensors[name].is_floating_point():
            raise ValueError(
                f"{folder / WEIGHTS}: {name} must be floating point of shape {tuple(parameter.shape)}, "
                f"got {tensors[name].dtype} of shape {tuple(tensors[name].shape)}"
            )
    for name, parameter in own.items():
        parameter.data = tensors[name]
    return model.to(device)


def configuration(path: Path) -> HopeConfig:
    """The configuration in a ``config.json``. Raises: ValueError naming the file."""
    try:
        options = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(options, dict) or options.pop("model_type", MODEL_TYPE) != MODEL_TYPE:
            raise ValueError(f"it must be one JSON object with model_type {MODEL_TYPE!r}")
        return HopeConfig.from_dict(options)
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} must be the configuration of a HOPE: {error}") from error


def folder_of(name: str, revision: str | None) -> Path:
    """The folder of that name, or a copy of the repository of that name on the Hugging Face Hub. Raises: ValueError."""
    if Path(name).is_dir():
        return Path(name)
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise ValueError(
            f"pretrained_model_name_or_path must be a folder, got {name!r} (from the Hugging Face Hub with huggingface_hub installed)"
        ) from error
    return Path(snapshot_download(name, revision=revision, allow_patterns=[CONFIG, WEIGHTS]))
