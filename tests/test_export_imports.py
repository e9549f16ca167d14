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


@pytest.mark.skipif(not (DATA / "llmbar").is_dir(), reason="RMBENCH_DATA has no llmbar")
def test_llmbar_verdicts_on_exchanged_sides_are_refused_where_only_labels_tell() -> None:
    import msgspec

    of = suites.load("llmbar", data=DATA)
    turned = msgspec.structs.replace(
        of,
        items=tuple(msgspec.structs.replace(i, responses=i.responses[::-1], grades=i.grades[::-1]) for i in of.items),
    )
    with pytest.raises(
        BadData, match=r"row 1: its label is 1, and of item 'natural-0' the other side .*419 of 419 rows"
    ):
        imports.read(DATA / "llmbar" / "example_verdicts_chatgpt_vanilla.jsonl", "llmbar", turned)


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
    assert "counted as the rules count a tie: 1;" in " ".join(run.notes)


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
    file.write_text(json.dumps({"id": a.id, "scores_chosen": 10**400, "scores_rejected": 0.1}))
    assert "inf" in str(imports.read(file, "rewardbench", of)[2][a.id].error)


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


# Whose verdicts they are, and in which words


def test_the_models_name_is_the_rows_else_the_files(tmp_path: Path) -> None:
    of = pairs(2)
    rows = [{"id": item.id, "scores": [1, 0]} for item in of.items]

    def name(file: str, source: str = "jsonl", said: Sequence[Any] = rows) -> str:
        return imports.read(write(tmp_path / file, said), source, of)[0].model

    assert name("gpt-4.1-mini.JSONL") == "gpt-4.1-mini"
    assert name("org-model_outputs.jsonl") == "org-model"
    assert name("mine.jsonl", said=[r | {"model": "org/m"} for r in rows]) == "org/m"
    judged = [{"id": i.id, "judgments": [{"decision": "A>B"}]} for i in of.items]
    file = "dataset=judgebench,response_model=gpt-4o,judge_name=vanilla,judge_model=o1-mini-2024-09-12.jsonl"
    assert name(file, "judgebench", judged) == "o1-mini-2024-09-12"
    two = [rows[0] | {"model": "a"}, rows[1] | {"model": "b"}]
    with pytest.raises(BadData, match="'model' names 2 models, 'a', 'b'"):
        name("two.jsonl", said=two)
    assert imports.read(write(tmp_path / "two.jsonl", two), "jsonl", of, model="both")[0].model == "both"


def test_gpt4_pair_is_called_as_its_rows_say(real_data: Path) -> None:
    run, _, _ = imports.read(
        real_data / "mt_bench" / "gpt4_pair.jsonl.gz", "mt-bench", suites.load("mt-bench", data=real_data)
    )
    assert run.model == "gpt4_pair"
    join = run.info["join"]
    assert (join["rows"], join["id"], join["checked"], join["left over"]) == (2400, 1633, 1633, 767)


def test_alpaca_evals_annotations(tmp_path: Path) -> None:
    """``annotations.json`` of tatsu-lab/alpaca_eval, as its README and results have it (texts are invented)."""
    of = pairs(6)
    says = [1.0, 2.0, 1.5, 1.0000048889, None, float("nan")]
    rows = [
        {
            "instruction": item.prompt[0].content,
            "output_1": item.responses[0],
            "generator_1": "gpt4_1106_preview",
            "dataset": "helpful_base",
            "output_2": item.responses[1],
            "generator_2": "m",
            "annotator": "weighted_alpaca_eval_gpt4_turbo",
            "preference": preference,
            "raw_completion": {"finish_reason": "length"},
        }
        for item, preference in zip(of.items, says, strict=True)
    ]
    rows[1]["output_1"], rows[1]["output_2"] = rows[1]["output_2"], rows[1]["output_1"]
    run, facts, judgments = imports.read(write(tmp_path / "annotations.json", rows, lines=False), "alpaca-eval", of)
    assert run.model == "weighted_alpaca_eval_gpt4_turbo"
    assert (run.info["join"]["text"], run.info["join"]["turned"]) == (6, 1)
    said = [judgments[item.id] for item in of.items]
    assert [j.scores for j in said[:3]] == [(1, 0), (1, 0), (0.5, 0.5)]
    assert said[3].scores == pytest.approx((1 - 0.0000048889, 0.0000048889), abs=1e-12)
    assert [j.error for j in said[4:]] == ["no verdict"] * 2
    credits = [c.value for c in summary.credits_of(facts, judgments, of.rules) if c is not None]
    assert credits == [1, 1, 0.5, 1, 0, 0]
    for bad in (3, "1", 0.5, -1, True):
        with pytest.raises(BadData, match="preference"):
            imports.read(write(tmp_path / "bad.json", [rows[0] | {"preference": bad}], lines=False), "alpaca-eval", of)


