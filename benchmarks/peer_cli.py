"""Runs the peer's own command line, unchanged but for one call: batches sent to "cuda" go to the CPU.

Runs inside the peer's environment: ``python peer_cli.py --model ... --dataset ...``.
"""

from __future__ import annotations

from typing import Any

import transformers
from rewardbench.rewardbench import main

_to = transformers.BatchEncoding.to


def to(self: Any, device: Any, **kwargs: Any) -> Any:
    return _to(self, "cpu" if device == "cuda" else device, **kwargs)


transformers.BatchEncoding.to = to

if __name__ == "__main__":
    main()
