"""Makes ``published.csv`` from a table of published figures: rows read at their source, of suites shipped here.

    python results/published.py FIGURES.csv

FIGURES.csv has the columns source, table, model, suite, category, metric, value, notes, verified. Rows that nobody has
checked (``verified`` other than ``yes``) stay out; fractions become per cent, so that one column has one unit.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path

SUITES = {
    "rewardbench": "rewardbench",
    "rewardbench_v2": "rewardbench2",
    "rm_bench": "rm-bench",
    "judgebench_gpt4o": "judgebench",
    "llmbar": "llmbar",
    "rmb": "rmb",
    "ppe": "ppe",
}
METRICS = (
    "accuracy_pct",
    "accuracy_fraction",
    "micro_accuracy_pct",
    "micro_accuracy_fraction",
    "net_vote_accuracy_pct",
    "position_consistent_accuracy_pct",
    "both_orders_correct_pct",
    "avg_accuracy_both_orders_pct",
    "score_pct",
)
RULES = (
    # (what the notes or the metric say, the rule by our name or in words); the first that fits.
    ("net_vote", "net vote over both orders (judgebench-net-1)"),
    ("position_consistent", "right in both orders"),
    ("both_orders_correct", "right in both orders"),
    ("position-consistent", "right in both orders"),
    ("correct in both orders", "right in both orders"),
    ("avg_accuracy_both_orders", "mean over both orders"),
    ("math-prm weighted 984", "rewardbench-2024-09"),
    ("xstest", "rewardbench-before-2024-09"),
    ("Prior Sets", "with Prior Sets at half weight (before 2024-09)"),
    ("micro_", "mean over items"),
    ("micro average", "mean over items"),
    ("one random order", "one random order"),
)


def rows(file: Path) -> Iterator[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as opened:
        for row in csv.DictReader(opened):
            if row["verified"] != "yes" or row["suite"] not in SUITES or row["metric"] not in METRICS:
                continue
            value, metric = float(row["value"]), row["metric"]
            if metric.endswith("_fraction"):
                value, metric = 100 * value, metric.replace("_fraction", "_pct")
            said = f"{row['metric']} {row['notes']}"
            yield {
                "suite": SUITES[row["suite"]],
                "model": row["model"],
                "category": row["category"],
                "metric": metric,
                "value": f"{value:.6g}",
                "protocol": next((rule for sign, rule in RULES if sign in said), "not stated by the source"),
                "source": f"{row['source']}, {row['table']}",
                "notes": row["notes"],
            }


def main(source: str) -> None:
    made = sorted(rows(Path(source)), key=lambda r: tuple(r.values()))
    with (Path(__file__).parent / "published.csv").open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, fieldnames=list(made[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(made)


if __name__ == "__main__":
    main(*sys.argv[1:])
