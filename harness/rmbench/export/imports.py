"""Other tools' scores and verdicts as finished runs, marked imported, so that old results stand in the same table.

============  ==========================================================================================
rewardbench   ``<model>_outputs.jsonl`` or ``eval-set-scores/<model>.json`` of allenai/reward-bench
judgebench    ``outputs/*.jsonl`` of ScalerLab/JudgeBench (the second verdict is in the swapped order's terms)
llmbar        ``result.json`` of princeton-nlp/LLMBar, or rows with winner_original_order, winner_swapped_order
mt-bench      ``gpt4_pair`` of lmsys/mt_bench_human_judgments: one judge's verdicts, asked in both orders
jsonl         ``{"id": ..., "scores": [...]}``, or ``"ballots"`` or ``"error"`` as in judgments.jsonl
============  ==========================================================================================
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from rmbench.core import SCHEMA, Ballot, Facts, Item, Judgment, Run, Suite, fingerprint
from rmbench.errors import BadData, UnknownName

Row = Mapping[str, Any]


def read(
    file: Path, source: str, suite: Suite, *, model: str | None = None
) -> tuple[Run, list[Facts], dict[str, Judgment]]:
    """A run on ``suite``, ready for ``store.import_run``. Items that the file does not have stay without a judgment and
    are counted as such. Raises BadData for a file of another form, or rows that fit no item or fit one twice."""
    if source not in FORMATS:
        raise UnknownName("import format", source, FORMATS)
    rows = list(_rows(file))
    if not rows:
        raise BadData(f"{file} holds no rows")
    find = _finder(suite)
    judgments: dict[str, Judgment] = {}
    unknown: list[int] = []
    for number, row in enumerate(rows, 1):
        where = f"{file}: row {number}"
        if not isinstance(row, dict):
            raise BadData(f"{where} is not an object but {row!r:.60}")
        item = find(row, number - 1, len(rows), source)
        if item is None:
            unknown.append(number)
            continue
        if item.id in judgments:
            raise BadData(f"{where}: a second row for item {item.id!r}; an item has one judgment")
        judgments[item.id] = _checked(FORMATS[source](row, item, where), item, where)
    # GPT-4 judged every pair of answers, people only some.
    if unknown and not (source == "mt-bench" and judgments):
        first = rows[unknown[0] - 1]
        named = {k: first[k] for k in ("id", "pair_id", "subset", "index") if k in first}
        raise BadData(
            f"{file}: {len(unknown)} of {len(rows)} rows fit no item of suite {suite.name} ({len(suite.items)} items); "
            f"the first is row {unknown[0]}, {named}. Give the --suite that was run, with the same --data"
        )
    notes: tuple[str, ...] = (
        f"imported from {source} file {file.name}; {len(judgments):,} of {len(suite.items):,} items",
    )
    if unknown:
        notes = (*notes, f"{len(unknown):,} rows of the file are of no item of the suite and are left out")
    halves = sum(r.get("results") == 0.5 for r in rows) if source == "rewardbench" else 0
    if halves:
        # reward-bench writes the same half for a tie and for a reply that it could not read.
        notes = (*notes, f"{halves:,} rows count one half in the file, and here what the rules say of a tie")
    name = model or next((str(r["model"]) for r in rows if r.get("model")), file.stem.removesuffix("_outputs"))
    settings = {"imported from": source, "model": name, "judgments": _digest(judgments)}
    errors = sum(j.error is not None for j in judgments.values())
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
        errors=errors,
        order="both orders, as imported" if any(len(j.ballots) > 1 for j in judgments.values()) else "as imported",
        exact=False,
        notes=notes,
    )
    return run, [Facts.of(item) for item in suite.items], judgments


def _digest(judgments: Mapping[str, Judgment]) -> str:
    return hashlib.sha256(msgspec.json.encode(judgments, order="deterministic")).hexdigest()[:16]


def _rows(file: Path) -> Iterator[Any]:
    """Rows of JSON lines, of a JSON list, or of an object of columns."""
    try:
        raw = file.read_bytes()
        text = gzip.decompress(raw) if file.suffix == ".gz" else raw
    except (OSError, EOFError) as error:
        raise BadData(f"{file} cannot be read: {error}") from error
    try:
        # The standard decoder: other tools write NaN, which strict JSON does not know.
        whole = json.loads(text)
    except ValueError:
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise BadData(f"{file}:{number}: not JSON ({error})") from error
        return
    if isinstance(whole, list):
        yield from whole
    elif isinstance(whole, dict) and any(isinstance(v, list) for k, v in whole.items() if k != "scores"):
        lists = {k: v for k, v in whole.items() if isinstance(v, list)}
        if "judgments" in lists or ("results" in lists and "input" in whole) or "ballots" in lists:
            yield whole
            return
        sizes = {len(v) for v in lists.values()}
        if len(sizes) > 1:
            raise BadData(f"{file}: columns of different lengths: { {k: len(v) for k, v in lists.items()} }")
        rest = {k: v for k, v in whole.items() if k not in lists}
        for values in zip(*lists.values(), strict=True):
            yield {**rest, **dict(zip(lists, values, strict=True))}
    else:
        yield whole


def _finder(suite: Suite) -> Callable[[Row, int, int, str], Item | None]:
    """Which item a row is of: by id, by subset and id, by its texts, or by place where the counts agree."""
    by_id: dict[str, Item] = {item.id: item for item in suite.items}
    for item in suite.items:
        # reward-bench's ids count through the set; ours carry the subset before them.
        by_id.setdefault(item.id.rpartition("/")[2], item)
    by_text: dict[tuple[str, frozenset[str]], Item] = {
        (item.prompt[-1].content if item.prompt else "", frozenset(item.responses)): item for item in suite.items
    }

    def find(row: Row, place: int, total: int, source: str) -> Item | None:
        subset, index = row.get("subset"), row.get("index")
        for key in (row.get("pair_id"), row.get("item_id"), row.get("id")):
            if key is not None:
                for name in (f"{subset}/{key}", str(key)):
                    if name in by_id and (subset is None or by_id[name].subset == subset):
                        return by_id[name]
        if source == "mt-bench":
            models = sorted(str(row.get(k)) for k in ("model_a", "model_b"))
            return by_id.get(f"{row.get('question_id')}-{row.get('turn')}-{'-'.join(models)}")
        if subset is not None and index is not None and f"{subset}-{index}" in by_id:
            return by_id[f"{subset}-{index}"]
        prompt = row.get("prompt", row.get("input", row.get("question")))
        prompt = prompt[-1].get("content") if isinstance(prompt, list) and prompt else prompt
        for a, b in (("text_chosen", "text_rejected"), ("chosen", "rejected"), ("output_1", "output_2"),
                     ("response_A", "response_B")):  # fmt: skip
            if isinstance(row.get(a), str) and isinstance(row.get(b), str) and isinstance(prompt, str):
                return by_text.get((prompt, frozenset((row[a], row[b]))))
        if source == "rewardbench" and total == len(suite.items):
            item = suite.items[place]
            return item if subset in (None, item.subset) else None
        return None

    return find


def _rewardbench(row: Row, item: Item, where: str) -> Judgment:
    if len(item.grades) != 2:
        raise BadData(f"{where}: item {item.id!r} is no pair; the format holds pairs only")
    chosen, rejected = row.get("scores_chosen"), row.get("scores_rejected")
    best = int(item.grades[1] > item.grades[0])
    if isinstance(chosen, int | float) and isinstance(rejected, int | float):
        scores = [float(chosen), float(rejected)]
    elif isinstance(row.get("results"), int | float):
        # Pair models and judges write only whether they were right: 1, 0, or one half.
        scores = [float(row["results"]), 1 - float(row["results"])]
    else:
        raise BadData(f"{where}: neither scores_chosen and scores_rejected nor results are numbers")
    return Judgment.of(item, scores if best == 0 else scores[::-1])


def _judgebench(row: Row, item: Item, where: str) -> Judgment:
    said = row.get("judgments")
    if not isinstance(said, list) or not said:
        raise BadData(f"{where}: no list 'judgments'")
    ballots = []
    for k, one in enumerate(said):
        shown = (0, 1) if k % 2 == 0 else (1, 0)
        decision = one.get("decision") if isinstance(one, dict) else None
        inner = (one.get("judgment") if isinstance(one, dict) else None) or {}
        inner = inner if isinstance(inner, dict) else {}
        text = str(inner.get("response") or "") or None
        scores = inner.get("scores")
        picked = {"A>B": shown[0], "B>A": shown[1]}.get(str(decision))
        if picked is None and decision not in ("A=B", None):
            raise BadData(f"{where}: decision {decision!r}; it is A>B, B>A, A=B or null")
        if decision is None:
            ballots.append(Ballot(shown=shown, sample=k // 2, text=text, error="no verdict"))
        else:
            ballots.append(Ballot(shown=shown, sample=k // 2, picked=picked, tie=decision == "A=B", text=text))
        if row.get("judge_name") == "reward_model" and isinstance(scores, list) and len(scores) == 2 and k == 0:
            # A scalar model's two "orders" are the same two scores, not two opinions.
            return Judgment.of(item, [float(s) for s in scores])
    return _of_ballots(item, ballots)


def _llmbar(row: Row, item: Item, where: str) -> Judgment:
    results = row.get("results")
    if isinstance(results, list) and results and isinstance(results[-1], dict):
        last = results[-1]
        said = [last.get("swap = False"), last.get("swap = True")]
        winners = [s.get("winner") if isinstance(s, dict) else None for s in said]
        texts = [(s.get("completion") or [None])[0] if isinstance(s, dict) else None for s in said]
    elif "winner_original_order" in row:
        winners = [row["winner_original_order"], row.get("winner_swapped_order")]
        texts = [None, None]
    else:
        raise BadData(f"{where}: neither 'results' nor 'winner_original_order'")
    # Winners are in the item's own terms in both orders: the authors' script maps the swapped one back.
    if _flipped(row, item):
        winners = [{"1": "2", "2": "1"}.get(str(w)) for w in winners]
    ballots = []
    for shown, winner, text in zip(((0, 1), (1, 0)), winners, texts, strict=True):
        if winner is None:
            ballots.append(Ballot(shown=shown, text=text, error="no verdict"))
        elif str(winner) in ("1", "2"):
            ballots.append(Ballot(shown=shown, picked=int(winner) - 1, text=text))
        else:
            raise BadData(f"{where}: winner {winner!r}; it is 1, 2 or null")
    return _of_ballots(item, ballots)


def _flipped(row: Row, item: Item) -> bool:
    return isinstance(row.get("output_1"), str) and row["output_1"] != row.get("output_2") == item.responses[0]


def _jsonl(row: Row, item: Item, where: str) -> Judgment:
    known = {k: row[k] for k in Judgment.__struct_fields__ if k in row and row[k] is not None}
    known["item_id"] = item.id
    if "scores" in known and isinstance(known["scores"], list):
        if not all(isinstance(s, int | float) for s in known["scores"]):
            raise BadData(f"{where}: scores {known['scores']!r:.80} are not numbers")
        bad = [s for s in known["scores"] if not math.isfinite(s)]
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


def _mt_bench(row: Row, item: Item, where: str) -> Judgment:
    winner = row.get("winner")
    first = 0 if str(row["model_a"]) < str(row["model_b"]) else 1
    picks = {"model_a": (first, first), "model_b": (1 - first, 1 - first), "tie": (None, None)}
    # GPT-4 was asked in both orders; this says that its verdict went with the place.
    picks["tie (inconsistent)"] = (0, 1)
    if winner not in picks:
        raise BadData(f"{where}: winner {winner!r}; it is {', '.join(picks)}")
    shown = ((0, 1), (1, 0))
    ballots = [Ballot(shown=s, picked=p, tie=p is None) for s, p in zip(shown, picks[winner], strict=True)]
    return _of_ballots(item, ballots)


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


FORMATS: dict[str, Callable[[Row, Item, str], Judgment]] = {
    "rewardbench": _rewardbench,
    "judgebench": _judgebench,
    "llmbar": _llmbar,
    "mt-bench": _mt_bench,
    "jsonl": _jsonl,
}
