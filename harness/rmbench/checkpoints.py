"""A model reference -> what its checkpoint is: folder, architecture, weights' hash, and which adapter fits it."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from rmbench.errors import BadModel, MissingExtra

_HEADS = ("ForSequenceClassification", "ForRewardModeling", "RewardModel", "ForTextClassification")
_HUB_FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_hashes: dict[tuple[str, int, int], str] = {}


class Checkpoint(NamedTuple):
    """A checkpoint's files on this machine and what its config says."""

    ref: str
    folder: Path
    config: dict[str, Any]
    revision: str | None

    @property
    def architecture(self) -> str:
        """``LlamaForSequenceClassification``; empty where the config names none."""
        return str((self.config.get("architectures") or [""])[0])

    @property
    def scalar(self) -> bool:
        """Has a classification or reward head."""
        return self.architecture.endswith(_HEADS)

    @property
    def generative(self) -> bool:
        """Writes text."""
        return self.architecture.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration"))

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the head's outputs, in order: ``LABEL_0`` where the config gives none."""
        named = self.config.get("id2label")
        if isinstance(named, dict) and named:
            return tuple(str(named[k]) for k in sorted(named, key=int))
        if "num_labels" in self.config:
            return tuple(f"LABEL_{i}" for i in range(int(self.config["num_labels"])))
        return ("LABEL_0", "LABEL_1") if self.scalar else ()  # what transformers takes when nothing is said

    def weights_hash(self) -> str:
        """16 hex digits over the bytes of all safetensors files, in order of name."""
        digest = hashlib.sha256()
        for path in sorted(self.folder.glob("*.safetensors")):
            digest.update(path.name.encode())
            digest.update(_file_hash(path).encode())
        return digest.hexdigest()[:16]

    def code_hash(self) -> str:
        """16 hex digits over the Python files that come with the checkpoint."""
        digest = hashlib.sha256()
        for path in sorted(self.folder.glob("*.py")):
            digest.update(path.name.encode())
            digest.update(path.read_bytes())
        return digest.hexdigest()[:16]

    def config_hash(self) -> str:
        """16 hex digits over the config, less what records only who wrote it."""
        said = {k: v for k, v in self.config.items() if k not in ("_name_or_path", "transformers_version")}
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def read(ref: str, *, revision: str | None = None, trust_remote_code: bool = False) -> Checkpoint:
    """A local folder or a hub id, looked at but not loaded.

    Raises BadModel: no such folder, no config, pickled weights only, an adapter without its base model;
    MissingExtra where the hub's client is needed and absent. Python files are fetched only with ``trust_remote_code``.
    """
    folder = Path(os.path.expanduser(ref))
    if not os.path.isdir(folder):
        if os.path.exists(folder):
            raise BadModel(f"model {ref!r} is a file; give the folder that holds config.json and *.safetensors")
        if ref.startswith((".", "/", "~")) or ref.count("/") != 1:
            raise BadModel(f"model {ref!r}: no such folder, and not a hub id of the form org/name either")
        folder = _download(ref, revision, trust_remote_code)
    config_file = folder / "config.json"
    if not config_file.is_file():
        if (folder / "adapter_config.json").is_file():
            raise BadModel(f"model {ref!r} is a PEFT adapter; merge it into its base model and give the merged folder")
        raise BadModel(f"model {ref!r} has no config.json; save the model with save_pretrained, then give that folder")
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadModel(f"model {ref!r}: config.json is not valid JSON ({error})") from error
    if not isinstance(config, dict):
        raise BadModel(f"model {ref!r}: config.json is not a JSON object")
    if not any(folder.glob("*.safetensors")):
        pickled = sorted(p.name for pattern in _PICKLED for p in folder.glob(pattern))
        if pickled:
            raise BadModel(
                f"model {ref!r} has pickled weights only ({pickled[0]}), which can run code when loaded; "
                "convert it to safetensors (save_pretrained writes them) and give that folder"
            )
        raise BadModel(f"model {ref!r} has no *.safetensors weights; save it with save_pretrained")
    return Checkpoint(ref=ref, folder=folder, config=config, revision=revision)


def detect(ref: str, revision: str | None = None, trust_remote_code: bool = False) -> tuple[str, str]:
    """Name of the adapter that fits, and why, in one line. Raises BadModel where the config does not tell."""
    checkpoint = read(ref, revision=revision, trust_remote_code=trust_remote_code)
    named = checkpoint.architecture
    if checkpoint.scalar:
        return "scalar", f"its config names {named}"
    if checkpoint.generative:
        if "guard" in checkpoint.ref.lower().rsplit("/", 1)[-1]:
            return "guard", f"its config names {named} and its name holds 'guard'"
        return "judge", f"its config names {named}, and no reference model is given"
    said = f"architecture {named}" if named else "no architecture"
    raise BadModel(
        f"model {checkpoint.ref!r}: its config names {said}, which fits no adapter; say which with --adapter"
    )


def want_scalar(checkpoint: Checkpoint) -> None:
    """Raises BadModel for a checkpoint without a head: loading it as one would invent a random head."""
    if checkpoint.generative:
        raise BadModel(
            f"model {checkpoint.ref!r} is generative ({checkpoint.architecture}) and has no reward head; "
            "use --adapter judge, or --adapter dpo with --ref-model"
        )


def want_generative(checkpoint: Checkpoint) -> None:
    """Raises BadModel for a checkpoint that writes no text."""
    if checkpoint.scalar:
        raise BadModel(
            f"model {checkpoint.ref!r} has a head and writes no text ({checkpoint.architecture}); use --adapter scalar"
        )


def _download(ref: str, revision: str | None, code: bool) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ImportError as error:
        raise MissingExtra("huggingface_hub", "hf", f"fetching the model {ref!r}") from error
    try:
        return Path(
            snapshot_download(ref, revision=revision, allow_patterns=[*_HUB_FILES, *(["*.py"] if code else [])])
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, OSError) as error:
        at = f" at revision {revision!r}" if revision else ""
        why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BadModel(f"model {ref!r}{at}: no such folder here, and the hub did not give it ({why})") from error


def _file_hash(path: Path) -> str:
    stat = path.stat()
    key = (str(path.resolve()), stat.st_size, stat.st_mtime_ns)
    if key not in _hashes:
        with path.open("rb") as file:
            _hashes[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return _hashes[key]
