"""The library for students' machines: a wheel whose checkers hold neither solutions nor wrong answers.

Of each module of `hope_ref.teaching.exercises` three things are taken out: the solution and the wrong answers of every exercise,
all that only these needed, and all docstrings. What is left compares with properties and with independent computations. It is
packed, so that nobody reads on by accident; who unpacks it on purpose finds how an answer is checked. For an exam, see
`hope_docs.exams`.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import zipfile
import zlib
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXERCISES = Path("hope_ref/teaching/exercises")
KEPT = ("name", "title", "check")  # of an exercise; what comes after them is not for students
LOCAL = "+student"  # of the version, so that nobody mistakes one for the other
UNPACK = '''"""{what} No solution is inside: `make student` took them out."""

import base64
import zlib

exec(zlib.decompress(base64.b85decode("{packed}")))
'''


class Unfit(ValueError):
    """A module from which the solutions cannot be taken out; the message names it."""


def without_solutions(source: str, file: str) -> str:
    """The module without solutions, wrong answers, docstrings, and without what nothing else needs.

    Raises:
        Unfit: if there is no ``EXERCISES = (Exercise(name, title, check, solution, wrong_answers), …)``.
    """
    module = ast.parse(source)
    calls = [
        node
        for statement in module.body
        if "EXERCISES" in _bound(statement)
        for node in ast.walk(statement)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Exercise"
    ]
    if not calls:
        raise Unfit(f"{file}: no EXERCISES made of calls of Exercise")
    for call in calls:
        call.args = call.args[: len(KEPT)]
        call.keywords = [word for word in call.keywords if word.arg in KEPT]
        call.keywords += [
            ast.keyword("solution", ast.Constant(None)),
            ast.keyword("wrong_answers", ast.Tuple([], ast.Load())),
        ]
    module.body = _needed(module.body)
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(ast.fix_missing_locations(module)) + "\n"


def _bound(statement: ast.stmt) -> set[str]:
    """Names that a statement of the module binds."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).split(".")[0] for alias in statement.names}
    return {
        node.id
        for node in ast.walk(statement)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }


def _needed(body: list[ast.stmt]) -> list[ast.stmt]:
    """The statements that `EXERCISES` needs, directly or not, and those that bind no name, but for the docstring."""
    used = {id(s): {n.id for n in ast.walk(s) if isinstance(n, ast.Name)} | _strings(s) for s in body}
    wanted, before = {"EXERCISES", "annotations"}, set[str]()
    while wanted != before:
        before = set(wanted)
        for statement in body:
            if _bound(statement) & wanted:
                wanted |= used[id(statement)]
    kept = [s for s in body if _bound(s) & wanted]
    if any(not _bound(s) and not isinstance(s, ast.Expr) for s in body):
        raise Unfit("a module of exercises must bind names and do nothing else")
    return kept


def _strings(statement: ast.stmt) -> set[str]:
    """Names in annotations that are strings."""
    found = set[str]()
    for node in ast.walk(statement):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            found.add(node.value)
    return found


def packed(source: str, file: str) -> str:
    """The module as students get it."""
    said = (ast.get_docstring(ast.parse(source)) or "Exercises.").splitlines()[0].split(":")[0].rstrip(".")
    data = base64.b85encode(zlib.compress(without_solutions(source, file).encode(), 9)).decode()
    return UNPACK.format(what=f"{said}.".replace("\\", ""), packed=data)


def wheel(out: Path, root: Path = ROOT) -> Path:
    """Write the wheel for students and return its path; nothing but the standard library is needed for it."""
    installed = metadata.distribution("hope_ref")
    version = installed.version + LOCAL
    name = f"hope_ref-{version}"
    info = f"{name}.dist-info"
    told = (installed.read_text("METADATA") or installed.read_text("PKG-INFO") or "").replace(
        f"\nVersion: {installed.version}\n", f"\nVersion: {version}\n", 1
    )
    if f"\nVersion: {version}\n" not in told:
        raise Unfit("the installed hope_ref has no metadata: install it with pip install -e .")
    files: dict[str, bytes] = {}
    for path in sorted((root / "hope_ref").rglob("*")):
        place = path.relative_to(root)
        if not path.is_file() or "__pycache__" in place.parts:
            continue
        is_exercise = place.parent == EXERCISES and place.name != "__init__.py"
        text = (
            packed(path.read_text(encoding="utf-8"), place.name).encode()
            if is_exercise
            else path.read_bytes()
        )
        files[place.as_posix()] = text
    files[f"{info}/METADATA"] = told.encode()
    files[f"{info}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: hope_docs\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    files[f"{info}/entry_points.txt"] = (installed.read_text("entry_points.txt") or "").encode()
    record = [f"{place},sha256={_digest(data)},{len(data)}" for place, data in files.items()]
    files[f"{info}/RECORD"] = ("\n".join([*record, f"{info}/RECORD,,"]) + "\n").encode()
    out.mkdir(parents=True, exist_ok=True)
    target = out / f"{name}-py3-none-any.whl"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file, data in files.items():
            archive.writestr(zipfile.ZipInfo(file, (2020, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED)
    return target


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
