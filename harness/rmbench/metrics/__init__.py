"""Judgments in, estimates out; pure: no disk, no clock, no global random state.

``estimates`` gives a run's numbers; the rest is what they are made of, for other questions.
"""

from __future__ import annotations

from rmbench.metrics.agreement import (
    annotator_table,
    cohen_kappa,
    fleiss_kappa,
    gwet_ac1,
    krippendorff_alpha,
    label_noise,
    leave_one_out,
    majority_baseline,
    vote_agreement,
)
from rmbench.metrics.credit import POSITION_RULES, Credit, credit
from rmbench.metrics.intervals import Interval, Measure, clopper_pearson, combine, interval, wilson
from rmbench.metrics.paired import benjamini_hochberg, e_value, holm, items_needed, mcnemar, paired_interval, tango
from rmbench.metrics.position import Swap, swap
from rmbench.metrics.ranking import best_of_n, pass_at_k
from rmbench.metrics.ratings import bradley_terry, separability
from rmbench.metrics.summary import credits_of, estimates, main
from rmbench.metrics.votes import majority, plurality_share

__all__ = [
    "POSITION_RULES",
    "Credit",
    "Interval",
    "Measure",
    "Swap",
    "annotator_table",
    "benjamini_hochberg",
    "best_of_n",
    "bradley_terry",
    "clopper_pearson",
    "cohen_kappa",
    "combine",
    "credit",
    "credits_of",
    "e_value",
    "estimates",
    "fleiss_kappa",
    "gwet_ac1",
    "holm",
    "interval",
    "items_needed",
    "krippendorff_alpha",
    "label_noise",
    "leave_one_out",
    "main",
    "majority",
    "majority_baseline",
    "mcnemar",
    "paired_interval",
    "pass_at_k",
    "plurality_share",
    "separability",
    "swap",
    "tango",
    "vote_agreement",
    "wilson",
]
