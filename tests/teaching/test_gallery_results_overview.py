"""The README's figure of results: it shows the committed records, and its words are true of them."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean

import pytest
from matplotlib import pyplot as plt

from hope_ref.experiments import Records
from hope_ref.teaching.gallery import results_overview as gallery

RECORDS = Path(__file__).parents[2] / "results" / "experiments"


@pytest.fixture(scope="module")
def data() -> dict[str, gallery.Question]:
    return {question.title: question for question in gallery.results_overview_data()}


def raw(experiment: str, start: str, *path: str) -> list[float]:
    """One number of every seed, straight from the files."""
    found = []
    for seed in range(3):
        value = json.loads((RECORDS / experiment / f"{start}--{seed}.json").read_text("utf-8"))["measures"]
        for part in path:
            value = value[part]
        found.append(float(value))
    return found


def test_the_marks_are_the_numbers_of_the_files(data: dict[str, gallery.Question]) -> None:
    for title, model, wanted in (
        (
            "Parity, words of 256 symbols",
            "HOPE",
            [
                100 * x
                for x in raw("formal_languages", "parity--HOPE_linear_memories_C_1", "256", "sequences")
            ],
        ),
        (
            "a^n b^n, words of 41 to 80",
            "gated delta rule",
            [100 * x for x in raw("formal_languages", "a_n_b_n--gated_delta_rule_2", "bin1", "sequences")],
        ),
        (
            "Recall, 32 pairs (trained: 16)",
            "HOPE",
            [100 * x for x in raw("recall", "up_to_16_pairs--HOPE", "32", "queries")],
        ),
        (
            "Text, equal steps",
            "softmax attention",
            raw("text", "equal_steps--softmax_attention", "bits_per_byte"),
        ),
        (
            "Text, equal time",
            "softmax attention",
            raw("text", "equal_time--softmax_attention", "bits_per_byte"),
        ),
        ("Text, equal time", "HOPE", raw("text", "equal_steps--HOPE", "bits_per_byte")),
    ):
        assert data[title].values[model] == pytest.approx(wanted), (title, model)  # fmt: skip
    far = raw("text", "equal_steps--HOPE", "places", "768-1023")
    near = raw("text", "equal_steps--HOPE", "places", "64-127")
    rise = [after - before for after, before in zip(far, near, strict=True)]
    assert data["Text, 8 times the trained length"].values["HOPE"] == pytest.approx(rise)


def test_the_words_are_true(data: dict[str, gallery.Question]) -> None:
    def means(title: str) -> dict[str, float]:
        return {model: mean(values) for model, values in data[title].values.items()}

    parity = data["Parity, words of 256 symbols"].values
    assert min(parity["HOPE"]) == 100
    assert all(max(values) < 50 for model, values in parity.items() if model != "HOPE")
    counting = means("a^n b^n, words of 41 to 80")
    assert counting.pop("linear attention") == 100
    assert max(counting.values()) < 60
    recall = means("Recall, 32 pairs (trained: 16)")
    assert sorted(recall, key=recall.get)[-2:] == ["gated delta rule", "linear attention"]  # type: ignore[arg-type]
    steps, time = means("Text, equal steps"), means("Text, equal time")
    assert abs(steps["HOPE"] - steps["gated delta rule"]) < 0.03
    assert max(time, key=time.get) == "HOPE"  # type: ignore[arg-type]
    beyond = means("Text, 8 times the trained length")
    assert (
        beyond["softmax attention"] > 1 > 0.2 > max(v for m, v in beyond.items() if m != "softmax attention")
    )


def test_without_records_it_says_so() -> None:
    nothing = gallery.results_overview_data(*([Records([])] * 3))
    drawing = gallery.results_overview(nothing)
    assert all("not run yet" in {text.get_text() for text in axes.texts} for axes in drawing.figure.axes)
    plt.close(drawing.figure)
