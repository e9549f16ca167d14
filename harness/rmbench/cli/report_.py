"""``rmbench report``: tables, plots and one HTML page per suite, from the results on disk alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rmbench.cli.common import console, echo_json, json_option
from rmbench.errors import BadRun, Exit, UsageError

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
@click.option("--check", is_flag=True, help="Write nothing; exit 3 when what stands in --out is stale.")
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

    A run that cannot be read is named and left out. Exit codes: 0 written or fresh, 2 wrong usage or no runs, 3 stale
    (--check).
    """
    from rmbench import store
    from rmbench.report import leaderboard, terminal

    wanted = _formats(formats)
    root = store.default_root()
    runs, left_out = _runs(results, root, suite)
    boards = leaderboard.boards(runs, leaderboard.read_published(_published(results, root)))
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
        store.make_folder(out)
        for name in stale:
            store.write_file(out / name, files[name])
    for said in left_out:
        click.echo(f"Left out: {said}", err=True)
    if as_json:
        echo_json({
            "out": str(out), "files": sorted(files), "stale": sorted(stale) if check else [],
            "left_out": left_out,
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
        for name in sorted(files):
            click.echo(str(out / name))
    if check and stale:
        raise click.exceptions.Exit(Exit.UNDECIDED)


def _formats(text: str) -> list[str]:
    asked = [f.strip() for f in text.split(",") if f.strip()]
    unknown = [f for f in asked if f not in FORMATS]
    if unknown or not asked:
        raise UsageError(f"unknown report format {', '.join(unknown) or text!r}; known: {', '.join(FORMATS)}")
    return asked


def _runs(
    results: Sequence[str], root: Path, suite: str | None
) -> tuple[list[tuple[Stored, list[Estimate]]], list[str]]:
    """Runs with their numbers, and why some of a folder's are left out; one asked for by name must be readable."""
    import os

    from rmbench import store
    from rmbench.metrics import summary

    paths: dict[Path, bool] = {}
    for ref in results or (str(root),):
        if os.path.isdir(ref) and not os.path.isfile(Path(ref) / store.RUN):
            paths |= dict.fromkeys(store.find(Path(ref), suite), False)
        elif results:
            paths[store.resolve(ref, root, suite)] = True
    runs, left_out = [], []
    for path, asked in paths.items():
        try:
            stored = store.read(path)
        except BadRun as error:
            if asked:
                raise
            left_out.append(str(error))
            continue
        runs.append((stored, summary.estimates(stored.run.suite, stored.facts, stored.judgments)))
    if not runs:
        raise UsageError(left_out[0] if left_out else _no_runs(results or (str(root),), suite))
    return runs, left_out


def _no_runs(folders: Sequence[str], suite: str | None) -> str:
    from rmbench import store

    if suite is None:
        return "; ".join(store.nothing(Path(folder)) for folder in folders)
    known = {store.read_run(path).suite.name for folder in folders for path in store.find(Path(folder))}
    return f"no runs of suite {suite!r} in {', '.join(folders)}; there are runs of {', '.join(sorted(known)) or 'none'}"


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
