"""Position metrics: published counts of LLMBar and MT-Bench judges, and every rule by hand."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from rmbench.core import Ballot, Estimate, Facts, Judgment, Rules
from rmbench.metrics import estimates
from rmbench.metrics.credit import TIE, credit
from rmbench.metrics.position import binomial_p, slots, stability, swap
from test_metrics_summary import card, facts, two_orders

Pair = tuple[int | None, int | None]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open() as lines:
        return list(csv.DictReader(lines))


def test_mt_bench_position_study_comes_out_of_its_counts(reference: Path) -> None:
    for row in rows_of(reference / "golden_position_mtbench.csv"):
        n, lost, same, first, second = (int(row[k]) for k in ("pairs", "unparsed", "consistent", "primacy", "recency"))
        verdicts: list[Pair] = [(0, 0)] * same + [(0, 1)] * first + [(1, 0)] * second + [(None, 1)] * lost
        assert len(verdicts) == n
        made = swap(verdicts, [0] * n)
        assert made.consistency_valid == pytest.approx(float(row["position_consistency"]), abs=5e-7)
        assert made.both_second - made.both_first == float(row["pf_raw"])
        assert made.preference_fairness == pytest.approx(float(row["pf_pooled"]), abs=5e-7)
        # First, second, consistent and unparsed make up all items (Zheng et al. 2023, Table 2).
        assert made.same + made.both_first + made.both_second + lost == n


def test_llmbar_tables_come_out_of_their_counts(reference: Path) -> None:
    """Judges without unparsed replies: verdicts are laid out so that the shipped counts hold, then counted again."""
    compared = 0
    for row in rows_of(reference / "golden_swap_llmbar.csv"):
        n, orig, swapped, both, same, first, second = (
            int(row[k])
            for k in ("n", "correct_orig", "correct_swap", "correct_both", "same_winner", "both_first", "both_second")
        )
        if int(row["unparsed_orig"]) or int(row["unparsed_swap"]):
            continue
        only_orig, only_swap, wrong = orig - both, swapped - both, n - orig - swapped + both
        assert same == both + wrong
        # An item right only in the first order was decided for the first slot if its label is 1.
        left = min(first, only_orig)
        right = first - left
        verdicts: list[Pair] = [(0, 0)] * both + [(1, 1)] * wrong
        labels = [0] * (both + wrong)
        verdicts += [(0, 1)] * left + [(1, 0)] * (only_orig - left) + [(0, 1)] * right + [(1, 0)] * (only_swap - right)
        labels += [0] * left + [1] * (only_orig - left) + [1] * right + [0] * (only_swap - right)
        made = swap(verdicts, labels)
        assert (made.n, made.original, made.swapped, made.both, made.same) == (n, orig, swapped, both, same)
        assert (made.both_first, made.both_second) == (first, second)
        compared += 1
    assert compared == 381


def test_llmbar_example_verdicts_give_the_shipped_statistics(real_data: Path, reference: Path) -> None:
    path = real_data / "llmbar" / "example_verdicts_chatgpt_vanilla.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    shipped = [
        json.loads(line) for line in (path.parent / "example_statistics_chatgpt_vanilla.jsonl").read_text().splitlines()
    ]
    golden = {
        r["suite"].rsplit("/", 1)[1].lower(): r
        for r in rows_of(reference / "golden_swap_llmbar.csv")
        if r["evaluator"] == "ChatGPT/Vanilla"
    }
    from rmbench.metrics.agreement import cohen_kappa

    def read(text: str | None) -> int | None:
        return None if text is None else int(text) - 1

    for stat in shipped:
        own = [r for r in rows if r["subset"] == stat["subset"]]
        verdicts = [(read(r["winner_original_order"]), read(r["winner_swapped_order"])) for r in own]
        labels = [r["label"] - 1 for r in own]
        made = swap(verdicts, labels)
        share = {"correct_False": made.original, "correct_True": made.swapped, "correct_both": made.both}
        for key, count in share.items():
            assert stat[key].startswith(f"{count:.0f} / {made.n} ")
        average = (made.original + made.swapped) / (2 * made.n)
        assert float(stat["correct_average"].rstrip("%")) == pytest.approx(100 * average)
        row = golden[stat["subset"].removeprefix("adver-").lower()]
        assert (made.both_first, made.both_second) == (int(row["both_first"]), int(row["both_second"]))
        # The shipped label kappas recode one side only; these are the corrected ones.
        for key, side in (("kappa_label_orig", 0), ("kappa_label_swap", 1)):
            assert cohen_kappa([v[side] for v in verdicts], labels) == pytest.approx(float(row[key]), abs=2e-6)
        assert cohen_kappa([v[0] for v in verdicts], [v[1] for v in verdicts]) == pytest.approx(
            float(row["kappa_orders"]), abs=2e-6
        )
        # The same numbers as estimates, from ballots.
        items = [facts(i, (1, 0) if g == 0 else (0, 1), cluster=None) for i, g in enumerate(labels)]
        judgments = {f.item_id: two_orders(f, *v) for f, v in zip(items, verdicts, strict=True)}
        found = {e.name: e for e in estimates(card(), items, judgments) if e.scope == "micro"}
        assert found["both"].value == pytest.approx(made.both / made.n)
        assert found["average"].value == pytest.approx(average)
        assert found["consistency"].value == pytest.approx(made.same / made.n)


def test_auto_js_eight_numbers_have_eight_names() -> None:
    """Three-way labels: counts chosen so that the published rates of one set of verdicts are told apart."""
    verdicts: list[Pair] = [(0, 0), (1, 1), (TIE, TIE), (0, 1), (1, 0), (0, TIE), (None, 0), (TIE, TIE)]
    labels = [0, 0, TIE, 0, 0, 0, 0, 0]
    made = swap(verdicts, labels)
    assert made.both == 2  # items 0 and 2
    assert made.same == 4
    assert made.conflict_tie == 1 + 0 + 1 + 0.5 + 0.5 + 0.5 + 0 + 0.5
    assert (made.decisive, made.decisive_right) == (2, 1)
    assert made.net == 3  # 0, 5 and 6
    assert (made.valid, made.decided, made.decided_same) == (7, 4, 2)
    assert (made.both_first, made.both_second, made.first_preference) == (1, 1, 0.5)
    assert made.first_preference_p == 1


def test_one_set_of_three_way_verdicts_has_eight_names_in_the_estimates() -> None:
    """Auto-J's rules: a tie is a class of its own, so one where there is a winner earns nothing."""
    verdicts: list[Pair] = [(0, 0), (1, 1), (TIE, TIE), (0, 1), (1, 0), (0, TIE), (None, 0), (TIE, TIE), (0, 0), (0, 1)]
    labels = [0, 0, TIE, 0, 0, 0, 0, 0, TIE, TIE]
    grades = {0: (1, 0), TIE: (1, 1)}
    items = [facts(i, grades[g]) for i, g in enumerate(labels)]
    judgments = {f.item_id: two_orders(f, *v) for f, v in zip(items, verdicts, strict=True)}
    suite = card(rules=Rules(name="r", ties="wrong", gold_ties="class", position="conflict-tie"))
    found = {e.name: (e.value, e.n) for e in estimates(suite, items, judgments) if e.scope == "micro"}
    want = {
        "original": ([a == g for (a, _), g in zip(verdicts, labels, strict=True)], 10),
        "swapped": ([b == g for (_, b), g in zip(verdicts, labels, strict=True)], 10),
        "both": ([a == b == g for (a, b), g in zip(verdicts, labels, strict=True)], 10),
        "both-untied": ([1, 0, 0, 0, 0, 0, 0], 7),
        "consistency": ([a == b for a, b in verdicts], 10),
        "conflict-tie": ([1, 0, 1, 0, 0, 0, 0, 0, 0, 1], 10),
        "decisive": ([1, 0], 2),
        "net": ([1, 0, 0, 0, 1, 1, 0], 7),
    }
    for name, (x, n) in want.items():
        assert found[name] == (pytest.approx(sum(x) / n), n), name


