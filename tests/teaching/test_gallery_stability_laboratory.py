"""The stability laboratory's figures: the numbers they show, and what captions and alternative texts say of them."""

from __future__ import annotations

import numpy as np
import pytest

from hope_ref.config import HopeConfig
from hope_ref.laboratory.stability import random_stream
from hope_ref.reference.parameters import init_memories
from hope_ref.reference.self_modifying_titans import self_modifying_titans
from hope_ref.teaching.gallery import stability_laboratory as gallery


def test_larger_chunks_delay_the_overflow_and_repairs_stop_it() -> None:
    data = gallery.overflows_data()
    assert 7 <= data.last[1] < 15 < 48 <= data.last[16] <= 64 < 180 < data.last[64] < 200
    for size, norms in data.norms.items():
        assert np.isfinite(norms[: data.last[size] + 1]).all()
        assert norms[np.isfinite(norms)].max() > 1e100
    errors = data.errors
    assert errors["unit values"].max() < 1.1
    assert errors["unit values"][-1] < 0.3
    np.testing.assert_allclose(errors["both"], errors["unit values"], rtol=0.4)
    assert 2.5 < errors["bound, c = 1"].min() < errors["bound, c = 1"].max() < 25
    assert 30 < int((errors["bound, c = 10"] > 1e6).argmax()) < 50


def test_the_curve_of_norms_is_that_of_the_reference() -> None:
    config = HopeConfig.printed(width=16, memory_chunk_size=1, projection_chunk_size=1)
    _, state = self_modifying_titans(*[random_stream(5, 16, 0)] * 3, init_memories(config, 0), config)
    want = max(np.linalg.norm(weight) for weight in state.weights.values())
    np.testing.assert_allclose(gallery.overflows_data().norms[1][5], want, rtol=1e-12)


@pytest.mark.slow
def test_what_retention_and_the_erase_leave() -> None:
    data = gallery.erasure_data()
    kept = data.kept
    assert all(along[0] == 1 for along in kept.values())
    assert kept["all, to 0"][75] < 0.01
    assert 0.35 < kept["memory only"][-1] < 0.5
    assert 0.75 < kept["all, to the start"][-1] < 0.9
    learned = data.learned
    assert learned["all, to 0"][3] < 0.03
    assert 0.05 < learned["memory only"][-1] < 0.2
    assert 0.6 < learned["all, to the start"][-1] < 0.9
    drift = {name: along[-1] for name, along in data.drift.items()}
    assert 1 > drift["normalised"] > drift["implicit"] > 0.85, "relative to the start, not to what is left"
    assert max(drift["normalised, deviation"], drift["implicit, deviation"]) < 0.1


def test_blocks_are_root_mean_squares_against_the_first() -> None:
    values = np.array([[3.0, 4.0, 6.0, 8.0, 99.0], [3.0, 4.0, 6.0, 8.0, 99.0]])
    np.testing.assert_allclose(gallery.blocks(values, 2), [1, 2])


@pytest.mark.slow
def test_factors_rates_and_norms_without_the_skip() -> None:
    data = gallery.skip_free_data()
    np.testing.assert_allclose(data.factors["dot"], 1 - data.etas, atol=1e-9)
    np.testing.assert_allclose(data.factors["l2"], 1 - 2 * data.etas, atol=1e-9)
    np.testing.assert_allclose(data.factors["l2 in a chunk"], 1 - data.etas, atol=1e-9)
    for objective, below, above in (("dot", 0.95, 1.15), ("l2", 0.75, 0.95)):
        rate = data.rates[objective]
        assert (rate[data.stream_etas < below] < 0).all()
        assert (rate[data.stream_etas > above] > 0).all()
    ends = {name: norms[-1] for name, norms in data.norms.items()}
    assert ends["l2, η = 0.9"] > 1e3
    assert max(ends["dot, η = 0.5"], ends["l2, η = 0.3"]) < 1e-13
    assert 0.3 < ends["l2, η = 0.3, with the skip"] < 3
