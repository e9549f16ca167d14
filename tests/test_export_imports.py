"""Other tools' files as runs: every form they come in, and what is refused."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import report_fixtures as made
from rmbench import store, suites
from rmbench.cli import main
from rmbench.core import Item, Suite
from rmbench.errors import BadData, UnknownName
from rmbench.export import imports
from rmbench.metrics import summary
from rmbench.report import leaderboard

DATA = Path(os.environ.get("RMBENCH_DATA", "../shared/data"))


def pairs(n: int = 6) -> Suite:
    of = made.suite(n * 2)
    import msgspec

    return msgspec.structs.replace(of, items=tuple(i for i in of.items if len(i.grades) == 2)[:n])


def write(file: Path, rows: Sequence[Any], *, lines: bool = True) -> Path:
    file.write_text("\n".join(map(json.dumps, rows)) if lines else json.dumps(rows), encoding="utf-8")
    return file


def swapped(item: Item) -> dict[str, Any]:
    return {"input": item.prompt[0].content, "output_1": item.responses[1], "output_2": item.responses[0]}


def test_judgebench_second_verdict_is_in_the_swapped_order(tmp_path: Path) -> None:
    of = pairs(5)
    said = [("A>B", "B>A"), ("A>B", "A>B"), ("A=B", "B>A"), (None, "A>B"), (None, None)]
    rows = [
        {
            "pair_id": item.id,
            "judge_name": "arena_hard",
            "judgments": [{"judgment": {"response": f"words {d}"}, "decision": d} for d in two],
        }
        for item, two in zip(of.items, said, strict=True)
    ]
    rows[4]["judgments"] = [None, None]
    _, _, judgments = imports.read(write(tmp_path / "o.jsonl", rows), "judgebench", of, model="j")
    first, second, third, fourth, fifth = (judgments[i.id] for i in of.items)
    assert [(b.shown, b.picked) for b in first.ballots] == [((0, 1), 0), ((1, 0), 0)]
    assert first.scores == (1.0, 0.0)
    assert [b.picked for b in second.ballots] == [0, 1]
    assert second.scores == (0.5, 0.5)
    assert third.ballots[0].tie
    assert third.scores == (0.75, 0.25)
    assert not fourth.ballots[0].valid
    assert fourth.scores == (0.0, 1.0)
    assert fifth.scores is None
    assert fifth.error
    assert first.ballots[0].text == "words A>B"


def test_judgebench_scalar_models_keep_their_scores(tmp_path: Path) -> None:
    of = pairs(1)
    row = {
        "pair_id": of.items[0].id,
        "judge_name": "reward_model",
        "judgments": [
            {"judgment": {"scores": [5.625, 14.625]}, "decision": "B>A"},
            {"judgment": {"scores": [14.625, 5.625]}, "decision": "A>B"},
        ],
    }
    _, _, judgments = imports.read(write(tmp_path / "o.jsonl", [row]), "judgebench", of)
    assert judgments[of.items[0].id].scores == (5.625, 14.625)
    assert judgments[of.items[0].id].ballots == ()


def test_llmbar_winners_are_in_the_files_own_terms(tmp_path: Path) -> None:
    of = pairs(3)
    same, turned, silent = of.items
    rows = [
        {
            "input": same.prompt[0].content,
            "output_1": same.responses[0],
            "output_2": same.responses[1],
            "results": [
                {"swap = False": {"completion": ["Output (a)", "stop"], "winner": "1"}, "swap = True": {"winner": "2"}}
            ],
        },
        {**swapped(turned), "results": [{"swap = False": {"winner": "1"}, "swap = True": {"winner": "1"}}]},
        {
            "input": silent.prompt[0].content,
            "output_1": silent.responses[0],
            "output_2": silent.responses[1],
            "results": [{"swap = False": {"winner": None}, "swap = True": {"winner": "1"}}],
        },
    ]  # fmt: skip
    _, _, judgments = imports.read(write(tmp_path / "result.json", rows, lines=False), "llmbar", of)
    assert [b.picked for b in judgments[same.id].ballots] == [0, 1]
    assert judgments[same.id].ballots[0].text == "Output (a)"
    # The file has the two answers the other way round: its winner 1 is our response 1.
    assert [b.picked for b in judgments[turned.id].ballots] == [1, 1]
    assert not judgments[silent.id].ballots[0].valid
    assert judgments[silent.id].scores == (1.0, 0.0)


@pytest.mark.skipif(not (DATA / "llmbar").is_dir(), reason="RMBENCH_DATA has no llmbar")
def test_llmbar_authors_verdicts_give_the_authors_figures(tmp_path: Path) -> None:
    of = suites.load("llmbar", data=DATA)
    run, facts, judgments = imports.read(DATA / "llmbar" / "example_verdicts_chatgpt_vanilla.jsonl", "llmbar", of)
    estimates = summary.main(summary.estimates(run.suite, facts, judgments))
    with (DATA / "llmbar" / "example_statistics_chatgpt_vanilla.jsonl").open() as opened:
        for row in map(json.loads, opened):
            assert 100 * estimates[f"subset:{row['subset']}"].value == pytest.approx(
                float(row["correct_average"].rstrip("%"))
            )


def test_rewardbench_rows_are_found_by_id_by_text_and_by_place(tmp_path: Path) -> None:
    of = pairs(4)
    import msgspec

    of = msgspec.structs.replace(
        of, items=tuple(msgspec.structs.replace(i, id=f"{i.subset}/{n}") for n, i in enumerate(of.items))
    )
    want = {i.id: (float(n), 0.5) for n, i in enumerate(of.items)}
    scores = [{"scores_chosen": float(n), "scores_rejected": 0.5} for n in range(4)]
    by_id = [{"subset": i.subset, "id": n, **scores[n]} for n, i in enumerate(of.items)]
    by_text = [
        {"prompt": i.prompt[0].content, "text_chosen": i.responses[0], "text_rejected": i.responses[1], **scores[n]}
        for n, i in enumerate(of.items)
    ]
    for name, rows in (("id", reversed(by_id)), ("text", reversed(by_text)), ("place", scores)):
        _, _, judgments = imports.read(write(tmp_path / f"{name}.jsonl", list(rows)), "rewardbench", of)
        assert {i: j.scores for i, j in judgments.items()} == want, name


def test_rewardbench_columns_and_results_without_scores(tmp_path: Path) -> None:
    of = pairs(3)
    columns = {
        "model": "org/pair-model",
        "model_type": "Custom",
        "results": [1, 0, 0.5],
        "id": [i.id for i in of.items],
    }
    file = write(tmp_path / "scores.json", columns, lines=False)
    run, _, judgments = imports.read(file, "rewardbench", of)
    assert run.model == "org/pair-model"
    assert [judgments[i.id].scores for i in of.items] == [(1.0, 0.0), (0.0, 1.0), (0.5, 0.5)]
    assert "1 rows hold only a share" in " ".join(run.notes)


def test_not_a_number_is_an_error_and_no_win(tmp_path: Path) -> None:
    of = pairs(2)
    file = tmp_path / "x_outputs.jsonl"
    a, b = of.items
    file.write_text(
        f'{{"id": "{a.id}", "scores_chosen": NaN, "scores_rejected": 0.1}}\n'
        f'{{"id": "{b.id}", "scores_chosen": 1.0, "scores_rejected": 0.1}}\n'
    )
    run, _, judgments = imports.read(file, "rewardbench", of)
    assert judgments[a.id].scores is None
    assert "nan" in str(judgments[a.id].error)
    assert run.errors == 1
    assert run.model == "x"


def test_jsonl_takes_scores_ballots_and_errors(tmp_path: Path) -> None:
    of = pairs(3)
    rows = [
        {"id": of.items[0].id, "scores": [0.25, 0.75]},
        {"item_id": of.items[1].id, "ballots": [{"shown": [0, 1], "picked": 1}, {"shown": [1, 0], "tie": True}]},
        {"id": of.items[2].id, "error": "timed out"},
    ]
    _, _, judgments = imports.read(write(tmp_path / "mine.jsonl", rows), "jsonl", of)
    assert judgments[of.items[0].id].scores == (0.25, 0.75)
    assert judgments[of.items[1].id].scores == (0.25, 0.75)
    assert judgments[of.items[2].id].error == "timed out"


@pytest.mark.parametrize(
    ("source", "row", "message"),
    [
        ("jsonl", {"scores": [1.0]}, "1 scores"),
        ("jsonl", {"scores": ["a", "b"]}, "not numbers"),
        ("jsonl", {}, "'scores'"),
        ("jsonl", {"ballots": [{"shown": [0, 7], "picked": 7}]}, "responses of"),
        ("jsonl", {"ballots": [{"shown": [0], "picked": 1}]}, "did not show"),
        ("jsonl", {"scores": [1.0, 0.0], "error": "both"}, "not both"),
        ("rewardbench", {"scores_chosen": "high"}, "scores_chosen"),
        ("judgebench", {"decision": "A>B"}, "judgments"),
        ("judgebench", {"judgments": [{"decision": "A>>>B"}]}, "A>>>B.*A>B"),
        ("llmbar", {"winner": "1"}, "winner_original_order"),
        ("llmbar", {"winner_original_order": "3", "winner_swapped_order": "1"}, "winner '3'; it is 1"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, source: str, row: dict[str, Any], message: str) -> None:
    of = pairs(1)
    file = write(tmp_path / "bad.jsonl", [{"id": of.items[0].id, **row}])
    with pytest.raises(BadData, match=message) as caught:
        imports.read(file, source, of)
    assert "row 1" in str(caught.value)


def test_rows_of_another_suite_doubles_and_broken_files_are_refused(tmp_path: Path) -> None:
    of = pairs(2)
    good = {"id": of.items[0].id, "scores": [1.0, 0.0]}
    with pytest.raises(BadData, match="1 of 2 rows fit no item"):
        imports.read(write(tmp_path / "a.jsonl", [good, {"id": "elsewhere", "scores": [1, 0]}]), "jsonl", of)
    with pytest.raises(BadData, match="second row"):
        imports.read(write(tmp_path / "b.jsonl", [good, good]), "jsonl", of)
    (tmp_path / "c.jsonl").write_text('{"id": 1}\n{oops\n')
    with pytest.raises(BadData, match=r"c\.jsonl:2"):
        imports.read(tmp_path / "c.jsonl", "jsonl", of)
    (tmp_path / "d.jsonl").write_text("")
    with pytest.raises(BadData, match="no rows"):
        imports.read(tmp_path / "d.jsonl", "jsonl", of)
    with pytest.raises(BadData, match="different lengths"):
        imports.read(write(tmp_path / "e.json", {"results": [1], "id": [1, 2]}, lines=False), "rewardbench", of)
    with pytest.raises(BadData, match="cannot be read"):
        imports.read(tmp_path / "absent.jsonl", "jsonl", of)
    with pytest.raises(UnknownName):
        imports.read(write(tmp_path / "f.jsonl", [good]), "llmbra", of)


def test_an_imported_run_stands_in_the_table_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"id": f"q{i}", "subset": "s", "prompt": f"p{i}", "chosen": "a", "rejected": "b"} for i in range(10)]
    suite = write(tmp_path / "mine.jsonl", rows)
    ids = [item.id for item in suites.load(str(suite)).items]
    scores = write(tmp_path / "old.jsonl", [{"id": i, "scores": [n % 3, 1]} for n, i in enumerate(ids[:9])])
    out = tmp_path / "results"
    base = ["import", str(scores), "--from", "jsonl", "--suite", str(suite), "--model", "old", "--out", str(out)]
    result = CliRunner().invoke(main, [*base, "--json"])
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert (said["done"], said["n"]) == (9, 10)
    (path,) = store.find(out)
    stored = store.read(path)
    assert stored.run.status == "imported"
    (board,) = leaderboard.boards([(stored, summary.estimates(stored.run.suite, stored.facts, stored.judgments))])
    main_number = board.models[0].main("overall")
    # The item without a judgment counts as missing, with no credit.
    assert main_number.missing == 1
    assert main_number.value == pytest.approx(sum([0, 0.5, 1] * 3) / 10)
    again = CliRunner().invoke(main, [*base, "--json"])
    assert again.exit_code == 0
    assert store.find(out) == [path]


def test_mt_bench_verdicts_of_both_orders(real_data: Path) -> None:
    from rmbench import suites
    from rmbench.metrics import estimates

    suite = suites.load("mt-bench", data=real_data)
    run, facts, judgments = imports.read(
        real_data / "mt_bench" / "gpt4_pair.jsonl.gz", "mt-bench", suite, model="gpt-4"
    )
    assert run.model == "gpt-4"
    assert "767 rows in the file match no item in the suite and were skipped" in run.notes
    made = {(e.name, e.scope): e.value for e in estimates(suite.card(), facts, judgments)}
    # Zheng et al. 2023 (arXiv:2306.05685), Table 5, first turn: 66 % and 85 %; people among themselves 63 % and 81 %.
    for name, published in (("s1", 0.66), ("s2", 0.85), ("human-human-s1", 0.63), ("human-human-s2", 0.81)):
        assert made[name, "category:Turn 1"] == pytest.approx(published, abs=0.005)
