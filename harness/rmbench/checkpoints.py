"""A model reference -> what its checkpoint is: folder, architecture, weights' hash, and which adapter fits it."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from rmbench.errors import BadModel, MissingExtra

_HEADS = ("ForSequenceClassification", "ForRewardModeling", "RewardModel", "ForTextClassification")
_HUB_FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_GGUF_HEAD = "cls.output.weight"
"""What llama.cpp calls a classifier's last matrix, of shape (labels, hidden size)."""
_SPLIT = re.compile(r"-\d{5}-of-\d{5}\.gguf$")
_hashes: dict[tuple[str, int, int], str] = {}


class Checkpoint(NamedTuple):
    """A checkpoint's files on this machine and what its config says."""

    ref: str
    folder: Path
    config: dict[str, Any]
    revision: str | None
    gguf: Path | None = None
    """The GGUF file in ``folder`` that holds everything, where the checkpoint is one."""

    @property
    def source(self) -> dict[str, Any]:
        """What transformers' ``from_pretrained`` is told beside the folder."""
        return {"gguf_file": self.gguf.name} if self.gguf else {}

    @property
    def quantization(self) -> str | None:
        """Types of a GGUF file's tensors with their numbers, as in ``Q4_1 x 210, F32 x 61``; None elsewhere."""
        return str(self.config["quantization"]) if self.gguf else None

    @property
    def described(self) -> str:
        """What was found, for the line that says which adapter was chosen."""
        if self.gguf:
            return f"it is a GGUF file of a {self.architecture} model ({self.quantization})"
        return f"its config names {self.architecture}"

    @property
    def architecture(self) -> str:
        """``LlamaForSequenceClassification``; empty where the config names none."""
        return str((self.config.get("architectures") or [""])[0])

    @property
    def scalar(self) -> bool:
        """Has a classification or reward head."""
        if self.gguf:
            return "num_labels" in self.config
        return self.architecture.endswith(_HEADS)

    @property
    def generative(self) -> bool:
        """Writes text."""
        if self.gguf:
            return not self.scalar
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
        """16 hex digits over the bytes of the GGUF file, or of all safetensors files in order of name."""
        digest = hashlib.sha256()
        for path in [self.gguf] if self.gguf else sorted(self.folder.glob("*.safetensors")):
            digest.update(path.name.encode())
            digest.update(_file_hash(path).encode())
        return digest.hexdigest()[:16]

    def parameters(self) -> int:
        """Numbers in all tensors; those that stand in a file twice are counted twice."""
        if self.gguf:
            return int(self.config["parameters"])
        from safetensors import safe_open

        total = 0
        for path in self.folder.glob("*.safetensors"):
            with safe_open(path, "np") as tensors:
                total += sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
        return total

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
    """A local folder, a GGUF file or a hub id, looked at but not loaded.

    Raises BadModel: no such folder, no config, pickled weights only, an adapter without its base model, a GGUF file
    that is damaged or one part of several; MissingExtra where the hub's client or the ``gguf`` library is needed and
    absent. Python files are fetched only with ``trust_remote_code``.
    """
    folder = Path(os.path.expanduser(ref))
    if not os.path.isdir(folder):
        if folder.suffix.lower() == ".gguf" and os.path.isfile(folder):
            return _read_gguf(ref, folder)
        if os.path.exists(folder):
            raise BadModel(
                f"model {ref!r} is a file; give a *.gguf file, or the folder that holds config.json and *.safetensors"
            )
        if ref.startswith((".", "/", "~")) or ref.count("/") != 1:
            raise BadModel(f"model {ref!r}: no such folder, and not a hub id of the form org/name either")
        folder = _download(ref, revision, trust_remote_code)
    config_file = folder / "config.json"
    if not config_file.is_file():
        if (folder / "adapter_config.json").is_file():
            raise BadModel(f"model {ref!r} is a PEFT adapter; merge it into its base model and give the merged folder")
        packed = sorted(folder.glob("*.gguf"))
        if len(packed) == 1:
            return _read_gguf(ref, packed[0])
        if packed:
            raise BadModel(f"model {ref!r} holds {len(packed)} GGUF files; give one of them: {_some(packed)}")
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
        return "scalar", checkpoint.described
    if checkpoint.generative:
        if "guard" in checkpoint.ref.lower().rsplit("/", 1)[-1]:
            return "guard", f"{checkpoint.described} and its name holds 'guard'"
        return "judge", f"{checkpoint.described}, and no reference model is given"
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


def _read_gguf(ref: str, file: Path) -> Checkpoint:
    """A GGUF file as a checkpoint. Its header takes seconds to read and is asked for several times a run: it is kept
    for as long as the file stays as it is."""
    stat = file.stat()
    return Checkpoint(
        ref=ref, folder=file.parent, config=_gguf_header(ref, file, stat.st_size, stat.st_mtime_ns), revision=None,
        gguf=file,
    )  # fmt: skip


@functools.cache
def _gguf_header(ref: str, file: Path, size: int, mtime: int) -> dict[str, Any]:
    """Architecture, tensor types, whether there is a head."""
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise MissingExtra("gguf", "gguf", f"reading the GGUF file {file.name!r}") from error
    if _SPLIT.search(file.name):
        raise BadModel(
            f"model {ref!r} is one part of a split GGUF file; join the parts with llama.cpp's "
            "llama-gguf-split --merge, then give the whole file"
        )
    try:
        reader = GGUFReader(file)
        named = reader.get_field("general.architecture")
        head = next((t for t in reader.tensors if t.name == _GGUF_HEAD), None)
        types = Counter(t.tensor_type.name for t in reader.tensors)
    except (ValueError, IndexError, KeyError, OSError, UnicodeDecodeError, OverflowError) as error:
        raise BadModel(
            f"model {ref!r}: cannot be read as a GGUF file ({error}); it may be cut off, so download it again"
        ) from error
    kind = str(named.contents()) if named else "unknown"
    pre = reader.get_field("tokenizer.ggml.pre")
    config: dict[str, Any] = {
        "architectures": [kind],
        "quantization": ", ".join(f"{name} x {n}" for name, n in types.most_common()),
        "parameters": sum(int(t.n_elements) for t in reader.tensors),
        "pre_tokenizer": str(pre.contents()) if pre else None,
        "chat_template": reader.get_field("tokenizer.chat_template") is not None,
        # Gemma 2 has it by transformers' own defaults, whatever the file says.
        "attn_logit_softcapping": kind == "gemma2" or bool(reader.get_field(f"{kind}.attn_logit_softcapping")),
    }
    if head is not None:
        config["num_labels"] = int(head.shape[1]) if len(head.shape) > 1 else 1
    return config


def gguf_head(checkpoint: Checkpoint) -> Any:
    """The head's matrix of a GGUF file, float32 of shape (labels, hidden size)."""
    from gguf import GGUFReader, dequantize

    if checkpoint.gguf is None:
        raise ValueError(f"{checkpoint.ref} is no GGUF file")
    head = next(t for t in GGUFReader(checkpoint.gguf).tensors if t.name == _GGUF_HEAD)
    return dequantize(head.data, head.tensor_type).reshape(int(checkpoint.config["num_labels"]), -1)


def _some(files: list[Path]) -> str:
    return ", ".join(f.name for f in files[:5]) + (", ..." if len(files) > 5 else "")


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
