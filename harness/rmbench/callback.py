"""A callback for ``transformers.Trainer`` and its kin (TRL's RewardTrainer) that evaluates each saved checkpoint.

::

    trainer = RewardTrainer(..., callbacks=[EvaluateCheckpoints("starter", out="results")])

Needs the [hf] extra. The checkpoint must be saved with its tokenizer, as Trainer does when it is given one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from rmbench.core import Estimate
from rmbench.metrics import summary
from rmbench.store import Stored


class EvaluateCheckpoints(TrainerCallback):  # type: ignore[misc,unused-ignore]
    """After every save, scores the checkpoint's folder with ``suites`` and reports ``rmbench/<suite>/<scope>``.

    The runs land in ``out`` as any other run does, so that ``rmbench report --x step`` draws the training's trend and
    ``rmbench gate`` compares two checkpoints. ``options`` are those of ``rmbench eval`` (``max_length=1024``). Only the
    main process evaluates. An error of rmbench stops the training unless ``strict`` is False; then it is warned of.
    """

    def __init__(
        self,
        *suites: str,
        out: str | Path = "results",
        limit: int | None = None,
        every: int = 1,
        strict: bool = True,
        report: Callable[[int, dict[str, float]], None] | None = None,
        **options: Any,
    ) -> None:
        if not suites:
            raise ValueError("EvaluateCheckpoints needs a suite: EvaluateCheckpoints('starter')")
        self.suites = suites
        self.runs: list[Stored] = []
        """What was evaluated, in order."""
        self._out, self._limit, self._every, self._strict = Path(out), limit, every, strict
        self._report, self._options, self._saves = report, options, 0

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        import warnings

        from rmbench.api import evaluate
        from rmbench.errors import RmbenchError

        self._saves += 1
        if not state.is_world_process_zero or (self._saves - 1) % self._every:
            return
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        name = f"{Path(args.output_dir).name}-step-{state.global_step}"
        found: dict[str, float] = {}
        for suite in self.suites:
            try:
                stored = evaluate(str(folder), suite, name=name, out=self._out, limit=self._limit, **self._options)
            except RmbenchError as error:
                if self._strict:
                    raise
                warnings.warn(f"checkpoint {folder} was not evaluated on {suite}: {error}", stacklevel=2)
                continue
            self.runs.append(stored)
            found |= numbers(suite, summary.estimates(stored.run.suite, stored.facts, stored.judgments))
        state.log_history.append({"step": state.global_step, **found})
        if self._report is not None:
            self._report(state.global_step, found)


def numbers(suite: str, estimates: Sequence[Estimate]) -> dict[str, float]:
    """``rmbench/<suite>/<scope>`` -> value of the suite's own numbers; undefined ones are left out."""
    first: dict[str, Estimate] = {}
    for e in estimates:
        first.setdefault(e.scope, e)
    return {f"rmbench/{suite}/{scope}": e.value for scope, e in first.items() if e.value is not None}
