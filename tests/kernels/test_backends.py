"""Which backend a call takes: never silently another one than was asked for."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch

from hope_ref.config import HopeConfig
from hope_ref.parallel import chunks, kernels
from hope_ref.parallel.delta_rule import delta_rule, gated_delta_rule
from hope_ref.parallel.hope import Hope
from hope_ref.parallel.linear_attention import linear_attention


@pytest.fixture(autouse=True)
def no_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(kernels, "_said", set())


def inputs(dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    return [torch.randn(5, 3, dtype=dtype) for _ in range(3)]


CALLS: dict[str, Any] = {
    "delta_rule": lambda backend: delta_rule(*inputs(), 0.5, backend=backend),
    "gated_delta_rule": lambda backend: gated_delta_rule(*inputs(), 0.5, 0.9, backend=backend),
    "linear_attention": lambda backend: linear_attention(*inputs(), 0.9, backend=backend),
    "recurrence": lambda backend: chunks.recurrence(
        *inputs(), torch.ones(5), torch.ones(5), torch.zeros(3, 3), 2, "none", backend
    ),
    "hope": lambda backend: Hope(HopeConfig(width=8, vocabulary=11, blocks=1))(
        torch.arange(5), backend=backend
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_cannot_run_is_refused_with_the_reason(name: str) -> None:
    reason = "on cpu, not on CUDA" if importlib.util.find_spec("triton") else "Triton is not installed"
    with pytest.raises(
        RuntimeError, match=f"backend must be 'torch' or 'auto' here, got 'triton': .*{reason}"
    ):
        CALLS[name]("triton")


@pytest.mark.parametrize("name", CALLS)
def test_auto_says_once_what_it_takes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        CALLS[name]("auto")
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("backend='auto' takes 'torch': ")
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("name", CALLS)
def test_an_unknown_word_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=r"backend must be one of .*got 'cuda'"):
        CALLS[name]("cuda")


def test_without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "Triton is not installed" in kernels.missing("cuda")


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is there on Linux alone")
def test_the_interpreter_must_be_asked_for_before_triton_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    import triton.language.standard

    assert type(triton.language.standard.sum).__name__ == "JITFunction"  # loaded without it, in this process
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(RuntimeError, match="was set after Triton had been loaded"):
        delta_rule(*inputs(), 0.5, backend="triton")


def test_what_the_kernels_lack(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(kernels, "missing", lambda device: "")
    with pytest.raises(ValueError, match=r"inner_momentum must be 0 with backend='triton', got 0.5"):
        Hope(HopeConfig(width=8, blocks=1, inner_momentum=0.5))(torch.arange(5), backend="triton")
    with pytest.raises(
        ValueError, match=r"dtype must be float32 or bfloat16 with backend='triton', got torch.float64"
    ):
        delta_rule(*inputs(torch.float64), 0.5, backend="triton")
    with pytest.raises(ValueError, match="d_in must be at most 128 with backend='triton', got 130"):
        Hope(HopeConfig(width=8, blocks=1, hidden=130))(torch.arange(5), backend="triton")
    with pytest.raises(ValueError, match="d_in must be at most 128 with backend='triton', got 129"):
        delta_rule(*(torch.randn(5, 129) for _ in range(3)), 0.5, backend="triton")
    delta_rule(*inputs(torch.float64), 0.5, backend="auto")
    assert "takes 'torch': dtype must be" in capsys.readouterr().err


def test_torch_is_the_default_and_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    delta_rule(*inputs(), 0.5)
    assert capsys.readouterr() == ("", "")
