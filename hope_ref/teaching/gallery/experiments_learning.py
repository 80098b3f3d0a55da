"""The figures of RESULTS.md on learning that goes on: continual streams, digits, adaptation, optimisers. [D]"""

from __future__ import annotations

from statistics import mean

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from hope_ref.experiments import Records, languages, learned_starts, modules
from hope_ref.experiments.adaptation import KINDS
from hope_ref.experiments.continual import MODELS as CONTINUAL_MODELS
from hope_ref.experiments.continual_reading import frontier
from hope_ref.experiments.optimizers import OPTIONS
from hope_ref.teaching.figures import BLACK
from hope_ref.teaching.gallery.experiments import MLP_STYLE, STYLES, empty, found, result, rows


@result("continual")
def results_continual(data: Records | None = None) -> Figure:
    """Forgetting against what was learnt, over the grid of rates."""
    data = found("continual") if data is None else data
    picture, panels = plt.subplots(1, 2, figsize=(8.6, 4.2), sharey=False)
    for axes, source in zip(panels, ("Markov", "text"), strict=True):
        axes.set_title(source)
        axes.set_xlabel("loss on B after B (bits per symbol)")
        models = data.models(source)
        if not models:
            empty(axes)
            continue
        # In both panels a model looks the same, whether the other has it or not.
        for model, (color, line, marker) in zip(CONTINUAL_MODELS, (MLP_STYLE, *STYLES), strict=False):
            if model not in models:
                continue
            curves = [frontier(record.measures) for record in data.of(source, model)]
            length = min(map(len, curves))
            if length:
                points = np.mean([curve[-length:] for curve in curves], axis=0)
                axes.plot(
                    points[:, 0],
                    points[:, 1],
                    line,
                    marker=marker,
                    color=color,
                    label=model,
                    linewidth=1.5,
                    markersize=4.5,
                )
    panels[0].set_ylabel("forgetting of A (bits per symbol)")
    if data.models("Markov"):
        panels[0].legend(fontsize=8)
    return picture


@result("digits")
def results_digits(data: Records | None = None) -> Figure:
    """Accuracy and forgetting of every model at the rate that its tuning chose."""
    from hope_ref.experiments.digits import tables

    data = found("digits") if data is None else data
    picture, axes = plt.subplots(figsize=(7.5, 3.8))
    made = tables(data)
    if not made or not made[0].rows:
        empty(axes)
        return picture
    names = [row[0] for row in made[0].rows]
    for style, (column, label) in enumerate(((2, "accuracy in the end"), (3, "forgetting"))):
        color, _, marker = STYLES[style]
        for place, row in enumerate(made[0].rows):
            middle, *apart = (float(part.split(" ")[0]) for part in row[column].split(" ± "))
            y = len(names) - 1 - place + (0.12, -0.12)[style]
            axes.errorbar(middle, y, xerr=apart[0] if apart else 0, fmt=marker, color=color, markersize=5)
        axes.plot([], [], marker, color=color, label=label)
    axes.set_yticks(range(len(names)), names[::-1])
    axes.axvline(20, color=BLACK, linewidth=0.8, linestyle=":")
    axes.set_xlabel("per cent, mean ± standard deviation")
    axes.legend(fontsize=8, loc="center")
    return picture


@result("adaptation")
def results_adaptation(data: Records | None = None) -> Figure:
    """Bits per byte by rate, each seed a mark."""
    data = found("adaptation") if data is None else data
    picture, panels = plt.subplots(1, 2, figsize=(9.5, 3.8))
    for axes, kind in zip(panels, KINDS, strict=True):
        axes.set_title({"manual": "the kind it was trained on", "source": "Python source"}[kind])
        if not len(data):
            empty(axes)
            continue
        rates = data.all[0].cell.settings["rates"]
        for (measure, label), (color, line, marker) in zip(READINGS, STYLES, strict=False):
            points = [
                [record.measures[kind]["windows"][f"rate{n}"][measure] for record in data.all]
                for n in range(len(rates))
            ]
            kept = [n for n, values in enumerate(points) if None not in values]
            axes.plot(kept, [mean(points[n]) for n in kept], line, color=color, label=label)
            for n in kept:
                axes.plot([n] * len(points[n]), points[n], marker, color=color, alpha=0.6, markersize=4.5)
        axes.set_xticks(range(len(rates)), [f"{rate:g}" for rate in rates])
        axes.set_xlabel("learning rate of the levels, times the default")
        axes.set_ylabel("bits per byte")
    if len(data):
        panels[0].legend(fontsize=8)
    return picture


