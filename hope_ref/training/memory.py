"""What a run takes at least. [D]"""

from __future__ import annotations

import os

from hope_ref.parallel.sizes import check_fits
from hope_ref.training.processes import chosen_device
from hope_ref.training.settings import Run


def least_bytes(run: Run, parameters: int) -> int:
    """A lower bound, in bytes, for each process: parameters, gradients and two moments; windows, logits and their gradient."""
    settings = run.training
    size = 8 if settings.precision == "float64" else 4
    per_token = 8 + 2 * size * run.config.vocabulary + size * run.config.width * run.config.blocks
    whole = 4 * size * parameters + settings.batch * settings.tokens * per_token
    return whole // int(os.environ.get("WORLD_SIZE", "1"))


def check(run: Run, parameters: int) -> None:
    """Raise a ValueError if the run cannot fit into the memory of its device."""
    least, device = least_bytes(run, parameters), chosen_device(run.training.device)
    check_fits("width, blocks, vocabulary, batch or tokens", least, device)
