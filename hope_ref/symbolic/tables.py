"""Arithmetic of printed tables: averages that do not equal the mean of their own row."""

from __future__ import annotations

import sympy as sp

from hope_ref.symbolic.identity import Identity, Sides

# The eight accuracies of two rows of [P Table 2], in tenths of a percent.
TTT_760M = (347, 673, 439, 510, 645, 338, 402, 596)
COMBA_1300M = (469, 731, 545, 577, 720, 391, 402, 606)


def _means() -> sp.Matrix:
    return sp.Matrix([[sp.Rational(sum(row), 10 * len(row)) for row in (TTT_760M, COMBA_1300M)]])


def _averages() -> Sides:
    """Exact means, in rational arithmetic; rounded to two digits they are 49.38 and 55.51."""
    return Sides(_means(), sp.Matrix([[sp.Rational(49375, 1000), sp.Rational(555125, 10000)]]))


def _averages_printed() -> Sides:
    return Sides(_means(), sp.Matrix([[sp.Rational(4732, 100), sp.Rational(5539, 100)]]))


IDENTITIES = (
    Identity(
        "tables.averages",
        "P Table 2",
        "The averages of TTT (760M) and Comba (1.3B) are 49.38 and 55.51.",
        r"47.32, \quad 55.39",
        r"49.375, \quad 55.5125",
        _averages,
        _averages_printed,
        sizes="two rows of a table; these numbers only",
    ),
)
