"""A leaderboard as a LaTeX table with booktabs, ready for ``\\input``; and a document around it that compiles alone."""

from __future__ import annotations

import re
import unicodedata

from rmbench.report.leaderboard import Board, Entry, count, footnotes, interval, number, plain, title

_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "'": r"\textquotesingle{}", "`": r"\textasciigrave{}",
    "–": "--", "—": "---", "×": r"$\times$", "±": r"$\pm$", "…": r"\dots{}", "−": "$-$",
}  # fmt: skip


def leaderboard(board: Board) -> str:
    """Needs ``\\usepackage{booktabs}`` and, for odd characters in names, ``\\usepackage[T1]{fontenc}`` and textcomp."""
    columns = len(board.columns)
    head = ["", "Model", escape(board.headline.capitalize()), r"95\% interval"]
    head += [escape(title(c)) for c in board.columns] + ["$n$", "Errors"]
    lines = [
        f"% {re.sub(r'[^ -~]', '?', board.suite.name)} v{re.sub(r'[^ -~]', '?', board.suite.version)}, "
        f"suite hash {board.suite_hash}. Needs booktabs.",
        rf"\begin{{tabular}}{{rlrl{'r' * (columns + 2)}}}",
        r"\toprule",
        " & ".join(head) + r" \\",
        r"\midrule",
        *(_row(board, e) for e in board.models),
    ]
    if board.baselines:
        lines += [r"\midrule"] * bool(board.models) + [_row(board, e) for e in board.baselines]
    for apart in board.apart:
        lines.append(r"\midrule")
        lines.append(rf"\multicolumn{{{columns + 6}}}{{l}}{{Apart: {escape(apart.reason)}}} \\")
        lines += [_row(board, e) for e in apart.entries]
    lines += [r"\bottomrule", r"\end{tabular}"]
    return "\n".join([*lines, *(f"% {re.sub(r'[^ -~]', '?', n)}" for n in footnotes(board))]) + "\n"


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


def _row(board: Board, entry: Entry) -> str:
    main = entry.main(board.headline)
    name = escape(entry.label)
    cells = [
        "" if entry.rank is None else str(entry.rank),
        rf"\textit{{{name}}}" if entry.baseline else name,
        number(main).replace("–", "--"),
        interval(main),
        *(number(entry.main(c)).replace("–", "--") for c in board.columns),
        count(entry.run.n),
        count(entry.run.errors),
    ]
    # A cell that starts with a bracket would be read as an option of the line break before it.
    return " & ".join(f"{{{c}}}" if c.startswith("[") else c for c in cells) + r" \\"


_LATIN = set("ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜÝßàáâãäåæçèéêëìíîïñòóôõöøùúûüýÿ")
"""What T1 with utf8 sets."""
