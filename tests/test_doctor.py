from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

import models
from rmbench import adapters, doctor, store, suites
from rmbench.adapters.options import Options
from rmbench.engines.transformers_ import Transformers


def items(count: int = 24) -> Any:
    return suites.load("starter").items[:count]


def opened(folder: Path, **options: Any) -> Any:
    return adapters.open(str(folder), Options(threads=1, **options))


def test_machine_tells_versions_devices_and_folders(
    cli: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RMBENCH_RESULTS", str(tmp_path / "r"))
    found = json.loads(cli("doctor", "--json").stdout)["machine"]
    assert found["packages"]["torch"]
    assert found["folders"]["results"]["exists"] is False
    assert found["folders"]["results"]["free_gib"] > 0
    assert found["folders"]["data (RMBENCH_DATA)"] is None
    shown = cli("doctor")
    assert shown.exit_code == 0
    assert max(len(line) for line in shown.stdout.splitlines() if "GiB free" not in line) <= 80
    assert f"{tmp_path / 'r'} (" in shown.stdout  # a path is never broken


def test_noise_is_small_in_float32_and_larger_in_bfloat16() -> None:
    folder = str(models.classifier("llama"))
    _, exact, failed = doctor.noise(folder, Options(threads=1, dtype="float32"), items())
    ways = [way.way for way in exact]
    assert ways[:4] == ["as run", "one at a time", "padded right", "padded left"]
    assert exact[0].largest == 0
    assert all(way.largest < 1e-4 for way in exact[:4])
    assert doctor.floor(exact[:4]) == 0
    assert all(way.distinct > 30 for way in exact)
    _, rough, _ = doctor.noise(folder, Options(threads=1, dtype="bfloat16"), items())
    by_way = {way.way: way for way in rough}
    assert 1e-3 < by_way["float32"].largest < 0.5
    assert not failed or "vLLM" in failed[0]


def test_noise_of_log_ratios_is_that_of_both_models() -> None:
    policy, reference = str(models.causal("llama")), str(models.causal("llama", seed=1))
    some = [i for i in items() if len(i.responses) > 1][:8]
    _, ways, _ = doctor.noise(policy, Options(threads=1, ref_model=reference), some)
    assert [way.way for way in ways[:4]] == ["as run", "one at a time", "padded right", "padded left"]
    assert ways[0].largest == 0
    assert all(0 < way.largest < 1e-4 for way in ways[1:4])
    assert doctor.floor(ways[:4]) == 0
    _, rough, _ = doctor.noise(policy, Options(threads=1, ref_model=reference, dtype="bfloat16"), some)
    assert 1e-4 < {way.way: way for way in rough}["float32"].largest < 1


def test_flips_ties_and_distinct_scores_are_counted() -> None:
    some = [i for i in items(80) if len(i.responses) == 2][:4]
    base = [(1.0, 0.0), (1.0, 0.0), (0.5, 0.5), None]
    other = [(0.9, 0.1), (0.0, 1.0), (0.6, 0.5), (1.0, 0.0)]
    made = doctor._compare("x", base, other, some)
    assert made.flips == 2
    assert made.flip_rate == pytest.approx(2 / 3)
    assert made.largest == pytest.approx(1.0)
    assert made.ties == 0
    assert doctor._compare("x", base, base, some).ties == 1
    assert made.distinct == 6
    assert doctor.floor([]) == 0


def test_a_way_that_changes_the_order_makes_the_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Transformers.another_way

    @contextmanager
    def upside_down(self: Transformers, mode: str, padding: str = "right") -> Any:
        with real(self, mode, padding):
            weight = self.model.score.weight
            if padding == "left":
                weight.data.neg_()
            yield
            if padding == "left":
                weight.data.neg_()

    monkeypatch.setattr(Transformers, "another_way", upside_down)
    _, ways, _ = doctor.noise(str(models.classifier("llama")), Options(threads=1), items())
    assert doctor.floor(ways) == 1.0
    assert [w.flip_rate for w in ways[:4]] == [0, 0, 0, 1.0]


@pytest.mark.parametrize(
    ("options", "finding"),
    [
        ({"template": "chatml"}, "BOS: none, though the tokenizer knows '<s>'"),
        ({"template": "llama-3"}, "BOS: 1 ('<s>')"),
        ({"template": "llama-3", "bos": True}, "a tool that tokenises the rendered text gives 2"),
        ({"template": "chatml"}, "EOS: '<|im_end|>', then '\\n', which is what the head reads"),
        ({"template": "chatml", "eos": "</s>"}, "EOS: the template does not end a response with '</s>'"),
        ({"template": "llama-3", "eos": "<|eot_id|>"}, "EOS: '<|eot_id|>' is the last token"),
        ({"pad": None}, "pad: none"),
        ({"pad": "<|im_end|>"}, "pad: '<|im_end|>' is also part of conversations"),
        ({"template": "no-system"}, "template: has no system turn; its text opens the first user turn"),
        ({}, "longest conversation: 4096 tokens"),
    ],
)
def test_findings_about_tokens(options: dict[str, Any], finding: str) -> None:
    said = doctor.findings(opened(models.classifier("llama", **options)))
    assert any(finding in line for line in said), said


def test_the_floor_is_stored_with_the_models_own_runs(cli: Callable[..., Result], tmp_path: Path) -> None:
    root = tmp_path / "results"
    one, two = models.classifier("llama"), models.classifier("llama", seed=1)
    for folder in (one, two):
        made = cli(
            "eval", "--model", folder, "--suite", "starter", "--limit", 20, "--out", root, "--threads", 1, "--json"
        )
        assert made.exit_code == 0, made.stderr
    sealed = {p: (p / "judgments.jsonl").read_bytes() for p in store.find(root)}
    result = cli("doctor", "--model", one, "--threads", 1, "--results", root, "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert len(found["kept"]) == 1
    kept = Path(found["kept"][0])
    run = store.read_run(kept)
    assert run.info["noise_floor"] == found["noise_floor"]
    assert run.status == "complete"
    assert [w["way"] for w in run.info["noise"]][:1] == ["as run"]
    assert all("noise_floor" not in store.read_run(p).info for p in sealed if p != kept)
    assert {p: (p / "judgments.jsonl").read_bytes() for p in store.find(root)} == sealed
    shown = cli("doctor", "--model", one, "--threads", 1, "--results", root)
    said = " ".join(shown.stdout.split())
    assert re.search(
        r"Noise alone changes the order in \d+\.\d % of 64 items, 95 % interval \[\d+\.\d, \d+\.\d\]", said
    ), said


def test_a_run_that_is_held_or_broken_does_not_cost_the_measurement(cli: Callable[..., Result], tmp_path: Path) -> None:
    root, model = tmp_path / "results", models.classifier("llama")
    for suite in ("starter", "llmbar"):
        (root / "other" / suite).mkdir(parents=True)
        (root / "other" / suite / "run.json").write_text('{"schema": 99}')
    adapter, ways = opened(model), [doctor.Noise("x", 0.1, 1, 1 / 64, 0, 9, 64)]
    made = cli("eval", "--model", model, "--suite", "starter", "--limit", 9, "--out", root, "--threads", 1)
    assert made.exit_code == 0, made.stderr  # the broken neighbours did not cost its table either
    (path,) = root.glob("classifier*/*")
    kept, failed = doctor.keep(adapter, ways, root)
    assert kept == [path]
    assert ["schema 99" in line for line in failed] == [True, True]
    run = store.read_run(path)
    with store.open_run(root, run, store.read(path).facts):
        kept, failed = doctor.keep(adapter, ways, root)
    assert kept == []
    assert "another process" in failed[0]


def test_the_sample_has_an_order_everywhere_and_comes_from_all_categories() -> None:
    made = doctor.sample()
    assert len(made) == doctor.ITEMS == 64
    assert all(len(item.responses) > 1 for item in made)
    card = suites.load("starter")
    assert all({item.subset for item in made} & set(subsets) for subsets in card.categories.values())


def test_a_judges_tokens_are_looked_at_but_its_words_are_no_noise() -> None:
    adapter, ways, failed = doctor.noise(str(models.causal("llama")), Options(threads=1, adapter="judge"), items())
    assert (ways, failed) == ([], [])
    assert any(line.startswith("EOS: ") for line in doctor.findings(adapter))


def test_a_baseline_has_no_noise(cli: Callable[..., Result], tmp_path: Path) -> None:
    result = cli("doctor", "--model", "length:longest", "--results", tmp_path)
    assert result.exit_code == 0
    assert "No noise floor" in result.stdout
