"""Plots of a board: Okabe-Ito colours, shape or hatch beside every colour, the same bytes from the same runs."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmbench.errors import BadData, UsageError
from rmbench.metrics.intervals import group_codes, interval, mean_measure
from rmbench.metrics.summary import credits_of
from rmbench.report.leaderboard import Board, Entry, clip, plain, scope_rows, title

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, YELLOW, BLACK = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000",
)  # fmt: skip
COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)
MARKERS = "osD^vP*X"
ROWS = 24
"""Models in plots with a row each; the best ones are taken."""
LINES = 7
"""Models in plots with a line or a panel each."""

Drawn = dict[str, "Figure"]


def draw(
    board: Board, *, only: Sequence[str] = (), x: Mapping[str, float] | None = None, x_name: str = "step"
) -> Drawn:
    """Name -> figure, each where the runs have what it needs. ``x``: model -> place on the axis of the trend."""
    made: Drawn = {}
    if not board.shown:
        return made
    with _style():
        for name, plot in PLOTS.items():
            figure = plot(board) if not only or name in only else None
            if figure is not None:
                made[name] = figure
        if x and (figure := _trend(board, x, x_name)) is not None:
            made["trend"] = figure
        for figure in made.values():
            # The layout is solved once: solved again for every file, it moves in the last digits.
            figure.draw_without_rendering()
            figure.set_layout_engine("none")
    return made


def svg(figure: Figure) -> bytes:
    """Without a date, with ids that depend on nothing but the plot."""
    out = io.BytesIO()
    with _style():
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    # matplotlib ends some lines with a blank, which tools that keep a repository tidy would take away.
    return b"\n".join(line.rstrip() for line in out.getvalue().splitlines()) + b"\n"


def png(figure: Figure) -> bytes:
    out = io.BytesIO()
    with _style():
        figure.savefig(out, format="png", dpi=144, metadata={"Software": None})
    return out.getvalue()


def positions(spec: str, names: Sequence[str]) -> dict[str, float]:
    """Model -> x: the number after ``step`` or ``checkpoint`` in its name, or from a CSV with columns model and x.

    Raises UsageError where fewer than two models have one, BadData for a file that is no such table.
    """
    found: dict[str, float] = {}
    if spec == "step":
        for name in names:
            if hit := re.search(r"(?:step|checkpoint|ckpt|iter)[-_= ]?(\d+(?:\.\d+)?)([kmb]?)(?![a-z0-9])", name, re.I):
                found[name] = float(hit[1]) * {"": 1, "k": 1e3, "m": 1e6, "b": 1e9}[hit[2].lower()]
        how = "no number after 'step' or 'checkpoint' in their names; give --x a CSV with the columns model and x"
    else:
        try:
            with Path(spec).open(newline="", encoding="utf-8") as opened:
                found = {row["model"]: float(row["x"]) for row in csv.DictReader(opened) if row["model"] in names}
        except (OSError, KeyError, TypeError, ValueError) as error:
            why = f"no column {error}" if isinstance(error, KeyError) else getattr(error, "strerror", None) or error
            raise BadData(f"--x {spec}: neither 'step' nor a CSV with the columns model and x ({why})") from error
        how = f"not in {spec}"
    if len(found) < 2:
        raise UsageError(f"--x {spec}: a trend needs two models, {len(found)} of {len(names)} have an x; others: {how}")
    return found


def axis_name(spec: str) -> str:
    """What an axis of ``positions`` is called: ``step``, or the CSV's own name without its ending."""
    return spec if spec == "step" else Path(spec).stem


def _categories(board: Board) -> Figure | None:
    entries = _rows(board)
    scopes = [board.headline, *board.columns][:7]
    figure, axes = _figure(2.1 + 1.45 * len(scopes), 0.9 + 0.26 * len(entries), columns=len(scopes), sharey=True)
    for axis, scope in zip(axes, scopes, strict=True):
        for y, entry in enumerate(entries):
            e = entry.main(scope)
            if e is None or e.value is None:
                axis.text(0.02, y, "undefined", va="center", fontsize=6, color="#666666")
                continue
            colour, hatch = ("#BBBBBB", "////") if entry.baseline else (BLUE, "")
            axis.barh(y, e.value, color=colour, hatch=hatch, height=0.7, edgecolor="white", linewidth=0)
            if e.low is not None and e.high is not None:
                axis.plot([e.low, e.high], [y, y], color=BLACK, linewidth=1.1)
                axis.plot([e.low, e.high], [y, y], "|", color=BLACK, markersize=4)
        axis.set_title(_label(title(scope), 18))
        axis.set_xlim(0, 1)
        axis.set_xticks([0, 0.5, 1], ["0", "50", "100"])
        axis.set_ylim(len(entries) - 0.4, -0.6)
        axis.set_yticks(range(len(entries)), [e.short for e in entries])
    if len(entries) < len(board.shown):
        figure.supxlabel(f"{len(entries)} of {len(board.shown)} models, the best ones", fontsize=8)
    return figure


