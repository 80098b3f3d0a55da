"""The pieces of a block's first sub-layer against torch; the sub-layers themselves are in test_hope.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from hope_ref.reference import hope as layers


@pytest.mark.parametrize("width", [1, 2, 4])
def test_convolution_is_that_of_torch(width: int) -> None:
    rng = np.random.default_rng(width)
    x, kernel, before = rng.normal(size=(7, 3)), rng.normal(size=(3, width)), rng.normal(size=(width - 1, 3))
    y, last = layers.convolution(x, kernel, before)
    seen = torch.from_numpy(np.concatenate([before, x])).T[None]  # (1, d, w - 1 + T)
    want = functional.silu(functional.conv1d(seen, torch.from_numpy(kernel)[:, None], groups=3))[0].T
    np.testing.assert_allclose(y, want.numpy(), rtol=0, atol=1e-13)
    np.testing.assert_array_equal(last, x[7 - (width - 1) :])


def test_rotary_scores_depend_on_the_distance_alone() -> None:
    q, k = np.random.default_rng(0).normal(size=(2, 1, 6))
    near = float((layers.rotary(q, 5) @ layers.rotary(k, 2).T).item())
    assert near == pytest.approx(float((layers.rotary(q, 105) @ layers.rotary(k, 102).T).item()), abs=1e-12)
    assert abs(near - float((q @ k.T).item())) > 1e-3
