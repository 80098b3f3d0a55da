"""What the chunks promise beyond their numbers: no look at values, one dtype, clear refusals."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
import torch
from selection import some_slow
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from hope_ref.config import HopeConfig
from hope_ref.parallel.memory_states import groups
from hope_ref.parallel.self_modifying_titans import State, self_modifying_titans, stream
from hope_ref.reference.parameters import random_parameters

CONFIGS = {
    "default": HopeConfig(memory_chunk_size=2, projection_chunk_size=4),
    "equal chunks": HopeConfig(memory_chunk_size=4, projection_chunk_size=4),
    "momentum": HopeConfig(memory_chunk_size=2, projection_chunk_size=4, inner_momentum=0.5),
    "all forget": HopeConfig(memory_chunk_size=4, projection_chunk_size=4, retention_scope="all"),
    "linear": HopeConfig(memory_chunk_size=4, projection_chunk_size=4, architecture="linear"),
}
each = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


def problem(
    config: HopeConfig, length: int = 11, dtype: torch.dtype = torch.float64
) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
    rng = np.random.default_rng(0)
    x = [torch.tensor(rng.normal(size=(length, 4)), dtype=dtype) for _ in range(3)]
    parameters = random_parameters(config, 4, 5, 0)
    return x, {n: torch.tensor(a, dtype=dtype) for n, a in parameters.items()}


# --- no look at values ----------------------------------------------------------------------------------------------


class NoLook(TorchDispatchMode):
    """Refuses every operation that hands a value from the device to Python."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert "_local_scalar_dense" not in str(function), "a value was looked at"
        return function(*args, **(kwargs or {}))


@each
@pytest.mark.parametrize("length", some_slow({"0": 0, "1": 1, "5": 5}, ["5"]))
@pytest.mark.parametrize("kind", some_slow({"meta": "meta", "fake": "fake"}, ["meta"]))
def test_forward_and_backward_know_only_shapes(config: HopeConfig, length: int, kind: str) -> None:
    """Tensors without values: as on a device that the host does not wait for, where the checks look at none either."""
    run, device, mode = self_modifying_titans, "meta", contextlib.nullcontext()
    if kind == "fake":  # on the CPU the checks look, and nothing else may
        run, device, mode = stream, "cpu", FakeTensorMode()
    x, parameters = problem(config, length)
    with mode:
        fake_x = [torch.empty(view.shape, device=device, requires_grad=True) for view in x]
        fake = {n: torch.empty(t.shape, device=device, requires_grad=True) for n, t in parameters.items()}
        outputs, state = run(*fake_x, fake, config, None)
        assert outputs.shape == (length, 4)
        assert outputs.device.type == device
        for name, weight in state.weights.items():
            assert weight.shape == parameters[name].shape
        more, _ = run(*fake_x, fake, config, state)
        if length:
            more.sum().backward()
            assert fake["eta_readout"].grad is not None


@each
def test_nothing_is_looked_at_behind_the_checks(config: HopeConfig) -> None:
    x, parameters = problem(config)
    with NoLook():
        outputs, state = stream(*x, parameters, config, None)
        stream(*x, parameters, config, state)
    assert torch.equal(outputs, self_modifying_titans(*x, parameters, config)[0])


def test_the_test_for_looks_sees_one() -> None:
    with NoLook(), pytest.raises(AssertionError, match="looked at"):
        float(torch.ones(()))


def test_within_a_model_values_are_not_judged() -> None:
    x, parameters = problem(CONFIGS["default"])
    x[0][2, 1] = torch.nan
    outputs, _ = stream(*x, parameters, CONFIGS["default"], None)
    assert torch.isfinite(outputs[:2]).all()
    assert not torch.isfinite(outputs[2]).all()


# --- precision ------------------------------------------------------------------------------------------------------


@each
def test_under_autocast_the_recurrence_stays_in_float32(config: HopeConfig) -> None:
    x, parameters = problem(config, 11, torch.float32)
    plain, plain_state = self_modifying_titans(*x, parameters, config)
    with torch.autocast("cpu", torch.bfloat16):
        outputs, state = self_modifying_titans(*x, parameters, config)
    assert torch.equal(outputs, plain)
    for name, weight in state.weights.items():
        assert torch.equal(weight, plain_state.weights[name])