def _differences(board: Board) -> Figure | None:
    """Every model against the best one, per subset, on the items that both judged."""
    import numpy as np

    names, scopes, values, significant = _paired(board)
    if not names or not scopes:
        return None
    figure, (axis,) = _figure(3 + 0.42 * len(scopes), 1.6 + 0.26 * len(names))
    reach = max(0.05, float(np.nanmax(np.abs(values), initial=0)))
    # A range wider than the values keeps every cell light enough for black figures.
    image = axis.imshow(values, cmap="PuOr", vmin=-1.6 * reach, vmax=1.6 * reach, aspect="auto")
    for (y, x), value in np.ndenumerate(values):
        shown = "–" if np.isnan(value) else f"{100 * value:+.0f}{'*' if significant[y, x] else ''}"
        axis.text(x, y, shown, ha="center", va="center", fontsize=6)
    axis.set_xticks(
        range(len(scopes)), [_label(s, 24) for s in scopes], rotation=60, ha="right", rotation_mode="anchor"
    )
    axis.set_yticks(range(len(names)), names)
    # Over the whole figure: the table itself may be narrower than the sentence.
    figure.suptitle(f"points against {board.shown[0].short}\n* p < 0.05, Benjamini-Hochberg", fontsize=8)
    axis.grid(visible=False)
    bar = figure.colorbar(image, ax=axis, shrink=0.8, boundaries=np.linspace(-reach, reach, 101))
    bar.set_ticks([-reach, 0, reach], labels=[f"{100 * t:+.0f}" for t in (-reach, 0, reach)])
    return figure


def _paired(board: Board) -> tuple[list[str], list[str], Any, Any]:
    """Models, subsets, (models, subsets) mean differences in credit to the first, and whether each is significant."""
    import numpy as np

    from rmbench.metrics.paired import benjamini_hochberg, paired_test

    first, *others = _rows(board)
    if not board.entries:
        # What stands apart may have other items; only what shares the hash can be paired.
        others = [e for e in others if e.run.suite_hash == first.run.suite_hash]
    scopes = [title(s) for s, _, _ in scope_rows(board.suite, first.estimates) if s.startswith("subset:")]
    scopes = scopes or list(dict.fromkeys(f.subset for f in first.stored.facts))
    a, *credits = ({e.stored.facts[i].hash: c for c, i in _credits(e)} for e in (first, *others))
    values = np.full((len(others), len(scopes)), np.nan)
    significant = np.zeros(values.shape, dtype=bool)
    rng = np.random.default_rng(0)
    for y, b in enumerate(credits):
        p: list[float | None] = []
        for x, scope in enumerate(scopes):
            of = [f for f in first.stored.facts if f.subset == scope and f.hash in a and f.hash in b]
            if not of:
                p.append(None)
                continue
            d = np.array([b[f.hash] - a[f.hash] for f in of])
            values[y, x] = d.mean()
            p.append(paired_test(d, group_codes([f.cluster for f in of]), rng=rng).p)
        significant[y] = [q is not None and q < 0.05 for q in benjamini_hochberg(p)]
    kept = [x for x in range(len(scopes)) if not np.isnan(values[:, x]).all()]
    return [e.short for e in others], [scopes[x] for x in kept], values[:, kept], significant[:, kept]


def _margins(board: Board) -> Figure | None:
    import numpy as np

    panels = [(e, m) for e in _lines(board) if len(m := _margin(e)) > 1]
    if not panels:
        return None
    figure, axes = _grid(len(panels), 2.6, 1.9)
    for axis, (entry, values) in zip(axes, panels, strict=False):
        reach = float(np.quantile(np.abs(values), 0.99)) or 1.0
        bins = np.linspace(-reach, reach, 33)
        values = np.clip(values, -reach, reach)
        axis.hist(values[values > 0], bins, color=BLUE, label="right")
        axis.hist(
            values[values <= 0],
            bins,
            color=VERMILION,
            hatch="////",
            edgecolor="white",
            linewidth=0,
            label="wrong or tied",
        )
        axis.axvline(0, color=BLACK, linewidth=0.8)
        axis.set_title(entry.short)
        axis.set_xlabel("margin of the best response")
    axes[0].set_ylabel("items")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower right", ncols=2)
    return figure


