"""The plan of the house, as rules: who may import whom."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "hope_ref"
HEAVY = ("torch", "sympy", "matplotlib")


def loaded_by(statement: str) -> set[str]:
    """Top-level names of the modules that a fresh interpreter has loaded after the statement."""
    code = f"{statement}\nimport sys\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600
    )
    return set(out.stdout.split())


@cache
def imports(file: Path) -> frozenset[str]:
    """Every module that a file imports, anywhere in it, as a dotted name."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def breaks(file: Path, *forbidden: str) -> list[str]:
    return [name for name in imports(file) if any(name == f or name.startswith(f + ".") for f in forbidden)]


def test_the_package_loads_numpy_alone() -> None:
    loaded = loaded_by("import hope_ref") - loaded_by("pass") - set(sys.stdlib_module_names)
    assert loaded == {"hope_ref", "numpy"}


def test_the_reference_floor_loads_numpy_alone() -> None:
    loaded = loaded_by("import hope_ref.reference")
    assert "numpy" in loaded
    assert not loaded & set(HEAVY)


def test_the_symbolic_floor_loads_no_torch() -> None:
    loaded = loaded_by("import hope_ref.symbolic, hope_ref.symbolic.errata")
    assert "sympy" in loaded
    assert not loaded & {"torch", "matplotlib"}


RULES = [
    ("reference", ("torch", "sympy", "matplotlib", "hope_ref.symbolic", "hope_ref.parallel")),
    ("symbolic", ("torch", "matplotlib", "hope_ref.reference", "hope_ref.parallel")),
    ("parallel", ("sympy", "matplotlib", "hope_ref.reference", "hope_ref.symbolic")),
    ("tasks", ("torch", "sympy", "matplotlib")),
    ("golden", ("torch", "sympy", "matplotlib", "hope_ref.symbolic", "hope_ref.parallel")),
]


@pytest.mark.parametrize(("floor", "forbidden"), RULES, ids=[floor for floor, _ in RULES])
def test_floors_keep_apart(floor: str, forbidden: tuple[str, ...]) -> None:
    files = sorted((PACKAGE / floor).rglob("*.py"))
    assert files
    for file in files:
        assert not breaks(file, *forbidden), file


def test_nothing_imports_what_is_for_notebooks() -> None:
    for file in PACKAGE.rglob("*.py"):
        inside = file.relative_to(PACKAGE).parts
        if inside[0] not in ("teaching", "training", "experiments", "benchmarks", "__main__.py"):
            assert not breaks(file, "hope_ref.teaching", "hope_ref.training", "hope_ref.experiments"), file


def everything(floor: str) -> tuple[set[str], set[Path]]:
    """What a floor's files, and all files of the package that these import, import from outside it; and those files."""
    outside, seen, waiting = set[str](), set[Path](), set((PACKAGE / floor).rglob("*.py"))
    while waiting:
        file = waiting.pop()
        seen.add(file)
        if file == PACKAGE / "__init__.py":
            continue  # lazy: what it names is no floor's need; the test above sees what it loads
        for name in imports(file):
            if name.split(".")[0] != "hope_ref":
                outside.add(name.split(".")[0])
                continue
            path = PACKAGE.parent.joinpath(*name.split("."))
            waiting |= {
                found for found in (path.with_suffix(".py"), path / "__init__.py") if found.exists()
            } - seen
    return outside, seen


@pytest.mark.parametrize(("floor", "library"), [("reference", "numpy"), ("symbolic", "sympy")])
def test_a_floor_needs_its_library_and_python(floor: str, library: str) -> None:
    """So it runs wherever that library does, in a browser with Pyodide, say. Imports within its functions count, too."""
    outside, _ = everything(floor)
    assert library in outside
    allowed = {"numpy", library}  # numbers are judged with NumPy on the symbolic floor, too
    assert outside - set(sys.stdlib_module_names) <= allowed
    before = loaded_by("pass")
    loaded = loaded_by(f"import hope_ref.{floor}") - before - set(sys.stdlib_module_names)
    theirs = {"numpy", "sympy", "mpmath", "gmpy2", "flint"} if library == "sympy" else {"numpy"}
    assert loaded - {"hope_ref"} <= theirs


def test_what_a_floor_imports_is_followed() -> None:
    outside, files = everything("training")
    assert "torch" in outside
    assert PACKAGE / "parallel" / "chunks.py" in files
    assert PACKAGE / "common" / "validation.py" in files


ABOVE = (
    "agreement",
    "golden",
    "training",
    "experiments",
    "benchmarks",
)  # these hold the floors side by side


def test_only_agreement_and_teaching_import_several_floors() -> None:
    floors = ("hope_ref.symbolic", "hope_ref.reference", "hope_ref.parallel")
    for file in PACKAGE.rglob("*.py"):
        inside = file.relative_to(PACKAGE).parts
        used = [floor for floor in floors if breaks(file, floor) and floor.rsplit(".", 1)[1] != inside[0]]
        if inside[0] not in (*ABOVE, "__main__.py", "teaching"):
            # a file of the laboratory stands on one floor; the front door offers what PyTorch computes
            one = inside[0] in ("laboratory", "__init__.py")
            assert len(used) <= one, f"{file} uses {used}"


def test_a_broken_rule_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "loop.py"
    file.write_text(
        "def f():\n    from torch import nn\n    import hope_ref.parallel.chunks\n", encoding="utf-8"
    )
    assert breaks(file, "torch") == ["torch.nn"] or set(breaks(file, "torch")) == {"torch", "torch.nn"}
    assert breaks(file, "hope_ref.parallel") == ["hope_ref.parallel.chunks"]
