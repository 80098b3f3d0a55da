"""What the notebooks import: checks, figures, exercises, and the few helpers that show them.

Everything shown here prints the same characters on every machine, so that stored outputs can be compared
strictly: bounds instead of floats, no addresses, no timings.
"""

from hope_ref.teaching.checks import check, check_true, reset, what_you_checked
from hope_ref.teaching.display import prove, show, shown, subplots, symbols
from hope_ref.teaching.exercise import Exercise, attempt, exercise
from hope_ref.teaching.interactive import interactive

__all__ = [
    "Exercise",
    "attempt",
    "check",
    "check_true",
    "exercise",
    "interactive",
    "prove",
    "reset",
    "show",
    "shown",
    "subplots",
    "symbols",
    "what_you_checked",
]
