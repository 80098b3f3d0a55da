"""The README's figure of results: six questions, four models, every seed a mark, read off the committed records. [D]"""

from __future__ import annotations

from typing import NamedTuple

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from hope_ref.experiments import Records, recall, text
from hope_ref.experiments import formal_languages as formal
from hope_ref.experiments import text_reading as reading
from hope_ref.teaching.figures import figure
from hope_ref.teaching.gallery.experiments import STYLES, empty, found

MODELS = ("HOPE", "gated delta rule", "linear attention", "softmax attention")


class Question(NamedTuple):
    """One panel: values by model, one for each seed, in the order of `MODELS`."""

    title: str
    unit: str
    more_is_better: bool
    values: dict[str, list[float]]


def results_overview_data(
    languages: Records | None = None, pairs: Records | None = None, bytes_: Records | None = None
) -> tuple[Question, ...]:
    """Six measures of the three experiments that all four models took part in."""
    languages = found("formal_languages") if languages is None else languages
    pairs = found("recall") if pairs is None else pairs
    bytes_ = found("text") if bytes_ is None else bytes_
    in_formal = dict(
        zip(
            MODELS,
            (formal.HOPE, "gated delta rule, β < 2", "linear attention", "softmax attention"),
            strict=True,
        )
    )

    def words(language: str, split: str) -> dict[str, list[float]]:
        measure = f"{split}.sequences"
        return {
            m: [100 * x for x in languages.values(language, row, measure)] for m, row in in_formal.items()
        }

    def bits(task: str) -> dict[str, list[float]]:
        return {m: bytes_.values(text.STEPS if m == "HOPE" else task, m, "bits_per_byte") for m in MODELS}

    return (
        Question("Parity, words of 256 symbols", "% of words right", True, words("parity", "256")),
        Question("a^n b^n, words of 41 to 80", "% of words right", True, words("a^n b^n", "bin1")),
        Question(
            "Recall, 32 pairs (trained: 16)", "% of queries right", True,
            {m: [100 * x for x in pairs.values(recall.MANY, m, "32.queries")] for m in MODELS},
        ),
        Question("Text, equal steps", "bits per byte", False, bits(text.STEPS)),
        Question("Text, equal time", "bits per byte", False, bits(text.TIME)),
        Question(
            "Text, 8 times the trained length", "bits per byte more", False,
            {m: reading.drift(bytes_, text.STEPS, m) for m in MODELS},
        ),
    )  # fmt: skip


@figure(
    "results_overview",
    alt="Six panels, rows for HOPE, the gated delta rule, linear and softmax attention, a mark per seed. "
    "HOPE alone tracks parity at 256 symbols; linear attention alone counts; on text HOPE is level with the "
    "gated rule per step and last per unit of time.",
    caption="What HOPE is good for at toy size, and what not: it tracks a state (as does the delta rule "
    "with β < 2 after three times the steps), it does not count, and on text it pays in time for its five "
    "memories.",
)
def results_overview(data: tuple[Question, ...] | None = None) -> Figure:
    """Three rows of two panels."""
    data = data or results_overview_data()
    picture, axes = plt.subplots(3, 2, figsize=(7.0, 6.4), sharey=True)
    for place, (panel, question) in enumerate(zip(axes.flat, data, strict=True)):
        for style, model in enumerate(MODELS):
            color, _, marker = STYLES[style]
            values = question.values[model]
            y = len(MODELS) - 1 - style
            panel.plot(values, [y] * len(values), marker, color=color, markersize=6.5, alpha=0.8)
        if not any(question.values.values()):
            empty(panel)
        panel.set_title(question.title, fontsize=10.5)
        panel.set_xlabel(
            f"{question.unit} {'(right: better)' if question.more_is_better else '(left: better)'}",
            fontsize=9,
        )
        panel.set_yticks(range(len(MODELS)), reversed(MODELS))
        panel.set_ylim(-0.6, len(MODELS) - 0.4)
        panel.grid(axis="y", visible=True)
        if place < 3:
            panel.set_xlim(-6, 106)
        elif place == 5:
            panel.set_xlim(left=-0.1)
        else:
            panel.margins(x=0.12)
    return picture
