"""``training → model ← service``, as import-linter's contracts in pyproject.toml say it."""

import shutil
import subprocess
import sys
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


def test_training_and_service_never_meet_and_the_model_knows_neither() -> None:
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
