"""Other tools' scores and verdicts as finished runs, marked imported, so that old results stand in the same table.

============  ==========================================================================================
rewardbench   ``<model>_outputs.jsonl`` or ``eval-set-scores/<model>.json`` of allenai/reward-bench, version 1 or 2
judgebench    ``outputs/*.jsonl`` of ScalerLab/JudgeBench (the second verdict is in the swapped order's terms)
llmbar        ``result.json`` of princeton-nlp/LLMBar, or rows with winner_original_order, winner_swapped_order
mt-bench      ``gpt4_pair`` of lmsys/mt_bench_human_judgments: one judge's verdicts, asked in both orders
alpaca-eval   ``annotations.json`` of tatsu-lab/alpaca_eval: preference 1 (output_1) to 2 (output_2), or null
jsonl         ``{"id": ..., "scores": [...]}``, or ``"ballots"`` or ``"error"`` as in judgments.jsonl
============  ==========================================================================================

Every reader returns a judgment in the row's own terms: side 0 is what the row names first (chosen, response_A,
output_1, model_a, the first of ``responses``). Which response of the item that is, ``joins`` says, from the texts where
the row holds them.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import re
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from rmbench.core import SCHEMA, Ballot, Facts, Item, Judgment, Run, Suite, fingerprint
from rmbench.errors import BadData, UnknownName
from rmbench.export.joins import Join, Order, Row, finder


def read(
    file: Path, source: str, suite: Suite, *, model: str | None = None
) -> tuple[Run, list[Facts], dict[str, Judgment]]:
    """A run on ``suite``, ready for ``store.import_run``. Items that the file does not have stay without a judgment and
    are counted as such; ``run.info["join"]`` counts how the rows were joined. Raises BadData for a file of another
    form, and for rows that fit no item, fit one twice, could be of several, or hold other texts than their item."""
    if source not in FORMATS:
        raise UnknownName("import format", source, FORMATS)
    rows, mended = _rows(file)
    if not rows:
        raise BadData(f"{file} holds no rows")
    find = finder(suite, source)
    judgments: dict[str, Judgment] = {}
    unknown: list[int] = []
    faults: list[tuple[int, str]] = []
    joined: list[Join] = []
    for number, row in enumerate(rows, 1):
        where = f"{file}: row {number}"
        if not isinstance(row, dict):
            raise BadData(f"{where} is not an object but {row!r:.60}")
        join = find(row, number - 1, len(rows))
        if join is None:
            unknown.append(number)
        elif join.fault is not None:
            faults.append((number, join.fault))
        elif join.item.id in judgments:
            raise BadData(f"{where}: a second row for item {join.item.id!r}; an item has one judgment")
        else:
            joined.append(join)
            judgment = _checked(FORMATS[source](row, join.item, where), join.item, where)
            judgments[join.item.id] = _turned(judgment, join.order)
    _refuse_faults(file, rows, faults)
    # GPT-4 judged every pair of answers, people only some.
    if unknown and not (source == "mt-bench" and judgments):
        _refuse_unknown(file, rows, unknown, suite)
    counts = _count(joined, len(rows), len(suite.items))
    name = _plain(model or _model(file, source, rows))
    settings = {"imported from": source, "model": name, "judgments": _digest(judgments)}
    run = Run(
        schema=SCHEMA,
        status="imported",
        model=name,
        adapter=source,
        engine=None,
        fingerprint=fingerprint(settings),
        settings=settings,
        suite=suite.card(),
        suite_hash=suite.content_hash(),
        n=len(suite.items),
        done=len(judgments),
        errors=sum(j.error is not None for j in judgments.values()),
        order="both orders, as imported" if any(len(j.ballots) > 1 for j in judgments.values()) else "as imported",
        exact=False,
        notes=(
            f"imported from {source} file {_plain(file.name)}; {len(judgments):,} of {len(suite.items):,} items",
            *_notes(counts),
            *_cautions(source, rows, mended),
        ),
        info={"join": counts},
    )
    return run, [Facts.of(item) for item in suite.items], judgments


# The join, for the reader


def _refuse_faults(file: Path, rows: Sequence[Any], faults: Sequence[tuple[int, str]]) -> None:
    if faults:
        number, fault = faults[0]
        more = f" ({len(faults):,} of {len(rows):,} rows have such a fault; this is the first)" if faults[1:] else ""
        raise BadData(f"{file}: row {number}: {fault}{more}")


def _refuse_unknown(file: Path, rows: Sequence[Row], unknown: Sequence[int], suite: Suite) -> None:
    first = rows[unknown[0] - 1]
    known = ("id", "item_id", "pair_id", "question_id", "subset", "index", "prompt", "instruction", "question", "input")
    named = ", ".join(f"{k} {first[k]!r:.60}" for k in known if first.get(k) is not None) or "without id or texts"
    raise BadData(
        f"{file}: {len(unknown)} of {len(rows)} rows fit no item of suite {suite.name} ({len(suite.items)} items); "
        f"the first is row {unknown[0]} ({named}). Give the --suite that was run, with the same --data"
    )


def _count(joined: Sequence[Join], rows: int, items: int) -> dict[str, int]:
    """How the rows were joined. Left over: rows that are of no item, items that no row is of."""
    how = Counter(join.how for join in joined)
    return {
        "rows": rows,
        "id": how["id"],
        "text": how["text"],
        "place": how["place"],
        "place alone": sum(join.how == "place" and not join.checked for join in joined),
        "checked": sum(join.checked for join in joined),
        "turned": sum(join.turned for join in joined),
        "left over": rows - len(joined),
        "items left over": items - len(joined),
    }


def _notes(counts: Mapping[str, int]) -> list[str]:
    notes = [
        f"rows joined: {counts['id']:,} by id, {counts['text']:,} by text, {counts['place']:,} by place; texts "
        f"compared in {counts['checked']:,}; sides exchanged back in {counts['turned']:,}; left over: "
        f"{counts['left over']:,} rows, {counts['items left over']:,} items"
    ]
    if counts["place alone"]:
        notes.append(
            f"{counts['place alone']:,} rows were joined by their place in the file alone, for want of ids and texts: "
            f"right only if the file has the order of the suite"
        )
    if counts["left over"]:
        notes.append(f"{counts['left over']:,} rows in the file match no item in the suite and were skipped")
    return notes


def _cautions(source: str, rows: Sequence[Row], mended: int) -> list[str]:
    """What the file's form does not tell."""
    notes = []
    shares = sum(source == "rewardbench" and _share(row) is not None for row in rows)
    if shares:
        # reward-bench writes the same share for a tie and for a reply that it could not read.
        notes.append(
            f"rows with a share alone (one half, one quarter), counted as the rules count a tie: {shares:,}; the file "
            f"does not tell a tie from a reply that could not be read"
        )
    if mended:
        notes.append(f"rows with half a character (a lone surrogate), read as U+FFFD: {mended:,}")
    return notes