def test_average_is_both_plus_half_the_conflicts_for_two_way_verdicts() -> None:
    verdicts: list[Pair] = [(0, 0)] * 5 + [(0, 1)] * 3 + [(1, 0)] * 2 + [(1, 1)]
    made = swap(verdicts, [0] * 11)
    assert (made.original + made.swapped) / 2 == made.both + (made.n - made.same) / 2


def test_no_conflict_means_no_preference_and_no_exception() -> None:
    made = swap([(0, 0)] * 4, [0] * 4)
    assert made.first_preference is None
    assert made.first_preference_p == binomial_p(0, 0) == 1
    items = [facts(i) for i in range(4)]
    judgments = {f.item_id: two_orders(f, 0, 0) for f in items}
    found = {e.name: e for e in estimates(card(), items, judgments) if e.scope == "micro"}
    assert found["first-preference"].value is None
    assert found["first-preference"].reason
    assert found["consistency"].value == 1
    assert swap([], []).consistency is None


def test_a_first_slot_judge_is_found_out() -> None:
    items = [facts(i, (1, 0) if i % 2 else (0, 1)) for i in range(40)]
    judgments = {f.item_id: two_orders(f, 0, 1) for f in items}
    made = estimates(card(), items, judgments)
    found: dict[str, Estimate] = {e.name: e for e in made if e.scope == "micro"}
    assert (found["average"].value, found["both"].value, found["consistency"].value) == (0.5, 0, 0)
    assert found["first-preference"].value == 1
    assert found["first-preference"].extra["p"] == pytest.approx(2 * 0.5**40)
    assert found["preference-fairness"].value == -1


