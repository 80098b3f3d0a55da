"""The figure of RESULTS.md on rounding along a stream. [D]"""

from __future__ import annotations

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from hope_ref.experiments import Records
from hope_ref.experiments.reproducibility import names
from hope_ref.laboratory.reproducibility import LIMIT
from hope_ref.teaching.figures import BLACK
from hope_ref.teaching.gallery.experiments import STYLES, empty, found, result, rows

TWINS = (("float32", "read in float32"), ("cut", "cut elsewhere"))


@result("reproducibility")
def results_reproducibility(data: Records | None = None) -> Figure:
    """The largest errors of both twins, seed by seed."""
    data = found("reproducibility") if data is None else data
    models = names(data)
    picture, axes = plt.subplots(figsize=(8.5, 0.4 * max(len(models), 3) + 1.4))
    if not models:
        empty(axes)
        return picture
    axes.set_xscale("log")
    for style, (twin, label) in enumerate(TWINS):
        rows(axes, [(name, data.values("stream", name, f"{twin}.largest")) for name in models], style)
        axes.plot([], [], STYLES[style][2], color=STYLES[style][0], label=label)
    axes.axvline(LIMIT, color=BLACK, linewidth=0.8, linestyle=":")
    axes.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    axes.set_xlabel("largest relative error of the logits along the stream")
    return picture
