"""Machine code of every kernel for two GPUs that need not be here. Compiled, not run."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from hope_ref.__main__ import main
from hope_ref.parallel.kernels import compiled
from hope_ref.parallel.kernels.configurations import KERNELS, Configuration, configurations

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is there on Linux alone"
)


@pytest.fixture(autouse=True, scope="module")
def nothing_in_store(tmp_path_factory: pytest.TempPathFactory) -> object:
    """What was compiled on another day does not count."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_CACHE_DIR", str(tmp_path_factory.mktemp("triton")))
        patch.delenv("TRITON_INTERPRET", raising=False)
        yield


def test_there_are_at_most_sixty() -> None:
    found = configurations()
    assert len(set(found)) == len(found) <= 60
    assert {one.architecture for one in found} == {80, 90}
    assert {one.dtype for one in found} == {"float32", "bfloat16"}
    for kernel in KERNELS:  # every option of each kernel
        own = [one for one in found if one.kernel == kernel and one.architecture == 90]
        assert {one.erase for one in own} == {"before_decay", "after_decay", "none"}
        assert {one.read for one in own} == {"post", "pre", "none"}


AT_ONCE = Configuration("backward", 90, 16, 64, 64, "bfloat16")


def test_one_kernel_is_compiled_at_once() -> None:
    """It takes seconds; the other kernels, types, shapes and options are for `make test-all`."""
    assert AT_ONCE in configurations()


@pytest.mark.parametrize(
    "configuration",
    [pytest.param(one, marks=[] if one == AT_ONCE else pytest.mark.slow) for one in configurations()],
    ids=str,
)
def test_it_compiles_and_fits(configuration: Configuration) -> None:
    report = compiled.report(configuration)
    assert 0 < report.registers <= 255
    assert report.spilled <= 2048, "bytes per thread: twice what its registers hold"
    assert 0 < report.shared <= compiled.SHARED[configuration.architecture]
    assert report.machine_code > 1000
    assert report.instructions & {"mma", "wgmma"}, "no product is done by a tensor core"


@pytest.mark.slow
def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["kernels", "--quick"]) == 0
    said = capsys.readouterr().out
    assert "compiled, not run" in said
    table, estimated = said.split("an estimate")
    for part, lines in ((table, 6), (estimated, 3)):
        assert len([line for line in part.splitlines() if line.split(" ")[0] in KERNELS]) == lines


def test_the_interpreter_compiles_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(RuntimeError, match="TRITON_INTERPRET must not be 1"):
        compiled.report(configurations()[0])
    assert main(["kernels"]) == 2
    assert "TRITON_INTERPRET must not be 1" in capsys.readouterr().out


def test_the_kernels_are_not_measured_for_coverage() -> None:
    import tomllib

    settings = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    for part in ("run", "report"):
        assert settings["tool"]["coverage"][part]["omit"] == ["hope_ref/parallel/kernels/*"], part
