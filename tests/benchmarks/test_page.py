"""The page in a real browser: it works alone, sorts, and is readable everywhere."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from flavr_benchmarks import datasets
from flavr_benchmarks.datasets import QualitySet
from flavr_benchmarks.html import html
from flavr_benchmarks.schema import Failure, Report
from flavr_benchmarks.scoring import Predictions
from flavr_benchmarks.strips import strips
from flavr_benchmarks.workload import unrounded
from made_reports import quality, report, row

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
CHROMIUM = next((path for name in _NAMES if (path := shutil.which(name))), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def mixed() -> Report:
    return report(
        [
            row("ort-cpu", 100),
            row("ort-cpu", 134, graph="conv3d", unstable=["drift: the second half was 9% slower"]),
            row("torch-eager", 1500, graph="pytorch", score=quality(31.0, 0.0, 0)),
            row("ort-cuda", failure=Failure("crash", "<script>alert('no')</script> & so on")),
            row("average", 0.1, score=quality(26.0)),
            row("ort-cpu", 900, size="720p"),
        ]
    )


@pytest.fixture(scope="module")
def pictures() -> tuple[QualitySet, Predictions]:
    shown = datasets.open_set("mini", 2, 2, {}, (64, 80))
    made = [unrounded(window.truth) for window in shown.windows]
    return shown, Predictions(
        {("ort-cpu", "net", "conv2d", "fp32"): made, ("average", "", "", ""): [x * 0.9 for x in made]}
    )


@pytest.fixture(scope="module")
def page_file(
    mixed: Report, pictures: tuple[QualitySet, Predictions], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(html(mixed, strips(*pictures)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=CHROMIUM, args=list(_FLAGS), env={"HOME": str(tmp_path_factory.mktemp("home"))}
        )
        yield started
        started.close()


@pytest.fixture
def complaints() -> list[str]:
    return []


@pytest.fixture
def page(browser: Browser, page_file: Path, complaints: list[str]) -> Iterator[Page]:
    """The page, on a wide screen; whatever it complains about or asks the network for is noted."""
    context = browser.new_context(viewport={"width": 1400, "height": 900}, color_scheme="light")
    opened = context.new_page()
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on(
        "request",
        lambda request: (
            None if request.url.startswith(("file:", "data:")) else complaints.append(request.url)
        ),
    )
    opened.goto(page_file.as_uri())
    yield opened
    context.close()


def column(page: Page, title: str) -> list[str]:
    heads = page.locator("#cells thead th").all_inner_texts()
    index = next(n for n, head in enumerate(heads) if head.strip().startswith(title))
    rows = page.locator("#cells tbody tr").all()
    return [row.locator("td").nth(min(index, row.locator("td").count() - 1)).inner_text() for row in rows]


@needs_browser
def test_the_page_opens_without_an_error_or_a_request(page: Page, complaints: list[str]) -> None:
    page.locator("#cells thead button").first.click()
    assert complaints == []
    assert "deploy ort-cpu conv2d fp32" in page.locator(".verdict").inner_text()
    assert page.locator("script").count() == 1  # a reason is text, whatever is in it
    assert "<script>alert('no')</script> & so on" in page.locator("#cells").inner_text()
    broken = "[...document.images].filter(image => !image.complete || !image.naturalWidth).length"
    assert page.evaluate(broken) == 0
    assert page.evaluate("document.images.length") == 2 * (5 + 2 * 2)


@needs_browser
def test_the_table_sorts_by_number_both_ways_and_failed_cells_stay_below(page: Page) -> None:
    assert column(page, "p50")[0] == "100 ms"
    head = page.locator("#cells thead th", has_text="p50")
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert column(page, "p50")[:5] == ["0.1 ms", "100 ms", "134 ms", "900 ms", "1.5 s"]
    assert "alert" in column(page, "p50")[5]
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert column(page, "p50")[:5] == ["1.5 s", "900 ms", "134 ms", "100 ms", "0.1 ms"]
    assert "alert" in column(page, "p50")[5]
    backend = page.locator("#cells thead th", has_text="backend")
    backend.locator("button").click()
    assert head.get_attribute("aria-sort") is None
    assert column(page, "backend") == sorted(column(page, "backend"))


@needs_browser
def test_every_cell_is_there_with_its_state(page: Page) -> None:
    assert sorted(column(page, "state")) == [
        "crash",
        "measured",
        "measured",
        "measured",
        "measured",
        "unstable",
    ]
    assert "drift: the second half was 9% slower" in page.locator(".remarks").inner_text()
    assert page.locator("#details tbody tr").count() == 5


@needs_browser
def test_a_phone_need_not_scroll_sideways(browser: Browser, page_file: Path) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 740})
    opened = context.new_page()
    opened.goto(page_file.as_uri())
    assert opened.evaluate("document.documentElement.scrollWidth") <= 360
    context.close()


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_on_either_background(browser: Browser, page_file: Path, scheme: str) -> None:
    context = browser.new_context(color_scheme="dark" if scheme == "dark" else "light")
    opened = context.new_page()
    opened.goto(page_file.as_uri())
    for selector in ("body", "tr.failed td.why", "thead th", ".verdict", ".plot svg text"):
        assert contrast(opened, selector) >= 4.5, selector
    context.close()


def contrast(page: Page, selector: str) -> float:
    """Of an element's text with the nearest background, as WCAG 2 defines it."""
    colours = page.evaluate(
        """selector => {
            const element = document.querySelector(selector), style = getComputedStyle(element);
            const ink = element instanceof SVGElement ? style.fill : style.color;
            let at = element, paper = "rgba(0, 0, 0, 0)";
            while (at && /, 0\\)$|transparent/.test(paper)) {
                paper = getComputedStyle(at).backgroundColor; at = at.parentElement;
            }
            return [ink, paper];
        }""",
        selector,
    )
    lights = []
    for colour in colours:
        channels = np.array([float(value) for value in re.findall(r"[\d.]+", colour)[:3]]) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        lights.append(float(linear @ np.array([0.2126, 0.7152, 0.0722])))
    return (max(lights) + 0.05) / (min(lights) + 0.05)


