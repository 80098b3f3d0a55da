"""The figures of the three questions: places on the spectrum, sizes of discs, and the costs with their crossings."""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import numpy as np
import pytest

from hope_ref.config import HopeConfig
from hope_ref.laboratory.anatomy import anatomy
from hope_ref.reference import hope
from hope_ref.symbolic import counts
from hope_ref.teaching.gallery import anatomy as gallery


def test_marks_hold_all_the_state_and_stand_at_different_places() -> None:
    for model, rows in gallery.spectrum_data().rows.items():
        marks = gallery.marks(model, rows)
        assert sum(mark.state for mark in marks) == sum(row.state for row in rows)
        places = [gallery.place(mark.frequency) for mark in marks]
        assert places == sorted(set(places))
        assert len({mark.words for mark in marks}) == len(marks)


def test_discs_are_what_a_run_carries() -> None:
    """One block, 64 wide, of the NumPy floor: memories and levels of HOPE, keys and values of attention."""
    marks = {m.words: m.state for m in gallery.marks("HOPE", gallery.spectrum_data().rows["HOPE"])}
    config = HopeConfig(width=gallery.WIDTH, vocabulary=2, blocks=1)
    (block,) = hope.initial_state(hope.init(config), config).blocks
    (head,) = block.mixer.heads
    assert marks["memory"] == sum(part[f"{w}_memory"].size for part in head[:2] for w in ("w1", "w2"))
    assert marks["makers of\nk, v, η, α"] == 4 * marks["memory"]
    assert marks["level 2"] == sum(array.size for array in block.continuum.levels[1])
    assert marks["convolutions"] == 3 * block.mixer.key_inputs.size
    attention, frozen = gallery.marks("Transformer", gallery.spectrum_data(length=100).rows["Transformer"])
    assert (attention.state, frozen.state) == (2 * 100 * gallery.WIDTH, 0)


def test_the_axis_runs_from_fast_to_slow_with_the_ends_beyond_the_breaks() -> None:
    inside = [gallery.place(1 / size) for size in (1, 16, 512, 8192)]
    assert inside == pytest.approx([0, math.log10(16), math.log10(512), math.log10(8192)])
    left, right = gallery.BREAKS
    assert gallery.place(math.inf) < left < inside[0]
    assert inside[-1] < right < gallery.place(0)


def test_spectrum_says_every_name_and_number() -> None:
    drawing = gallery.spectrum()
    words = {text.get_text() for text in drawing.figure.axes[0].texts}
    for model, rows in gallery.spectrum_data().rows.items():
        assert model in words
        for mark in gallery.marks(model, rows):
            assert mark.words in words
            assert (f"{mark.state:,}" if mark.state else "no state") in words
            if mark.state:
                assert f"{mark.state:,}" in drawing.alt
    ticks = [tick.get_text() for tick in drawing.figure.axes[0].get_xticklabels()]
    assert [tick.partition("\n")[0] for tick in ticks] == [
        "∞",
        "1",
        "1/16",
        "1/512",
        "1/2,048",
        "1/8,192",
        "0",
    ]
    plt.close(drawing.figure)


def test_levels_under_the_bracket_are_those_of_the_default() -> None:
    sizes = [round(1 / row.frequency) for row in anatomy("continuum_memory")]
    assert tuple(sizes) == HopeConfig().levels_chunk_sizes


def test_costs_cross_where_the_diamonds_stand() -> None:
    data = gallery.chunk_costs_data()
    chunk = counts.total(counts.chunk_flops(HopeConfig()))
    before, after = (
        counts.number(chunk, d=data.width, h=data.width, C=c) / c
        for c in (int(data.crossing), int(data.crossing) + 1)
    )
    assert before <= data.token < after
    assert np.all(data.chunk > data.once)
    assert data.once < data.token
    assert np.all(np.diff(data.chunk[1:]) > 0)
    np.testing.assert_allclose(data.crossing, data.width, rtol=0.02)


def test_the_words_of_chunk_costs_are_the_numbers() -> None:
    data, drawing = gallery.chunk_costs_data(), gallery.chunk_costs()
    said = [f"C = {data.crossing:.0f},", f"starts at {data.chunk[0] / 1e3:.0f},"]
    said += [f"line at {data.token / 1e3:.0f}", f"at {data.once / 1e3:.0f} if"]
    for words in said:
        assert words in drawing.alt, words
    assert round(data.chunk[-1] / 1e4) * 10 == 950
    plt.close(drawing.figure)
