"""Baseline and candidate: paired differences, and a verdict that never mistakes "cannot tell" for "fine"."""

from __future__ import annotations

from rmbench.gate.compare import Comparison, Comparisons, Difference, Flip, compare, compare_pair
from rmbench.gate.output import junit, markdown, workflow_commands
from rmbench.gate.policy import Policy, read_policy
from rmbench.gate.ranks import Ranked, Ranking
from rmbench.gate.sequential import Sequential, sequential_order
from rmbench.gate.verdict import OUTCOMES, ScopeVerdict, Verdict, exit_code, gate, gate_runs

__all__ = [
    "OUTCOMES",
    "Comparison",
    "Comparisons",
    "Difference",
    "Flip",
    "Policy",
    "Ranked",
    "Ranking",
    "ScopeVerdict",
    "Sequential",
    "Verdict",
    "compare",
    "compare_pair",
    "exit_code",
    "gate",
    "gate_runs",
    "junit",
    "markdown",
    "read_policy",
    "sequential_order",
    "workflow_commands",
]
