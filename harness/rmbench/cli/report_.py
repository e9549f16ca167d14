"""``rmbench report``: tables, plots and one HTML page per suite, from the results on disk alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rmbench.cli.common import console, echo_json, json_option
from rmbench.errors import UsageError

if TYPE_CHECKING:
    from rmbench.core import Estimate, Item
    from rmbench.report.leaderboard import Board
    from rmbench.store import Stored

FORMATS = ("md", "csv", "tex", "html", "svg", "png")


@click.command()
@click.argument("results", nargs=-1)
@click.option("--suite", help="Only this suite.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("reports"), show_default=True, help="Folder.")
@click.option("--format", "formats", default="md,csv,html", show_default=True, help=f"Of {','.join(FORMATS)}.")
@click.option("--check", is_flag=True, help="Write nothing; exit 1 when what stands in --out is stale.")
@click.option("--no-texts", is_flag=True, help="Leave prompts, responses and judges' words out of the page.")
@click.option("--data", type=click.Path(path_type=Path), help="Folder with the suites' rows, for the page's texts.")
@click.option("--x", "x_axis", metavar="step|FILE", help="Scaling trend: the number after 'step' in a model's name, "
              "or a CSV with the columns model and x.")  # fmt: skip
@json_option
def command(
    results: tuple[str, ...],
    suite: str | None,
    out: Path,
    formats: str,
    check: bool,
    no_texts: bool,
    data: Path | None,
    x_axis: str | None,
    as_json: bool,
) -> None:
    """Tables, plots and one HTML page per suite, from RESULTS (folders or model names; default: results).

    Exit codes: 0 written or fresh, 1 stale (--check), 2 wrong usage.
    """
    from rmbench import store
    from rmbench.report import leaderboard, terminal

    wanted = _formats(formats)
    root = store.default_root()
    boards = leaderboard.boards(_runs(results, root, suite), leaderboard.read_published(_published(results, root)))
    files: dict[str, bytes] = {}
    x, x_name = {}, ""
    if x_axis:
        from rmbench.report import plots

        x_name = plots.axis_name(x_axis)
        x = plots.positions(x_axis, [e.run.model for b in boards for e in b.everything])
    for board in boards:
        files |= _files(board, wanted, no_texts=no_texts, data=data, x=x, x_name=x_name)
    stale = [name for name, content in files.items() if _differs(out / name, content)]
    if not check:
        out.mkdir(parents=True, exist_ok=True)
        for name in stale:
            (out / name).write_bytes(files[name])
    if as_json:
        echo_json({
            "out": str(out), "files": sorted(files), "stale": sorted(stale) if check else [],
            "boards": [_board_json(b) for b in boards],
        })  # fmt: skip
    elif check:
        for name in stale:
            click.echo(f"stale: {out / name}")
        click.echo(f"{len(stale)} of {len(files)} files are stale." if stale else f"{len(files)} files are fresh.")
    else:
        shown = console()
        for board in boards:
            shown.print(terminal.leaderboard(board, shown.width))
            shown.print()
        if not boards:
            click.echo(f"No runs in {', '.join(results) or root}; make one with rmbench eval --model M --suite S.")
        for name in sorted(files):
            click.echo(str(out / name))
    if check and stale:
        click.get_current_context().exit(1)


def _formats(text: str) -> list[str]:
    asked = [f.strip() for f in text.split(",") if f.strip()]
    unknown = [f for f in asked if f not in FORMATS]
    if unknown or not asked:
        raise UsageError(f"unknown report format {', '.join(unknown) or text!r}; known: {', '.join(FORMATS)}")
    return asked


def _runs(results: Sequence[str], root: Path, suite: str | None) -> list[tuple[Stored, list[Estimate]]]:
    from rmbench import store
    from rmbench.metrics import summary

    paths: dict[Path, None] = {}
    for ref in results or (str(root),):
        folder = Path(ref)
        if folder.is_dir():
            paths |= dict.fromkeys(store.find(folder, suite))
        elif results:
            paths[store.resolve(ref, root, suite)] = None
    runs = [store.read(path) for path in paths]
    return [(r, summary.estimates(r.run.suite, r.facts, r.judgments)) for r in runs]


def _published(results: Sequence[str], root: Path) -> Path:
    folder = Path(results[0]) if len(results) == 1 and Path(results[0]).is_dir() else root
    return folder / "published.csv"


def _files(
    board: Board, wanted: Sequence[str], *, no_texts: bool, data: Path | None, x: Mapping[str, float], x_name: str
) -> dict[str, bytes]:
    from rmbench import store
    from rmbench.report import html, latex, markdown, plots, tidy

    name = store.slug(board.suite.name)
    files: dict[str, bytes] = {}
    if "md" in wanted:
        files[f"{name}.md"] = markdown.leaderboard(board).encode()
    if "csv" in wanted:
        files[f"{name}.csv"] = tidy.to_csv([board]).encode()
    if "tex" in wanted:
        files[f"{name}.tex"] = latex.leaderboard(board).encode()
    if {"html", "svg", "png"} & set(wanted):
        drawn = plots.draw(board, x=x, x_name=x_name)
        vectors = {n: plots.svg(figure) for n, figure in drawn.items()} if {"html", "svg"} & set(wanted) else {}
        files |= {f"{name}-{n}.svg": content for n, content in vectors.items() if "svg" in wanted}
        files |= {f"{name}-{n}.png": plots.png(figure) for n, figure in drawn.items() if "png" in wanted}
    if "html" in wanted:
        texts, why = (None, "left out as asked") if no_texts else suite_items(board.suite.name, data)
        captioned = {plots.CAPTIONS[n]: content for n, content in vectors.items()}
        page = html.page(board, texts=texts, why_no_texts=why, words=not no_texts, plots=captioned)
        files[f"{name}.html"] = page.encode()
    return files


def suite_items(name: str, data: Path | None) -> tuple[tuple[Item, ...] | None, str]:
    """The suite's items, or why they are not at hand. Looks on this machine only."""
    import os

    from rmbench import suites
    from rmbench.errors import RmbenchError, UnknownName

    # A report must not download; this is read when the hub's library is first imported.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        try:
            return suites.load(name, data=data).items, ""
        except UnknownName:
            if data is None:
                raise
            return suites.load(str(data)).items, ""
    except (RmbenchError, OSError):
        # The error's own words name folders of this machine, which have no place in a page that travels.
        return None, "the suite's rows are not at hand; give --data, or bring them with rmbench fetch"


def _differs(file: Path, content: bytes) -> bool:
    return not file.is_file() or file.read_bytes() != content


def _board_json(board: Board) -> dict[str, object]:
    from rmbench.report import tidy

    return {"suite": board.suite.name, "suite_hash": board.suite_hash, "rows": list(tidy.rows(board))}
