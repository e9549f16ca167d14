"""``rmbench.load_runs``: what is on disk as data frames, leaderboards, comparisons and plots, for notebooks."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rmbench import store
from rmbench.core import Estimate
from rmbench.errors import BadRun, UnknownName, UsageError
from rmbench.metrics import summary
from rmbench.report import leaderboard, markdown, tidy
from rmbench.report.leaderboard import Board, title
from rmbench.store import Stored

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from rmbench.gate.compare import Comparison


def load_runs(results: str | Path | None = None, suite: str | None = None) -> Runs:
    """All runs below a results folder (default: ``RMBENCH_RESULTS``, else ``results``), optionally of one suite.

    A run that cannot be read is left out, with a warning that names it. Raises UsageError for a folder that does not
    exist.
    """
    root = Path(results) if results is not None else store.default_root()
    if not root.is_dir():
        raise UsageError(f"results folder {root} does not exist; rmbench eval makes one")
    stored = []
    for path in store.find(root, suite):
        try:
            stored.append(store.read(path))
        except BadRun as error:
            warnings.warn(f"left out: {error}", stacklevel=2)
    made = [(s, summary.estimates(s.run.suite, s.facts, s.judgments)) for s in stored]
    return Runs(root, made, leaderboard.read_published(root / "published.csv"))


class Runs(Sequence[Stored]):
    """Runs with their numbers; shows itself as a table in Jupyter."""

    def __init__(
        self,
        root: Path,
        runs: Sequence[tuple[Stored, list[Estimate]]],
        published: Sequence[leaderboard.Published] = (),
    ) -> None:
        self.root = root
        self._runs = list(runs)
        self._boards = {b.suite.name: b for b in leaderboard.boards(runs, published)}

    @property
    def suites(self) -> list[str]:
        return list(self._boards)

    def frame(self) -> pd.DataFrame:
        """One row per model, scope and metric, values as fractions; published figures are left out."""
        import pandas as pd

        rows = [r for b in self._boards.values() for r in tidy.rows(b) if r["standing"] != "published"]
        return pd.DataFrame(rows, columns=[c for c in tidy.COLUMNS if c != "source"])

    def items(self, suite: str | None = None) -> pd.DataFrame:
        """One row per model and response: grade, score, and the item's credit and outcome."""
        import pandas as pd

        from rmbench.export import tables

        chosen = [s for s, _ in self._runs if suite is None or s.run.suite.name == suite]
        return pd.DataFrame([r for s in chosen for r in tables.responses(s)], columns=list(tables.RESPONSES))

    def leaderboard(self, suite: str | None = None) -> Leaderboard:
        """Ranked models of a suite; the name may be left out where there is one."""
        return Leaderboard(self._board(suite))

    def compare(self, a: str, b: str, suite: str | None = None) -> Comparison:
        """b against a (model names, or folders), paired item by item. Raises Undecided for runs of other items."""
        from rmbench.gate.compare import compare

        name = self._board(suite).suite.name
        chosen = [store.read(store.resolve(ref, self.root, name)) for ref in (a, b)]
        return compare(chosen).pairs[0]

    def plot(self, name: str = "categories", suite: str | None = None, *, x: str | None = None) -> Plot:
        """A plot by name: categories, differences, margins, reliability, position, votes, best-of-n, strength, length,
        or trend, which takes ``x``: ``"step"`` or a CSV with the columns model and x."""
        from rmbench.report import plots

        board = self._board(suite)
        if name == "trend" or x:
            at = plots.positions(x or "step", [e.run.model for e in board.everything])
            drawn = plots.draw(board, x=at, x_name=plots.axis_name(x or "step"))
        else:
            drawn = plots.draw(board, only=(name,))
        if name not in drawn:
            if name not in (*plots.PLOTS, "trend"):
                raise UnknownName("plot", name, (*plots.PLOTS, "trend"))
            raise UsageError(f"the runs of {board.suite.name} do not have what plot {name!r} needs")
        return Plot(drawn[name])

    def _board(self, suite: str | None) -> Board:
        if suite is None and len(self._boards) == 1:
            return next(iter(self._boards.values()))
        if suite is None:
            raise UsageError(f"{len(self._boards)} suites in {self.root}: name one of {', '.join(self._boards) or '-'}")
        if suite not in self._boards:
            raise UnknownName("suite with runs", suite, self._boards)
        return self._boards[suite]

    def __len__(self) -> int:
        return len(self._runs)

    def __getitem__(self, index: Any) -> Any:
        found = self._runs[index]
        return [s for s, _ in found] if isinstance(index, slice) else found[0]

    def __iter__(self) -> Iterator[Stored]:
        return (stored for stored, _ in self._runs)

    def __repr__(self) -> str:
        return f"<{len(self)} runs of {', '.join(self._boards) or 'no suite'} in {self.root}>"

    def _repr_html_(self) -> str:
        import pandas as pd

        rows = [
            {
                "suite": s.run.suite.name,
                "model": leaderboard.plain(s.run.model),
                "status": store.state(s.path, s.run),
                "items": f"{len(s.judgments):,} of {s.run.n:,}",
                "errors": s.run.errors,
                "folder": str(s.path),
            }
            for s in self
        ]
        return str(pd.DataFrame(rows).to_html(index=False, escape=True))