def _reliability(board: Board) -> Figure | None:
    import numpy as np

    from rmbench.metrics.calibration import ece, reliability

    panels = [(e, m) for e in _lines(board) if len(m := _margin(e, pairs=True)) >= 20]
    if not panels:
        return None
    figure, axes = _grid(len(panels), 2.6, 2.3)
    for axis, (entry, margins) in zip(axes, panels, strict=False):
        found = reliability(margins)
        axis.plot([0.5, 1], [0.5, 1], color="#999999", linewidth=0.8, linestyle=":")
        sizes = np.array([b.n for b in found])
        axis.plot([b.confidence for b in found], [b.accuracy for b in found], "-", color=BLUE)
        axis.scatter(
            [b.confidence for b in found], [b.accuracy for b in found], s=6 + 60 * sizes / sizes.max(), color=BLUE
        )
        axis.set_xlim(0.48, 1.02)
        axis.set_ylim(-0.02, 1.02)
        axis.set_title(f"{entry.short}\nECE {ece(margins):.3f}, {len(margins):,} pairs")
        axis.set_xlabel("confidence, sigmoid of |margin|")
    axes[0].set_ylabel("accuracy")
    return figure


def _position(board: Board) -> Figure | None:
    from rmbench.metrics.position import both_orders

    panels = []
    for entry in board.shown:
        stored = entry.stored
        seen = [
            (f.grades, v)
            for f in stored.facts
            if len(f.grades) == 2 and (v := both_orders(stored.judgments.get(f.item_id))) is not None
        ]
        if seen:
            panels.append((entry, seen))
    if not panels:
        return None
    figure, axes = _grid(len(panels[:LINES]), 2.6, 2.5)
    names = ("better", "tie", "worse", "none")
    for axis, (entry, seen) in zip(axes, panels, strict=False):
        counts = [[0] * 4 for _ in range(4)]
        for grades, (first, second) in seen:
            best = int(grades[1] > grades[0])
            places = [3 if v is None else 1 if v < 0 else 0 if v == best else 2 for v in (first, second)]
            counts[places[1]][places[0]] += 1
        top = max(max(row) for row in counts)
        axis.imshow(counts, cmap="Blues", vmin=0, vmax=2 * top)
        for y, row in enumerate(counts):
            for x, n in enumerate(row):
                axis.text(x, y, f"{n:,}", ha="center", va="center", weight="bold" if x == y else "normal")
        same = sum(counts[i][i] for i in range(3))
        axis.set_xticks(range(4), names)
        axis.set_yticks(range(4), names)
        axis.set_xlabel("verdict in the first order")
        axis.set_title(f"{entry.short}\nsame in both: {same:,} of {len(seen):,}")
        axis.grid(visible=False)
    axes[0].set_ylabel("verdict in the second order")
    return figure


def _votes(board: Board) -> Figure | None:
    from rmbench.metrics import votes

    curves = [(e, c) for e in board.shown if (c := votes.curve(e.stored.facts, e.stored.judgments)) is not None]
    if not curves:
        return None
    figure, (axis,) = _figure(6.2, 3.2)
    for i, (entry, curve) in enumerate(curves[:LINES]):
        groups = _groups(entry, curve.items)
        bounds = [_bounds(curve.average[:, j], groups) for j in range(len(curve.k))]
        axis.fill_between(
            curve.k, [b[1] for b in bounds], [b[2] for b in bounds], color=COLOURS[i], alpha=0.15, linewidth=0
        )
        axis.plot(curve.k, [b[0] for b in bounds], MARKERS[i] + "-", color=COLOURS[i], label=entry.short)
        if curve.both is not None:
            axis.plot(curve.k, curve.both.mean(axis=0), ":", color=COLOURS[i])
    axis.set_xticks(max((c.k for _, c in curves[:LINES]), key=len))
    dotted = any(c.both is not None for _, c in curves[:LINES])
    axis.set_xlabel(f"samples in the vote{' (dotted: right in both orders)' if dotted else ''}")
    axis.set_ylabel("accuracy")
    figure.legend(loc="outside right upper")
    return figure


