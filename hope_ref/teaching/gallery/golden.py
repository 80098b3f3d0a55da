"""Figure of appendix A2: where four mistakes and one rounding begin, token by token."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from hope_ref.common.validation import Array
from hope_ref.config import HopeConfig
from hope_ref.parallel.self_modifying_titans import self_modifying_titans as in_torch
from hope_ref.reference.parameters import random_parameters
from hope_ref.reference.self_modifying_titans import self_modifying_titans
from hope_ref.teaching.figures import figure

CHUNK_SIZE, LENGTH, WIDTH, HIDDEN = 4, 24, 4, 5
NEVER = 64  # a chunk size beyond the stream: the copies are never renewed
BASE = HopeConfig(
    width=WIDTH,
    hidden=HIDDEN,
    memory_chunk_size=CHUNK_SIZE,
    projection_chunk_size=CHUNK_SIZE,
    erase="deviation",
)
MISTAKES: dict[str, dict[str, Any]] = {
    "read before the write": {"read": "pre"},
    "nothing is erased": {"erase": "none"},
    "copies never renewed": {"memory_chunk_size": NEVER, "projection_chunk_size": NEVER},
    "α on all memories": {"retention_scope": "all"},
}


class Fingerprints(NamedTuple):
    """What figure ``fingerprints`` shows: max |Δ| of each output, relative to the largest entry of all."""

    errors: dict[str, Array]  # (T,)
    chunk_size: int


def fingerprints_data(seed: int = 0) -> Fingerprints:
    """The self-modifying Titans with one option changed at a time, and once in float32."""
    parameters = random_parameters(BASE, WIDTH, HIDDEN, seed)
    x = np.random.default_rng([seed, 1]).normal(size=(LENGTH, WIDTH))
    right = self_modifying_titans(x, x, x, parameters, BASE)[0]
    wrong = {
        name: self_modifying_titans(x, x, x, parameters, BASE.replace(**changes))[0]
        for name, changes in MISTAKES.items()
    }
    tensors = {name: torch.tensor(array, dtype=torch.float32) for name, array in parameters.items()}
    token = torch.tensor(x, dtype=torch.float32)
    wrong["float32"] = in_torch(token, token, token, tensors, BASE)[0].numpy().astype(np.float64)
    scale = max(1.0, float(np.abs(right).max()))
    return Fingerprints({n: np.abs(y - right).max(axis=1) / scale for n, y in wrong.items()}, CHUNK_SIZE)


@figure(
    "fingerprints",
    alt="Five rows over 24 tokens in chunks of 4, shaded by the error of each output. A read before the "
    "write is wrong from token 0, a missing erase from token 1, stale copies and decay on all memories from "
    "token 4; float32 is equally pale throughout.",
    caption="Where an error begins tells what it is: at the first token a read, at the second a write, at "
    "the first boundary a copy or whatever moves the makers, and everywhere alike rounding.",
)
def fingerprints(data: Fingerprints | None = None) -> Figure:
    """One row a mistake, one column a token."""
    data = data or fingerprints_data()
    names = [*MISTAKES, "float32"]
    errors = np.stack([data.errors[name] for name in names])
    shown = np.ma.masked_less(errors, 1e-15)
    picture, axes = plt.subplots(figsize=(8.2, 2.9))
    shades = plt.get_cmap("cividis_r").with_extremes(bad="white")
    image = axes.imshow(np.ma.log10(shown), cmap=shades, vmin=-9, vmax=-1, aspect="auto")
    for edge in range(data.chunk_size, LENGTH, data.chunk_size):
        axes.axvline(edge - 0.5, color="0.4", linewidth=1, linestyle=":")
    for row, error in enumerate(errors):
        exact = np.nonzero(error < 1e-15)[0]
        axes.plot(exact, np.full(len(exact), row), color="0.5", marker="o", markersize=3, linestyle="none")
    axes.set(
        yticks=range(len(names)),
        xticks=range(0, LENGTH, data.chunk_size),
        xlabel="token, from 0 (dotted: chunk boundaries)",
    )
    axes.set_yticklabels(names)
    axes.grid(False)
    bar = picture.colorbar(image, ax=axes, ticks=[-9, -7, -5, -3, -1], pad=0.02)
    bar.ax.set_yticklabels(["1e-9", "1e-7", "1e-5", "1e-3", "0.1"])
    bar.set_label("max|Δ| (dots: exact)")
    return picture
