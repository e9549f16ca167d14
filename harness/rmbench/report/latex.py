"""A leaderboard as a LaTeX table with booktabs, ready for ``\\input``; and a document around it that compiles alone."""

from __future__ import annotations

import re
import unicodedata

from rmbench.report.leaderboard import (
    Board,
    Entry,
    Figures,
    count,
    footnotes,
    interval,
    number,
    plain,
    published_rows,
    title,
)

_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "'": r"\textquotesingle{}", "`": r"\textasciigrave{}",
    "–": "--", "—": "---", "×": r"$\times$", "±": r"$\pm$", "…": r"\dots{}", "−": "$-$",
}  # fmt: skip


def leaderboard(board: Board) -> str:
    """Needs ``\\usepackage{booktabs}`` and, for odd characters in names, ``\\usepackage[T1]{fontenc}`` and textcomp."""
    consistent = any(e.named("consistency") for e in board.everything)
    columns = len(board.columns) + consistent
    head = ["", "Model", escape(title(board.headline)[:1].upper() + title(board.headline)[1:]), r"95\% interval"]
    head += [escape(title(c)) for c in board.columns] + ["Consistency"] * consistent + ["$n$", "Errors"]
    lines = [
        f"% {re.sub(r'[^ -~]', '?', board.suite.name)} v{re.sub(r'[^ -~]', '?', board.suite.version)}, "
        f"suite hash {board.suite_hash}. Needs booktabs.",
        rf"\begin{{tabular}}{{rlrl{'r' * (columns + 2)}}}",
        r"\toprule",
        " & ".join(head) + r" \\",
        r"\midrule",
        *(_row(board, e, consistent) for e in board.models),
    ]
    if board.baselines:
        lines += [r"\midrule"] * bool(board.models) + [_row(board, e, consistent) for e in board.baselines]
    for apart in board.apart:
        lines += [r"\midrule"] * (lines[-1] != r"\midrule")
        lines.append(rf"\multicolumn{{{columns + 6}}}{{l}}{{Apart: {escape(apart.reason)}}} \\")
        lines += [_row(board, e, consistent) for e in apart.entries]
    lines += [*_published(board, columns + 6), r"\bottomrule", r"\end{tabular}"]
    return "\n".join([*lines, *(f"% {re.sub(r'[^ -~]', '?', n)}" for n in footnotes(board))]) + "\n"


def _published(board: Board, width: int) -> list[str]:
    """Figures read elsewhere under the suite's own protocol; those of other protocols do not belong beside ours."""
    columns, rows = published_rows(board)
    place = {name: i for i, name in enumerate(columns)}

    def cell(row: Figures, name: str) -> str:
        value = row.values[place[name]] if name in place else None
        return "--" if value is None else f"{value:.1f}"

    own = [r for r in rows if r.protocol == board.suite.rules.name and any(v is not None for v in r.values)]
    if not own:
        return []
    head = rf"\multicolumn{{{width}}}{{l}}{{Published under {escape(board.suite.rules.name)}, not run here}} \\"
    names = [title(c) for c in (board.headline, *board.columns)]
    blank = [""] * (width - len(names) - 3)
    return [r"\midrule", head] + [
        " & ".join(["", escape(r.model), cell(r, names[0]), "", *(cell(r, n) for n in names[1:]), *blank]) + r" \\"
        for r in own
    ]


def document(board: Board) -> str:
    """The table as a page of its own."""
    size = r"\small" if len(board.columns) <= 6 else r"\tiny"
    return "\n".join(
        [
            r"\documentclass{article}",
            r"\usepackage[T1]{fontenc}",
            r"\usepackage[utf8]{inputenc}",
            r"\usepackage{textcomp,booktabs}",
            r"\usepackage[landscape,margin=1cm]{geometry}",
            r"\begin{document}",
            r"\noindent" + size,
            leaderboard(board) + r"\end{document}",
            "",
        ]
    )


def escape(text: str) -> str:
    """Text that LaTeX sets as it is; a letter that T1 does not have loses its marks, or shows as its code point."""
    made: list[str] = []
    for c in plain(text):
        if c == "-" and made and made[-1].endswith("-"):
            made.append("{}-")  # two in a row would be set as one dash
        elif c in _SPECIAL:
            made.append(_SPECIAL[c])
        elif c.isascii() or c in _LATIN:
            made.append(c)
        else:
            base = unicodedata.normalize("NFKD", c).encode("ascii", "ignore").decode()
            made.append(escape(base) if base else f"U+{ord(c):04X}")
    return "".join(made)


def _row(board: Board, entry: Entry, consistent: bool) -> str:
    main = entry.main(board.headline)
    name = escape(entry.label)
    cells = [
        entry.place,
        rf"\textit{{{name}}}" if entry.baseline else name,
        number(main).replace("–", "--"),
        interval(main),
        *(number(entry.main(c)).replace("–", "--") for c in board.columns),
        *([number(entry.named("consistency")).replace("–", "--")] if consistent else []),
        count(entry.n(board.headline)),
        count(entry.run.errors),
    ]
    # A cell that starts with a bracket would be read as an option of the line break before it.
    return " & ".join(f"{{{c}}}" if c.startswith("[") else c for c in cells) + r" \\"


_LATIN = set("ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜÝßàáâãäåæçèéêëìíîïñòóôõöøùúûüýÿ")
"""What T1 with utf8 sets."""