@each
def test_half_precision_tokens_are_computed_in_float32_and_given_back_as_they_came(
    config: HopeConfig,
) -> None:
    x, parameters = problem(config, 11, torch.float32)
    rounded = [view.bfloat16() for view in x]
    outputs, state = self_modifying_titans(*rounded, parameters, config)
    plain, _ = self_modifying_titans(*(view.float() for view in rounded), parameters, config)
    assert outputs.dtype == torch.bfloat16
    assert torch.equal(outputs, plain.bfloat16())
    assert {weight.dtype for weight in state.weights.values()} == {torch.float32}


# --- memories that move alike ---------------------------------------------------------------------------------------


def test_groups_hold_every_memory_once_and_memory_last() -> None:
    for writing in (None, ("memory",), ("k", "alpha"), ()):
        for sizes in ((4, 4), (2, 4)):
            for scope in ("memory", "all"):
                config = HopeConfig(
                    memory_chunk_size=sizes[0], projection_chunk_size=sizes[1], writing=writing,
                    retention_scope=scope, adaptive_query=True,
                )  # fmt: skip
                found = groups(config)
                names = [name for group in found for name in group.names]
                assert sorted(names) == sorted(config.memories)
                assert names[-1] == "memory"
                for group in found:
                    assert {config.chunk_size(name) for name in group.names} == {group.chunk_size}
                    assert {name in config.writers for name in group.names} == {group.writes}
                    forgetting = [n for n in group.names if scope == "all" or n == "memory"]
                    assert list(group.names[len(group.names) - group.forgetting :]) == forgetting


# --- refusals -------------------------------------------------------------------------------------------------------


