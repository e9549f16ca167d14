"""The loop: fixed blocks, resume to the same bytes, errors that are kept and tried again, early stops."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from rmbench import store, suites
from rmbench.core import Item, Judgment, Suite
from rmbench.errors import TooManyErrors, UsageError
from rmbench.loop import Progress, evaluate


@pytest.fixture(scope="module")
def suite() -> Suite:
    return suites.load("starter")


class Batchy:
    """Scores that depend on the batch, as a real model's last bits do; counts what it was asked."""

    block = 32

    def __init__(self, *, exact: bool = True, die_after: int | None = None, settings: Any = None) -> None:
        self.exact = exact
        self.settings = settings or {"name": "batchy"}
        self.asked: list[int] = []
        self._die_after = die_after

    def judge(self, items: Sequence[Item]) -> Iterator[Judgment]:
        self.asked.append(len(items))
        batch = sum(len(r) for item in items for r in item.responses) if self.exact else 0
        for item in items:
            if self._die_after is not None:
                if self._die_after == 0:
                    raise KeyboardInterrupt
                self._die_after -= 1
            yield Judgment.of(item, [len(r) + 1e-9 * batch for r in item.responses], tokens=3)


def run(adapter: Any, suite: Suite, root: Path, **more: Any) -> store.Stored:
    return evaluate(adapter, suite, model="batchy", adapter_name="test", root=root, **more)


def content(stored: store.Stored) -> tuple[bytes, bytes, bytes]:
    files = (store.ITEMS, store.JUDGMENTS, store.ESTIMATES)
    return tuple((stored.path / f).read_bytes() for f in files)  # type: ignore[return-value]


@pytest.mark.parametrize("exact", [True, False])
def test_killed_anywhere_and_resumed_is_byte_equal(tmp_path: Path, suite: Suite, exact: bool) -> None:
    undisturbed = content(run(Batchy(exact=exact), suite, tmp_path / "whole"))
    for n, after in enumerate((0, 1, 31, 32, 33, 100, 254)):
        root = tmp_path / str(n)
        with pytest.raises(KeyboardInterrupt):
            run(Batchy(exact=exact, die_after=after), suite, root)
        with pytest.raises(KeyboardInterrupt):  # and once more, in the part that was left
            run(Batchy(exact=exact, die_after=0), suite, root)
        adapter = Batchy(exact=exact)
        stored = run(adapter, suite, root)
        assert content(stored) == undisturbed
        done = after // 32 * 32 if exact else after
        assert sum(adapter.asked) == len(suite.items) - done