def _share(row: Row) -> float | None:
    """The credit of a row that has no scores and is neither right nor wrong."""
    scored = row.get("scores") is not None or row.get("scores_chosen") is not None
    result = _result(row)
    return result if result is not None and not scored and 0 < result < 1 else None


_SAYS = {"mt-bench": "judge", "alpaca-eval": "annotator", "llmbar": "evaluator", "judgebench": "judge_model"}
"""Format -> the column that names the judge; elsewhere ``model``."""
_ENDINGS = re.compile(r"(_outputs)?(\.(jsonl?|ndjson))?(\.gz)?$", re.IGNORECASE)


def _model(file: Path, source: str, rows: Sequence[Row]) -> str:
    """Whose judgments these are: as the rows say, else as the file is called."""
    key = _SAYS.get(source, "model")
    named = (row[key][0] if isinstance(row.get(key), list) and row[key] else row.get(key) for row in rows)
    names = list(dict.fromkeys(name for name in named if isinstance(name, str) and name.strip()))
    if len(names) > 1:
        raise BadData(
            f"{file}: column {key!r} names {len(names)} models, {', '.join(map(repr, names[:2]))}...; a run is of one. "
            f"Split the file, or say by --model what to call them"
        )
    stem = _ENDINGS.sub("", file.name) or file.name
    # JudgeBench's files say it in their names.
    said = re.search(r"(?:^|,)judge_model=([^,]+)", stem)
    return names[0] if names else said[1] if said else stem


def _digest(judgments: Mapping[str, Judgment]) -> str:
    return hashlib.sha256(msgspec.json.encode(judgments, order="deterministic")).hexdigest()[:16]


# The file


def _rows(file: Path) -> tuple[list[Any], int]:
    """Rows of JSON lines, of a JSON list, or of an object of columns; and how many of them had to be mended."""
    try:
        raw = file.read_bytes()
        raw = gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw
    except (OSError, EOFError, zlib.error) as error:
        raise BadData(f"{file} cannot be read: {error}") from error
    if raw.startswith(b"version https://git-lfs"):
        raise BadData(f"{file} is a pointer of Git LFS and not the file itself; get it with git lfs pull")
    try:
        text = raw.decode(json.detect_encoding(raw))
    except UnicodeDecodeError as error:
        raise BadData(f"{file} is not {error.encoding.upper()} ({error.reason} at byte {error.start})") from error
    rows = list(_parsed(file, text))
    if "\\ud" not in text.lower():
        return rows, 0
    mended = [_mended(row) for row in rows]
    return mended, sum(a != b for a, b in zip(rows, mended, strict=True))


