"""What a model's output means. ``open`` turns a reference into an adapter: by name, by path, or by entry point."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import traceback
from pathlib import Path
from types import ModuleType

from rmbench.adapters.options import Options
from rmbench.core import Adapter
from rmbench.errors import BadModel, RmbenchError, UnknownName, UsageError

BUILT_IN = ("baselines", "scalar", "heads", "judge", "dpo", "guard", "jury")
"""Each is a module here with ``OPTIONS`` (the option names it takes) and ``open(ref, options) -> Adapter``."""

BASELINES = ("random", "length", "constant", "oracle", "scripted")

_COMMON = frozenset({"adapter", "seed"})


def names() -> list[str]:
    """The adapters that ``--adapter`` knows."""
    return sorted({*BUILT_IN, *(e.name for e in importlib.metadata.entry_points(group="rmbench.adapters"))})


def bundled() -> dict[str, Path]:
    """The bundled models: ``starter`` is the last checkpoint, ``starter-step<N>`` each of them."""
    found = {p.parent.name: p.parent for p in (Path(__file__).parents[1] / "models").glob("*/config.json")}
    steps = sorted(found, key=lambda name: int(name.rpartition("step")[2] or 0))
    return {**{name: found[name] for name in steps}, **({"starter": found[steps[-1]]} if steps else {})}


def detect(ref: str, options: Options) -> tuple[str, str]:
    """The adapter's name for a reference, and why. Asks by error where it cannot tell."""
    if options.adapter:
        return options.adapter, "as asked by --adapter"
    if ref.partition(":")[0] in BASELINES and not _on_disk(ref):
        return "baselines", "a baseline"
    if options.ref_model or options.reference_free:
        return "dpo", "a reference model or --reference-free is given"
    if options.base_url or options.engine == "endpoint":
        return "judge", "an endpoint is given"
    if "/" not in ref and not _on_disk(ref) and ref not in bundled():
        from rmbench.adapters import baselines

        raise UnknownName("model", ref, [*bundled(), *baselines.KNOWN], "A folder or a hub id org/name works too.")
    from rmbench import checkpoints

    return checkpoints.detect(location(ref), options.revision, options.trust_remote_code)


def _on_disk(ref: str) -> bool:
    try:
        return Path(ref).exists()
    except (OSError, ValueError):  # too long for a path, or with a NUL
        return False


def location(ref: str) -> str:
    """A bundled model's folder, or the reference itself."""
    return str(bundled().get(ref, ref)) if not _on_disk(ref) else ref


def label(ref: str) -> str:
    """A reference without the machine's folders, as tables and folders call the model."""
    if ref.startswith("scripted:"):
        return f"scripted:{Path(ref.partition(':')[2]).name}"
    if not _on_disk(ref):
        return ",".join(map(label, ref.split(","))) if "," in ref else ref
    path = Path(ref).resolve()
    if (path / "run.json").is_file():
        path = path.parent
    # Trainers call every checkpoint checkpoint-500; the folder above tells which run it was.
    name = f"{path.parent.name}/{path.name}" if path.name.startswith("checkpoint") else path.name
    return name.encode("utf-8", "backslashreplace").decode()  # a folder's name need not be UTF-8; a run's file is


def open(ref: str, options: Options | None = None) -> Adapter:
    """The adapter for a model reference.

    Raises UnknownName, BadModel or UsageError, each saying what to type next; an option that the adapter cannot use
    is refused, never ignored. What an adapter file raises is a BadModel with its line.
    """
    options = options or Options()
    name, _ = detect(ref, options)
    module = _module(name)
    unused = sorted(set(options.given()) - module.OPTIONS - _COMMON)
    if unused:
        listed = ", ".join("--" + o.replace("_", "-") for o in unused)
        raise UsageError(f"adapter {name!r} does not use {listed}; leave it out, or choose another --adapter")
    if name in BUILT_IN:
        made: Adapter = module.open(ref if name == "baselines" else location(ref), options)
        return made
    try:
        made = module.open(location(ref), options)
    except RmbenchError:
        raise
    except Exception as error:  # a stranger's code, whose fault is told as such
        raise BadModel(f"adapter {name!r} cannot open {ref!r}: {_fault(module, error)}") from error
    if missing := [a for a in ("settings", "judge") if not hasattr(made, a)]:
        raise UsageError(f"adapter {name!r}: what open returns has no {' and no '.join(missing)}; {_FORM}")
    return made


_FORM = "an adapter has OPTIONS, a frozenset, and open(ref, options), which returns an object with settings and judge"


def _fault(module: ModuleType, error: BaseException) -> str:
    """What a stranger's module raised, and where in its file."""
    frames = traceback.extract_tb(error.__traceback__)
    line = next((f":{f.lineno}" for f in reversed(frames) if f.filename == module.__file__), "")
    return f"{type(error).__name__}: {error} ({module.__file__}{line})"


def _module(name: str) -> ModuleType:
    if name in BUILT_IN:
        return importlib.import_module(f"rmbench.adapters.{name}")
    if name.endswith(".py"):
        spec = importlib.util.spec_from_file_location("rmbench_adapter_" + Path(name).stem, name)
        if spec is None or spec.loader is None or not os.path.isfile(name):
            raise UsageError(f"adapter file {name!r} cannot be imported; give the path of a Python file")
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except Exception as error:  # a stranger's code, whose fault is told as such
            raise UsageError(f"adapter file {name!r} cannot be imported: {_fault(module, error)}") from error
        return _checked(module, name)
    for entry in importlib.metadata.entry_points(group="rmbench.adapters", name=name):
        try:
            return _checked(entry.load(), name)
        except (ImportError, AttributeError) as error:
            raise UsageError(f"adapter {name!r} ({entry.value}) cannot be imported: {error}") from error
    raise UnknownName("adapter", name, names(), "A path to an adapter.py works too.")


def _checked(module: ModuleType, name: str) -> ModuleType:
    missing = [a for a in ("OPTIONS", "open") if not hasattr(module, a)]
    if missing:
        raise UsageError(f"adapter {name!r} has no {' and no '.join(missing)}; {_FORM}")
    return module
