"""What the codes of a winner or label stand for: read from the whole column, noted with counts, asked for in doubt."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rmbench import codes, suites
from rmbench.cli.options import parse_columns
from rmbench.core import Suite
from rmbench.errors import BadData, UsageError

Load = Callable[..., Suite]
A, B, TIE = (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)


@pytest.fixture
def votes(tmp_path: Path) -> Load:
    """``votes(codes, "response_a", "response_b")``, read with ``columns`` as typed."""

    def load(
        said: list[Any],
        a: str = "response_a",
        b: str = "response_b",
        winner: str = "winner",
        columns: str | None = None,
    ) -> Suite:
        path = tmp_path / "votes.jsonl"
        table = [{"prompt": f"q{n}", a: "x", b: "y", winner: code} for n, code in enumerate(said)]
        path.write_text("".join(json.dumps(row) + "\n" for row in table))
        return suites.load(str(path), columns=parse_columns(columns))

    return load


def grades(suite: Suite) -> list[tuple[float, ...]]:
    return [item.grades for item in suite.items]


NUMBERED = ("response_1", "response_2")
FROM_ZERO = ("response_0", "response_1")


@pytest.mark.parametrize(
    ("said", "names", "expected"),
    [
        ([1, 2, 2], (), [A, B, B]),
        ([2, 2], (), [B, B]),
        (["1.0", "2.0"], (), [A, B]),
        ([1, 2, 0], NUMBERED, [A, B, TIE]),  # PandaLM
        ([1, 1], NUMBERED, [A, A]),
        ([1, 1], ("output_1", "output_2"), [A, A]),
        ([0, 1, 1], FROM_ZERO, [A, B, B]),  # PKU-SafeRLHF
        ([0, 0], FROM_ZERO, [A, A]),
        ([1, 1], FROM_ZERO, [B, B]),
        ([1.0, 1.5, 2.0], (), [A, TIE, B]),
        ([1.0000048889, 1.9, 1.5, 1.0], (), [A, B, TIE, A]),  # AlpacaEval
        (["A>>B", "B >> A", "A=B", "[[A]]", "both_bad", "tie (bothbad)"], (), [A, B, TIE, A, TIE, TIE]),
        ([1, 2, "tie"], (), [A, B, TIE]),
        (["response_1", "response_0"], FROM_ZERO, [B, A]),
        (["output_2", "output_1"], ("output_1", "output_2"), [B, A]),
    ],
)
def test_one_reading_is_taken(votes: Load, said: list[Any], names: tuple[str, ...], expected: list[Any]) -> None:
    assert grades(votes(said, *names)) == expected


@pytest.mark.parametrize(
    ("said", "names", "ways"),
    [
        ([0, 1], (), ["0=a,1=b", "0=b,1=a"]),
        ([0, 1], NUMBERED, ["0=a,1=b", "0=b,1=a"]),
        ([1, 1], (), ["1=a", "1=b"]),  # 100 or 0 in one reading each
        ([0], (), ["0=a", "0=b"]),
        ([0, 1, 2], (), ["0=tie,1=a,2=b", "0=a,1=b,2=tie"]),
        ([0, 0.5, 1], (), ["0=a,0.5=tie,1=b", "0=b,0.5=tie,1=a"]),
        ([-3, -1, 0, 2], (), ["-3=a,-1=a,0=tie,2=b", "-3=b,-1=b,0=tie,2=a"]),
        ([-1, 1], NUMBERED, ["-1=a,1=b", "-1=b,1=a"]),
        ([True, False], (), ["false=a,true=b", "false=b,true=a"]),
    ],
)
def test_two_readings_are_asked_for_and_each_answer_is_taken(
    votes: Load, said: list[Any], names: tuple[str, ...], ways: list[str]
) -> None:
    with pytest.raises(BadData, match=r"votes\.jsonl:1: 'winner' is .*can be read in two ways.*Say which") as error:
        votes(said, *names)
    offered = re.findall(r"--columns winner=winner:(\S+?)(?:;|$)", str(error.value))
    assert offered == ways
    for way in offered:
        meant = dict(part.split("=") for part in way.split(","))
        sides = {"a": A, "b": B, "tie": TIE}
        shown = [str(code).lower() for code in said]
        assert grades(votes(said, *names, columns=f"winner=winner:{way}")) == [sides[meant[code]] for code in shown]


@pytest.mark.parametrize(
    "said", [[3], [1, 3], [0, 2], ["c"], [1, 2, "no idea"], [0.2, 0.7], [1.3, 2.5], [[1]], [None], ["", None]]
)
def test_codes_of_no_reading_are_refused_with_their_counts(votes: Load, said: list[Any]) -> None:
    with pytest.raises(
        BadData, match=r"votes\.jsonl:\d: 'winner' is .* must be a, b or tie.*The column holds .*--columns"
    ):
        votes(said)


def test_numbers_are_compared_as_numbers(votes: Load) -> None:
    assert codes.code("1.0") == codes.code(1) == codes.code(" 1 ") == 1.0
    assert codes.code(1.0000048889) != codes.code(1)
    assert codes.code(0.9999999) != 1.0
    with pytest.raises(BadData, match=r"'winner' is 0\.9999999"):
        votes([0.9999999, 2])


def test_the_mapping_is_noted_with_its_counts(votes: Load) -> None:
    assert "winner: 1 -> response_a (3), 2 -> response_b (1), tie -> tie (1)" in votes([1, 2, 1, 1, "tie"]).notes
    note = next(n for n in votes([1 + n / 100 for n in range(100)]).notes if n.startswith("winner"))
    assert note == "winner: 100 values -> response_a (50), response_b (49), tie (1)"


def test_rows_without_a_winner_are_left_out_and_counted(votes: Load) -> None:
    suite = votes([1.0, None, 2.0, "", 1.2], "output_1", "output_2", "preference")
    assert grades(suite) == [A, B, A]
    assert [item.id for item in suite.items] == ["votes-0", "votes-2", "votes-4"]
    assert suite.excluded == {"no 'preference', so there is nothing to compare with": 2}


def test_what_is_said_goes_before_what_is_seen(votes: Load) -> None:
    assert grades(votes([1, 2], columns="winner=winner:1=b,2=a")) == [B, A]
    assert grades(votes([-2.5, 0, 3], columns="winner=winner:<0=a,0=tie,>0=b")) == [A, TIE, B]
    assert grades(votes(["x", "Y"], columns="winner=winner:X=a,y=b")) == [A, B]
    with pytest.raises(BadData, match=r"votes\.jsonl:3: 'winner' is 3; .*holds 1 \(1\), 2 \(1\), 3 \(1\)"):
        votes([1, 2, 3], columns="winner=winner:1=b,2=a")


@pytest.mark.parametrize(
    "text", ["winner=winner:1=c", "winner=winner:1=", "winner=winner:=a", "winner=winner:<x=a", "winner=winner:1"]
)
def test_a_mapping_that_says_nothing_is_refused(votes: Load, text: str) -> None:
    with pytest.raises(
        UsageError, match="does not say what a code stands for: a, b or tie, as in winner=column:1=a,2=b"
    ):
        votes([1, 2], columns=text)


def test_a_column_name_with_a_colon_is_a_name(votes: Load) -> None:
    assert grades(votes([1, 2], winner="team:vote", columns="winner=team:vote")) == [A, B]
    assert grades(votes([1, 2], winner="team:vote", columns="winner=team:vote:1=b,2=a")) == [B, A]


def test_three_answers_are_no_vote_on_two(tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    path.write_text(json.dumps({"prompt": "q", "response_1": "x", "response_2": "y", "response_3": "z", "winner": 1}))
    with pytest.raises(UsageError, match="response_1, response_2, response_3 are more than two answers"):
        suites.load(str(path))
    suite = suites.load(str(path), columns={"response_a": "response_1", "response_b": "response_3"})
    assert suite.items[0].responses == ("x", "z")


# Labels


def labels(path: Path, name: str, said: list[Any], columns: str | None = None) -> Suite:
    path.write_text(
        "".join(json.dumps({"prompt": f"q{n}", "response": "x", name: s}) + "\n" for n, s in enumerate(said))
    )
    return suites.load(str(path), columns=parse_columns(columns))


def test_labels_are_noted_with_their_counts(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    assert "label: 0 -> bad (1), 1 -> good (2)" in labels(path, "label", [1, 0, 1]).notes
    suite = labels(path, "label", ["spam", "fine"], "label=label:spam=bad,fine=good")
    assert grades(suite) == [(0.0,), (1.0,)]
    with pytest.raises(
        BadData, match=r"labels\.jsonl:2: 'label' is 'fine'; it must be 0 or 1.*label=label:1=good,2=bad"
    ):
        labels(path, "label", [1, "fine"])


def test_a_one_in_a_column_of_harm_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    with pytest.raises(BadData, match="'toxic' is 1, and what that means can be read in two ways"):
        labels(path, "toxic", [1, 0], "label=toxic")
    assert grades(labels(path, "toxic", [1, 0], "label=toxic:1=bad,0=good")) == [(0.0,), (1.0,)]
    with pytest.raises(
        BadData, match=r"--columns label=is_unsafe:false=good,true=bad; or --columns label=is_unsafe:false=bad"
    ):
        labels(path, "is_unsafe", [True, False], "label=is_unsafe")
    assert grades(labels(path, "toxic", ["unsafe", "safe"], "label=toxic")) == [(0.0,), (1.0,)]
