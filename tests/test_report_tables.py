"""Leaderboards as a model, and in the terminal, Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from click.testing import Result
from rich.console import Console

import report_fixtures as made
from rmbench import store
from rmbench.core import Ballot, Estimate, Judgment, Rules
from rmbench.metrics import summary
from rmbench.report import html, latex, leaderboard, markdown, plots, terminal, tidy

HARD_NAMES = [
    "a|b",
    "a_b*c*",
    "R&D 100%",
    "=cmd()|' /C calc'!A0",
    "#1 ~{x}^2$y$",
    "<b>bold</b>`x`",
    "\x1b[31mred\u202egnp.exe",
]


def boards(root: Path) -> list[leaderboard.Board]:
    runs = [store.read(p) for p in store.find(root)]
    return leaderboard.boards([(r, summary.estimates(r.run.suite, r.facts, r.judgments)) for r in runs])


def text_of(renderable: object, width: int = 80) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(renderable)
    return out.getvalue()


def every_format(board: leaderboard.Board) -> dict[str, str]:
    return {
        "md": markdown.leaderboard(board),
        "csv": tidy.to_csv([board]),
        "tex": latex.document(board),
        "terminal": text_of(terminal.leaderboard(board)),
    }


def test_models_are_ordered_and_baselines_are_not_ranked(tmp_path: Path) -> None:
    (board,) = boards(made.results(tmp_path))
    values = [e.main("overall").value for e in board.models]
    assert values == sorted(values, reverse=True)
    assert {e.label for e in board.baselines} == {"random", "length:longest"}
    assert all(e.rank is None for e in board.baselines)
    assert board.columns == tuple(f"category:{c}" for c in board.suite.categories)


@pytest.mark.parametrize(
    ("intervals", "expected"),
    [
        ([(0.8, 0.9), (0.6, 0.7), (0.4, 0.5)], [1, 2, 3]),
        ([(0.6, 0.9), (0.5, 0.8), (0.2, 0.55)], [1, 1, 2]),
        ([(0.5, 0.6), (0.5, 0.6)], [1, 1]),
        ([(0.6, 0.7), None, (0.1, 0.2)], [1, None, 2]),
        # Touching bounds do not separate: "entirely above" is strict.
        ([(0.5, 0.6), (0.4, 0.5)], [1, 1]),
        ([], []),
    ],
)
def test_ranks_are_groups(intervals: list[tuple[float, float] | None], expected: list[int | None]) -> None:
    assert leaderboard.ranks(intervals) == expected


def test_partial_limited_running_and_other_items_stand_apart(tmp_path: Path) -> None:
    of = made.suite()
    made.run(tmp_path, of, "whole", seed=1)
    made.run(tmp_path, of, "whole-2", seed=2)
    made.run(tmp_path, of, "limited", seed=3, limit=60)
    made.run(tmp_path, of, "unfinished", seed=4, status="running")
    partial = msgspec.structs.replace(of, missing={"sums": 5}, counts={"sums": 20})
    made.run(tmp_path, partial, "partial", seed=5)
    made.run(tmp_path, made.suite(40), "other", seed=6)
    (board,) = boards(tmp_path)
    assert {e.label for e in board.models} == {"whole", "whole-2"}
    apart = {e.label: a.reason for a in board.apart for e in a.entries}
    assert apart.keys() == {"limited", "unfinished", "partial", "other"}
    assert "limited to 60 items" in apart["limited"]
    assert "not finished" in apart["unfinished"]
    assert "5 of 20 items are absent" in apart["partial"]
    assert board.suite_hash in apart["other"]
    assert all(e.rank is None for a in board.apart for e in a.entries)
    # An unfinished run has no number: what is not judged yet would count as wrong.
    assert next(e for a in board.apart for e in a.entries if e.label == "unfinished").main("overall") is None
    for text in every_format(board).values():
        assert all(name in text for name in apart)


def test_an_undefined_overall_is_said_and_never_ranked_as_zero(tmp_path: Path) -> None:
    of = made.suite(rules=Rules(name="none-1", overall="none"))
    made.run(tmp_path, of, "a", seed=1)
    (board,) = boards(tmp_path)
    assert board.headline == "micro"
    assert any("No overall" in n for n in leaderboard.footnotes(board))
    assert "no overall" in text_of(terminal.run_table(board.models[0].stored, board.models[0].estimates))


def test_without_any_total_the_first_part_orders_and_nothing_is_ranked(tmp_path: Path) -> None:
    metrics = {"*": "auc"}
    of = made.suite(rules=Rules(name="none-1", overall="none", metrics=metrics))
    single = tuple(
        msgspec.structs.replace(i, responses=i.responses[:1], grades=(float(n // 2 % 2),))
        for n, i in enumerate(of.items)
    )
    of = msgspec.structs.replace(of, items=single)
    made.run(tmp_path, of, "a-weak", skill=0.0, seed=1)
    made.run(tmp_path, of, "b-strong", skill=9.0, seed=2)
    (board,) = boards(tmp_path)
    assert all(e.main(t).value is None for e in board.models for t in ("overall", "micro"))
    assert board.headline == "category:Chat"
    assert "category:Chat" not in board.columns
    assert [e.label for e in board.models] == ["b-strong", "a-weak"]
    assert [e.rank for e in board.models] == [None, None]
    notes = " ".join(leaderboard.footnotes(board))
    assert "In order of Chat, and not ranked" in notes
    assert "Ranked by" not in notes
    assert "| Chat | 95% interval |" in markdown.leaderboard(board)


def test_two_settings_of_one_model_are_told_apart(tmp_path: Path) -> None:
    of = made.suite()
    made.run(tmp_path, of, "same", seed=1)
    made.run(tmp_path, of, "same", seed=2)
    (board,) = boards(tmp_path)
    assert len({e.label for e in board.models}) == 2


def test_run_table_fits_80_columns_and_shows_baselines_beside(tmp_path: Path) -> None:
    categories = {"Chat Hard": ("llmbar-adver-neighbor", "llmbar-adver-GPTInst"), "Safety": ("xstest-should-respond",)}
    made.results(tmp_path, made.suite(categories=categories))
    (board,) = boards(tmp_path)
    beside = {e.label: e.estimates for e in board.baselines}
    for entry in board.models:
        text = text_of(terminal.run_table(entry.stored, entry.estimates, beside), width=200)
        assert max(map(len, text.splitlines())) <= 80
        assert "llmbar-adver-neighbor" in text
        assert "longest" in text
        assert "random" in text
    failed = next(e for e in board.models if e.run.errors)
    assert "1 error," in text_of(terminal.run_table(failed.stored, failed.estimates))


def test_a_run_of_errors_only(tmp_path: Path) -> None:
    of = made.suite(12)
    made.run(tmp_path, of, "broken", errors=range(12))
    (board,) = boards(tmp_path)
    for kind, text in every_format(board).items():
        assert "broken" in text, kind
        assert "nan" not in text.lower().replace("\\textasc", ""), kind
    # A rule that counts errors as wrong would put it in the ranking with a 0.
    assert board.entries == ()
    ((entry,),) = [a.entries for a in board.apart if a.reason == leaderboard.NO_ANSWER]
    assert "12" in text_of(terminal.run_table(entry.stored, entry.estimates))


def test_no_runs_is_no_board() -> None:
    assert leaderboard.boards([]) == []


def test_a_category_with_one_item(tmp_path: Path) -> None:
    of = made.suite(1, categories={"Only": ("one",)})
    made.run(tmp_path, of, "a")
    (board,) = boards(tmp_path)
    assert all("a" in text for text in every_format(board).values())


@pytest.mark.parametrize("name", HARD_NAMES)
def test_hard_names_survive_every_format(tmp_path: Path, name: str) -> None:
    of = made.suite(24)
    made.run(tmp_path, of, name, seed=1, notes=(f"note on {name}",), device=name)
    made.run(tmp_path, of, "plain", seed=2)
    (board,) = boards(tmp_path)
    formats = every_format(board)
    hard = next(e for e in board.models if e.label != "plain")
    formats["one run"] = text_of(terminal.run_table(hard.stored, hard.estimates, {name: hard.estimates}), width=200)
    assert leaderboard.plain(name) in formats["one run"]
    rows = [line for line in formats["md"].split("## By subset")[0].splitlines() if line.startswith("| ")]
    # Escaped pipes do not split cells: every row has as many as the head.
    cells = {line.replace("\\|", "").count("|") for line in rows}
    assert len(cells) == 1
    assert "<b>" not in formats["md"].replace("\\<b", "")
    for row in csv.reader(io.StringIO(formats["csv"])):
        assert len(row) == len(tidy.COLUMNS)
        assert not any(c.startswith(("=", "+", "@")) for c in row)
        assert not any(c.startswith("-") and not c[1:].replace(".", "").isdigit() for c in row)
    for text in formats.values():
        assert "\x1b" not in text
        assert "\u202e" not in text


def test_markdown_shows_names_as_they_are(tmp_path: Path) -> None:
    """Backslash escapes are what CommonMark takes away again (0.31.2, section 2.4)."""
    import re

    for name in HARD_NAMES:
        shown = re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", markdown.escape(name))
        assert shown == leaderboard.plain(name)


def test_forty_models_with_long_names(tmp_path: Path) -> None:
    of = made.suite(16)
    for i in range(40):
        made.run(tmp_path, of, f"organisation-{i:02d}/" + "long-name-" * 6 + str(i), seed=i)
    (board,) = boards(tmp_path)
    formats = every_format(board)
    assert max(map(len, formats["terminal"].splitlines())) <= 80
    assert formats["md"].count(" | organisation") == 40
    assert len({e.label for e in board.models}) == 40
    assert len({e.short for e in board.models}) == 40
    rows = [line for line in formats["terminal"].splitlines() if "…" in line]
    assert len({row[: row.index("[")] for row in rows}) == 40
    assert all(leaderboard.interval(e.main("overall")) in formats["terminal"] for e in board.models)


def test_names_that_differ_in_the_middle_are_told_apart() -> None:
    names = [f"{'a' * 30}-{x}-{'b' * 30}" for x in "xyz"]
    assert len(set(leaderboard.clipped(names, 20).values())) == 3
    assert leaderboard.clipped(["short", "other"], 20) == {"short": "short", "other": "other"}
    assert leaderboard.clipped([], 20) == {}


def test_plots_of_many_decades_and_of_judges(tmp_path: Path) -> None:
    of = made.suite(60)
    for step in (100, 1000, 9000):
        made.run(tmp_path, of, f"step-{step}", skill=step / 3000, seed=step)
    made.run(tmp_path, of, "judge", judge=True, seed=9)
    (board,) = boards(tmp_path)
    x = plots.positions("step", [e.label for e in board.models])
    drawn = plots.draw(board, only=["reliability"], x=x)
    trend = plots.svg(drawn["trend"]).decode()
    assert ">1000</text>" in trend
    assert "mathdefault" not in trend
    # Shares of votes are no log-odds: a judge has no reliability diagram.
    titles = {a.get_title().split("\n")[0] for a in drawn["reliability"].axes}
    assert titles == {"step-100", "step-1000", "step-9000"}


def test_csv_is_tidy(tmp_path: Path) -> None:
    (board,) = boards(made.results(tmp_path))
    rows = list(csv.DictReader(io.StringIO(tidy.to_csv([board]))))
    keys = [(r["suite"], r["model"], r["scope"], r["metric"]) for r in rows]
    assert len(set(keys)) == len(keys)
    first = next(r for r in rows if r["model"] == board.models[0].label and r["scope"] == "overall")
    assert float(first["value"]) == pytest.approx(board.models[0].main("overall").value, abs=1e-6)
    assert first["rank"] == "1"


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, ""), (1.0, "1"), (-0.0, "0"), (0.1 + 0.2, "0.3"), (-0.25, "-0.25"), (12, "12"), (1234567.5, "1234567.5"),
     ("-x", "'-x"), ("  =1", "'  =1"), ("\t@x", "'\t@x"), ("a-b", "a-b")],
)  # fmt: skip
def test_csv_cells(value: object, expected: str) -> None:
    assert tidy.cell(value) == expected


def test_published_figures_are_marked_and_not_ranked(tmp_path: Path) -> None:
    made.results(tmp_path)
    (tmp_path / "published.csv").write_text(
        "suite,model,category,metric,value,protocol,source,notes\n"
        "toy,org/paper,Overall,accuracy_pct,99.9,old rules,arXiv:0000.00000 Table 1,n\n"
        "toy,org/same,Overall,accuracy_pct,98.9,toy-1,arXiv:0000.00000 Table 2,n\n"
        "toy,org/same,Chat,accuracy_pct,97,toy-1,arXiv:0000.00000 Table 2,n\n"
        "toy,org/same,Prior Sets,accuracy_pct,70,toy-1,arXiv:0000.00000 Table 2,n\n"
        "elsewhere,x,Overall,accuracy_pct,1,p,s,n\n"
    )
    found = leaderboard.read_published(tmp_path / "published.csv")
    runs = [store.read(p) for p in store.find(tmp_path)]
    estimated = [(r, summary.estimates(r.run.suite, r.facts, r.judgments)) for r in runs]
    (board,) = leaderboard.boards(estimated, found)
    assert [p.model for p in board.published] == ["org/paper", *["org/same"] * 3]
    assert all(e.label != "org/paper" for e in board.everything)
    text = markdown.leaderboard(board)
    assert text.index("Published, not run here") > text.index("org/good")
    assert "old rules" in text
    # A row per model and source, the suite's own protocol first.
    assert text.index("| org/same | 98.9 | 97 | Prior Sets 70 |") < text.index("| org/paper | 99.9 | – |")
    tex = latex.leaderboard(board)
    assert "Published under toy-1, not run here" in tex
    assert "org/paper" not in tex  # another protocol's figures do not belong beside ours
    row = next(r for r in csv.DictReader(io.StringIO(tidy.to_csv([board]))) if r["model"] == "org/paper")
    assert (row["standing"], row["rank"], row["rules"]) == ("published", "", "old rules")


def test_a_broken_table_of_published_figures_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "published.csv"
    file.write_text("suite,model\ntoy,x\n")
    with pytest.raises(leaderboard.BadData, match=r"published\.csv"):
        leaderboard.read_published(file)
    assert leaderboard.read_published(tmp_path / "absent.csv") == []


def test_imported_runs_are_marked(tmp_path: Path) -> None:
    made.run(tmp_path, made.suite(), "old", status="imported", notes=("imported from rewardbench file x",))
    (board,) = boards(tmp_path)
    assert any("imported, not run here" in n for n in leaderboard.footnotes(board))
    assert "imported," in tidy.to_csv([board])


def test_a_number_without_an_interval_does_not_outrank() -> None:
    of = made.suite(4)
    estimate = Estimate(name="accuracy", scope="overall", value=0.9, n=4)
    low = Estimate(name="accuracy", scope="overall", value=0.1, low=0.0, high=0.2, n=4)
    entries = [
        leaderboard.Entry(str(i), store.Stored(Path(str(i)), _run(of, str(i)), (), {}), (e,))
        for i, e in enumerate((estimate, low))
    ]
    assert [e.rank for e in leaderboard._ranked(entries, "overall")] == [1, 1]


def _run(of: object, model: str) -> object:
    from rmbench.core import SCHEMA, Run

    return Run(
        schema=SCHEMA, status="complete", model=model, adapter="scalar", engine=None, fingerprint="0" * 8, settings={},
        suite=of.card(), suite_hash="0" * 16,
    )  # fmt: skip


def test_judgments_in_another_order_give_the_same_bytes(tmp_path: Path) -> None:
    (a,) = boards(made.results(tmp_path / "a"))
    for path in store.find(tmp_path / "a"):
        stored = store.read(path)
        turned: dict[str, Judgment] = dict(reversed(stored.judgments.items()))
        store.import_run(tmp_path / "b", stored.run, stored.facts, turned)
    (b,) = boards(tmp_path / "b")
    assert every_format(a) == every_format(b)


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("pdflatex") is None, reason="pdflatex is not installed (Debian: texlive-latex-recommended)"
)
def test_latex_compiles(tmp_path: Path) -> None:
    of = made.suite(24, categories={"R&D_1": ("a%b",), "C#": ("x^y~",), "É–ü": ("naïve",)})
    for i, name in enumerate([*HARD_NAMES, "模型-7B", "a--b", "[0.1]", "\\input{/etc/passwd}", "x" * 70]):
        made.run(tmp_path / "results", of, name, seed=i)
    made.run(tmp_path / "results", of, "limited", seed=50, limit=24)
    (board,) = boards(tmp_path / "results")
    (tmp_path / "table.tex").write_text(latex.document(board), encoding="utf-8")
    ran = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"],
        cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=120, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout[-3000:]
    assert (tmp_path / "table.pdf").stat().st_size > 1000


def test_run_table_says_what_became_of_ballots_what_it_cost_and_what_to_know(tmp_path: Path) -> None:
    stored = store.read(made.run(tmp_path, made.suite(12), "judge"))
    info = {
        "ballots": {"cut off": 2, "unparsed": 3, "valid": 1_043},
        "outside": {"items": 4, "mass": 0.5},
        "cost": 0.25,
    }
    run = msgspec.structs.replace(stored.run, info=info, notes=("vllm-vs-transformers: raw logits differ",))
    text = text_of(
        terminal.run_table(stored._replace(run=run), summary.estimates(run.suite, stored.facts, stored.judgments))
    )
    assert "ballots: 1,043 valid, 3 unparsed, 2 cut off" in text
    assert "probability outside the labels: 12.5% on average" in text
    assert "cost 0.25" in text
    assert "vllm-vs-transformers" in text


def test_a_column_beside_a_limited_run_is_of_the_same_items(tmp_path: Path, cli: Callable[..., Result]) -> None:
    """What stands beside 20 items is not the full run's figure on 300."""
    rows = [{"prompt": f"q{i}", "chosen": "y" * (9 if i % 3 else 1), "rejected": "n" * 5} for i in range(300)]
    data = tmp_path / "mine.jsonl"
    data.write_text("".join(json.dumps(r) + "\n" for r in rows))
    out = ["--suite", data, "--out", tmp_path / "results"]
    assert cli("eval", "--model", "length:longest", *out).exit_code == 0
    result = cli("eval", "--model", "random:1", "--limit", 20, *out)
    assert result.exit_code == 0, result.output
    (path,) = [p for p in store.find(tmp_path / "results") if "limit20" in p.name]
    limited = store.read(path)
    wins = sum(f.lengths[0] > f.lengths[1] for f in limited.facts)
    last = next(line for line in result.stdout.splitlines() if line.startswith("micro"))
    assert last.split()[-1] == f"{100 * wins / 20:.1f}"
    assert "limited to 20 items: not for the leaderboard; length:longest on the same items" in result.stdout
    # One that was not asked all of them says nothing.
    assert (
        leaderboard.on_items(limited, store.read(store.resolve("length:longest", tmp_path / "results")).facts) is None
    )


