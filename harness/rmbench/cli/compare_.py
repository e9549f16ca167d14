"""``rmbench compare``: paired differences between runs of the same suite."""

from __future__ import annotations

from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rmbench.cli.common import console, echo_json, json_option
from rmbench.cli.report_ import suite_items
from rmbench.errors import StoreError

if TYPE_CHECKING:
    from rmbench.gate import Comparison, Comparisons, Difference, Flip, Ranking
    from rmbench.store import Stored


@click.command("compare")
@click.argument("runs", nargs=-1, required=True, metavar="A B [C ...]")
@click.option("--suite", help="Of which suite, where a model has run several.")
@click.option(
    "--results",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where runs are looked for by model name.  [default: results, or RMBENCH_RESULTS]",
)
@click.option("--confidence", default=0.95, show_default=True, type=click.FloatRange(0.5, 0.999))
@click.option("--items", default=10, show_default=True, type=click.IntRange(min=0), help="Changed items to list.")
@click.option("--subsets", is_flag=True, help="A line per subset too.")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write a page of the first two runs.")
@json_option
def command(
    runs: tuple[str, ...],
    suite: str | None,
    results: Path | None,
    confidence: float,
    items: int,
    subsets: bool,
    html: Path | None,
    as_json: bool,
) -> None:
    """Differences to the first run, on the items both judged.

    Runs are folders or model names. Runs of other items, rules or limits are refused (exit code 3).
    """
    from rmbench import gate, store

    root = results or store.default_root()
    stored = [store.read(store.resolve(run, root, suite)) for run in runs]
    made = gate.compare(stored, confidence=confidence)
    refused = None
    if html is not None:  # before anything is printed, so that nothing about the output can cost it
        try:
            store.write_file(html, _page(stored, made).encode("utf-8", "backslashreplace"))
        except StoreError as error:
            refused = error
    if as_json:
        echo_json(made)
    else:
        for pair in made.pairs:
            _show(pair, items, subsets)
        if made.ranking is not None:
            _show_ranking(made.ranking)
        elif len(runs) > 2:
            console().print("\nNo ranks: no overall, micro or category is defined on the items in common.")
    if refused is not None:
        raise refused
    if html is not None:
        click.echo(f"{html}", err=True)


def _show(pair: Comparison, items: int, subsets: bool) -> None:
    from rich.table import Table

    out = console()
    out.print(f"{pair.b} minus {pair.a} on {pair.suite} v{pair.version} ({pair.protocol})", markup=False)
    overlap = f"{pair.n:,} of {pair.asked:,} items judged by both"
    if pair.only_a or pair.only_b:
        overlap += f"; {pair.only_a:,} only by {pair.a}, {pair.only_b:,} only by {pair.b}"
    out.print(overlap, style="dim", markup=False)
    table = Table(box=None, pad_edge=False)
    for name in (
        "points",
        "n",
        *_heads(pair.a, pair.b),
        "diff",
        f"{100 * pair.confidence:g} % interval",
        "p",
        "seen",
    ):
        table.add_column(name, justify="left" if name == "points" else "right", overflow="fold")
    for d in pair.differences:
        if subsets or not d.scope.startswith("subset:"):
            table.add_row(*_cells(d))
    out.print(table)
    said = {"Holm over categories": "category:", "Benjamini-Hochberg over subsets": "subset:" if subsets else "-"}
    used = [name for name, kind in said.items() if any(d.scope.startswith(kind) for d in pair.differences)]
    out.print(
        f"p: two-sided{''.join(', ' + u for u in used)}. seen: difference shown four times in five.",
        style="dim",
        markup=False,
    )
    for note in pair.notes:
        out.print(f"Note: {note}", style="dim", markup=False)
    for d in pair.differences:
        if d.value is None and not d.scope.startswith("subset:"):
            out.print(f"{d.scope}: {d.reason}", style="dim", markup=False)
    for word, flips, side in (("newly wrong", pair.broken, "b"), ("newly right", pair.fixed, "a")):
        out.print(f"\n{len(flips):,} items {word}{' (worst margin first)' if flips and items else ''}", markup=False)
        for flip in flips[:items]:
            out.print(f"  {_flip(flip, side)}", markup=False)


def _heads(a: str, b: str) -> tuple[str, str]:
    """Names of eight characters: their ends, where checkpoints of one training differ, without what both end in."""
    if a[-7:] == b[-7:] and a != b:
        same = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(reversed(a), reversed(b), strict=False))))
        a, b = a[:-same], b[:-same]
    one, two = (name if len(name) <= 8 else f"…{name[-7:]}" for name in (a, b))
    return one, two


def _cells(d: Difference) -> tuple[str, ...]:
    def points(value: float | None, sign: str = "") -> str:
        return "–" if value is None else f"{100 * value:{sign}.2f}"

    p = d.p if d.p_adjusted is None else d.p_adjusted
    interval = "–" if d.low is None else f"{points(d.low, '+')} … {points(d.high, '+')}"
    name = d.scope.partition(":")[2] or d.scope
    said = "–" if p is None else "<.001" if p < 0.001 else f"{p:.3f}"
    return (name, f"{d.n:,}", points(d.a), points(d.b), points(d.value, "+"), interval, said, points(d.detectable))


def _flip(flip: Flip, side: str) -> str:
    margin = flip.margin_b if side == "b" else flip.margin_a
    return f"{flip.item_id} ({flip.subset}): {'no score' if margin is None else f'margin {margin:.4g}'}"


def _show_ranking(ranking: Ranking) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    scope = ranking.scope.removeprefix("category:")
    for name in ("rank", "model", scope):
        table.add_column(name, justify="right" if name == scope else "left", overflow="fold")
    for m in ranking.models:
        rank = str(m.best) if m.best == m.worst else f"{m.best}–{m.worst}"
        table.add_row(rank, m.model, f"{100 * m.value:.2f}")
    out = console()
    out.print()
    out.print(table)
    out.print(
        f"Ranks that the {ranking.n:,} items do not rule out, all at once at {100 * ranking.confidence:g} %. Were all "
        f"models equal, the best value would still be {100 * ranking.overstated:.2f} points too high.",
        style="dim",
        markup=False,
    )


def _page(stored: list[Stored], made: Comparisons) -> str:
    """The page of a board that opens on the first two runs."""
    from rmbench import metrics
    from rmbench.report import html, leaderboard, plots

    runs = [(s, metrics.estimates(s.run.suite, s.facts, s.judgments)) for s in stored]
    pair = made.pairs[0]
    differences = [_line(d) for d in pair.differences]
    board = leaderboard.boards(runs)[0]
    texts, why = suite_items(pair.suite, None)
    drawn = {plots.CAPTIONS[name]: plots.svg(figure) for name, figure in plots.draw(board).items()}
    shown = html.Pair(pair.a, pair.b, differences, pair.notes)
    return html.page(board, texts=texts, why_no_texts=why, plots=drawn, pair=shown)


def _line(d: Difference) -> Any:
    from rmbench.report import leaderboard

    return leaderboard.Difference(
        scope=d.scope,
        metric=d.name,
        a=d.a,
        b=d.b,
        value=d.value,
        low=d.low,
        high=d.high,
        p=d.p,
        p_adjusted=d.p_adjusted,
        n=d.n,
        broken=d.worse,
        fixed=d.better,
        detectable=d.detectable,
        reason=d.reason,
    )