READINGS = (
    ("whole", "first reading, learning"),
    ("again", "the same again"),
    ("unseen", "what follows it, unseen"),
)


@result("optimizers")
def results_optimizers(data: Records | None = None) -> Figure:
    """Worth by optimiser."""
    data = found("optimizers") if data is None else data
    picture, axes = plt.subplots(figsize=(7.5, 3))
    named = [(name, data.values("text", name, "bits")) for name in OPTIONS if data.of("text", name)]
    if not named:
        empty(axes)
        return picture
    rows(axes, named)
    axes.set_xlabel("bits per byte, unseen text")
    return picture


@result("languages")
def results_languages(data: Records | None = None) -> Figure:
    """% right by number of languages, for both forms; and by age of the language."""
    data = found("languages") if data is None else data
    picture, panels = plt.subplots(1, 3, figsize=(9.8, 3.7), sharey=True)
    if not len(data):
        empty(panels[0])
        return picture
    for axes, form in zip(panels, languages.FORMS, strict=False):
        for name, (color, line, marker) in zip(languages.LEVELS, STYLES, strict=False):
            model = f"{languages.EMPTIED}; {name}; {languages.THROUGH}"
            there = [
                (count, data.values(f"{count} languages, {form}", model, "right"))
                for count in languages.COUNTS
                if data.values(f"{count} languages, {form}", model, "right")
            ]
            axes.plot(
                [count for count, _ in there],
                [mean(values) for _, values in there],
                line,
                color=color,
                marker=marker,
                label=name,
            )
        axes.set_xscale("log", base=2)
        axes.set_xticks(languages.COUNTS, [str(count) for count in languages.COUNTS])
        axes.set_xlabel(f"languages, {form}")
    for name, (color, line, marker) in zip(languages.LEVELS, STYLES, strict=False):
        each = languages.by_age(
            data, "8 languages, own words", f"{languages.EMPTIED}; {name}; {languages.THROUGH}"
        )
        if each:
            panels[2].plot(range(1, 9), np.mean(each, axis=0), line, color=color, marker=marker)
    panels[2].set_xlabel("language, first to last of 8")
    panels[0].set_ylabel("words right (%)")
    panels[0].set_ylim(0, 103)
    for axes in panels:
        axes.axhline(100 / 16, color=BLACK, linestyle=":", linewidth=1)
    panels[0].legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 0.08))
    return picture


@result("learned_starts")
def results_learned_starts(data: Records | None = None) -> Figure:
    """What is kept of the first by arrangement of levels, with a random and with a learned start."""
    data = found("learned_starts") if data is None else data
    picture, panels = plt.subplots(1, 3, figsize=(9.8, 3.2), sharey=True)
    for axes, source in zip(panels, learned_starts.SOURCES, strict=True):
        of_digits = source == "digits"
        axes.set_xlabel("right in the end (%)" if of_digits else "A after B (bits per symbol)")
        axes.set_title({"digits": "ten digits", "text": "renamed text"}.get(source, "Markov languages"))
        if not data.of(source):
            empty(axes)
            continue
        for style, start in enumerate((learned_starts.RATES, learned_starts.START)):
            named = [
                (
                    levels,
                    [
                        (100 if of_digits else 1) * record.measures["long"]["kept"]
                        for record in data.of(source, f"{levels}; {start}")
                        if not record.measures["long"]["diverged"]
                    ],
                )
                for levels in learned_starts.CHUNKS
            ]
            rows(axes, named, style, (0.12, -0.12)[style])
            axes.plot([], [], STYLES[style][2], color=STYLES[style][0], label=start)
        if of_digits:
            axes.set_xlim(0, 102)
            axes.axvline(20, color=BLACK, linewidth=0.8, linestyle=":")
    if len(data):
        panels[0].legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 1.1))
    return picture


@result("modules")
def results_modules(data: Records | None = None) -> Figure:
    """Right in the end, with many passages, by what learns."""
    data = found("modules") if data is None else data
    picture, axes = plt.subplots(figsize=(9, 5.2))
    if not len(data):
        empty(axes)
        return picture
    right = [
        (name, data.values(modules.TASK, model, f"{modules.LONG}.{way}.right"))
        for name, model, way in modules.ROWS
    ]
    rows(axes, right)
    axes.axvline(10, color=BLACK, linewidth=0.8, linestyle=":")
    axes.set_xlim(0, None)
    axes.set_xlabel(f"right in the end (%), {modules.LONG} passages a module")
    return picture