def best_of_four(n: int) -> Suite:
    import msgspec

    items = [
        msgspec.structs.replace(item, id=f"{item.subset}-{k}")
        for k, item in enumerate(i for i in made.suite(n * 8).items if len(i.grades) == 4)
    ]
    return msgspec.structs.replace(made.suite(1), items=tuple(items))


def test_rewardbench_2s_score_files(tmp_path: Path) -> None:
    """``eval-set-scores/<org>/<model>.json`` as scripts/run_v2.py (05a9005) writes it: an object of columns, the texts
    and scores of a row in lists, some scores in lists of one."""
    of = best_of_four(3)
    talk = [
        [[{"role": "user", "content": i.prompt[0].content}, {"role": "assistant", "content": r}] for r in i.responses]
        for i in of.items
    ]
    whole = {
        "text": talk,
        "scores": [[3.0, 1.0, 2.0, 0.5], [[1.0], [1.0], [0.0], [0.0]], [0.0, 1.0, 2.0, 3.0]],
        "results": [1, 0.5, 0],
        "subset": [i.subset for i in of.items],
        "id": [str(k) for k in range(3)],
        "num_correct": [1, 1, 1],
        "model": "org/rm",
        "model_type": "Seq. Classifier",
        "chat_template": "tokenizer",
    }
    run, _, judgments = imports.read(write(tmp_path / "rm.json", whole, lines=False), "rewardbench", of)
    assert run.model == "org/rm"
    assert (run.info["join"]["id"], run.info["join"]["checked"]) == (3, 3)
    assert [judgments[i.id].scores for i in of.items] == [(3, 1, 2, 0.5), (1, 1, 0, 0), (0, 1, 2, 3)]
    # A revision with the right answer in another place.
    import msgspec

    turned = msgspec.structs.replace(
        of,
        items=tuple(
            msgspec.structs.replace(i, responses=i.responses[2:] + i.responses[:2], grades=(0.0, 0.0, 1.0, 0.0))
            for i in of.items
        ),
    )
    run, _, judgments = imports.read(tmp_path / "rm.json", "rewardbench", turned)
    assert [judgments[i.id].scores for i in of.items] == [(2, 0.5, 3, 1), (0, 0, 1, 1), (2, 3, 0, 1)]
    whole["text"] = [["\n".join(m["content"] for m in one) for one in row] for row in talk]
    assert imports.read(write(tmp_path / "rm.json", whole, lines=False), "rewardbench", turned)[2] == judgments


def test_rewardbench_2s_judges_say_only_whether_they_were_right(tmp_path: Path) -> None:
    """scripts/run_generative_v2.py: 1, 0, 1/k of k joint best, and 0.25 for a reply that could not be read."""
    of = best_of_four(4)

    def talks(item: Item, which: slice) -> list[Any]:
        asked = {"role": "user", "content": item.prompt[0].content}
        return [[asked, {"role": "assistant", "content": r}] for r in item.responses[which]]

    rows = [
        {
            "texts_chosen": talks(i, slice(1)), "texts_rejected": talks(i, slice(1, None)), "subset": i.subset,
            "id": str(k), "num_correct": 1, "results": result, "scores": None,
        }
        for k, (i, result) in enumerate(zip(of.items, [1, 0, 0.25, 1 / 3], strict=True))
    ]  # fmt: skip
    run, facts, judgments = imports.read(write(tmp_path / "judge.jsonl", rows), "rewardbench", of)
    import msgspec

    shared = msgspec.structs.replace(of.rules, ties="share")
    assert [c.value for c in summary.credits_of(facts, judgments, shared) if c is not None] == pytest.approx(
        [1, 0, 0.25, 1 / 3]
    )
    assert "counted as the rules count a tie: 2;" in " ".join(run.notes)
    for change, message in (
        ({"results": 0.4}, "results 0.4"),
        ({"results": None}, "neither a list 'scores'"),
        ({"scores": [1, 2, None, 3]}, "not numbers"),
        ({"scores": [1, 2, 3]}, "3 scores"),
    ):
        with pytest.raises(BadData, match=message):
            imports.read(write(tmp_path / "bad.jsonl", [rows[0] | change]), "rewardbench", of)
    lost = rows[0] | {"scores": [8, -1, 3, 2], "model_type": "Generative RM"}
    _, _, judgments = imports.read(write(tmp_path / "lost.jsonl", [lost]), "rewardbench", of)
    assert "could not be read" in str(judgments[of.items[0].id].error)


