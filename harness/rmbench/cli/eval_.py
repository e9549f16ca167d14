"""``rmbench eval``: run a suite with a model, or go on where it stopped."""

from __future__ import annotations

import contextlib
import functools
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rmbench.cli.common import console, echo_json, json_option
from rmbench.cli.options import NAMES, model_options, parse_columns, suite_options
from rmbench.errors import Exit, RmbenchError, Undecided

if TYPE_CHECKING:
    from rmbench.core import Estimate, Judgment, Suite
    from rmbench.gate import Sequential, Verdict
    from rmbench.loop import Progress
    from rmbench.store import Stored


@click.command("eval")
@click.option("--model", required=True, help="Folder, hub id, bundled model, baseline, or a name behind --base-url.")
@click.option(
    "--suite", "suites_", required=True, multiple=True, help="Name, name:variant, suite.py or data file; repeatable."
)
@click.option("--limit", type=int, help="Only n items: a seeded sample, stratified by subset.")
@click.option("--seed", default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Results folder.  [default: results, or RMBENCH_RESULTS]")
@click.option(
    "--max-errors",
    default=0.5,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Share of failed items that stops a run.",
)
@click.option("--workers", type=click.IntRange(min=1), help="Ray workers, each with its own copy of the model.")
@click.option("--ray", "ray_address", help="Address of a Ray cluster, or auto.  [default: a local one]")
@click.option("--gpus-per-worker", type=click.FloatRange(min=0))
@click.option(
    "--sequential", metavar="BASELINE", help="Stop early once a regression against this finished run is clear."
)
@model_options
@suite_options
@json_option
def command(
    model: str,
    suites_: tuple[str, ...],
    limit: int | None,
    seed: int,
    out: Path | None,
    max_errors: float,
    workers: int | None,
    ray_address: str | None,
    gpus_per_worker: float | None,
    sequential: str | None,
    data: Path | None,
    columns: str | None,
    subset_column: str | None,
    as_json: bool,
    **model_options: Any,
) -> None:
    """Score a suite with a model, or go on where an earlier run stopped.

    Judgments land in the results folder as they are made; the same command goes on after any interruption and
    tries items again that failed. Ends with a table.
    """
    from rmbench import adapters, loop, store, suites
    from rmbench.adapters.options import Options

    root = out or store.default_root()
    options = Options(seed=seed, **{name: value for name, value in model_options.items() if name in NAMES})
    name, why = adapters.detect(model, options)
    if name == "jury":
        from msgspec.structs import replace

        options = replace(options, results=str(root), suite=suites_[0])
    say = console(stderr=True)
    # Suites and baselines are read before the model: a typing mistake must not cost the minutes of loading one.
    loaded = [suites.load(s, data=data, columns=parse_columns(columns), subset_column=subset_column) for s in suites_]
    watches = [_watch(sequential, s, root, adapters.label(model), limit, seed) if sequential else None for s in loaded]
    results = []
    verdicts = []
    with _pausing(), contextlib.ExitStack() as held:
        opened = _open(model, options, workers, ray_address, gpus_per_worker)
        held.callback(getattr(opened, "close", lambda: None))
        engine = getattr(opened, "engine", None)
        judge = functools.partial(
            loop.evaluate,
            opened,
            model=adapters.label(model),
            adapter_name=name,
            root=root,
            limit=limit,
            seed=seed,
            max_errors=max_errors,
            command=shlex.join(["rmbench", *sys.argv[1:]]),
            backend=opened if workers or ray_address else None,
        )
        for suite, watch in zip(loaded, watches, strict=True):
            if not as_json:
                text = f"{model}: adapter {name} ({why}){f' on {engine}' if engine else ''}"
                text += f" ({reason})" if (reason := getattr(opened, "why_engine", "")) else ""
                for line in (text, *_about(suite)):
                    say.print(line, style="dim", markup=False, soft_wrap=True)
            verdict = None
            if watch is not None:
                made, verdict = _sequential(judge, suite, watch, seed, as_json)
            else:
                with _progress(as_json) as report, _pausing(report):
                    made = judge(suite, progress=report)
                if report.last is None and not as_json:
                    click.echo(f"This run was complete; nothing was judged again. Its folder: {made.path}", err=True)
            results.append(_result(made, root, as_json))
            if verdict is not None:
                results[-1]["verdict"] = verdict
                verdicts.append(verdict)
    if as_json:
        echo_json(results if len(results) > 1 else results[0])
    if verdicts:
        from rmbench import gate

        raise click.exceptions.Exit(gate.exit_code(verdicts))


def _open(model: str, options: Any, workers: int | None, address: str | None, gpus: float | None) -> Any:
    """The adapter, here or as workers of a Ray cluster."""
    if workers or address:
        from rmbench import cluster

        return cluster.backend(model, options, workers or 1, address, gpus)
    from rmbench import adapters

    return adapters.open(model, options)


def _watch(ref: str, suite: Suite, root: Path, model: str, limit: int | None, seed: int) -> Sequential:
    """A finished run to hold a candidate against; one of other items is refused here, not after hours of judging."""
    from rmbench import gate, store
    from rmbench.cli.gate_ import default_policy

    base = store.read(store.resolve(ref, root, suite.name))
    run, own = base.run, suite.content_hash()
    if run.suite_hash != own:
        raise Undecided(f"the baseline {run.model} ran suite hash {run.suite_hash}; {suite.name} now has {own}")
    if (run.limit, run.limit and run.seed) != (limit, limit and seed):
        had = "all items" if run.limit is None else f"--limit {run.limit} --seed {run.seed}"
        raise Undecided(f"the baseline {run.model} was made with {had}: give the candidate the same")
    return gate.Sequential(base, gate.read_policy(default_policy()), candidate=model)


def _sequential(
    judge: Callable[..., Stored], suite: Suite, watch: Sequential, seed: int, quiet: bool
) -> tuple[Stored, Verdict]:
    """Judges until a regression is clear or all is done; the run and the gate's verdict."""
    from rmbench import gate
    from rmbench.cli import gate_

    verdicts: list[Verdict] = []

    def stop(judgments: Sequence[Judgment]) -> bool:
        verdict = watch.update(judgments)
        verdicts.extend([verdict] if verdict else [])
        return verdict is not None

    with _progress(quiet) as report, _pausing(report):
        made = judge(suite, progress=report, stop=stop, order=lambda facts: gate.sequential_order(facts, seed))
    verdict = verdicts[0] if verdicts else gate.gate(made, watch.baseline, watch.policy, limited=True)
    if not quiet:
        gate_.show(verdict)
    return made, verdict


def _result(stored: Stored, root: Path, quiet: bool) -> dict[str, Any]:
    from rmbench import metrics

    # Made anew: estimates.json may be of an earlier version.
    estimates = metrics.estimates(stored.run.suite, stored.facts, stored.judgments)
    if not quiet:
        _table(stored, estimates, root)
    return {"run": str(stored.path), "status": stored.run.status, "errors": stored.run.errors, "estimates": estimates}


def _table(stored: Stored, estimates: Sequence[Estimate], root: Path) -> None:
    from rmbench import store
    from rmbench.report import leaderboard, terminal

    beside: dict[str, list[Estimate]] = {}
    for path in store.find(root):
        with contextlib.suppress(RmbenchError):  # a broken neighbour must not cost this run its table
            run = store.read_run(path)
            same = run.suite_hash == stored.run.suite_hash and run.status == "complete"
            trivial = run.adapter == "baselines" and leaderboard.is_trivial(run)
            if same and trivial and path != stored.path and run.model not in beside:
                made = leaderboard.on_items(store.read(path), stored.facts)
                if made is not None:
                    beside[run.model] = made
    out = console()
    out.print(terminal.run_table(stored, estimates, beside))
    out.print(f"{stored.path}", style="dim", markup=False, soft_wrap=True)


def _about(suite: Suite) -> Iterator[str]:
    """What a reader must know before the run: absent rows, rows left out, how columns were read."""
    if suite.partial:
        absent = ", ".join(f"{subset} {n or '(all)'}" for subset, n in suite.missing.items())
        yield f"{suite.name} is partial, {suite.absent} absent: {absent}"
    for reason, n in suite.excluded.items():
        yield f"{n:,} rows left out: {reason}"
    yield from suite.notes


@contextlib.contextmanager
def _pausing(report: _Plain | None = None) -> Iterator[None]:
    """Ctrl-C, and a scheduler's SIGTERM, pause: they say how far it got and how to go on."""

    def pause(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, pause)
    try:
        yield
    except KeyboardInterrupt:
        state = report.last if report else None
        done = f"{state.kept:,} of {state.total:,} items judged and kept" if state else "nothing judged in this session"
        click.echo(f"\nPaused: {done}. Run the same command again to go on.", err=True)
        raise click.exceptions.Exit(Exit.UNDECIDED) from None
    finally:
        signal.signal(signal.SIGTERM, before)


class _Plain:
    """A line every 30 s, for logs."""

    def __init__(self, quiet: bool) -> None:
        self.last: Progress | None = None
        self._quiet = quiet
        self._began = self._said = time.monotonic()
        self._first: int | None = None

    def __call__(self, state: Progress) -> None:
        self.last = state
        if self._first is None:
            self._first = state.done
        if self._quiet or (state.note is None and time.monotonic() - self._said < 30):
            return
        self._said = time.monotonic()
        click.echo(state.note or self.line(state), err=True)

    def line(self, state: Progress) -> str:
        spent = max(time.monotonic() - self._began, 1e-9)
        fresh = state.done - (self._first or 0)
        left = (state.total - state.done) * spent / fresh if fresh else float("nan")
        errors = f", {state.errors:,} errors" if state.errors else ""
        left_text = f", {left:,.0f} s left" if left == left else ""
        return f"{state.done:,}/{state.total:,} items{errors}, {state.tokens / spent:,.0f} tokens/s{left_text}"


class _Bar(_Plain):
    """One bar with what a plain line says."""

    def __init__(self, bar: Any, task: Any) -> None:
        super().__init__(quiet=True)
        self._bar, self._task = bar, task

    def __call__(self, state: Progress) -> None:
        super().__call__(state)
        if state.note:
            self._bar.console.print(state.note, markup=False, soft_wrap=True)
        self._bar.update(self._task, completed=state.done, total=state.total, text=self.line(state))


@contextlib.contextmanager
def _progress(quiet: bool) -> Iterator[Any]:
    err = console(stderr=True)
    if quiet or not err.is_terminal or os.environ.get("TERM") == "dumb":
        yield _Plain(quiet)
        return
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    with Bar(BarColumn(), TextColumn("{task.fields[text]}"), console=err, transient=True) as bar:
        yield _Bar(bar, bar.add_task("", text="", total=None))