def test_n_way_picks_by_slot() -> None:
    ballots = [Ballot(shown=(0, 1, 2), picked=0)] * 30 + [Ballot(shown=(2, 0, 1), picked=1)] * 6
    made = slots(ballots)[3]
    assert made.picks == (30, 0, 6)
    from scipy.stats import chisquare

    reference = chisquare([30, 0, 6])
    assert made.chi_square == pytest.approx(reference.statistic)
    assert made.p == pytest.approx(reference.pvalue)
    assert slots(ballots[:6])[3].p is None


def test_n_way_orders_average_and_rankings_take_the_best() -> None:
    item = facts(0, (0, 1, 0))
    ballots = tuple(Ballot(shown=s, picked=p) for s, p in (((0, 1, 2), 1), ((1, 2, 0), 1), ((2, 0, 1), 0)))
    given = Judgment(item_id=item.item_id, scores=(1 / 3, 2 / 3, 0), ballots=ballots)
    assert credit(item, given, Rules(name="r")).value == pytest.approx(2 / 3)
    assert credit(item, given, Rules(name="r", position="both")).value == 0


def test_repetition_stability_is_the_modal_share_per_order() -> None:
    item = facts(0)
    said = ((0, 1), (0, 0, 1)), ((1, 0), (1, 1, 1))
    ballots = tuple(Ballot(shown=order, picked=p, sample=i) for order, picks in said for i, p in enumerate(picks))
    judgments = {item.item_id: Judgment(item_id=item.item_id, scores=(0.5, 0.5), ballots=ballots)}
    assert sorted(s for s, _ in stability(judgments, [item])) == [pytest.approx(2 / 3), 1.0]


def test_an_order_without_a_verdict_is_never_a_win() -> None:
    item = facts(0)
    half = two_orders(item, 0, None)
    error = Judgment(item_id=item.item_id, error="no valid ballot", ballots=half.ballots)
    for rule in ("average", "both", "conflict-tie"):
        assert credit(item, error, Rules(name="r", position=rule)).value == 0
    # JudgeBench counts the one verdict there is; of equal answers no winner is right.
    equal = facts(1, (1, 1))
    assert credit(equal, two_orders(equal, 0, 0), Rules(name="r", position="net", gold_ties="class")).value == 0
    assert credit(item, error, Rules(name="r", position="net")).value == 1


def test_votes_split_evenly_are_a_tie() -> None:
    item = Facts(item_id="x", hash="0", subset="a", grades=(1, 0), lengths=(1, 1))
    picks = {(0, 1): (0, 0, 1, 1), (1, 0): (0, 0, 0, 1)}
    ballots = tuple(Ballot(shown=o, picked=p, sample=i) for o, ps in picks.items() for i, p in enumerate(ps))
    given = Judgment(item_id="x", scores=(0.6, 0.4), ballots=ballots)
    assert credit(item, given, Rules(name="r")).value == 0.75