def _best_of_n(board: Board) -> Figure | None:
    """Expected grade (with interval) and score of the response picked out of n, from the run's own estimates."""
    curves = []
    for entry in _lines(board, baselines=True):
        found = [(re.fullmatch(r"best-of-(\d+)", e.name), e) for e in entry.estimates if e.value is not None]
        points = sorted((int(hit[1]), e) for hit, e in found if hit)
        if len(points) > 1:
            curves.append((entry, points))
    if not curves:
        return None
    figure, (gold, proxy) = _figure(7.2, 3.0, columns=2)
    for i, (entry, points) in enumerate(curves):
        style = "--" if entry.baseline else "-"
        n = [k for k, _ in points]
        low = [e.value if e.low is None else e.low for _, e in points]
        high = [e.value if e.high is None else e.high for _, e in points]
        gold.plot(n, [e.value for _, e in points], MARKERS[i] + style, color=_colour(i))
        gold.fill_between(n, low, high, color=_colour(i), alpha=0.12, linewidth=0)
        scores = [e.extra.get("proxy") for _, e in points]
        proxy.plot(n, scores, MARKERS[i] + style, color=_colour(i), label=entry.short)
    for axis, name in ((gold, "gold: grade of the pick"), (proxy, "proxy: its score, own unit")):
        axis.set_xticks([n for n, _ in curves[0][1]] if len(curves[0][1]) <= 12 else axis.get_xticks())
        axis.set_xlabel("best of n")
        axis.set_title(name)
    figure.legend(loc="outside right upper")
    return figure


def _strength(board: Board) -> Figure | None:
    return _by(
        board, lambda f: f.strength, "strength of the preference", lambda s: len(s) >= 2 and len(s) <= 12, discrete=True
    )


def _length(board: Board) -> Figure | None:
    def shorter(f: Any) -> float | None:
        best = max(f.grades)
        own = [n for n, g in zip(f.lengths, f.grades, strict=True) if g == best]
        other = [n for n, g in zip(f.lengths, f.grades, strict=True) if g != best]
        if not own or not other:
            return None
        a, b = sum(own) / len(own), sum(other) / len(other)
        return (a - b) / (a + b) if a + b else 0.0

    return _by(board, shorter, "(better − worse) / (better + worse) length", lambda s: len(s) >= 2, discrete=False)


def _by(
    board: Board, key: Callable[[Any], float | None], name: str, enough: Callable[[set[float]], bool], *, discrete: bool
) -> Figure | None:
    """Credit against a number of the item, with intervals; in eight bins of equal size where it is not discrete."""
    import numpy as np

    lines = []
    for entry in _lines(board, baselines=True):
        rows = [(k, credit, i) for credit, i in _credits(entry) if (k := key(entry.stored.facts[i])) is not None]
        if not rows or not enough({k for k, _, _ in rows}):
            continue
        keys = np.array([k for k, _, _ in rows])
        if discrete:
            groups = [(v, keys == v) for v in np.unique(keys)]
        else:
            edges = np.unique(np.quantile(keys, np.linspace(0, 1, 9)))
            place = np.clip(np.searchsorted(edges, keys, side="right") - 1, 0, max(len(edges) - 2, 0))
            groups = [(float(keys[place == p].mean()), place == p) for p in np.unique(place)]
        credit, items = np.array([c for _, c, _ in rows]), np.array([i for _, _, i in rows])
        lines.append((entry, [(x, *_bounds(credit[of], _groups(entry, items[of]))) for x, of in groups]))
    if not lines:
        return None
    figure, (axis,) = _figure(5.8, 3.4)
    every = sorted({x for _, points in lines for x, *_ in points})
    shift = 0.012 * ((every[-1] - every[0]) or 1.0)
    for i, (entry, points) in enumerate(lines):
        x = np.array([p[0] for p in points]) + shift * (i - len(lines) / 2)
        y = np.array([p[1] for p in points])
        low, high = np.array([p[2] for p in points]), np.array([p[3] for p in points])
        style = "--" if entry.baseline else "-"
        axis.errorbar(
            x, y, [y - low, high - y], color=_colour(i), marker=MARKERS[i % len(MARKERS)], linestyle=style,
            elinewidth=0.7, label=entry.short,
        )  # fmt: skip
    axis.axhline(0.5, color="#999999", linewidth=0.7, linestyle=":")
    # Chance stays in sight; below it, only what is there.
    axis.set_ylim(max(-0.02, min(0.5, *(p[2] for _, points in lines for p in points)) - 0.04), 1.02)
    axis.set_xlabel(name)
    axis.set_ylabel("accuracy")
    figure.legend(loc="outside right upper")
    return figure


