"""Verdicts for other readers: JUnit XML, a step summary in Markdown, workflow annotations."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

from rmbench.gate.policy import title
from rmbench.gate.verdict import ScopeVerdict, Verdict

ANNOTATIONS = 10
"""GitHub shows at most ten of a kind per step."""


def junit(verdicts: Sequence[Verdict]) -> str:
    """A suite is a testsuite, a scope a testcase; ``fail`` is a failure, ``undecided`` an error. What kept the gate
    from an answer is a testcase of its own, so that no reader sees only green."""
    root = ElementTree.Element("testsuites", name="rmbench gate")
    totals = [0, 0, 0]
    for verdict in verdicts:
        cases = [*verdict.scopes]
        extra = [ScopeVerdict(scope="preconditions", outcome="undecided", why=r, margin=0.0) for r in verdict.reasons]
        cases = [*extra, *cases]
        counts = [len(cases), *(sum(c.outcome == o for c in cases) for o in ("fail", "undecided"))]
        totals = [a + b for a, b in zip(totals, counts, strict=True)]
        name = _xml(verdict.suite)
        suite = ElementTree.SubElement(root, "testsuite", {"name": name} | _counts(counts))
        for case in cases:
            made = ElementTree.SubElement(
                suite, "testcase", name=_xml(title(case.scope)), classname=f"rmbench.{name}", time="0"
            )
            if case.outcome != "pass":
                kind = "failure" if case.outcome == "fail" else "error"
                ElementTree.SubElement(made, kind, message=_xml(case.why), type=case.outcome)
            ElementTree.SubElement(made, "system-out").text = _xml(_line(verdict, case))
    for name, value in _counts(totals).items():
        root.set(name, value)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _counts(counts: Sequence[int]) -> dict[str, str]:
    return {"tests": str(counts[0]), "failures": str(counts[1]), "errors": str(counts[2]), "time": "0"}


def _xml(text: str) -> str:
    """Without the control characters that XML 1.0 cannot hold."""
    return "".join(
        c for c in text if c in "\t\n" or (c >= " " and c not in "\ufffe\uffff" and not "\ud800" <= c <= "\udfff")
    )


def _line(verdict: Verdict, case: ScopeVerdict) -> str:
    return f"{verdict.candidate} against {verdict.baseline}: {title(case.scope)}: {case.outcome}: {case.why}"


MARKS = {"pass": "✅ pass", "fail": "❌ fail", "undecided": "❔ undecided"}


def markdown(verdicts: Sequence[Verdict]) -> str:
    """For ``GITHUB_STEP_SUMMARY``: a heading with the answer, a table of scopes, what kept from an answer, items
    broken."""
    parts = []
    for v in verdicts:
        parts.append(f"## {MARKS[v.outcome]}: {_md(v.candidate)} against {_md(v.baseline)} on {_md(v.suite)}\n")
        parts.extend(f"- **Could not decide:** {_md(reason)}" for reason in v.reasons)
        if v.saved is not None and v.stopped_after is not None:
            parts.append(f"Stopped after {v.stopped_after:,} items; {v.saved:,} were not needed.\n")
        if v.scopes:
            parts.append(
                "\n| scope | answer | candidate | baseline | difference | bounds | margin | detectable | n |\n"
                "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
            )
            parts.extend(_row(s) for s in v.scopes)
            parts.append("")
            parts.extend(f"- {_md(title(s.scope))}: {_md(s.why)}" for s in v.scopes if s.outcome != "pass")
        if v.broken:
            shown = ", ".join(f"`{_md(i)}`" for i in v.broken[:10])
            more = " …" if len(v.broken) > 10 else ""
            parts.append(f"\n{len(v.broken):,} items newly wrong, worst first: {shown}{more}")
        parts.append(
            f"\n<sub>Bounds one-sided at alpha {v.alpha:g}; detectable: how far from the margin a true difference "
            "is decided four times in five; values in points.</sub>\n"
        )
    return "\n".join(parts) + "\n"


def _row(s: ScopeVerdict) -> str:
    def points(value: float | None, sign: str = "") -> str:
        return "–" if value is None else f"{100 * value:{sign}.2f}"

    bounds = "–" if s.low is None else f"{points(s.low, '+')} … {points(s.high, '+')}"
    cells = (
        _md(title(s.scope)),
        MARKS[s.outcome],
        points(s.candidate),
        points(s.baseline),
        points(s.difference, "+"),
        bounds,
        f"{100 * s.margin:g}",
        points(s.detectable),
        f"{s.n:,}",
    )
    return f"| {' | '.join(cells)} |"


def _md(text: str) -> str:
    """No HTML, no table breaks, no markup from a model's name."""
    for a, b in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|"), ("`", "'"), ("\n", " "), ("[", "\\[")):
        text = text.replace(a, b)
    return text


def workflow_commands(verdicts: Sequence[Verdict]) -> list[str]:
    """Workflow commands for what did not pass, at most ten, failures first."""
    found: list[tuple[str, str, str]] = []
    for v in verdicts:
        found.extend(("error", f"{v.suite}: could not decide", reason) for reason in v.reasons)
        found.extend(("error", f"{v.suite}: {title(s.scope)} failed", s.why) for s in v.scopes if s.outcome == "fail")
    for v in verdicts:
        undecided = [s for s in v.scopes if s.outcome == "undecided"]
        found.extend(("warning", f"{v.suite}: {title(s.scope)} undecided", s.why) for s in undecided)
    if len(found) > ANNOTATIONS:
        rest = len(found) - ANNOTATIONS + 1
        found = [*found[: ANNOTATIONS - 1], ("warning", "rmbench gate", f"{rest} more; see the table of this step")]
    return [f"::{kind} title={_command(name, True)}::{_command(text, False)}" for kind, name, text in found]


def _command(text: str, inside: bool) -> str:
    text = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return text.replace(":", "%3A").replace(",", "%2C") if inside else text
