"""The layout: import contracts, the README's source tree, and names that can be searched for."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("model", "training", "service")


def lint_imports(folder: Path) -> str:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache", "--no-logo"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources, to plant violations in."""
    folder = tmp_path_factory.mktemp("sources")
    shutil.copy(ROOT / "pyproject.toml", folder)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("smner-*", "__pycache__"))
    return folder


def test_every_contract_is_caught_when_broken(copy: Path) -> None:
    """One violation of each, planted together; before, all contracts are kept."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    assert f"Contracts: {len(contracts)} kept, 0 broken." in lint_imports(copy)
    violations = [
        ("training/data/posts.py", "service.errors"),
        ("model/preprocessing/words.py", "training"),
        ("service/inference/queue_entry.py", "pyarrow"),
        ("model/recognizer.py", "ray"),
        ("model/modeling/spans.py", "model.preprocessing.words"),
        ("model/modeling/classifier.py", "pathlib"),
        ("training/scoring/scores.py", "training.learning.objective"),
        ("service/inference/batching.py", "service.http.problems"),
        ("service/inference/image_cache.py", "starlette"),
    ]
    assert len(violations) == len(contracts)
    for module, imported in violations:
        (copy / module).write_text(f"import {imported}\n{(copy / module).read_text('utf-8')}", "utf-8")
    report = lint_imports(copy)
    assert f"Contracts: 0 kept, {len(contracts)} broken." in report
    for module, imported in violations:
        assert f"{module.removesuffix('.py').replace('/', '.')} -> {imported} (l.1)" in report


def neural_imports(source: str) -> list[str]:
    """What ``source`` imports or reads of ``torch.nn``, which import-linter cannot tell from torch."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                found += [name.name for name in names]
            case ast.ImportFrom(module=str(module), names=names):
                found += [f"{module}.{name.name}" for name in names]
            case ast.Attribute():
                found.append(ast.unparse(node))
    return [name for name in found if f"{name}.".startswith("torch.nn.")]


def test_preprocessing_knows_no_torch_nn() -> None:
    assert neural_imports("from torch.nn.utils.rnn import pad_sequence\nimport torch\ntorch.nn.Linear")
    sources = list((ROOT / "model" / "preprocessing").glob("*.py"))
    assert len(sources) > 3
    assert [path.name for path in sources if neural_imports(path.read_text("utf-8"))] == []


def test_readme_tree_names_files_and_folders() -> None:
    """Every file of model/, and every folder of training/ and service/."""
    tree = (ROOT / "README.md").read_text("utf-8").split("## Source tree")[1]
    files = [path for path in (ROOT / "model").rglob("*.py") if path.name != "__init__.py"]
    folders = [path.parent for package in PACKAGES for path in (ROOT / package).rglob("*/__init__.py")]
    names = [path.name for path in files] + [f"{folder.name}/" for folder in folders]
    assert len(names) > 30
    assert [name for name in names if not re.search(rf"^ +{re.escape(name)} ", tree, re.MULTILINE)] == []


def test_test_names_have_at_most_eight_words() -> None:
    """Searchable by the term a developer would search for; the story goes into the docstring."""
    sources = [path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    names = [name for source in sources for name in re.findall(r"def test_(\w+)", source)]
    assert len(names) > 500
    assert [name for name in names if len(name.split("_")) > 8] == []
