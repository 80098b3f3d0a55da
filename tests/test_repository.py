"""The repository as a newcomer meets it: dependency lists that agree, a wheel with its data, pages up to date."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import warnings
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(r.name): next(iter(r.specifier)).version for r in requirements}


OPTIONAL = ("digits", "hub", "peers", "tensorboard")  # extras that nothing here needs


WITHIN = {
    extra for group in EXTRAS.values() for text in group for extra in Requirement(text).extras
}  # of another


def declared(*without: str) -> list[Requirement]:
    extras = [group for name, group in EXTRAS.items() if name not in without]
    found = [Requirement(text) for group in (PROJECT["project"]["dependencies"], *extras) for text in group]
    return [requirement for requirement in found if requirement.name != PROJECT["project"]["name"]]


@pytest.mark.parametrize("requirement", declared(), ids=lambda r: r.name)
def test_every_range_admits_its_pin(requirement: Requirement) -> None:
    pinned = pins().get(canonicalize_name(requirement.name))
    assert pinned is not None, f"{requirement.name} has no exact version in constraints.txt"
    assert pinned in requirement.specifier


def test_constraints_are_exact() -> None:
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        assert not line or line.startswith("#") or re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line), line


def test_what_runs_here_is_what_is_declared() -> None:
    """A version within its range is fine, one beside its pin is worth a warning: stored outputs come from the pins."""
    from importlib.metadata import PackageNotFoundError, version

    for requirement in declared(*OPTIONAL):
        try:
            here, pinned = (
                version(requirement.name).split("+")[0],
                pins()[canonicalize_name(requirement.name)],
            )
        except PackageNotFoundError:  # an extra that this environment does without
            continue
        assert requirement.specifier.contains(here, prereleases=True), (
            f"{requirement} is wanted, {here} is here"
        )
        if here != pinned:
            warnings.warn(
                f"{requirement.name} {here} runs here, {pinned} is in constraints.txt", stacklevel=1
            )


def test_environment_yml_is_python_and_this_package() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    *conda, pip = environment["dependencies"]
    (python,) = (entry for entry in conda if entry.startswith("python"))
    version = re.fullmatch(r"python=(3\.\d+)", python)  # Binder reads no range
    assert version is not None
    assert f"{version[1]}.0" in SpecifierSet(PROJECT["project"]["requires-python"])
    assert "pip" in conda
    assert len(conda) == 2, "everything else comes from pyproject.toml"
    constraints, package = pip["pip"]
    assert constraints == "-c constraints.txt"
    extras = Requirement(package.removeprefix("-e ").replace(".[", "hope_ref[")).extras
    assert extras == set(EXTRAS) - set(OPTIONAL) - WITHIN


def test_what_environment_yml_names_lies_beside_it() -> None:
    """Where Binder looks first; its paths are relative to it."""
    assert not (ROOT / "binder").exists()
    assert not (ROOT / ".binder").exists()
    for name in ("constraints.txt", "pyproject.toml"):
        assert (ROOT / name).exists()


def test_every_dependency_says_why() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for requirement in declared():
        assert re.search(rf'^\s*"{re.escape(requirement.name)}[^"]*",\s+# \w', text, re.MULTILINE), (
            requirement.name
        )


def test_a_built_wheel_holds_its_data(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "hope_ref", source / "hope_ref", ignore=shutil.ignore_patterns("__pycache__"))
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    call = [sys.executable, "-c", build, str(tmp_path)]
    subprocess.run(call, cwd=source, check=True, timeout=300, stdout=subprocess.DEVNULL)
    (wheel,) = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    here = {
        file.relative_to(ROOT).as_posix()
        for file in (ROOT / "hope_ref").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert here <= held, here - held
    assert "hope_ref/py.typed" in held
    assert any(name.endswith(".mplstyle") for name in held)


def test_generated_pages_are_up_to_date() -> None:
    from hope_ref.__main__ import main

    assert main(["docs", "--check", "--folder", str(ROOT)]) == 0


LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#]+)")


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "RESULTS.md"])
def test_links_of_the_pages_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in LINK.findall(text):
        assert (ROOT / target).exists(), f"{page} links to {target}"


def test_pictures_of_the_readme_have_alternative_text() -> None:
    pictures = re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert pictures
    for alternative, target in pictures:
        assert 40 < len(alternative) <= 250, target


def test_files_stay_small() -> None:
    for file in (ROOT / "hope_ref").rglob("*.py"):
        assert len(file.read_text(encoding="utf-8").splitlines()) <= 600, f"{file} asks to be two ideas"


def test_the_readme_examples_run_and_show_what_they_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    first, delta_rule, model = ({}, {}, {})  # type: dict[str, Any], dict[str, Any], dict[str, Any]
    exec(examples[0], first)
    assert re.findall(r"# \((.*?)\)", examples[0]) == [
        ", ".join(map(str, first["logits"].shape)),
        ", ".join(map(str, first["new"].shape)),
    ]
    assert sorted(file.name for file in (tmp_path / "my_hope").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    exec(examples[1], delta_rule)
    shown = re.search(r"y\.shape, memory\.shape\s+# (.*)", examples[1])
    assert shown is not None
    assert shown.group(1) == f"{tuple(delta_rule['y'].shape)}, {tuple(delta_rule['memory'].shape)}"
    assert delta_rule["more"].shape == delta_rule["y"].shape
    exec(examples[2], model)
    assert model["state"].position == 101
    assert "one token more: (4, 256)" in examples[2]
    assert model["model"].step(model["tokens"][:, 0])[0].shape == (4, 256)
    assert model["first"].position == 7
    assert len(examples) == 3


def test_the_readme_counts_what_is_proved() -> None:
    from hope_ref import symbolic

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"SymPy proves (\d+) identities", text)
    assert found
    assert int(found[1]) == len(symbolic.distinct())
    shown = dict(
        re.findall(r"^(linear attention|delta rule|self-modifying Titans, l2) +(\d+)/\2 ", text, re.M)
    )
    proved = {
        name: str(
            len(getattr(symbolic, name.split(",")[0].replace(" ", "_").replace("-", "_").lower()).IDENTITIES)
        )
        for name in shown
    }
    assert len(shown) == 3
    assert shown == proved
