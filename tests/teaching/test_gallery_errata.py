"""Appendix A1's figures: every wrong row once, and the four runs against their closed forms."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest

from hope_ref.symbolic.errata import ERRATA, Erratum
from hope_ref.teaching.gallery import errata as gallery

WRONG = sorted(e.row for e in ERRATA if e.kind == "wrong")


def test_every_wrong_row_has_one_bar_one_name_and_one_consequence() -> None:
    assert sorted(row for rows in gallery.CONSEQUENCES.values() for row in rows) == WRONG
    assert sorted(gallery.WORDS) == WRONG
    slips = gallery.slip_sizes_data()
    assert sorted(slip.row for slip in slips) == WRONG
    assert [slip.size for slip in slips] == sorted((slip.size for slip in slips), reverse=True)


def test_sizes_are_those_of_the_errata(monkeypatch: pytest.MonkeyPatch) -> None:
    """With made-up ones: the true ones come from proofs, which take seconds."""
    monkeypatch.setattr(Erratum, "size", lambda self: 1 / (1 + self.row))
    found = gallery.slip_sizes_data.__wrapped__()
    assert [(slip.row, slip.size) for slip in found] == [(row, 1 / (1 + row)) for row in WRONG]


def test_the_words_of_slip_sizes_are_the_numbers() -> None:
    slips, drawing = gallery.slip_sizes_data(), gallery.slip_sizes()
    percent = {slip.row: round(100 * slip.size) for slip in slips}
    assert (slips[0].row, percent[15], slips[-1].row, percent[33]) == (15, 279, 33, 3)
    assert percent[12] == 128
    assert (percent[6], percent[23]) == (9, 41)
    assert len(slips) == 21
    signs = [percent[row] for row in gallery.CONSEQUENCES["the wrong way"]]
    assert (min(signs), max(signs)) == (36, 279)
    numbers = [percent[row] for row in gallery.CONSEQUENCES["another number"]]
    assert (min(numbers), max(numbers)) == (3, 120)
    assert [text.get_text() for text in drawing.figure.axes[0].texts] == [
        f"{percent[slip.row]} %" for slip in reversed(slips)
    ]
    plt.close(drawing.figure)


def test_each_run_is_its_closed_form() -> None:
    runs = {run.row: run for run in gallery.as_printed_data()}
    n = np.arange(13)
    start = runs[1].corrected[0]  # unit input: the residual is multiplied by 1 ∓ η
    np.testing.assert_allclose(runs[1].corrected, start * 0.8 ** (2 * n), rtol=1e-9)
    np.testing.assert_allclose(runs[1].printed, start * 1.2 ** (2 * n), rtol=1e-9)
    np.testing.assert_allclose(runs[6].printed, 2.0**n, rtol=1e-9)
    np.testing.assert_allclose(runs[6].corrected, (1 / (1 + 0.5 * 3)) ** n, rtol=1e-9)
    for values, factor in ((runs[23].printed, 0.9 - 3), (runs[23].corrected, 0.9 - 0.2 * 3)):
        rest = -0.2 / (1 - factor)  # m is a multiple of g, and moves by m ← factor · m - 0.2
        np.testing.assert_allclose(values, np.sqrt(3) * abs(rest + (-0.2 - rest) * factor**n), rtol=1e-9)
    assert runs[23].printed[-1] == pytest.approx(1000, rel=0.9)
    moves = n // 4
    np.testing.assert_allclose(runs[7].corrected, 1 - 0.8 * (1 - 4 * 0.15) ** moves, rtol=1e-9)
    assert (runs[7].printed[n % 4 > 0] == 0).all()
    assert (runs[7].printed[4::4] > 0).all()


def test_the_corrected_runs_stay_below_one() -> None:
    for run in gallery.as_printed_data():
        assert np.abs(run.corrected).max() <= 1
