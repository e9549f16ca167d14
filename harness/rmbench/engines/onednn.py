"""Linear layers with weights packed once for oneDNN, and a gated MLP whose activation and product ride along.

Worth it in float32 on AMD processors, where the library behind torch's own product leaves a fifth to a half of the
machine unused (measured with one thread: 85 against 105 GFLOP/s on Zen 4, 110 against 255 on Zen 5). In bfloat16 both
are the same and nothing is gained.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rmbench.engines import memory

TOLERANCE = 1e-5
"""Largest difference to the layer's own product, relative to the largest output; what differs more stays as it is."""

_ROWS = 1024  # what the packing is made for; other numbers of rows work as well
_AT_A_TIME = 256  # rows in a gated MLP, whose inner width takes the memory; how many makes no difference to the bits


def suits(dtype: str) -> bool:
    """Whether this machine and this torch gain by it. A rule and no measurement, so that it is always the same."""
    import torch

    known = hasattr(torch.ops.mkldnn, "_linear_pointwise") and torch.backends.mkldnn.is_available()
    return known and dtype == "float32" and vendor() == "AuthenticAMD"


def suits_blocks(dtype: str) -> bool:
    """Whether attention gains by ``prefix.in_blocks``: in bfloat16 on AMD processors that multiply it, where torch's
    own attention takes twice the time (measured on Zen 5, one thread)."""
    import torch

    known = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported")
    return bool(
        known and dtype == "bfloat16" and vendor() == "AuthenticAMD" and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


def vendor() -> str:
    """The processor's maker, as Linux names it; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.split(":")[1].strip() for line in lines if line.startswith("vendor_id")), "")


def pack(model: Any) -> int:
    """Replaces the products of all linear layers below the head that agree with their packed form, and frees their
    own weights. Gives how many."""
    import torch

    count = 0
    files = memory.mapped(".safetensors")
    with torch.inference_mode():
        modules = list(model.base_model.modules())
        for suits_it, pack_it in ((_gated, _pack_gated), (_linear, _pack_linear)):
            for module in filter(suits_it, modules):
                for part in pack_it(module):
                    memory.forget(part.weight, files)
                    part.weight = torch.nn.Parameter(part.weight.new_empty(0), requires_grad=False)
                    count += 1
        for kept in model.parameters():  # the mapped file is closed with the last tensor that lies in it
            before, kept.data = kept.data, kept.data.clone()
            memory.forget(before, files)
    return count


def _linear(module: Any) -> bool:
    import torch

    return type(module) is torch.nn.Linear and module.weight.numel() > 0


def _gated(module: Any) -> bool:
    import torch

    parts = [getattr(module, name, None) for name in ("gate_proj", "up_proj", "down_proj")]
    plain = all(type(p) is torch.nn.Linear for p in parts)
    return plain and "silu" in type(getattr(module, "act_fn", None)).__name__.lower()


def _pack_gated(module: Any) -> list[Any]:
    """The layers whose weights are not needed any more; none where the packed form differs."""
    import torch

    ops = torch.ops.mkldnn
    gate, up, down = module.gate_proj, module.up_proj, module.down_proj
    packed = [ops._reorder_linear_weight(p.weight.detach(), _ROWS) for p in (gate, up, down)]

    def some(x: Any) -> Any:
        made = ops._linear_pointwise(x, packed[0], gate.bias, "swish", [], "")
        made = ops._linear_pointwise.binary(x, made, packed[1], up.bias, "mul")
        return ops._linear_pointwise(made, packed[2], down.bias, "none", [], "")

    def forward(x: Any) -> Any:
        rows = x.reshape(-1, x.shape[-1])
        out = rows.new_empty(len(rows), down.out_features)
        for part, place in zip(rows.split(_AT_A_TIME), out.split(_AT_A_TIME), strict=True):
            place.copy_(some(part))
        return out.view(*x.shape[:-1], -1)

    if not _same(module, forward, gate.weight):
        return []
    module.forward = forward
    return [gate, up, down]


def _pack_linear(module: Any) -> list[Any]:
    """As _pack_gated."""
    import torch

    ops = torch.ops.mkldnn
    packed = ops._reorder_linear_weight(module.weight.detach(), _ROWS)

    def forward(x: Any) -> Any:
        return ops._linear_pointwise(x, packed, module.bias, "none", [], "")

    if not _same(module, forward, module.weight):
        return []
    module.forward = forward
    return [module]


def _same(module: Any, forward: Any, weight: Any) -> bool:
    """Whether both give the same for made-up input of the usual size."""
    import torch

    draw = torch.Generator().manual_seed(0)
    x = torch.randn(1, 24, weight.shape[1], generator=draw).to(weight.dtype)
    own, other = module(x).float(), forward(x).float()
    return own.shape == other.shape and bool((own - other).abs().max() <= TOLERANCE * own.abs().max())