def bad_input() -> list[tuple[str, dict[str, Any], str]]:
    """(what is wrong, what is replaced, the message): each names the argument, what it got and what it wants."""
    config = CONFIGS["momentum"]
    x, parameters = problem(config)
    nan = x[0].clone()
    nan[3, 1] = torch.nan
    _, state = self_modifying_titans(*x, parameters, config)

    def changed(**new: Any) -> dict[str, Any]:
        return {"parameters": {name: t for name, t in (parameters | new).items() if t is not None}}

    def of_state(part: str, **new: Any) -> dict[str, Any]:
        tensors = {name: t for name, t in (getattr(state, part) | new).items() if t is not None}
        return {"state": state._replace(**{part: tensors})}

    return [
        ("options", {"config": {"step": "implicit"}}, "config must be a HopeConfig, got dict"),
        ("array", {"x_key": x[0].numpy()}, "x_key must be a torch.Tensor, got ndarray"),
        ("integers", {"x_value": x[1].long()}, "x_value must have a floating-point dtype, got torch.int64"),
        ("mixed views", {"x_query": x[2].float()}, "x_query must have the dtype of x_key, torch.float64, got torch.float32"),
        ("one axis", {"x_key": x[0][0]}, r"x_key must have shape \(\.\.\., T, d\) with d >= 1, got \(4,\)"),
        ("no width", {n: x[0][:, :0] for n in ("x_key", "x_value", "x_query")}, r"d >= 1, got \(11, 0\)"),
        ("other length", {"x_value": x[1][:5]}, r"x_value must have shape \(11, 4\), got \(5, 4\)"),
        ("other width", {"x_query": x[2][:, :3]}, r"x_query must have shape \(11, 4\), got \(11, 3\)"),
        ("NaN", {"x_key": nan}, "x_key must be finite, got 1 NaN or infinite entries"),
        ("infinite", {"x_query": x[2] / 0}, "x_query must be finite, got 44 NaN or infinite entries"),
        ("parameters", {"parameters": [1]}, "parameters must be a dict of named tensors, got list"),
        ("missing", changed(w1_k=None), "parameters must hold .* missing: w1_k, unknown: none"),
        ("unknown", changed(w1_q=x[0]), "parameters must hold .* missing: none, unknown: w1_q"),
        ("parameter array", changed(alpha_bias=np.zeros(())), r"parameters\['alpha_bias'\] must be a torch.Tensor"),
        ("parameter dtype", changed(w1_k=parameters["w1_k"].float()), r"parameters\['w2_k'\] must have the dtype of parameters\['w1_k'\], torch.float32"),
        ("parameter shape", changed(w2_v=parameters["w2_v"].mT), r"parameters\['w2_v'\] must have shape \(\.\.\., 5, 4\) .* got \(4, 5\)"),
        ("too few axes", changed(eta_readout=parameters["alpha_bias"]), r"parameters\['eta_readout'\] must have shape \(\.\.\., 4\) .* got \(\)"),
        ("leading axes", changed(alpha_bias=torch.zeros(3).double()), r"parameters\['alpha_bias'\] .* broadcast to \(\), got \(3,\)"),
        ("parameter NaN", changed(w1_k=parameters["w1_k"] * torch.nan) | {"state": None}, r"parameters\['w1_k'\] must be finite, got 20"),
        ("parameter device", {"parameters": {n: t.to("meta") for n, t in parameters.items()}}, r"must be on the device of x_key, cpu, got meta"),
        ("state", {"state": (1, 2)}, "state must be a State, got tuple"),
        ("state part", {"state": state._replace(weights=[1])}, "state.weights must be a dict of named tensors, got list"),
        ("state names", of_state("momentum", b1_k=None), "state.momentum must hold .* missing: b1_k"),
        ("state array", of_state("weights", w1_k=np.zeros((4, 5))), r"state.weights\['w1_k'\] must be a torch.Tensor, got ndarray"),
        ("state dtype", of_state("weights", w1_k=state.weights["w1_k"].float()), r"state.weights\['w1_k'\] must be torch.float64, got torch.float32"),
        ("state device", of_state("boundary", w1_k=state.weights["w1_k"].to("meta")), r"state.boundary\['w1_k'\] must be on cpu, got meta"),
        ("state shape", of_state("weights", w1_k=torch.zeros(4, 4).double()), r"state.weights\['w1_k'\] must have shape \(4, 5\), got \(4, 4\)"),
        ("position", {"state": state._replace(position=-1)}, "state.position must be an integer >= 0, got -1"),
        ("position type", {"state": state._replace(position=True)}, "state.position must be an integer >= 0, got True"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("replaced", "message"), [case[1:] for case in bad_input()], ids=[case[0] for case in bad_input()]
)
def test_bad_input_is_named(replaced: dict[str, Any], message: str) -> None:
    config = CONFIGS["momentum"]
    x, parameters = problem(config)
    given = dict(zip(("x_key", "x_value", "x_query"), x, strict=True)) | {
        "parameters": parameters,
        "config": config,
    }
    with pytest.raises(ValueError, match=message):
        self_modifying_titans(**{**given, **replaced})


def test_the_arguments_are_left_as_they_were() -> None:
    config = CONFIGS["equal chunks"]
    x, parameters = problem(config)
    _, state = self_modifying_titans(*x, parameters, config)
    given = {**parameters, **{f"{p}.{n}": t for p in State._fields[:3] for n, t in getattr(state, p).items()}}
    copies = {name: tensor.clone() for name, tensor in given.items()}
    self_modifying_titans(*x, parameters, config, state)
    for name, copy in copies.items():
        assert torch.equal(given[name], copy), name


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda() -> None:
    for config in CONFIGS.values():
        x, parameters = problem(config)
        outputs, state = self_modifying_titans(*x, parameters, config)
        device, device_state = self_modifying_titans(
            *(view.cuda() for view in x), {n: t.cuda() for n, t in parameters.items()}, config
        )
        np.testing.assert_allclose(device.cpu().numpy(), outputs.numpy(), rtol=0, atol=1e-10)
        for name, weight in state.weights.items():
            np.testing.assert_allclose(
                device_state.weights[name].cpu().numpy(), weight.numpy(), rtol=0, atol=1e-10
            )