def test_truncated_counts_items_everywhere(tmp_path: Path) -> None:
    of = made.suite(24)
    path = made.run(tmp_path, of, "short")
    stored = store.read(path)
    cut = {k: msgspec.structs.replace(j, truncated=2 * (n < 5)) for n, (k, j) in enumerate(stored.judgments.items())}
    run = msgspec.structs.replace(stored.run, truncated=5)
    estimates = summary.estimates(run.suite, stored.facts, cut)
    assert summary.main(estimates)["micro"].truncated == 5
    text = text_of(terminal.run_table(stored._replace(run=run, judgments=cut), estimates))
    assert "5 truncated" in text
    assert "10" not in next(line for line in text.splitlines() if line.startswith("micro"))


def test_n_is_one_number_for_one_run(tmp_path: Path, cli: Callable[..., Result]) -> None:
    of = made.suite(40)
    tied = tuple(
        msgspec.structs.replace(i, grades=(1.0,) * len(i.grades)) if n < 4 else i for n, i in enumerate(of.items)
    )
    of = msgspec.structs.replace(of, items=tied)
    for name, seed in (("a", 1), ("b", 2)):
        made.run(tmp_path, of, name, seed=seed)
    (board,) = boards(tmp_path)
    assert {e.n(board.headline) for e in board.models} == {36}
    assert {e.main("micro").n for e in board.models} == {36}
    row = next(line for line in markdown.leaderboard(board).splitlines() if "| a |" in line)
    assert " 36 |" in row
    assert " 40 |" not in row
    assert "n is without 4 items that the rule for ties leaves out." in leaderboard.footnotes(board)
    found = json.loads(cli("compare", tmp_path / store.find(tmp_path)[0], store.find(tmp_path)[1], "--json").stdout)
    assert '"n": 36' in json.dumps(found)