@needs_browser
def test_it_prints_without_losing_columns(page: Page, tmp_path: Path) -> None:
    page.emulate_media(media="print", color_scheme="dark")
    page.set_viewport_size({"width": 1020, "height": 700})  # A4 across, less its margins
    assert page.evaluate("document.querySelector('#cells').getBoundingClientRect().right") <= 1020
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.pdf(path=tmp_path / "report.pdf", prefer_css_page_size=True)
    assert (tmp_path / "report.pdf").read_bytes()[:5] == b"%PDF-"


def test_ids_of_the_plots_do_not_meet(page_file: Path) -> None:
    text = page_file.read_text(encoding="utf-8")
    drawn = re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL)
    titles = re.findall(r'class="plot" role="img" aria-label="([^:]+):', text)
    assert titles == ["Speed and quality", "Latency at 256x448", "Latency at 720p", "Memory"]
    ids = [found for svg in drawn for found in re.findall(r'\bid="([^"]+)"', svg)]
    assert len(ids) == len(set(ids))
    for svg in drawn:
        assert set(re.findall(r'href="#([^"]+)"', svg)) <= set(ids)
        assert not re.findall(r"#010203|#040506", svg)


def test_a_strip_shows_inputs_truth_results_and_errors(pictures: tuple[QualitySet, Predictions]) -> None:
    first = strips(*pictures)[0]
    assert [picture.title for picture in first.pictures] == [
        *(f"input {n}" for n in range(4)),
        "truth",
        "ort-cpu conv2d fp32",
        "average",
    ]
    right, wrong = first.pictures[5:]
    assert right.psnr is not None
    assert wrong.psnr is not None
    assert right.psnr > wrong.psnr
    assert right.error_url != wrong.error_url


def test_a_page_without_pictures_or_figures_is_still_a_page() -> None:
    empty = report([row(failure=Failure("timeout", "no answer"))])
    empty.data = None
    text = html(empty)
    assert "no network could be measured" in text
    assert "There is nothing to draw" in text
