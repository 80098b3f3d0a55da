"""The one place that imports all three floors and holds them against each other.

A `Component` names one concept: its statement in SymPy, its reference in NumPy, its parallel form in PyTorch, and
how to draw arguments. `compare` evaluates the statement at random points against the reference, and the reference
against the parallel form on every device present, and reports the worst relative error. A bound that is missed is
a failure, here and in ``python -m hope_ref verify``.
"""

from hope_ref.agreement.comparison import BOUND, Component, Row, compare, decade, devices, matrix, worst_error
from hope_ref.agreement.components import components

__all__ = ["BOUND", "Component", "Row", "compare", "components", "decade", "devices", "matrix", "worst_error"]