def test_single_responses_are_neither_won_nor_lost(tmp_path: Path) -> None:
    of = made.suite(24, rules=Rules(name="mixed-1", metrics={"refuse": "auc"}))
    items = tuple(
        msgspec.structs.replace(i, responses=i.responses[:1], grades=(float(n // 5 % 2),))
        if i.subset == "refuse"
        else i
        for n, i in enumerate(of.items)
    )
    path = made.run(tmp_path, msgspec.structs.replace(of, items=items), "a")
    stored = store.read(path)
    text = text_of(terminal.run_table(stored, summary.estimates(stored.run.suite, stored.facts, stored.judgments)))
    assert "0/0" not in text
    assert "–" in next(line for line in text.splitlines() if "refuse" in line)


def worse_than_long(root: Path) -> leaderboard.Board:
    of = made.suite(200)
    longest = {i.id: tuple(float(len(r)) for r in i.responses) for i in of.items}
    right = {i.id: i.grades for i in of.items}
    near = {k: right[k] if n < 9 else v for n, (k, v) in enumerate(longest.items())}
    for name, scores in (("length:longest", longest), ("oracle", right), ("near", near)):
        path = made.run(root, of, name)
        judgments = {k: Judgment(item_id=k, scores=s) for k, s in scores.items()}
        stored = store.read(path)
        shutil.rmtree(path)
        store.import_run(root, stored.run, stored.facts, judgments)
    made.run(root, of, "backwards", skill=-9.0)
    made.run(root, of, "good", skill=9.0)
    (board,) = boards(root)
    return board


def test_a_model_that_does_not_beat_a_trivial_baseline_says_so(tmp_path: Path) -> None:
    board = worse_than_long(tmp_path)
    told = {e.label: e.warnings for e in board.everything}
    (longest,) = [e for e in board.baselines if e.label == "length:longest"]
    score = f"length:longest ({leaderboard.number(longest.main('overall'))})"
    assert told["good"] == told["oracle"] == told["length:longest"] == ()
    assert told["backwards"] == (f"does not beat {score}",)
    assert told["near"] == (f"does not clearly beat {score}, which lies within its interval",)
    for kind, text in every_format(board).items():
        # LaTeX keeps its notes as comments, the CSV has the numbers alone.
        assert kind == "csv" or f"backwards does not beat {score}" in " ".join(text.split()), kind
    assert "| 3! | backwards |" in markdown.leaderboard(board)
    assert "| 2! | near |" in markdown.leaderboard(board)
    assert "| 1 | good |" in markdown.leaderboard(board)
    page = html.page(board)
    assert "backwards does not beat" in page
    entry = next(e for e in board.models if e.label == "backwards")
    beside = {e.label: e.estimates for e in board.baselines if e.label != "oracle"}
    assert f"does not beat {score}" in text_of(terminal.run_table(entry.stored, entry.estimates, beside))


def test_a_rank_with_many_unparsed_verdicts_is_marked(tmp_path: Path) -> None:
    of = made.suite(60)
    made.run(tmp_path, of, "whole", seed=1)
    path = made.run(tmp_path, of, "mumbles", seed=2, errors=range(25))
    stored = store.read(path)
    ballot = Ballot(shown=(0, 1), error="unparsed: no verdict that bracket-letter knows")
    said = "no valid ballot for order 0, 1: unparsed: no verdict that bracket-letter knows"
    judgments = {
        k: Judgment(item_id=k, error=said, ballots=(ballot,)) if j.scores is None else j
        for k, j in stored.judgments.items()
    }
    shutil.rmtree(path)
    store.import_run(tmp_path, stored.run, stored.facts, judgments)
    made.run(tmp_path, of, "slips", seed=3, errors=range(3))
    (board,) = boards(tmp_path)
    told = {e.label: e.warnings for e in board.models}
    assert told["whole"] == told["slips"] == ()  # one in twenty may be
    (warning,) = told["mumbles"]
    assert "no verdict on 25 of 60 items (most often: unparsed), which earn nothing" in warning
    assert f"{path.parent.name}/{path.name}/judgments.jsonl" in warning
    assert str(tmp_path) not in warning
    # The rank is what it was: what was not said earns nothing.
    entry = next(e for e in board.models if e.label == "mumbles")
    assert entry.main("micro").value == pytest.approx(entry.main("micro").wins / 60)
    assert entry.place == f"{entry.rank}!"
    for kind, text in every_format(board).items():
        assert kind == "csv" or f"{entry.rank}!" in text, kind
    assert warning in " ".join(text_of(terminal.run_table(entry.stored, entry.estimates), 400).split())


def test_the_votes_of_a_jury_of_pointwise_models_show_no_orders(tmp_path: Path) -> None:
    of = made.suite(40)
    path = made.run(tmp_path, of, "jury")
    stored = store.read(path)
    judgments = {
        k: msgspec.structs.replace(
            j, ballots=tuple(Ballot(shown=(0, 1), picked=(n + m) % 2, judge=f"m{m}") for m in range(3))
        )
        for n, (k, j) in enumerate(stored.judgments.items())
        if len(j.scores or ()) == 2
    }
    shutil.rmtree(path)
    store.import_run(tmp_path, stored.run, stored.facts, stored.judgments | judgments)
    (board,) = boards(tmp_path)
    drawn = plots.draw(board, only=("votes",))["votes"]
    (axis,) = drawn.axes
    assert [line.get_linestyle() for line in axis.lines] == ["-"]
    assert "both orders" not in axis.get_xlabel()
