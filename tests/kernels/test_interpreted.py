"""The kernels in Triton's interpreter, against float64: answers, states and every gradient. No GPU, no speed."""

from __future__ import annotations

import importlib.util
import json

import kernel_cases
import pytest
from kernel_process import interpreted

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is there on Linux alone"
)


@pytest.fixture(scope="module")
def errors() -> dict[str, kernel_cases.Errors]:
    found = interpreted("import runpy; runpy.run_path('tests/shared/kernel_cases.py', run_name='__main__')")
    assert found.returncode == 0, found.stderr[-4000:]
    return json.loads(found.stdout)  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", kernel_cases.cases())
def test_the_kernels_are_right_to_float32(name: str, errors: dict[str, kernel_cases.Errors]) -> None:
    assert errors[name]
    assert kernel_cases.close(errors[name]) == []


def test_every_result_and_every_gradient_is_there(errors: dict[str, kernel_cases.Errors]) -> None:
    names = set(errors["recurrence before_decay post T=9 C=4 shape=1"])
    assert names == {"answers", "state", "by q", "by phi", "by u", "by eta", "by alpha", "by state"}
    of_titans = errors["titans adaptive query"]
    for memory in ("k", "v", "q", "eta", "alpha", "memory"):
        assert {f"by w1_{memory}", f"by w2_{memory}", f"by eta_bias_{memory}", f"w1_{memory}"} <= set(
            of_titans
        )


NOT_HIDDEN = """
import torch
from hope_ref.parallel import chunks
q, k, v = torch.randn(3, 9, 4)
for backend in ("torch", "triton"):
    for value in (float("nan"), float("inf")):
        for wrong in range(4):
            u, eta, alpha, start = v.clone(), torch.full((9,), 0.5), torch.full((9,), 0.9), torch.zeros(4, 4)
            (u[5], eta[5:6], alpha[5:6], start[1])[wrong].fill_(value)
            y, end = chunks.recurrence(q, k, u, eta, alpha, start, 4, "after_decay", backend)
            assert not torch.isfinite(end).all(), (backend, value, wrong)
            assert wrong == 3 or torch.isfinite(y[:4]).all(), (backend, value, wrong)
print("none is hidden")
"""


def test_an_overflow_is_not_hidden_and_does_not_reach_an_earlier_chunk() -> None:
    found = interpreted(NOT_HIDDEN)
    assert found.stdout == "none is hidden\n", found.stderr[-2000:]


def test_what_is_wrong_is_seen() -> None:
    assert kernel_cases.close({"one": [3e-6], "other": [1e-4, 1e-4], "third": [float("nan")]}) == [
        "one: 3.0e-06",
        "third: nan",
    ]


BROKEN = """
import re, sys, pathlib, shutil, tempfile
folder = pathlib.Path(tempfile.mkdtemp())
shutil.copytree("hope_ref", folder / "hope_ref", ignore=shutil.ignore_patterns("__pycache__"))
file, right, wrong = sys.argv_given
path = folder / "hope_ref" / "parallel" / "kernels" / file
text = path.read_text()
assert right in text
path.write_text(text.replace(right, wrong, 1))
sys.path.insert(0, str(folder))
import hope_ref, kernel_cases
assert hope_ref.__file__.startswith(str(folder))
found = kernel_cases.recurrence("before_decay", "post", 9, 4, 0, "cpu")
print(len(kernel_cases.close(found)))
"""


@pytest.mark.parametrize(
    ("file", "right", "wrong"),
    [
        ("tiles.py", "step = tl.dot(inverse, between", "step = tl.dot(between, between"),
        ("tiles.py", "row - SKIP >= column", "row - SKIP > column"),
        ("forward.py", "state = kept * state", "state = state"),
        ("backward.py", "tl.exp(tl.sum(log_alpha, 0)) * grad_state", "grad_state"),
        ("backward.py", "-(faded * eta_c)[:, None]", "-eta_c[:, None]"),
        ("gradients.py", "by_gram + tl.trans(by_gram)", "by_gram"),
        ("gradients.py", "(reaches * of_end)[None, :]", "(0 * of_end)[None, :]"),
        ("gradients.py", "by_eta += tl.sum(by_ratio * gram, 1)", "by_eta += 0.0"),
    ],
)
def test_a_kernel_that_is_wrong_disagrees(file: str, right: str, wrong: str) -> None:
    code = f"import sys; sys.path.remove('') if '' in sys.path else None; sys.argv_given = {(file, right, wrong)!r}\n"
    found = interpreted(code + BROKEN)
    assert found.returncode == 0, found.stderr[-2000:]
    assert int(found.stdout) > 0