def laid_out(row: dict[str, str]) -> tuple[list[Pair], list[int]]:
    """Verdicts with a row's counts of right answers; what was not parsed is wrong, as LLMBar counts it."""
    n, orig, swapped, both = (int(row[k]) for k in ("n", "correct_orig", "correct_swap", "correct_both"))
    verdicts: list[Pair] = [(0, 0)] * both + [(0, 1)] * (orig - both) + [(1, 0)] * (swapped - both)
    return verdicts + [(1, 1)] * (n - len(verdicts)), [0] * n


def test_llmbars_published_rates_come_out(reference: Path) -> None:
    golden: dict[str, list[dict[str, str]]] = {}
    for row in rows_of(reference / "golden_swap_llmbar.csv"):
        if row["suite"].startswith("LLMBar/"):
            golden.setdefault(row["evaluator"], []).append(row)
    compared = 0
    for row in rows_of(reference / "published.csv"):
        own = golden.get(row["model"])
        if row["suite"] != "llmbar" or row["category"] != "all 419 instances" or own is None:
            continue
        parts = [laid_out(r) for r in own]
        made = swap([v for p, _ in parts for v in p], [g for _, p in parts for g in p])
        rates = {
            "avg_accuracy_both_orders_pct": (made.original + made.swapped) / 2,
            "position_consistent_accuracy_pct": made.both,
        }
        if all(r["unparsed_orig"] == r["unparsed_swap"] == "0" for r in own):
            rates["same_winner_pct"] = made.same
        if row["metric"] in rates:
            assert 100 * rates[row["metric"]] / made.n == pytest.approx(float(row["value"]), abs=0.0051), row
            compared += 1
    assert compared > 130


def test_rating_mode_is_ties_not_position(reference: Path) -> None:
    """judges.md: ChatGPT's ratings give 48.4 average and 25.1 in both, 47 % "inconsistent"."""
    rows = [r for r in rows_of(reference / "golden_swap_llmbar.csv") if r["evaluator"] == "ChatGPT/Rating_NoRules"]
    rows = [r for r in rows if r["suite"].startswith("LLMBar/")]
    parts = [laid_out(r) for r in rows]
    made = swap([v for p, _ in parts for v in p], [g for _, p in parts for g in p])
    assert 100 * (made.original + made.swapped) / 2 / made.n == pytest.approx(48.4, abs=0.06)
    assert 100 * made.both / made.n == pytest.approx(25.1, abs=0.06)
    assert 100 * (1 - made.same / made.n) == pytest.approx(47, abs=0.5)


def test_chance_levels_of_a_judge_that_guesses() -> None:
    """Two ways: average 50, both 25, consistency 50, net 25; three ways: S1 33. First slot always: 50, 0, 0."""
    two = [(a, b) for a in (0, 1) for b in (0, 1)]
    made = swap(two * 2, [0] * 4 + [1] * 4)
    rates = ((made.original + made.swapped) / 2, made.both, made.same, made.net)
    assert [r / made.n for r in rates] == [0.5, 0.25, 0.5, 0.25]
    votes = (0, 1, TIE)
    s1 = [float(a == g) for a in votes for g in votes]
    assert sum(s1) / len(s1) == pytest.approx(1 / 3)
    first = swap([(0, 1)] * 2, [0, 1])
    assert ((first.original + first.swapped) / 2 / first.n, first.both, first.same) == (0.5, 0, 0)
    content = swap([(0, 0), (1, 1), (0, 0)], [0, 0, 0])
    assert (content.original + content.swapped) / 2 == content.both


def test_repetition_stability_of_nine_judges_lies_where_it_was_found(reference: Path) -> None:
    found = {r["judge"]: float(r["repetition_stability_3"]) for r in rows_of(reference / "golden_position_mtbench.csv")}
    assert len(found) == 9
    # Shares of thirds over 192 instances of three repetitions each.
    assert all((v * 192 * 3) == pytest.approx(round(v * 192 * 3), abs=2e-3) for v in found.values())
    assert (round(min(found.values()), 2), round(max(found.values()), 2)) == (0.89, 0.97)
