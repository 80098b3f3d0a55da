"""All golden components by name."""

from __future__ import annotations

from hope_ref.common.validation import one_of
from hope_ref.golden import expressive_optimisers, memories, models, optimisers, self_modifying
from hope_ref.golden.components import Component


def components() -> dict[str, Component]:
    """Every component by name."""
    every = (
        self_modifying.COMPONENT,
        *memories.COMPONENTS,
        *optimisers.COMPONENTS,
        *models.COMPONENTS,
        *expressive_optimisers.COMPONENTS,
    )
    return {component.name: component for component in every}


def component(name: str) -> Component:
    """The component of that name; any other name is an error that lists those there are."""
    known = components()
    one_of("component", name, tuple(known))
    return known[name]
