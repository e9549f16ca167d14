"""The package: its layers, its wheel from an empty directory, its public names, and what must never be in it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "harness").rglob("*.py")) + sorted((ROOT / "suites").glob("*.py"))


def test_layers() -> None:
    lint = pytest.importorskip("importlinter.cli", reason="import-linter is not installed: make lint checks the layers")
    assert lint.lint_imports(str(ROOT / "pyproject.toml"), no_cache=True) == 0


def test_the_wheel_works_from_an_empty_directory(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(ROOT)],
        check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    venv.create(tmp_path / "venv", system_site_packages=False, with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    site = next((tmp_path / "venv" / "lib").glob("python*/site-packages"))
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site), str(wheel)],
        check=True, capture_output=True,
    )  # fmt: skip
    # What the wheel depends on is taken from the environment that runs the tests; rmbench itself is not.
    import click

    lent = Path(click.__file__).parents[1]
    for entry in lent.iterdir():
        ours = entry.name.startswith(("rmbench", "_rmbench", "__editable__")) or entry.suffix == ".pth"
        if not ours and not (site / entry.name).exists():
            (site / entry.name).symlink_to(entry)
    empty = tmp_path / "empty"
    empty.mkdir()

    def call(*args: str) -> str:
        # -I: the wheel must be found without a PYTHONPATH or the current folder.
        done = subprocess.run([str(python), "-I", *args], cwd=empty, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert str(site) in call("-c", "import rmbench; print(rmbench.__file__)")
    assert "rewardbench" in call("-m", "rmbench", "list")
    assert "100.0" in call("-m", "rmbench", "eval", "--model", "oracle", "--suite", "starter")
    assert (empty / "results").is_dir()


def test_public_names_exist_and_are_sorted() -> None:
    import rmbench

    assert list(rmbench.__all__) == sorted(rmbench.__all__)
    for name in rmbench.__all__:
        assert getattr(rmbench, name) is not None


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_source_keeps_the_rules_of_the_house(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree), f"{path} does not open with its purpose"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"eval", "exec"}, f"{path}:{node.lineno}: {node.func.id}"
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [a.name for a in node.names] + [getattr(node, "module", None) or ""]
            assert not {"pickle", "dill", "marshal", "shelve"} & set(names), f"{path}:{node.lineno}: {names}"
        if isinstance(node, ast.Assert):
            pytest.fail(f"{path}:{node.lineno}: assert is not for input")
    assert "yaml.load(" not in text


def test_no_path_of_a_machine_and_no_registry_is_committed() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    # Put together here, so that this file does not find itself.
    forbidden = re.compile("|".join(("/" + "work/", "/" + "root/", "pypi-" + "more", "/home/" + r"\w+/")))
    for name in listed.stdout.split("\0"):
        file = ROOT / name
        if name and file.is_file() and file.stat().st_size < 2_000_000:
            try:
                text = file.read_text()
            except UnicodeDecodeError:
                continue
            found = forbidden.search(text)
            assert found is None, f"{name} holds {found.group() if found else ''}"
