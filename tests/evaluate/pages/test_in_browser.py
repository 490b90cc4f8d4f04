"""Pages as a browser shows them: nothing is fetched, nothing complains, every plot is there, the keyboard suffices."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from helmlite.evaluate.pages.comparison_page import comparison_page
from helmlite.evaluate.pages.gallery import cut_gallery
from helmlite.evaluate.pages.run_page import report_page
from helmlite.evaluate.pages.translate import in_chinese
from written_reports import a_report, compared

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(_CHROMIUM is None, reason="chromium is not installed (Debian: apt-get install chromium)"),
]


@dataclass
class Opened:
    """A page in a browser, and everything that it complained of or asked for."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as running:
        arguments = ["--no-sandbox", "--disable-background-networking"]
        browser = running.chromium.launch(executable_path=_CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="module", params=["run", "comparison"])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    comparison, sides, data = compared(folder)
    gallery = cut_gallery(comparison, sides, data)
    if request.param == "run":
        text = report_page(replace(a_report(), evidence=comparison), gallery)
    else:
        text = comparison_page(comparison, gallery)
    path = folder / "page.html"
    path.write_text(text, encoding="utf-8")
    return path


def _open(browser: Browser, path: Path, width: int = 1280, scheme: str = "light") -> Opened:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    opened = Opened(page)
    page.on("console", lambda message: opened.complaints.append(message.text))
    page.on("pageerror", lambda error: opened.complaints.append(str(error)))
    page.on("request", lambda request: opened.requests.append(request.url))
    page.goto(path.as_uri())
    page.wait_for_load_state("load")
    return opened


def test_it_complains_of_nothing_and_asks_for_nothing(browser: Browser, written: Path) -> None:
    opened = _open(browser, written)
    assert opened.complaints == []
    outside = [url for url in opened.requests if not url.startswith("data:") and url != written.as_uri()]
    assert outside == []
    broken = opened.page.evaluate("[...document.images].filter(i => i.complete && !i.naturalWidth).length")
    assert opened.page.evaluate("document.images.length") == 6 and broken == 0
    opened.page.close()


def test_every_plot_is_drawn_with_axes_and_a_description(browser: Browser, written: Path) -> None:
    page = _open(browser, written).page
    sizes = page.evaluate("[...document.querySelectorAll('.plot svg')].map(s => s.getBoundingClientRect().height)")
    assert len(sizes) >= 3 and min(sizes) > 60
    assert page.evaluate(
        "[...document.querySelectorAll('.plot svg')].every(s => s.querySelector('desc').textContent.length > 10)"
    )
    assert "recall, %" in page.inner_text("main") and "precision, %" in page.inner_text("main")
    page.close()


def test_it_is_the_same_page_in_chinese(browser: Browser, written: Path) -> None:
    chinese = written.with_name("page.zh-CN.html")
    chinese.write_text(in_chinese(written.read_text("utf-8")), "utf-8")
    opened = _open(browser, chinese)
    english = _open(browser, written).page
    assert opened.complaints == []
    assert [url for url in opened.requests if not url.startswith("data:") and url != chinese.as_uri()] == []
    assert opened.page.evaluate("document.documentElement.lang") == "zh-CN"
    assert "召回率，%" in opened.page.inner_text("main") and "漏检与误报的原因" in opened.page.inner_text("main")
    for counted in (".plot svg", "section", "figure", "td"):
        script = f"document.querySelectorAll('{counted}').length"
        assert opened.page.evaluate(script) == english.evaluate(script) > 0
    for page in (opened.page, english):
        page.close()


def test_the_gallery_is_walked_through_by_keyboard(browser: Browser, written: Path) -> None:
    page = _open(browser, written).page
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.className") == "open":
            break
    assert page.evaluate("document.activeElement.getAttribute('href')") == "#crop-1-1"
    small = page.evaluate("document.querySelector('#crop-1-1 img').width")
    page.keyboard.press("Enter")
    assert _large(page) == ["crop-1-1"]
    assert page.evaluate("document.querySelector('#crop-1-1 img').width") > 1.5 * small
    assert page.evaluate("document.activeElement.closest('figure').id") == "crop-1-1"
    _follow(page, "next")
    assert _large(page) == ["crop-1-2"]
    _follow(page, "previous")
    assert _large(page) == ["crop-1-1"]
    _follow(page, "close")
    assert _large(page) == []
    page.close()


def test_it_is_readable_in_the_dark_and_on_a_phone(browser: Browser, written: Path) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    light, dark = (_open(browser, written, scheme=scheme).page for scheme in ("light", "dark"))
    assert _lightness(light.evaluate(ground)) > 200 > 60 > _lightness(dark.evaluate(ground))
    assert _lightness(dark.evaluate("getComputedStyle(document.body).color")) > 180
    phone = _open(browser, written, width=390).page
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390, "the page itself never scrolls sideways"
    for page in (light, dark, phone):
        page.close()


def _large(page: Page) -> list[str]:
    """The figures that lie over the page."""
    return list(
        page.evaluate(
            "[...document.querySelectorAll('figure')]"
            ".filter(f => getComputedStyle(f).position === 'fixed').map(f => f.id)"
        )
    )


def _follow(page: Page, link: str) -> None:
    """From where the focus is, by Tab to the link of this name, and Enter."""
    for _ in range(6):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == link:
            page.keyboard.press("Enter")
            return
    raise AssertionError(f"'{link}' is not within six steps of the keyboard")


def _lightness(colour: str) -> float:
    red, green, blue = (float(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(",")[:3])
    return (red + green + blue) / 3
