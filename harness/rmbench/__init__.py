"""rmbench: a benchmarking harness for reward models.

The command line calls what is here: ``evaluate`` runs a suite with a model, ``load_runs`` reads what is on disk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rmbench.api import evaluate
    from rmbench.core import Ballot, Estimate, Facts, Item, Judgment, Message, Rules, Run, Suite
    from rmbench.errors import RmbenchError
    from rmbench.runs import load_runs

__all__ = [
    "Ballot",
    "Estimate",
    "Facts",
    "Item",
    "Judgment",
    "Message",
    "RmbenchError",
    "Rules",
    "Run",
    "Suite",
    "evaluate",
    "load_runs",
]

_HOMES = {"evaluate": "api", "load_runs": "runs", "RmbenchError": "errors"}


def __getattr__(name: str) -> Any:
    # Imported on first use, so that ``import rmbench`` costs next to nothing.
    if name not in __all__:
        raise AttributeError(f"module 'rmbench' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"rmbench.{_HOMES.get(name, 'core')}"), name)
    globals()[name] = value
    return value
