"""One token of the NumPy floor is followed in four files."""

from __future__ import annotations

import reading_path


def test_the_mathematics_of_one_token_stays_together() -> None:
    walk = reading_path.reference()
    assert walk.files == ("activations", "continuum_memory", "hope", "self_modifying_titans")
    assert 30 < walk.switches <= 50, walk
    assert walk.calls > 100, "the whole of it has been followed"


def test_one_chunk_goes_through_the_files_that_have_its_equations() -> None:
    walk = reading_path.parallel()
    assert {"hope", "self_modifying_titans", "memory_network", "chunks", "continuum_memory"} <= set(
        walk.files
    )
    assert len(walk.files) <= 9, walk