def test_a_complete_run_asks_nothing_and_stays_as_it_is(
    tmp_path: Path, suite: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(Batchy(), suite, tmp_path)
    before = {file.name: file.read_bytes() for file in first.path.iterdir()}
    again = Batchy()
    monkeypatch.setattr("rmbench.loop._now", lambda: "2099-01-01T00:00:00+00:00")
    second = run(again, suite, tmp_path)
    assert again.asked == []
    assert {file.name: file.read_bytes() for file in first.path.iterdir()} == before
    assert second.run.status == "complete"
    assert second.run.tokens == 3 * len(suite.items)


class Failing(Batchy):
    """Raises in its second block, or gives NaN for some items."""

    def __init__(
        self, *, raises: bool = False, silent: bool = False, nan: Sequence[str] = (), share: float = 0
    ) -> None:
        super().__init__()
        self._raises, self._silent, self._nan, self._share = raises, silent, set(nan), share

    def judge(self, items: Sequence[Item]) -> Iterator[Judgment]:
        for n, judgment in enumerate(super().judge(items)):
            if self._raises and len(self.asked) == 2 and n == 5:
                raise RuntimeError("out of luck")
            if self._silent and len(self.asked) == 2 and n >= 5:
                return
            item = items[n]
            if item.id in self._nan or n < self._share * len(items):
                judgment = Judgment.of(item, [float("nan")] * len(item.responses))
            yield judgment


def test_items_that_are_forgotten_are_errors_and_tried_again(tmp_path: Path, suite: Suite) -> None:
    whole = content(run(Batchy(), suite, tmp_path / "whole"))
    stored = run(Failing(silent=True), suite, tmp_path / "silent")
    assert stored.run.errors == 32 - 5
    assert all("gave no judgment" in str(j.error) for j in stored.judgments.values() if j.error)
    mended = Batchy()
    again = run(mended, suite, tmp_path / "silent")
    assert mended.asked == [32]  # its block, whole
    assert again.run.errors == 0
    assert content(again) == whole


def test_a_batch_that_failed_by_accident_leaves_no_trace(tmp_path: Path, suite: Suite) -> None:
    adapter = Failing(raises=True)
    stored = run(adapter, suite, tmp_path / "raises")
    assert adapter.asked[1 : 1 + 34] == [32, *[1] * 32, 32]  # the block, each of its items alone, the block again
    assert content(stored) == content(run(Batchy(), suite, tmp_path / "whole"))


class Choking(Batchy):
    """Raises at some items, wherever they stand in a batch; ``together`` also at any batch of more than one."""

    def __init__(self, at: Sequence[str], *, exact: bool = True, together: bool = False, **more: Any) -> None:
        super().__init__(exact=exact, **more)
        self._at, self._together = set(at), together

    def judge(self, items: Sequence[Item]) -> Iterator[Judgment]:
        for n, judgment in enumerate(super().judge(items)):
            if judgment.item_id in self._at or (self._together and len(items) > 1 and n == 1):
                raise RuntimeError(f"cannot judge {judgment.item_id} \udcff")
            yield judgment


@pytest.mark.parametrize("exact", [True, False])
def test_only_the_items_fail_at_which_the_adapter_raises(tmp_path: Path, suite: Suite, exact: bool) -> None:
    """The others have the bits of a block without the failing ones, whatever happened on the way."""
    ids = [item.id for item in suite.items]
    at = [ids[6], ids[40], ids[41], ids[63], ids[382]]
    stored = run(Choking(at, exact=exact), suite, tmp_path / "a")
    failed = {i: j.error for i, j in stored.judgments.items() if j.error is not None}
    assert failed == {i: f"RuntimeError: cannot judge {i} \\udcff" for i in at}  # as it can be stored
    assert stored.run.errors == len(at)
    assert stored.run.status == "complete"
    if exact:
        without = [item for item in suite.items[32:64] if item.id not in at]
        batch = sum(len(r) for item in without for r in item.responses)
        for item in without:
            assert stored.judgments[item.id].scores == tuple(len(r) + 1e-9 * batch for r in item.responses)
    for n, after in enumerate((5, 33, 60)):  # killed on the way, before the block, in its search, in its second scoring
        root = tmp_path / f"killed-{n}"
        with pytest.raises(KeyboardInterrupt):
            run(Choking(at, exact=exact, die_after=after), suite, root)
        assert content(run(Choking(at, exact=exact), suite, root)) == content(stored)
    assert content(run(Batchy(exact=exact), suite, tmp_path / "a")) == content(
        run(Batchy(exact=exact), suite, tmp_path / "whole")
    )


def test_a_block_that_fails_only_together_keeps_what_its_items_gave_alone(tmp_path: Path, suite: Suite) -> None:
    adapter = Choking([], together=True)
    stored = run(adapter, suite, tmp_path)
    assert stored.run.errors == 0
    for item in suite.items:
        alone = sum(map(len, item.responses))
        assert stored.judgments[item.id].scores == tuple(len(r) + 1e-9 * alone for r in item.responses)


def test_an_adapter_that_always_raises_is_not_tried_at_every_item(tmp_path: Path, suite: Suite) -> None:
    adapter = Choking([item.id for item in suite.items])
    with pytest.raises(TooManyErrors, match="64 of 64 items failed"):
        run(adapter, suite, tmp_path)
    assert adapter.asked == [32, *[1] * 8] * 2
    path = store.find(tmp_path)[0]
    assert store.state(path, store.read_run(path)) == "failed"
    run(Batchy(), suite, tmp_path)
    assert store.state(path, store.read_run(path)) == "complete"
    assert store.STOPPED not in store.read_run(path).info


def test_nan_is_never_a_win_and_never_raises_accuracy(tmp_path: Path, suite: Suite) -> None:
    clean = store.read_estimates(run(Batchy(), suite, tmp_path / "a").path)
    for item in suite.items[:40]:
        stored = run(Failing(nan=[item.id]), suite, tmp_path / item.id)
        assert stored.run.errors == 1
        for before, after in zip(clean, store.read_estimates(stored.path), strict=True):
            assert (before.name, before.scope) == (after.name, after.scope)
            if before.name == "accuracy" and before.value is not None and after.value is not None:
                assert after.value <= before.value + 1e-12
                assert after.wins <= before.wins


def test_too_many_errors_stop_the_run_and_keep_what_was_done(tmp_path: Path, suite: Suite) -> None:
    adapter = Failing(share=0.9)
    with pytest.raises(
        TooManyErrors, match=r"more than the share of 0\.5 allowed by --max-errors; the last one: score"
    ):
        run(adapter, suite, tmp_path)
    assert len(adapter.asked) < 8
    path = store.find(tmp_path)[0]
    assert store.read_run(path).status == "running"
    assert len(store.read(path).judgments) == 64
    assert run(Failing(share=0.9), suite, tmp_path / "b", max_errors=1.0).run.status == "complete"


def test_limit_makes_a_run_apart(tmp_path: Path, suite: Suite) -> None:
    stored = run(Batchy(), suite, tmp_path, limit=20, seed=3)
    assert len(stored.facts) == len(stored.judgments) == stored.run.n == stored.run.limit == 20
    assert stored.path.name == "starter-v1-limit20-seed3"
    assert stored.run.suite_hash == suite.content_hash()
    with pytest.raises(UsageError, match="--limit 0"):
        run(Batchy(), suite, tmp_path, limit=0)


def test_settings_decide_where_a_run_lives(tmp_path: Path, suite: Suite) -> None:
    paths = {run(Batchy(settings={"dtype": d}), suite, tmp_path).path for d in ("float32", "bfloat16", "float32")}
    assert len(paths) == 2


def test_an_early_stop_leaves_the_run_open(tmp_path: Path, suite: Suite) -> None:
    seen: list[int] = []

    def stop(judgments: Sequence[Judgment]) -> bool:
        seen.append(len(judgments))
        return len(seen) == 3

    stored = run(Batchy(), suite, tmp_path, stop=stop, order=lambda facts: list(range(len(facts)))[::-1])
    assert stored.run.status == "running"
    assert set(stored.judgments) == {i.id for i in suite.items[-96:]}
    whole = run(Batchy(), suite, tmp_path, order=lambda facts: list(range(len(facts)))[::-1])
    assert whole.run.status == "complete"
    assert list(whole.judgments) == [i.id for i in suite.items]


def test_progress_counts_up_and_never_past_the_end(tmp_path: Path, suite: Suite) -> None:
    seen: list[Progress] = []
    run(Failing(raises=True), suite, tmp_path, progress=seen.append)
    run(Batchy(), suite, tmp_path, progress=seen.append)
    assert all(p.done <= p.total == len(suite.items) for p in seen)
    assert [p.done for p in seen] == sorted(p.done for p in seen)


def test_an_adapter_may_prepare_with_all_blocks(tmp_path: Path, suite: Suite) -> None:
    class Two(Batchy):
        def prepare(self, blocks: Sequence[Sequence[Item]], scratch: Path) -> None:
            assert sum(map(len, blocks)) == len(suite.items)
            assert scratch.name == "scratch"
            self.prepared = True

    adapter = Two()
    run(adapter, suite, tmp_path)
    assert adapter.prepared


def test_a_stream_that_forgets_items_has_errors_for_them(tmp_path: Path, suite: Suite) -> None:
    class Forgetful(Batchy):
        def judge(self, items: Sequence[Item]) -> Iterator[Judgment]:
            yield from super().judge(items[::2])

    stored = run(Forgetful(exact=False), suite, tmp_path)
    assert stored.run.errors == len(suite.items) // 2
    assert run(Batchy(exact=False), suite, tmp_path).run.errors == 0