def _trend(board: Board, x: Mapping[str, float], x_name: str) -> Figure | None:
    """Score against x per category with least-squares lines, the headline's with its 95% band."""
    import numpy as np

    # A trend is over the same items: the table's, or those of the first group apart that has two points.
    groups = [board.entries, *(a.entries for a in board.apart)]
    placed = [[e for e in g if (e.label in x or e.run.model in x) and e.estimates] for g in groups]
    entries = next((g for g in placed if len(g) > 1), [])
    entries.sort(key=lambda e: x.get(e.label, x.get(e.run.model, 0.0)))
    if len(entries) < 2:
        return None
    at = np.array([x.get(e.label, x.get(e.run.model, 0.0)) for e in entries])
    logarithmic = at.min() > 0 and at.max() / at.min() > 20
    figure, (axis,) = _figure(6.2, 3.6)
    for i, scope in enumerate([board.headline, *board.columns][:LINES]):
        points = [
            (p, e) for p, entry in zip(at, entries, strict=True) if (e := entry.main(scope)) and e.value is not None
        ]
        if len(points) < 2:
            continue
        px, py = np.array([p for p, _ in points]), np.array([e.value for _, e in points], dtype=float)
        low = np.array([e.value if e.low is None else e.low for _, e in points], dtype=float)
        high = np.array([e.value if e.high is None else e.high for _, e in points], dtype=float)
        axis.errorbar(
            px,
            py,
            [py - low, high - py],
            fmt=MARKERS[i],
            color=COLOURS[i],
            elinewidth=0.7,
            label=_label(title(scope), 24),
        )
        grid = np.geomspace(at.min(), at.max(), 60) if logarithmic else np.linspace(at.min(), at.max(), 60)
        scale = np.log10 if logarithmic else np.asarray
        fit = _line(scale(px), py, scale(grid))
        axis.plot(grid, fit[0], color=COLOURS[i], linewidth=2 if i == 0 else 1)
        if fit[1] is not None and i == 0:
            axis.fill_between(grid, fit[0] - fit[1], fit[0] + fit[1], color=COLOURS[i], alpha=0.12, linewidth=0)
    if logarithmic:
        axis.set_xscale("log")
        for ticks in (axis.xaxis.set_major_formatter, axis.xaxis.set_minor_formatter):
            ticks(_plain_ticks)
    axis.set_xlabel(plain(x_name))
    axis.set_ylabel("score")
    axis.set_ylim(max(-0.02, axis.get_ylim()[0]), min(1.02, axis.get_ylim()[1]))
    figure.legend(loc="outside right upper")
    return figure


def _plain_ticks(value: float, _: int) -> str:
    """1, 2 and 5 of each power of ten in figures: matplotlib's own are TeX, which stays as it is here."""
    return f"{value:g}" if f"{value:e}"[0] in "125" else ""


def _line(x: Any, y: Any, grid: Any) -> tuple[Any, Any]:
    """Least-squares line on a grid and the half-width of its 95% band (t with n - 2 degrees of freedom; Draper and
    Smith 1998, eq. 1.4.8); no band for two points or one x."""
    import numpy as np
    from scipy.stats import t

    spread = float(((x - x.mean()) ** 2).sum())
    if spread == 0:
        return np.full(len(grid), y.mean()), None
    slope = float(((x - x.mean()) * (y - y.mean())).sum()) / spread
    line = y.mean() + slope * (grid - x.mean())
    if len(x) < 3:
        return line, None
    residual = float(((y - y.mean() - slope * (x - x.mean())) ** 2).sum()) / (len(x) - 2)
    half = t.ppf(0.975, len(x) - 2) * np.sqrt(residual * (1 / len(x) + (grid - x.mean()) ** 2 / spread))
    return line, half


# From runs to numbers


def _rows(board: Board) -> list[Entry]:
    if len(board.shown) <= ROWS:
        return list(board.shown)
    if not board.entries:
        return list(board.shown[:ROWS])
    return [*board.models[: ROWS - min(4, len(board.baselines))], *board.baselines[:4]][:ROWS]