def test_arena_hards_verdicts(tmp_path: Path) -> None:
    of = pairs(2)
    rows = [
        {"pair_id": i.id, "judgments": [{"decision": first}, {"decision": second}]}
        for i, (first, second) in zip(of.items, [("A>>B", "B>>A"), ("B>A", "B>>A")], strict=True)
    ]
    _, _, judgments = imports.read(write(tmp_path / "o.jsonl", rows), "judgebench", of)
    assert [[b.picked for b in judgments[i.id].ballots] for i in of.items] == [[0, 0], [1, 0]]


def test_an_error_comes_back_as_an_error_and_no_loss(tmp_path: Path) -> None:
    from rmbench.export import rewardbench

    of = made.suite(8)
    stored = store.read(made.run(tmp_path, of, "m", errors=(2,)))
    (tmp_path / "m.jsonl").write_bytes(rewardbench.export(stored)["m_outputs.jsonl"])
    run, _, judgments = imports.read(tmp_path / "m.jsonl", "rewardbench", of)
    assert run.errors == 1
    assert judgments["item-0002"].error == "score not finite (response 0"


def test_the_command_takes_every_format() -> None:
    from rmbench.cli import import_

    assert set(import_.FORMATS) == set(imports.FORMATS)


# Files that are not what they should be


def test_a_lone_surrogate_costs_no_verdict(tmp_path: Path) -> None:
    of = pairs(2)
    rows = [
        {"pair_id": i.id, "judge_model": "j\ud83d", "judgments": [{"decision": "A>B", "judgment": {"response": said}}]}
        for i, said in zip(of.items, ["cut \ud83d", "whole \U0001f600"], strict=True)
    ]
    path = write(tmp_path / "o.jsonl", rows)
    result = CliRunner().invoke(
        main, ["import", str(path), "--from", "judgebench", "--suite", "starter", "--out", str(tmp_path)]
    )
    assert result.exit_code == 2, result.exception  # ids of another suite, and no traceback
    run, facts, judgments = imports.read(path, "judgebench", of)
    assert [judgments[i.id].ballots[0].text for i in of.items] == ["cut \ufffd", "whole \U0001f600"]
    assert run.model == "j\ufffd"
    assert "rows with half a character (a lone surrogate), read as U+FFFD: 2" in run.notes
    assert store.read(store.import_run(tmp_path / "r", run, facts, judgments)).judgments == judgments
    run, facts, judgments = imports.read(path, "judgebench", of, model="\udcff")
    assert store.import_run(tmp_path / "r", run, facts, judgments).is_dir()


def test_encodings_are_read_or_named(tmp_path: Path) -> None:
    import gzip

    of = pairs(2)
    rows = "\n".join(json.dumps({"id": i.id, "scores": [1, 0], "by": "\u2028"}, ensure_ascii=False) for i in of.items)
    file = tmp_path / "m.jsonl"
    for raw in (rows.encode("utf-8-sig"), rows.encode("utf-16"), gzip.compress(rows.encode())):
        file.write_bytes(raw)
        assert len(imports.read(file, "jsonl", of)[2]) == 2
    for raw, message in (
        (b'{"id": "\xff"}', "not UTF-8"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS"),
        (gzip.compress(rows.encode())[:-12], "cannot be read"),
        (
            b'{"id": 1, "scores": [1, 0]}\n{"id": 2, "scores": [1, 0], "scores": [0, 1]}',
            r"m\.jsonl:2: the key 'scores'",
        ),
        (b"[" * 100_000, "not JSON"),
    ):
        file.write_bytes(raw)
        with pytest.raises(BadData, match=message):
            imports.read(file, "jsonl", of)


def test_one_line_of_lists_is_one_row(tmp_path: Path) -> None:
    of = pairs(1)
    row = {"id": of.items[0].id, "responses": list(of.items[0].responses), "scores": [2, 1]}
    assert imports.read(write(tmp_path / "m.jsonl", [row]), "jsonl", of)[2][of.items[0].id].scores == (2, 1)


def test_the_command_reports_the_join(tmp_path: Path) -> None:
    rows = [{"id": f"q{i}", "prompt": f"p{i}", "chosen": "a", "rejected": "b"} for i in range(3)]
    suite = write(tmp_path / "mine.jsonl", rows)
    scores = write(
        tmp_path / "old.jsonl",
        [{"prompt": f"p{i}", "chosen": "b", "rejected": "a", "scores": [0, 1]} for i in range(3)],
    )
    base = ["import", str(scores), "--from", "jsonl", "--suite", str(suite), "--out", str(tmp_path / "results")]
    said = json.loads(CliRunner().invoke(main, [*base, "--json"]).stdout)
    assert said["model"] == "old"
    assert (said["join"]["text"], said["join"]["turned"], said["join"]["items left over"]) == (3, 3, 0)
    assert next(e for e in said["estimates"] if e["scope"] == "overall")["value"] == 1.0
    shown = " ".join(CliRunner().invoke(main, base).stdout.split())
    assert "3 by text" in shown
    assert "sides exchanged back in 3" in shown
