"""``rmbench.load_runs`` in a notebook: frames, leaderboards, comparisons, plots, and how they show themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

import report_fixtures as made
import rmbench
from rmbench.errors import Undecided, UnknownName, UsageError


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> rmbench.runs.Runs:
    from rmbench.runs import load_runs

    root = made.results(tmp_path_factory.mktemp("notebook"), made.suite(40))
    made.run(root, made.suite(40), "<script>alert(1)</script>", seed=7)
    made.run(root, made.suite(24, name="second"), "org/good", seed=1)
    return load_runs(root)


def test_it_is_in_the_public_surface(tmp_path: Path) -> None:
    made.run(tmp_path, made.suite(8), "m")
    assert len(rmbench.load_runs(tmp_path)) == 1
    with pytest.raises(UsageError, match="does not exist"):
        rmbench.load_runs(tmp_path / "absent")


def test_frame_is_tidy_and_agrees_with_the_leaderboard(runs: rmbench.runs.Runs) -> None:
    frame = runs.frame()
    assert not frame.duplicated(["suite", "model", "scope", "metric"]).any()
    overall = frame[(frame.suite == "toy") & (frame.scope == "overall")].set_index("model")["value"]
    board = runs.leaderboard("toy").frame().set_index("model")
    assert board["overall"].to_dict() == pytest.approx(overall[board.index].to_dict())
    assert board.loc["random", "standing"] == "baseline"
    assert board["rank"].isna()["random"]
    items = runs.items("toy")
    assert set(items.model) == set(overall.index)
    good = items[(items.model == "org/good") & (items.response == 0)]
    assert good.credit.mean() == pytest.approx(frame[(frame.model == "org/good") & (frame.suite == "toy")
                                                     & (frame.scope == "micro")].value.iloc[0])  # fmt: skip


def test_sequence_of_runs(runs: rmbench.runs.Runs) -> None:
    assert len(list(runs)) == len(runs) == 7
    assert runs[0].run.model == next(iter(runs)).run.model
    assert len(runs[:2]) == 2
    assert runs.suites == ["second", "toy"]
    assert "7 runs" in repr(runs)


def test_compare_pairs_runs_of_one_suite(runs: rmbench.runs.Runs) -> None:
    found = runs.compare("org/good", "org/better-step-200", "toy")
    shown = found._repr_html_()
    assert all(text in shown for text in ("org/good", "org/better-step-200", "category:Chat", "difference"))
    assert found.n == 40
    overall = next(d for d in found.differences if d.scope == "overall")
    board = runs.leaderboard("toy").frame().set_index("model")["overall"]
    assert overall.value == pytest.approx(board["org/better-step-200"] - board["org/good"])


def test_html_is_escaped(runs: rmbench.runs.Runs) -> None:
    for shown in (runs._repr_html_(), runs.leaderboard("toy")._repr_html_()):
        assert "<script>" not in shown
        assert "&lt;script&gt;" in shown
        assert "<table" in shown


def test_plots_show_and_save_themselves(runs: rmbench.runs.Runs, tmp_path: Path) -> None:
    plot = runs.plot("categories", "toy")
    assert "<svg" in plot._repr_svg_()
    assert plot.save(tmp_path / "a.svg").read_text() == plot._repr_svg_()
    assert plot.save(tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UsageError, match=r"\.svg or \.png"):
        plot.save(tmp_path / "a.pdf")
    with pytest.raises(UnknownName, match="categories"):
        runs.plot("categorys", "toy")
    with pytest.raises(UsageError, match="do not have"):
        runs.plot("votes", "second")
    with pytest.raises(UsageError, match="trend needs two models"):
        runs.plot("trend", "toy")


def test_a_suite_must_be_named_where_there_are_several(runs: rmbench.runs.Runs) -> None:
    with pytest.raises(UsageError, match="second, toy"):
        runs.leaderboard()
    with pytest.raises(UnknownName):
        runs.leaderboard("tyo")


def test_runs_of_other_items_are_not_compared(tmp_path: Path) -> None:
    a, b = made.suite(16), made.suite(24)
    first, second = made.run(tmp_path, a, "a"), made.run(tmp_path, b, "b")
    with pytest.raises(Undecided):
        rmbench.load_runs(tmp_path).compare(str(first), str(second))


def test_a_damaged_run_is_warned_of_and_the_others_are_loaded(tmp_path: Path) -> None:
    made.run(tmp_path, made.suite(8), "m")
    damaged = made.run(tmp_path, made.suite(8), "n", seed=1)
    lines = (damaged / "judgments.jsonl").read_bytes()
    (damaged / "judgments.jsonl").write_bytes(lines.replace(b"item_id", b"item_ID", 1))
    with pytest.warns(UserWarning, match="left out: .*judgments.jsonl:1: the line's checksum does not match"):
        runs = rmbench.load_runs(tmp_path)
    assert [s.run.model for s in runs] == ["m"]
