"""The HTML page in a real browser, opened from disk: Debian's Chromium through Playwright."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

import report_fixtures as made
from rmbench import store
from rmbench.cli import main
from rmbench.core import Ballot, Judgment, Suite
from rmbench.metrics import summary
from rmbench.report import html, leaderboard, plots

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="no chromium (Debian: apt install chromium)"),
    # Playwright's own loop leaves a socket to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]


def page_of(root: Path, of: Suite, **more: Any) -> str:
    runs = [store.read(p) for p in store.find(root)]
    (board,) = leaderboard.boards([(r, summary.estimates(r.run.suite, r.facts, r.judgments)) for r in runs])
    more.setdefault("plots", {name: plots.svg(f) for name, f in plots.draw(board).items()})
    return html.page(board, **{"texts": of.items, **more})


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    of = made.suite(100)
    made.results(folder / "results", of)
    made.run(folder / "results", of, "<img src=x onerror=window.hacked=1>|_&%", seed=8)
    made.run(folder / "results", of, "limited", seed=9, limit=100)
    (folder / "toy.html").write_text(page_of(folder / "results", of), encoding="utf-8")
    return folder / "toy.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


class Opened:
    """A page with everything that must not happen on it."""

    def __init__(self, browser: Any, file: Path, width: int = 1440, scheme: str = "light", fragment: str = "") -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.page = self.context.new_page()
        self.faults: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda m: self.faults.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda e: self.faults.append(str(e)))
        self.page.on("request", lambda r: self.requests.append(r.url))
        self.page.goto(file.as_uri() + fragment)
        self.page.wait_for_selector("html[data-ready=all]", state="attached", timeout=20_000)

    def close(self) -> None:
        hacked = self.page.evaluate("() => window.hacked")
        self.context.close()
        assert hacked is None, "a model's text ran as script"
        assert self.faults == []
        assert [u for u in self.requests if not u.startswith(("file:", "data:"))] == []


@pytest.fixture
def opened(browser: Any, written: Path) -> Iterator[Opened]:
    page = Opened(browser, written)
    yield page
    page.close()


def names(page: Any) -> list[str]:
    rows = page.locator("#board tbody:not(.apart) tr[data-name]:visible")
    return [str(row.get_attribute("data-name")) for row in rows.all()]


def found(page: Any) -> int:
    return int(re.sub(r"\D", "", page.locator("#found").inner_text().split(" of ")[0]))


def test_the_leaderboard_sorts_both_ways_and_undefined_stay_last(opened: Opened) -> None:
    page = opened.page
    column = page.locator("#board thead th", has_text="overall")

    def values() -> list[float]:
        cells = page.locator("#board tbody:not(.apart) tr td:nth-child(3)").all()
        return [float(c.get_attribute("data-v") or "nan") for c in cells]

    column.locator("button").click()
    assert column.get_attribute("aria-sort") == "descending"
    assert values() == sorted(values(), reverse=True)
    column.locator("button").click()
    assert column.get_attribute("aria-sort") == "ascending"
    assert values() == sorted(values())
    page.locator("#board thead button", has_text="Model").click()
    assert names(page) == sorted(names(page), key=str.lower)
    page.locator("#board thead button", has_text="Model").click()
    assert names(page) == sorted(names(page), key=str.lower, reverse=True)


def test_columns_and_models_are_filtered(opened: Opened) -> None:
    page = opened.page
    assert page.locator("#board thead th:visible", has_text="Safety").count() == 1
    page.select_option("#columns", "Maths")
    shown = [t.strip() for t in page.locator("#board thead th:visible").all_inner_texts()]
    assert {"sums", "proofs"} <= set(shown)
    assert "Safety" not in shown
    page.fill("#model-filter", "BETTER")
    assert names(page) == ["org/better-step-200"]


def test_items_are_searched_and_filtered(opened: Opened) -> None:
    page = opened.page
    assert found(page) == 100
    page.fill("#search", "question 42:")
    page.locator("#found", has_text="1 of 100 items").wait_for()
    page.fill("#search", "")
    page.locator("#found", has_text="100 of 100 items").wait_for()
    page.select_option("#subset", "sums")
    assert found(page) == 20
    page.select_option("#subset", "")
    page.select_option("#a", label="org/good")
    page.select_option("#b", label="org/better-step-200")
    counts = {}
    kinds = ("right", "wrong", "tie", "error", "both", "neither", "broken", "fixed", "worse", "better", "flipped")
    for kind in (*kinds, "disagree"):
        page.select_option("#show", kind)
        counts[kind] = found(page)
    assert counts["right"] + counts["wrong"] + counts["tie"] + counts["error"] == 100
    assert counts["broken"] + counts["fixed"] == counts["flipped"] > 0
    assert counts["disagree"] >= counts["flipped"]
    assert counts["worse"] + counts["better"] == counts["flipped"]
    assert sum(counts[k] for k in ("both", "broken", "fixed", "neither")) == 100
    # The table beside the scatter counts the same, and opens the items.
    shown = [int(t) for t in page.locator("#cross td button").all_inner_texts()]
    assert shown == [counts[k] for k in ("both", "broken", "fixed", "neither")]
    page.locator("#cross td button").nth(2).click()
    assert page.locator("#show").input_value() == "fixed"
    assert found(page) == counts["fixed"]
    page.select_option("#a", label="judge")
    page.select_option("#show", "inconsistent")
    assert 0 < found(page) < 100


def test_order_by_margin_puts_the_largest_first(opened: Opened) -> None:
    page = opened.page
    page.select_option("#order", "margin")
    page.locator("#list button").first.click()
    row = page.locator("#item-body tbody tr").first
    largest = float(row.locator("td").nth(-3).inner_text())
    page.keyboard.press("j")
    second = float(page.locator("#item-body tbody tr").first.locator("td").nth(-3).inner_text())
    assert largest >= second


def test_an_item_shows_prompt_responses_scores_and_both_orders(opened: Opened) -> None:
    page = opened.page
    page.locator("#list button", has_text="item-0000").click()
    body = page.locator("#item-body")
    assert "Question 0: what is 0 + 0?" in body.inner_text()
    assert body.locator(".side .box.best").count() == 1
    assert body.locator("table tbody tr").count() == 7
    text = body.locator(".ballots").inner_text()
    assert "shown 1, 2" in text
    assert "shown 2, 1" in text
    assert "<b>item-0000</b>" in text
    assert "item=item-0000" in page.url
    page.keyboard.press("Escape")
    assert not page.locator("#item").is_visible()


def test_hostile_text_shows_as_text(opened: Opened) -> None:
    page = opened.page
    seen = []
    for i in range(4, 100, 20):
        page.evaluate("(i) => show(i)", i)
        page.locator("#item-title", has_text=f"item-{i:04d}").wait_for()
        seen.append(page.locator("#item-body .side .text").nth(1).inner_text())
        assert page.locator("#item-body script, #item-body img, #item-body a").count() == 0
    assert seen[0].startswith("<script>window.hacked=1</script></script><!--")
    assert "javascript:window.hacked=1" in seen[1]
    assert "U+001B" in seen[2]
    assert "U+202E" in seen[2]
    assert "U+0000" in seen[2]
    assert "\u202e" not in seen[2]
    assert seen[3] == "=cmd|' /C calc'!A0"
    assert len(seen[4]) == 20_000
    button = page.locator("#item-body button", has_text="Show all 1,000,000 characters")
    button.click()
    assert page.evaluate("() => document.querySelectorAll('#item-body .side .text')[1].textContent.length") == 1_000_000
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")


def test_keyboard_alone(opened: Opened) -> None:
    page = opened.page
    page.keyboard.press("/")
    assert page.evaluate("() => document.activeElement.id") == "search"
    page.locator("#found").click()
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.locator("#item-title", has_text="item-0001").wait_for()
    page.keyboard.press("j")
    page.locator("#item-title", has_text="item-0002").wait_for()
    page.keyboard.press("Escape")
    assert not page.locator("#item").is_visible()
    # The list goes on where the item was closed; the browser tells of the closing a moment later.
    page.wait_for_selector("#list button[data-item='2']:focus", timeout=5_000)


def test_theme_switches_and_follows_the_system(browser: Any, written: Path) -> None:
    def background(page: Any) -> str:
        return str(page.evaluate("() => getComputedStyle(document.body).backgroundColor"))

    for scheme in ("light", "dark"):
        opened = Opened(browser, written, scheme=scheme)
        first = background(opened.page)
        assert (first == "rgb(255, 255, 255)") == (scheme == "light")
        opened.page.click("#theme")
        second = background(opened.page)
        assert first != second
        opened.page.keyboard.press("t")
        assert background(opened.page) == first
        opened.close()


WIDER = """() => [...document.querySelectorAll('body *')]
    .filter(e => !e.closest('.scroll, dialog:not([open]), select') && e.getClientRects().length)
    .filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"""


@pytest.mark.parametrize("width", [390, 1440])
def test_no_layout_break(browser: Any, written: Path, width: int) -> None:
    opened = Opened(browser, written, width=width)
    page = opened.page
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    assert page.evaluate(WIDER) == []
    page.evaluate("() => show(7)")
    page.locator("#item-title", has_text="item-0007").wait_for()
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    assert page.evaluate(WIDER) == []
    opened.close()


def test_a_point_of_the_scatter_opens_its_item(opened: Opened) -> None:
    page = opened.page
    assert "Margin: score of the best-graded" in page.locator("#scatter-note").inner_text()
    box = page.locator("#scatter").bounding_box()
    for step in range(40, int(box["width"]) - 40, 8):
        page.locator("#scatter").click(position={"x": step, "y": box["height"] - step})
        if page.locator("#item").is_visible():
            return
    pytest.fail("no point on the diagonal answered a click")


def test_items_with_one_response_are_placed_by_their_scores(browser: Any, tmp_path: Path) -> None:
    of = made.suite(40)
    single = tuple(
        msgspec.structs.replace(i, responses=i.responses[:1], grades=(float(n % 2),)) for n, i in enumerate(of.items)
    )
    of = msgspec.structs.replace(of, items=single)
    made.run(tmp_path / "results", of, "a", seed=1)
    made.run(tmp_path / "results", of, "b", seed=2)
    file = tmp_path / "binary.html"
    file.write_text(page_of(tmp_path / "results", of, plots={}), encoding="utf-8")
    opened = Opened(browser, file)
    assert "40 items" in opened.page.locator("#scatter-note").inner_text()
    assert "graded good" in opened.page.locator("#scatter-note").inner_text()
    assert not opened.page.locator("#cross").is_visible()
    opened.close()


def test_a_link_opens_an_item(browser: Any, written: Path) -> None:
    opened = Opened(browser, written, fragment="#item=item-0042")
    assert opened.page.locator("#item-title").inner_text() == "item-0042"
    opened.close()
    for broken in ("#item=%E0%A4%A", "#item=nothing"):
        opened = Opened(browser, written, fragment=broken)
        assert not opened.page.locator("#item").is_visible()
        opened.close()


def test_models_show_their_numbers_and_settings(opened: Opened) -> None:
    page = opened.page
    page.locator("#board a.model", has_text="org/good").click()
    assert page.locator("#model-pick option:checked").inner_text() == "org/good"
    assert "chat-easy" in page.locator("#model-table").inner_text()
    page.locator("summary", has_text="What was run").click()
    assert "rmbench eval --model org/good" in page.locator("#model-facts").inner_text()


def test_print_shows_the_table_and_no_controls(opened: Opened) -> None:
    page = opened.page
    page.emulate_media(media="print")
    assert page.locator("#board").is_visible()
    assert not page.locator("#items").is_visible()
    assert not page.locator("#columns").is_visible()


def test_without_scripts_the_table_stands(browser: Any, written: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(written.as_uri())
    assert page.locator("#board").is_visible()
    assert page.locator("#board tr[data-name]").count() == 7
    context.close()


def test_no_texts_leaves_none_behind(browser: Any, tmp_path: Path) -> None:
    of = made.suite(20)
    made.results(tmp_path / "results", of)
    refused = Judgment(item_id=of.items[0].id, error="refused: I will not say which", ballots=(
        Ballot(shown=(0, 1), error="refused: I will not say which"),))  # fmt: skip
    stored = store.read(made.run(tmp_path / "other", of, "refuses"))
    store.import_run(tmp_path / "results", stored.run, stored.facts, {**stored.judgments, of.items[0].id: refused})
    text = page_of(tmp_path / "results", of, texts=None, why_no_texts="left out as asked", words=False, plots={})
    file = tmp_path / "bare.html"
    file.write_text(text, encoding="utf-8")
    opened = Opened(browser, file)
    opened.page.locator("#list button").first.click()
    body = opened.page.locator("#item-body").inner_text()
    assert "The text is not in this page." in body
    assert "Question" not in body
    assert "I prefer" not in body
    packed = opened.page.evaluate("() => JSON.stringify(texts)")
    assert "Question" not in packed
    assert "I prefer" not in packed
    told = opened.page.evaluate("() => JSON.stringify(data)")
    assert '"refused"' in told
    assert "I will not" not in told
    opened.close()


def test_a_pair_opens_on_what_broke(browser: Any, tmp_path: Path) -> None:
    of = made.suite(60)
    made.results(tmp_path / "results", of)
    difference = leaderboard.Difference(
        scope="category:Chat", metric="accuracy", a=0.8, b=0.7, value=-0.1, low=-0.15, high=-0.05, p=0.01,
        p_adjusted=0.03, n=24, broken=3, fixed=1, detectable=0.08,
    )  # fmt: skip
    pair = html.Pair("org/good", "judge", [difference], ["60 items in both."])
    file = tmp_path / "pair.html"
    file.write_text(page_of(tmp_path / "results", of, pair=pair, plots={}), encoding="utf-8")
    opened = Opened(browser, file)
    page = opened.page
    assert "-10.0 ▼" in page.locator("#comparison table").inner_text()
    assert page.locator("#a option:checked").inner_text() == "org/good"
    assert page.locator("#show").input_value() == "worse"
    assert "judge less org/good, Chat" in page.locator(".tiles").inner_text()
    opened.close()


def test_large_runs_open_quickly_and_stay_small(browser: Any, tmp_path: Path) -> None:
    of = made.suite(3000)
    for m in range(20):
        made.run(tmp_path / "results", of, f"org/model-{m:02d}", skill=0.5 + m / 10, seed=m, judge=m < 4)
    file = tmp_path / "large.html"
    file.write_text(page_of(tmp_path / "results", of), encoding="utf-8")
    assert file.stat().st_size < 15_000_000
    best = float("inf")
    for _ in range(3):
        context = browser.new_context()
        page = context.new_page()
        begin = time.monotonic()
        page.goto(file.as_uri())
        page.wait_for_selector("html[data-ready]", state="attached", timeout=20_000)
        best = min(best, time.monotonic() - begin)
        page.wait_for_selector("html[data-ready=all]", state="attached", timeout=20_000)
        page.fill("#search", "question 2999:")
        page.locator("#found", has_text="1 of 3,000 items").wait_for()
        context.close()
    assert best < 3, f"the page took {best:.1f} s to open"


def test_the_page_says_what_the_markdown_says(browser: Any, tmp_path: Path) -> None:
    """One number, one way of rounding: 13 of 16 is 81.2 in both."""
    (run,) = (Path(__file__).parents[1] / "results").glob("starter-step2600-*")
    written = CliRunner().invoke(main, ["report", str(run), "--out", str(tmp_path), "--format", "md,html"])
    assert written.exit_code == 0, written.output
    reports = tmp_path
    lines = (reports / "starter.md").read_text(encoding="utf-8").partition("## By subset")[2].splitlines()
    rows = [
        [cell.strip(" *").replace("&nbsp;", "") for cell in line.strip("|").split("|")] for line in lines if "|" in line
    ]
    model = rows[0][2]
    said = {row[0].strip(): row[2] for row in rows[2:]}
    opened = Opened(browser, reports / "starter.html")
    opened.page.select_option("#model-pick", label=model)
    shown = {
        row.locator("th").inner_text().partition(" (")[0].strip(): row.locator("td").first.inner_text()
        for row in opened.page.locator("#model-table tbody tr").all()
    }
    opened.close()
    assert len(said) > 16
    assert shown == said
