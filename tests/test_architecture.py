"""``training → model ← service`` by import-linter's contracts in pyproject.toml, and the border within the model."""

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache", "--no-logo"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The sources, to plant a violation in."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package in ("model", "training", "service"):
        shutil.copytree(
            ROOT / package,
            tmp_path / package,
            ignore=lambda _, names: [n for n in names if "." in n and not n.endswith(".py")],
        )
    return tmp_path


def test_import_contracts_are_kept() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout
    assert "Contracts: 2 kept, 0 broken." in done.stdout


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("training/data/posts.py", "service"),
        ("service/errors.py", "training.data.posts"),
        ("model/preprocessing/words.py", "training"),
    ],
)
def test_an_import_across_the_border_is_caught(copy: Path, module: str, imported: str) -> None:
    path = copy / module
    path.write_text(f"import {imported}\n{path.read_text('utf-8')}", "utf-8")
    done = lint_imports(copy)
    assert done.returncode == 1
    assert f"{module.removesuffix('.py').replace('/', '.')} -> {imported}" in done.stdout


def imports(folder: Path) -> Iterator[tuple[str, str]]:
    """Every module of ``folder`` with each dotted name that it imports or reads."""
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            match node:
                case ast.Import(names=names):
                    yield from ((path.name, name.name) for name in names)
                case ast.ImportFrom(module=str(module), names=names):
                    yield from ((path.name, f"{module}.{name.name}") for name in names)
                case ast.Attribute():
                    yield path.name, ast.unparse(node)


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("preprocessing", ["torch.nn", "nn"]),
        ("modeling", ["pathlib", "os", "io", "json", "PIL", "tokenizers", "safetensors", "model.preprocessing"]),
    ],
)
def test_network_and_preprocessing_stay_apart(package: str, forbidden: list[str]) -> None:
    """The network knows no files and no text; preprocessing knows no ``torch.nn``."""
    found = list(imports(ROOT / "model" / package))
    assert found
    assert [one for one in found if f"{one[1]}.".startswith(tuple(f"{name}." for name in forbidden))] == []