def _lines(board: Board, *, baselines: bool = False) -> list[Entry]:
    models = [e for e in board.shown if not e.baseline][: LINES - baselines]
    longest = [e for e in board.shown if e.run.model == "length:longest"] if baselines else []
    return [*models, *longest]


def _margin(entry: Entry, *, pairs: bool = False) -> Any:
    """(items,) score of the best response less the best of the others, of judged items that have a best; ``pairs``:
    only what a sigmoid may be taken of."""
    import numpy as np

    made = []
    for f in entry.stored.facts:
        if pairs and len(f.grades) != 2:
            continue
        judgment = entry.stored.judgments.get(f.item_id)
        if pairs and judgment is not None and judgment.ballots:
            continue  # shares of votes are no log-odds
        if judgment is None or judgment.scores is None or len(f.grades) < 2 or min(f.grades) == max(f.grades):
            continue
        best = max(f.grades)
        top = max(s for s, g in zip(judgment.scores, f.grades, strict=True) if g == best)
        made.append(top - max(s for s, g in zip(judgment.scores, f.grades, strict=True) if g != best))
    return np.array(made)


def _credits(entry: Entry) -> Iterator[tuple[float, int]]:
    stored = entry.stored
    for i, credit in enumerate(credits_of(stored.facts, stored.judgments, stored.run.suite.rules)):
        if credit is not None and credit.value is not None:
            yield credit.value, i


def _groups(entry: Entry, items: Sequence[int]) -> Any:
    return group_codes([entry.stored.facts[i].cluster for i in items])


def _bounds(x: Any, groups: Any) -> tuple[float, float, float]:
    """Mean and interval; the mean thrice where no interval is defined."""
    import numpy as np

    x = np.asarray(x, dtype=float)
    mean = float(x.mean())
    found = interval(mean_measure("accuracy", x, np.arange(len(x))), groups)
    low = mean if found.low is None else min(found.low, mean)
    return mean, low, mean if found.high is None else max(found.high, mean)


# matplotlib


@contextmanager
def _style() -> Iterator[None]:
    """Our settings over matplotlib's defaults, whatever a user's matplotlibrc says."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "svg.hashsalt": "rmbench",
                "svg.fonttype": "none",
                "text.parse_math": False,
                "font.size": 8,
                "axes.titlesize": 8,
                "axes.spines.top": False,
                "axes.spines.right": False,
                "axes.grid": True,
                "grid.color": "#E5E5E5",
                "grid.linewidth": 0.6,
                "axes.axisbelow": True,
                "legend.frameon": False,
                "lines.markersize": 4,
                "lines.linewidth": 1.3,
                "hatch.linewidth": 0.6,
            }
        )
        yield


def _figure(
    width: float, height: float, columns: int = 1, rows: int = 1, *, sharey: bool = False
) -> tuple[Figure, Any]:
    """A figure in inches and its axes, without pyplot's global state."""
    from matplotlib.figure import Figure as New

    figure = New(figsize=(max(width, 3.5), max(height, 1.6)), layout="constrained")
    return figure, figure.subplots(rows, columns, sharey=sharey, squeeze=False).ravel()


def _grid(n: int, width: float, height: float) -> tuple[Figure, Any]:
    columns = min(n, 3)
    rows = -(-n // columns)
    figure, axes = _figure(0.4 + width * columns, 0.3 + height * rows, columns, rows)
    for axis in axes[n:]:
        axis.remove()
    return figure, axes


def _colour(i: int) -> str:
    return COLOURS[i % len(COLOURS)]


def _label(text: str, longest: int = 34) -> str:
    return clip(plain(text), longest)


PLOTS: dict[str, Callable[[Board], Figure | None]] = {
    "categories": _categories,
    "differences": _differences,
    "margins": _margins,
    "reliability": _reliability,
    "position": _position,
    "votes": _votes,
    "best-of-n": _best_of_n,
    "strength": _strength,
    "length": _length,
}
"""Those drawn from the board alone."""

CAPTIONS = {
    "categories": "Score by category, with 95% intervals",
    "differences": "Difference to the best model, by subset",
    "margins": "Margins: the best response's score less the best of the others",
    "reliability": "Reliability: accuracy against the confidence that the margin implies",
    "position": "Position: verdict in one order against verdict in the other",
    "votes": "Accuracy over the number of votes",
    "best-of-n": "Best of n: what the picked response is worth, and what the model gives it",
    "strength": "Accuracy by strength of the preference",
    "length": "Accuracy by relative length of the better response",
    "trend": "Scaling trend",
}