def _parsed(file: Path, text: str) -> list[Any]:
    try:
        whole = _json(text, str(file))
    except (ValueError, RecursionError):
        return _lines(file, text)
    if isinstance(whole, list):
        return whole
    return _unrolled(file, whole) if isinstance(whole, dict) else [whole]


def _lines(file: Path, text: str) -> list[Any]:
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                rows.append(_json(line, f"{file}:{number}"))
            except (ValueError, RecursionError) as error:
                raise BadData(f"{file}:{number}: not JSON ({error})") from error
    return rows


def _json(text: str, where: str) -> Any:
    """By the standard decoder: other tools write NaN, which strict JSON does not know."""

    def record(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):
            twice = next(k for k, n in Counter(k for k, _ in pairs).items() if n > 1)
            raise BadData(f"{where}: the key {twice!r} stands twice in one object; which one is meant?")
        return made

    return json.loads(text.removeprefix("\ufeff"), object_pairs_hook=record)


_COLUMNS = ("id", "item_id", "pair_id", "index", "subset", "scores_chosen", "preference", "winner")
"""What is one value in a row, and a list in an object of columns."""


def _unrolled(file: Path, whole: dict[str, Any]) -> list[Any]:
    """The rows of an object of columns; an object of another kind is a row itself."""
    columns = any(isinstance(whole.get(k), list) for k in _COLUMNS)
    # LLMBar has a list 'results' in each row.
    if not columns and not (isinstance(whole.get("results"), list) and "input" not in whole):
        return [whole]
    lists = {k: v for k, v in whole.items() if isinstance(v, list)}
    if len({len(v) for v in lists.values()}) > 1:
        raise BadData(f"{file}: columns of different lengths: { {k: len(v) for k, v in lists.items()} }")
    rest = {k: v for k, v in whole.items() if k not in lists}
    return [{**rest, **dict(zip(lists, values, strict=True))} for values in zip(*lists.values(), strict=True)]


def _mended(value: Any) -> Any:
    """Without half characters, which JSON can spell and no file of ours can hold: the verdict beside them stands."""
    if isinstance(value, str):
        return _plain(value)
    if isinstance(value, list):
        return [_mended(one) for one in value]
    if isinstance(value, dict):
        return {_mended(k): _mended(v) for k, v in value.items()}
    return value