class Leaderboard:
    """A suite's table; text, Markdown and HTML are the same numbers."""

    def __init__(self, board: Board) -> None:
        self.board = board

    def frame(self) -> pd.DataFrame:
        """One row per run: rank, model, standing, headline with interval, a column per category, counts. Fractions."""
        import pandas as pd

        def row(entry: leaderboard.Entry, standing: str) -> dict[str, Any]:
            main = entry.main(self.board.headline)
            columns = {title(c): entry.main(c) for c in self.board.columns}
            return {
                "rank": entry.rank,
                "model": entry.label,
                "standing": standing,
                title(self.board.headline): None if main is None else main.value,
                "low": None if main is None else main.low,
                "high": None if main is None else main.high,
                **{name: None if e is None else e.value for name, e in columns.items()},
                "n": entry.n(self.board.headline),
                "errors": entry.run.errors,
                "truncated": entry.run.truncated,
            }

        rows = [row(e, "baseline" if e.baseline else "model") for e in self.board.entries]
        rows += [row(e, f"apart: {a.reason}") for a in self.board.apart for e in a.entries]
        made = pd.DataFrame(rows)
        if rows:
            # A column without any value would else be one of objects.
            kinds = dict.fromkeys((title(c) for c in (self.board.headline, *self.board.columns)), "float64")
            made = made.astype({**kinds, "rank": "Int64", "low": "float64", "high": "float64"})
        return made

    def __str__(self) -> str:
        return markdown.leaderboard(self.board)

    def __repr__(self) -> str:
        return f"<leaderboard of {self.board.suite.name}: {len(self.board.everything)} runs>"

    def _repr_html_(self) -> str:
        def shown(value: Any) -> str:
            return f"{100 * value:.1f}"

        frame = self.frame()
        percent = [c for c in frame.columns if c not in ("rank", "model", "standing", "n", "errors", "truncated")]
        return str(frame.to_html(index=False, escape=True, na_rep="–", formatters=dict.fromkeys(percent, shown)))


class Plot(NamedTuple):
    """A figure that shows itself in Jupyter without pyplot."""

    figure: Figure

    def save(self, file: str | Path) -> Path:
        """As .svg or .png, by the name; the same bytes on any day."""
        from rmbench.report import plots

        path = Path(file)
        if path.suffix not in (".svg", ".png"):
            raise UsageError(f"{path}: plots are saved as .svg or .png")
        store.write_file(path, plots.svg(self.figure) if path.suffix == ".svg" else plots.png(self.figure))
        return path

    def _repr_svg_(self) -> str:
        from rmbench.report import plots

        return plots.svg(self.figure).decode()
