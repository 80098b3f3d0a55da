"""When a difference between trainings may be called one: the rule behind every "better" and "worse" of RESULTS.md. [D]

Each comparison is a list of differences, one per seed, between two trainings that share the seed. Its two-sided p-value
is that of the paired t test over the n seeds, t = √n · mean / sd with n - 1 degrees of freedom. The comparisons of one
table are judged together, by Holm's step-down rule. Where no difference of a table is real, and differences over seeds
are normal, the chance that one of them is called better or worse is therefore at most `LEVEL`, however the comparisons
depend on one another (they share a baseline).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from statistics import mean, stdev
from typing import TypeVar

from hope_ref.common.validation import whole_number

Name = TypeVar("Name", bound=Hashable)

LEVEL = 0.05  # the chance of one false finding or more in a table without differences
NONE = "no difference found"


def tail(t: float, freedom: int) -> float:
    """The chance that Student's t is at least |t| away from 0, in closed form for a whole number of degrees of freedom.

    With θ = atan(t / √ν) it is 1 - A: for odd ν A = (2/π) (θ + sin θ (cos θ + (2/3) cos³θ + (2·4)/(3·5) cos⁵θ + …)), for even ν
    A = sin θ (1 + (1/2) cos²θ + (1·3)/(2·4) cos⁴θ + …), with powers up to ν - 2. [Abramowitz & Stegun 26.7.3-4]
    Raises: ValueError for less than 1 degree of freedom.
    """
    freedom = whole_number("freedom", freedom, 1)
    theta = math.atan2(abs(t), math.sqrt(freedom))
    sine, cosine = math.sin(theta), math.cos(theta)
    odd = freedom % 2
    term, total = (cosine if odd else 1.0), 0.0
    for power in range(odd, freedom - 1, 2):
        total += term
        term *= cosine**2 * (power + 1) / (power + 2)
    inside = 2 / math.pi * (theta + sine * total) if odd else sine * total
    return max(0.0, 1.0 - inside)


def p_value(differences: Sequence[float]) -> float:
    """Of the paired t test over seeds; 1 where all differences are 0, 0 where all are equal and not 0.

    Raises: ValueError for fewer than two seeds.
    """
    if len(differences) < 2:
        raise ValueError(f"differences must be of two seeds or more, got {len(differences)}")
    middle, scatter = mean(differences), stdev(differences)
    if scatter == 0:
        return float(middle == 0)
    return tail(math.sqrt(len(differences)) * middle / scatter, len(differences) - 1)


def findings(compared: Mapping[Name, Sequence[float]], least: float = 0.0) -> dict[Name, int]:
    """Of the comparisons of one table, by name: +1 where there is more, -1 where there is less, 0 where no difference was found.

    Holm: with m comparisons the i-th smallest p-value, from 0, is held against `LEVEL` / (m - i), up to the first that
    exceeds it. Beside that the mean must exceed one standard deviation, and be ``least`` or more. Comparisons of fewer
    than two seeds are left out, and do not count.
    """
    chances = {name: p_value(values) for name, values in compared.items() if len(values) > 1}
    judged = dict.fromkeys(chances, 0)
    for place, name in enumerate(sorted(chances, key=lambda name: chances[name])):
        if chances[name] > LEVEL / (len(chances) - place):
            break
        middle = mean(compared[name])
        if abs(middle) > stdev(compared[name]) and abs(middle) >= least:
            judged[name] = 1 if middle > 0 else -1
    return judged


def least_ratio(seeds: int, comparisons: int = 1) -> float:
    """How many standard deviations the largest difference of a table must be away from 0 to be found. ValueError: < 2 seeds, < 1 comparison."""
    seeds, comparisons = whole_number("seeds", seeds, 2), whole_number("comparisons", comparisons, 1)
    low, high = 0.0, 1e6
    for _ in range(80):
        middle = (low + high) / 2
        far = tail(math.sqrt(seeds) * middle, seeds - 1) <= LEVEL / comparisons
        low, high = (low, middle) if far else (middle, high)
    return max(1.0, high)


def in_words() -> str:
    """The rule as RESULTS.md prints it, with what three seeds can show at all."""
    one, five, fourteen = (f"{least_ratio(3, comparisons):.1f}" for comparisons in (1, 5, 14))
    chance = f"{100 * LEVEL:.0f} %"
    return f"""> **When we say "better" or "worse"** (ahead, behind, more, less; bold in a table). We do where the mean difference over seeds
> exceeds its standard deviation *and* passes a paired t test with Holm's correction over all comparisons that are judged in its
> table. If differences over seeds are normal and none is real, a table has a false finding with a chance of at most {chance}. All else
> is "{NONE}", which does not say that there is none. Three seeds find only what is large beside its spread: the mean
> must be {one} standard deviations away from 0 where one comparison is made, {five} where five are, {fourteen} where fourteen are.
"""