def _plain(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


# The formats: each row a judgment in the row's own terms


def _rewardbench(row: Row, item: Item, where: str) -> Judgment:
    if isinstance(row.get("scores"), list) or len(item.responses) > 2:
        return _rewardbench2(row, item, where)
    if len(item.responses) != 2:
        raise BadData(f"{where}: item {item.id!r} is neither a pair nor a ranking; the format holds only these")
    chosen, rejected = (_number(row.get(k)) for k in ("scores_chosen", "scores_rejected"))
    if chosen is not None and rejected is not None:
        return Judgment.of(item, [chosen, rejected])
    if isinstance(row.get("error"), str):
        return Judgment(item_id=item.id, error=row["error"] or "an error without words")
    result = _result(row)
    if result is None:
        raise BadData(f"{where}: neither scores_chosen and scores_rejected nor results are numbers")
    # Pair models and judges write only whether they were right: 1, 0, or one half.
    return Judgment.of(item, [result, 1 - result])


def _rewardbench2(row: Row, item: Item, where: str) -> Judgment:
    """RewardBench 2: scores in a list, the right answers' first; of a judge that picks one of four, only whether."""
    given, n = row.get("scores"), len(item.responses)
    if isinstance(given, list):
        scores = _numbers(given, where)
        if str(row.get("model_type")).startswith("Generative") and -1.0 in scores:
            return Judgment(item_id=item.id, error="a rating is -1, which stands for a reply that could not be read")
        return Judgment.of(item, scores)
    result = _result(row)
    if result is None:
        raise BadData(f"{where}: neither a list 'scores' nor a number 'results'")
    if sum(grade == max(item.grades) for grade in item.grades) != 1:
        raise BadData(
            f"{where}: item {item.id!r} has several right answers: 'results' alone does not tell, 'scores' would"
        )
    if result == 0:  # one of the others won, whichever
        return Judgment.of(item, [0.0, *[1.0] * (n - 1)])
    shared = next((k for k in range(1, n + 1) if abs(1 / k - result) < 1e-6), None)
    if shared is None:
        raise BadData(f"{where}: results {result}; it is 0, 1, or 1/k where k of the {n} answers share the first place")
    return Judgment.of(item, [1.0] * shared + [0.0] * (n - shared))


def _judgebench(row: Row, item: Item, where: str) -> Judgment:
    said = row.get("judgments")
    if not isinstance(said, list) or not said:
        raise BadData(f"{where}: no list 'judgments'")
    ballots = []
    for k, one in enumerate(said):
        decision = one.get("decision") if isinstance(one, dict) else None
        inner = one.get("judgment") if isinstance(one, dict) else None
        inner = inner if isinstance(inner, dict) else {}
        scores = inner.get("scores")
        if row.get("judge_name") == "reward_model" and isinstance(scores, list) and len(scores) == 2 and k == 0:
            # A scalar model's two "orders" are the same two scores, not two opinions.
            return Judgment.of(item, _numbers(scores, where))
        shown = (0, 1) if k % 2 == 0 else (1, 0)
        verdict = _verdict(decision, where, "decision")
        picked = shown[verdict] if verdict in (0, 1) else verdict
        ballots.append(_ballot(shown, picked, sample=k // 2, text=_words(inner.get("response"))))
    return _of_ballots(item, ballots)


def _llmbar(row: Row, item: Item, where: str) -> Judgment:
    results = row.get("results")
    if isinstance(results, list) and results and isinstance(results[-1], dict):
        said = [results[-1].get(f"swap = {swap}") for swap in (False, True)]
        winners = [s.get("winner") if isinstance(s, dict) else None for s in said]
        texts = [_words(s.get("completion")) if isinstance(s, dict) else None for s in said]
    elif "winner_original_order" in row:
        winners = [row["winner_original_order"], row.get("winner_swapped_order")]
        texts = [None, None]
    else:
        raise BadData(f"{where}: neither 'results' nor 'winner_original_order'")
    # Winners are in the row's own terms in both orders: the authors' script maps the swapped one back.
    return _of_ballots(
        item,
        [
            _ballot(shown, _verdict(winner, where, "winner"), text=text)
            for shown, winner, text in zip(((0, 1), (1, 0)), winners, texts, strict=True)
        ],
    )


def _mt_bench(row: Row, item: Item, where: str) -> Judgment:
    # GPT-4 was asked in both orders; this says that its verdict went with the place.
    if row.get("winner") == "tie (inconsistent)":
        verdicts = [0, 1]
    elif (verdict := _verdict(row.get("winner"), where, "winner")) is not None:
        verdicts = [verdict, verdict]
    else:
        raise BadData(f"{where}: no winner; it is model_a, model_b, tie or tie (inconsistent)")
    return _of_ballots(item, [_ballot(s, v) for s, v in zip(((0, 1), (1, 0)), verdicts, strict=True)])


def _alpaca_eval(row: Row, item: Item, where: str) -> Judgment:
    """A preference is 1 plus the (probability of the) verdict for output_2. Which was shown first, the file does not
    say, so there are scores and no ballot."""
    if "preference" not in row:
        raise BadData(f"{where}: no 'preference'")
    given = row["preference"]
    preference = _number(given)
    if given is None or (preference is not None and math.isnan(preference)):
        return Judgment(item_id=item.id, error="no verdict")
    if preference == 0:  # in early files, for two equal outputs
        preference = 1.5
    if preference is None or not 1 <= preference <= 2:
        raise BadData(f"{where}: preference {given!r:.60}; it is a number from 1 (output_1) to 2 (output_2), or null")
    return Judgment.of(item, [2 - preference, preference - 1])


def _jsonl(row: Row, item: Item, where: str) -> Judgment:
    known = {k: row[k] for k in Judgment.__struct_fields__ if k in row and row[k] is not None}
    known["item_id"] = item.id
    if isinstance(known.get("scores"), list):
        scores = _numbers(known["scores"], where)
        bad = [s for s in scores if not math.isfinite(s)]
        if bad:
            known |= {"error": f"score not finite ({bad[0]})"}
            known.pop("scores")
    try:
        if "scores" not in known and "error" not in known and "ballots" in known:
            return _of_ballots(item, msgspec.convert(known["ballots"], list[Ballot]))
        return msgspec.convert(known, Judgment)
    except (msgspec.ValidationError, ValueError) as error:
        raise BadData(
            f"{where}: {error}; a row is {{'id': ..., 'scores': [...]}}, or has 'ballots' or 'error'"
        ) from error


FORMATS: dict[str, Callable[[Row, Item, str], Judgment]] = {
    "rewardbench": _rewardbench,
    "judgebench": _judgebench,
    "llmbar": _llmbar,
    "mt-bench": _mt_bench,
    "alpaca-eval": _alpaca_eval,
    "jsonl": _jsonl,
}


# Values and verdicts

_TIE = -1
_VERDICTS = {
    **dict.fromkeys(("A>B", "A>>B", "model_a", "1"), 0),
    **dict.fromkeys(("B>A", "B>>A", "model_b", "2"), 1),
    **dict.fromkeys(("A=B", "tie", "tie (bothbad)", "both_bad", "bothbad"), _TIE),
}


def _verdict(value: Any, where: str, what: str) -> int | None:
    """0, 1, or a tie; None where the judge gave none."""
    if value is None:
        return None
    said = _VERDICTS.get(f"{value:g}" if isinstance(value, float) else str(value))
    if said is None:
        raise BadData(
            f"{where}: {what} {value!r:.60}; it is 1, A>B, A>>B or model_a for the first, 2, B>A, B>>A or model_b for "
            f"the second, tie, A=B or both_bad for neither, null for no verdict"
        )
    return said


def _ballot(shown: Order, verdict: int | None, **more: Any) -> Ballot:
    if verdict is None:
        return Ballot(shown=shown, error="no verdict", **more)
    return Ballot(shown=shown, picked=None if verdict == _TIE else verdict, tie=verdict == _TIE, **more)


def _words(value: Any) -> str | None:
    """A judge's own words, which LLMBar keeps in a list with the reason why they ended."""
    first = value[0] if isinstance(value, list) and value else value
    return first if isinstance(first, str) and first else None


def _number(value: Any) -> float | None:
    """A number; some models write each score as a list of one."""
    value = value[0] if isinstance(value, list) and len(value) == 1 else value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _result(row: Row) -> float | None:
    """reward-bench's own verdict on a row, which may be written as true or false."""
    value = row.get("results")
    return float(value) if isinstance(value, bool) else _number(value)


def _numbers(values: Sequence[Any], where: str) -> list[float]:
    made = [_number(value) for value in values]
    if any(number is None for number in made):
        raise BadData(f"{where}: scores {values!r:.80} are not numbers")
    return [number for number in made if number is not None]


def _of_ballots(item: Item, ballots: list[Ballot]) -> Judgment:
    """Scores are shares of the valid votes of all orders: these tools count a lost verdict in one order as wrong there,
    and the position rules read the ballots, so the other order's verdict must stay in play. None valid: no score."""
    valid = [b for b in ballots if b.valid]
    if not valid:
        return Judgment(item_id=item.id, ballots=tuple(ballots), error="no ballot has a verdict")
    n = len(item.responses)
    votes = [0.0] * n
    for b in valid:
        for i in range(n):
            votes[i] += 1 / n if b.tie else float(b.picked == i)
    return Judgment(item_id=item.id, scores=tuple(v / len(valid) for v in votes), ballots=tuple(ballots))


def _checked(judgment: Judgment, item: Item, where: str) -> Judgment:
    if judgment.scores is not None and len(judgment.scores) != len(item.responses):
        raise BadData(
            f"{where}: {len(judgment.scores)} scores for item {item.id!r}, which has {len(item.responses)} responses"
        )
    for b in judgment.ballots:
        if sorted(b.shown) != sorted(set(b.shown)) or any(not 0 <= r < len(item.responses) for r in b.shown):
            raise BadData(
                f"{where}: a ballot shows {b.shown}; responses of {item.id!r} are 0..{len(item.responses) - 1}"
            )
        if b.picked is not None and b.picked not in b.shown:
            raise BadData(f"{where}: a ballot picked {b.picked}, which it did not show ({b.shown})")
    return judgment


def _turned(judgment: Judgment, order: Order) -> Judgment:
    """From the row's terms into the item's: side k is response ``order[k]``."""
    if order == tuple(range(len(order))):
        return judgment
    place = sorted(range(len(order)), key=order.__getitem__)
    return msgspec.structs.replace(
        judgment,
        scores=None if judgment.scores is None else tuple(judgment.scores[k] for k in place),
        ballots=tuple(
            msgspec.structs.replace(
                b, shown=tuple(order[k] for k in b.shown), picked=None if b.picked is None else order[b.picked]
            )
            for b in judgment.ballots
        ),
    )
