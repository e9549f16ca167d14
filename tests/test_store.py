"""Runs on disk: resume at any byte, seals, locks, damage, other schemas."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from rmbench import store
from rmbench.core import SCHEMA, Ballot, Facts, Item, Judgment, Message, Rules, Run, Suite
from rmbench.errors import BadRun, StoreError, UnknownName, UsageError

SUITE = Suite(
    name="toy",
    version="1",
    about="",
    categories={"All": ("one",)},
    rules=Rules(name="toy-1"),
    source="file:x",
    licence="Apache-2.0",
    citation="",
)


def items(n: int) -> list[Item]:
    prompt = (Message(role="user", content="hi"),)
    return [Item(id=f"i{k}", subset="one", prompt=prompt, responses=(f"a{k}", "b"), grades=(1, 0)) for k in range(n)]


def run_of(model: str = "m", **more: object) -> Run:
    return Run(
        schema=SCHEMA, status="running", model=model, adapter="x", engine=None, fingerprint="0123abcd", settings={},
        suite=SUITE, suite_hash="0" * 16, n=3, **more,
    )  # fmt: skip


def judgment(k: int, score: float = 1.0) -> Judgment:
    ballot = Ballot(shown=(0, 1), picked=0, text='she said "[[A]]"\n\u2028 \x1b[31m')
    return Judgment(item_id=f"i{k}", scores=(score, 0.0), ballots=(ballot,))


FACTS = [Facts.of(item) for item in items(3)]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    with store.open_run(tmp_path, run_of(), FACTS) as writer:
        writer.append([judgment(2)])
        writer.append([judgment(0), judgment(1)])
        writer.seal(replace(run_of(), status="complete", done=3))
    stored = store.read(writer.path)
    assert stored.run.status == "complete"
    assert stored.facts == tuple(FACTS)
    assert list(stored.judgments) == ["i0", "i1", "i2"]
    assert stored.judgments["i1"] == judgment(1)


def test_a_later_line_of_an_item_counts(tmp_path: Path) -> None:
    with store.open_run(tmp_path, run_of(), FACTS) as writer:
        writer.append([Judgment(item_id="i0", error="out of memory")])
    with store.open_run(tmp_path, run_of(), FACTS) as writer:
        assert writer.judgments["i0"].error == "out of memory"
        writer.append([judgment(0, 2.0)])
        writer.seal(run_of())
    assert store.read(writer.path).judgments["i0"].scores == (2.0, 0.0)
    assert len((writer.path / store.JUDGMENTS).read_bytes().splitlines()) == 1


def sealed(tmp_path: Path) -> Path:
    with store.open_run(tmp_path, run_of(), FACTS) as writer:
        writer.append([judgment(k) for k in range(3)])
        writer.seal(run_of())
    return writer.path


def test_a_file_cut_at_any_byte_keeps_its_whole_lines(tmp_path: Path) -> None:
    path = sealed(tmp_path)
    whole = (path / store.JUDGMENTS).read_bytes()
    ends = [k + 1 for k, byte in enumerate(whole) if byte == 10]
    around = {end + d for end in ends for d in (-2, -1, 0, 1)} | set(range(0, len(whole), 29))
    for cut in sorted(c for c in around if c <= len(whole)):
        (path / store.JUDGMENTS).write_bytes(whole[:cut])
        with store.open_run(tmp_path, run_of(), FACTS) as writer:
            assert len(writer.judgments) == sum(end <= cut for end in ends)
            writer.append([judgment(k) for k in range(3) if f"i{k}" not in writer.judgments])
            writer.seal(run_of())
        assert (path / store.JUDGMENTS).read_bytes() == whole
        assert not (path / store.DAMAGED).exists()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_a_changed_byte_is_noticed(tmp_path: Path, data: st.DataObject) -> None:
    path = sealed(tmp_path)
    whole = (path / store.JUDGMENTS).read_bytes()
    at = data.draw(st.integers(0, len(whole) - 2))
    byte = data.draw(st.integers(0, 255).filter(lambda b: b != whole[at]))
    (path / store.JUDGMENTS).write_bytes(whole[:at] + bytes([byte]) + whole[at + 1 :])
    with pytest.raises(BadRun, match=r"judgments\.jsonl:\d"):
        store.read(path)
    with store.open_run(tmp_path, run_of(), FACTS) as writer:
        assert writer.mended
        assert all(judgment(int(i[1:])) == j for i, j in writer.judgments.items())
        writer.append([judgment(k) for k in range(3) if f"i{k}" not in writer.judgments])
        writer.seal(run_of())
    assert (path / store.JUDGMENTS).read_bytes() == whole
    (path / store.DAMAGED).unlink()


@pytest.mark.parametrize("status", ["running", "complete"])
def test_line_ends_that_git_changed_are_no_damage(tmp_path: Path, status: str) -> None:
    """autocrlf makes every LF a CRLF; no line that we write holds a bare CR, so nothing else is meant by one."""
    path = sealed(tmp_path)
    run = replace(run_of(), status=status)
    store.import_run(tmp_path, run, FACTS, {f"i{k}": judgment(k) for k in range(3)})
    whole = {file.name: file.read_bytes() for file in path.iterdir()}
    for file in path.iterdir():
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    stored = store.read(path)
    assert stored.judgments == {f"i{k}": judgment(k) for k in range(3)}
    assert stored.facts == tuple(FACTS)
    with store.open_run(tmp_path, run, FACTS) as writer:
        assert len(writer.judgments) == 3
        (said,) = writer.mended
        assert "its lines ended in CRLF, as git's autocrlf makes them; put back, nothing is computed again" in said
        assert "'results/** -text'" in said
    assert {name: (path / name).read_bytes() for name in whole} == whole
    assert not (path / store.DAMAGED).exists()
    with store.open_run(tmp_path, run, FACTS) as writer:
        assert not writer.mended


def test_a_changed_line_end_hides_no_damage(tmp_path: Path) -> None:
    path = sealed(tmp_path)
    lines = (path / store.JUDGMENTS).read_bytes().replace(b"\n", b"\r\n")
    (path / store.JUDGMENTS).write_bytes(lines.replace(b"i1", b"i7", 1))
    with pytest.raises(BadRun, match=r"judgments\.jsonl:2"):
        store.read(path)
    with store.open_run(tmp_path, run_of(), FACTS) as writer:
        assert set(writer.judgments) == {"i0", "i2"}
        damaged, ends = writer.mended
        assert damaged.endswith(": line 2")
        assert "CRLF" in ends


def test_a_run_is_running_only_while_a_process_holds_it(tmp_path: Path) -> None:
    with store.open_run(tmp_path, run_of(), FACTS) as writer:
        writer.append([judgment(0)])
        assert store.state(writer.path, store.read_run(writer.path)) == "running"
    assert store.state(writer.path, store.read_run(writer.path)) == "paused"
    given_up = replace(run_of(), info={store.STOPPED: "too many errors"})
    store.import_run(tmp_path, given_up, FACTS, {})
    assert store.state(writer.path, store.read_run(writer.path)) == "failed"
    for status in ("complete", "imported"):
        assert store.state(writer.path, replace(run_of(), status=status)) == status


def _try_to_open(root: Path, said: multiprocessing.Queue[str]) -> None:
    try:
        with store.open_run(root, run_of(), FACTS):
            said.put("opened")
    except StoreError as error:
        said.put(str(error))


def test_a_second_process_is_told_and_stops(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    said = context.Queue()
    with store.open_run(tmp_path, run_of(), FACTS):
        process = context.Process(target=_try_to_open, args=(tmp_path, said))
        process.start()
        assert "another process" in said.get(timeout=60)
        process.join()
    process = context.Process(target=_try_to_open, args=(tmp_path, said))
    process.start()
    assert said.get(timeout=60) == "opened"
    process.join()


def test_another_schema_is_refused(tmp_path: Path) -> None:
    path = sealed(tmp_path)
    raw = json.loads((path / store.RUN).read_text())
    (path / store.RUN).write_text(json.dumps({**raw, "schema": 99}))
    for use in (lambda: store.read(path), lambda: store.open_run(tmp_path, run_of(), FACTS).__enter__()):
        with pytest.raises(BadRun, match="schema 99"):
            use()


def test_a_changed_suite_is_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    path = sealed(tmp_path)
    before = (path / store.JUDGMENTS).read_bytes()
    with (
        pytest.raises(BadRun, match="the data changed"),
        store.open_run(tmp_path, replace(run_of(), suite_hash="1" * 16), FACTS),
    ):
        pass
    assert (path / store.JUDGMENTS).read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema": 1}', b"\xff"])
def test_a_broken_run_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = sealed(tmp_path)
    (path / store.RUN).write_bytes(content)
    with pytest.raises(BadRun, match=r"run\.json") as caught:
        store.read(path)
    (path / store.RUN).unlink()  # as the message says
    if "take this one file away" in str(caught.value):
        with store.open_run(tmp_path, run_of(), FACTS) as writer:
            assert len(writer.judgments) == 3


def test_resolve_asks_where_several_fit(tmp_path: Path) -> None:
    for model, fingerprint in (("a", "00000001"), ("a", "00000002"), ("b", "00000003")):
        store.import_run(tmp_path, replace(run_of(model), fingerprint=fingerprint), FACTS, {})
    assert store.resolve("b", tmp_path).parent.name == "b-00000003"
    assert store.resolve("00000002", tmp_path).parent.name == "a-00000002"
    with pytest.raises(UsageError, match="fits 2 runs"):
        store.resolve("a", tmp_path)
    with pytest.raises(UnknownName, match="looked in"):
        store.resolve("bb", tmp_path)
    assert len(store.find(tmp_path)) == 3


def test_a_checkpoints_own_folder_names_its_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("my-ckpt", "sft/checkpoint-5"):
        (tmp_path / name).mkdir(parents=True)
        made = store.import_run(tmp_path / "results", run_of(name), FACTS, {})
        assert store.resolve(name, tmp_path / "results") == made
        assert store.resolve(f"./{name}/", tmp_path / "results") == made
    assert store.resolve("results/my-ckpt-0123abcd", tmp_path / "results").parent.name == "my-ckpt-0123abcd"
    (tmp_path / "other").mkdir()
    with pytest.raises(UnknownName, match="unknown run 'other'"):
        store.resolve("other", tmp_path / "results")


def test_a_file_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(store.fcntl, "flock", refused)
    with pytest.raises(StoreError, match="cannot be locked: Function not implemented"):
        store.import_run(tmp_path, run_of(), FACTS, {})


def test_what_was_measured_is_added_to_a_run_that_nobody_holds(tmp_path: Path) -> None:
    path = sealed(tmp_path)
    before = (path / store.JUDGMENTS).read_bytes()
    store.annotate(path, {"a": 1})
    store.annotate(path, {"b": 2})
    assert store.read(path).run.info == {"a": 1, "b": 2}
    assert (path / store.JUDGMENTS).read_bytes() == before
    with store.open_run(tmp_path, run_of(), FACTS), pytest.raises(StoreError, match="another process"):
        store.annotate(path, {"c": 3})


@pytest.mark.parametrize(
    "name", ["../../etc", "/etc/passwd", "..", ".", "", "a/b", "org/name", "x" * 500, "a\nb\0c", "C:\\x", "名前", "-rf"]
)
def test_no_model_name_leaves_the_results_folder(tmp_path: Path, name: str) -> None:
    path = store.import_run(tmp_path / "results", run_of(name), FACTS, {})
    inside = (tmp_path / "results").resolve()
    assert path.resolve().parent.parent == inside
    assert not path.parent.name.startswith(("-", "."))
    assert [p.name for p in tmp_path.iterdir()] == ["results"]


def test_the_same_run_is_the_same_bytes(tmp_path: Path) -> None:
    a, b = (
        store.import_run(tmp_path / x, run_of(), FACTS, {f"i{k}": judgment(k) for k in order})
        for x, order in (("a", range(3)), ("b", (2, 0, 1)))
    )
    for file in (store.RUN, store.ITEMS, store.JUDGMENTS):
        assert (a / file).read_bytes() == (b / file).read_bytes()
