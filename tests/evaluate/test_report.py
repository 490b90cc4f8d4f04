"""The report: what it says, what it never says, and that it can be read again."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from helmlite.evaluate import figures
from helmlite.evaluate.measured import Measured
from helmlite.evaluate.pages.crops import CROP_SIZE, ListedCrop, cut_window
from helmlite.evaluate.pages.gallery import NEWLY_FOUND, NEWLY_MISSED, GalleryPart, cut_gallery, read_gallery
from helmlite.evaluate.pages.markdown import report_markdown
from helmlite.evaluate.pages.plots import (
    IntervalRow,
    ScatterPoint,
    factor_bar,
    interval_plot,
    line_chart,
    nice_ticks,
    scatter_plot,
    signed,
)
from helmlite.evaluate.pages.run_page import report_page
from helmlite.evaluate.pages.terminal import show_report
from helmlite.evaluate.report import RunReport, report_json, verdict_line
from helmlite.evaluate.report_files import read_report, write_report
from helmlite.runtime.manifest import StayedFloat
from written_reports import BASELINE, GATE, RESULT, a_report, compared


def test_the_verdict_is_one_line_in_heads_and_times() -> None:
    assert verdict_line(a_report()) == (
        "11.2× faster, 16.0× smaller; 2 of 54 bare heads newly missed, 1 newly found; gate: passed"
    )


def test_what_is_unknown_or_worse_is_said() -> None:
    report = replace(a_report(), speedup=0.5, heads=None, result=replace(RESULT, size_bytes=None))
    assert verdict_line(report) == (
        "2.00× slower, size unknown; bare heads unknown (no class has the role no_helmet); gate: passed"
    )
    unknown = replace(report, speedup=None, baseline=replace(BASELINE, latency_ms_median=None))
    assert verdict_line(unknown).startswith("speed unknown, size unknown")


def test_boxes_and_scores_are_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    page = report_page(a_report())
    assert "0.0021 (0.013)" in page
    assert "0.000031 (0.0004)" in page
    assert "98.1 %</span>" in page or "98.1 % of 212" in page
    assert "0.021 (-0.004)" in page
    show_report(a_report())
    assert (
        "INT8 against 3. distill: 98.1 % of 212 boxes reported again, boxes overlap by 0.962" in capsys.readouterr().out
    )


def test_json_has_what_later_work_reads() -> None:
    values = report_json(a_report())
    for side in ("baseline", "result"):
        wanted = {"map", "map50", "recall_no_helmet", "latency_ms_median", "size_bytes", "macs", "params"}
        assert wanted <= set(values[side])
    assert values["speedup"] == 11.2
    assert values["speedup_factors"] == {"input size": pytest.approx(338 / 142), "precision": pytest.approx(142 / 30.2)}
    assert values["speedup_factor_product"] == pytest.approx(338 / 30.2)
    assert values["size_ratio"] == 16.0
    assert values["map_drop"] == pytest.approx(2.0)
    assert values["map_gain"] == 0.0
    assert values["map_drop_ci95"] == [0.4, 3.1]
    assert values["gate"]["verdict"] == "passed"
    assert {"data", "steps", "notes"} <= set(values)


def test_a_gain_is_never_a_negative_drop() -> None:
    report = replace(a_report(), result=replace(RESULT, map=0.66), map_loss_ci95=(-6.0, -2.0))
    values = report_json(report)
    assert (values["map_drop"], values["map_gain"]) == (0.0, pytest.approx(4.0))
    page = report_page(report)
    assert "4.00 points gained" in page
    assert "a gain between 2.00 and 6.00" in page
    assert "-4.0" not in page


def test_unknown_figures_stay_unknown() -> None:
    report = replace(a_report(), baseline=Measured("FP32"), result=Measured("INT8"), speedup=None, map_loss_ci95=None)
    values = report_json(report)
    assert values["map_drop"] is None
    assert values["map_gain"] is None
    assert values["speedup"] is None
    assert values["size_ratio"] is None
    assert report_page(report).count(">unknown<") > 15


def test_written_and_read_again(tmp_path: Path) -> None:
    page = write_report(a_report(), tmp_path / "run")
    assert page == tmp_path / "run" / "report.html"
    names = sorted(item.name for item in page.parent.iterdir())
    assert names == ["gallery.json", "report.html", "report.json", "report.md", "report.zh-CN.html"]
    assert read_gallery(page.parent) == () and read_gallery(tmp_path) == ()
    assert read_report(page.parent) == a_report()
    assert read_report(page.parent / "report.json") == a_report()


def test_crops_are_kept_for_the_next_page(tmp_path: Path) -> None:
    jpegs = tuple(base64.b64encode(text).decode() for text in (b"one", b"two"))
    part = GalleryPart(NEWLY_MISSED, ("FP32", "INT8"), 3, (ListedCrop(0, "a.jpg", 31, "not seen", jpegs),))
    write_report(a_report(), tmp_path, (part,), "picture\n")
    assert read_gallery(tmp_path) == (part,)
    assert (tmp_path / "pictures.csv").read_text() == "picture\n"
    (tmp_path / "gallery.json").write_text('[{"kind": 1}]')
    with pytest.raises(ValueError, match=r"gallery\.json\.kind: expected str, got 1"):
        read_gallery(tmp_path)


def test_markdown_says_the_verdict_and_every_row() -> None:
    report = replace(a_report(), model="my_|model", notes=("a <b> note",))
    text = report_markdown(report)
    assert text.startswith(f"## {verdict_line(report)}\n")
    assert "my\\_\\|model for x86-openvino. mAP50-95 on the reported pictures: 2.00 points lost" in text
    assert "a \\<b> note" in text
    rows = [line for line in text.splitlines() if line.startswith("| ") and "step" not in line]
    assert [row.split(" | ")[0][2:] for row in rows] == ["FP32", "prune", "INT8", "BF16, no training"]
    assert all(row.count(" | ") == 9 for row in rows)
    assert "| unknown |" in rows[1]


def test_what_is_no_report_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    for text, message in (
        ("{", "is not JSON"),
        ("[]", "is not a report of helmlite"),
        ('{"format": 99}', "Expected a report of format 1, got 99"),
        ('{"format": 1}', "report: 'model' is missing"),
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_report(file)
    with pytest.raises(FileNotFoundError):
        read_report(tmp_path / "gone.json")


class _Page(HTMLParser):
    """Collects every address that a page could load, and checks that its tags close."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for key, value in attributes if key in ("src", "href", "srcset", "data")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for key, value in attributes if key in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def _gallery(tmp_path: Path) -> tuple[GalleryPart, ...]:
    return cut_gallery(*compared(tmp_path))


def test_the_page_opens_offline_and_holds_everything(tmp_path: Path) -> None:
    comparison, sides, data = compared(tmp_path)
    page = report_page(replace(a_report(), evidence=comparison), cut_gallery(comparison, sides, data))
    parser = _Page()
    parser.feed(page)
    assert parser.open == []
    images = [address for address in parser.addresses if not address.startswith("#")]
    assert len(images) == 6  # three heads, twice each
    assert all(address.startswith("data:image/jpeg;base64,") for address in images)
    names = set(re.findall(r' id="([^"]+)"', page))
    links = [address[1:] for address in parser.addresses if address.startswith("#")]
    assert links and set(links) <= names, "every link stays on the page"
    assert "http" not in re.sub(r"http-equiv", "", page)
    assert "url(" not in page
    assert "@import" not in page
    assert "<script" not in page
    assert "prefers-color-scheme: dark" in page
    for words in (
        "未戴头盔",
        "道路0.png",
        "its softmax spans 16 bins",
        "BF16, no training",
        "trained on pictures of this",
    ):
        assert words in page


def test_the_two_pages_lead_to_each_other_and_nowhere_else(tmp_path: Path) -> None:
    write_report(a_report(), tmp_path)
    names = ("report.html", "report.zh-CN.html")
    for name, other in (names, names[::-1]):
        parser = _Page()
        parser.feed((tmp_path / name).read_text("utf-8"))
        assert parser.open == []
        assert [address for address in parser.addresses if not address.startswith(("#", "data:"))] == [other]


def test_angle_brackets_are_escaped_everywhere(tmp_path: Path) -> None:
    """What is between two tags is text, so that a page can be split there: also where a name is an attribute."""
    comparison, sides, data = compared(tmp_path)
    name = "<b a=\"1\">&'x'"
    first = replace(comparison.models[0], measured=replace(comparison.models[0].measured, name=name))
    gallery = cut_gallery(replace(comparison, models=(first, comparison.models[1])), sides, data)
    part = replace(gallery[0], crops=tuple(replace(crop, picture=name, says=name) for crop in gallery[0].crops))
    page = report_page(replace(a_report(), model=name, target=name, evidence=None, notes=(name,)), (part,), twin=name)
    kinds = {re.match(r"</?([\w-]+)|<!doctype", tag) for tag in re.findall(r"<[^>]+>", page)}
    assert None not in kinds and '<b a="1">' not in page
    parser = _Page()
    parser.feed(page)
    assert parser.open == []
    assert not re.search(r"[<>]", "".join(re.split(r"<[^>]+>", re.sub(r"<style>.*?</style>", "", page, flags=re.S))))


def test_words_from_outside_are_escaped() -> None:
    page = report_page(replace(a_report(), model="<img src=x onerror=alert(1)>", target='"&'))
    assert "<img" not in page
    assert "&lt;b&gt;&amp;" in page
    assert "--data &lt;mine&gt;" in page


def test_a_bare_report_makes_a_page_too() -> None:
    report = RunReport("m", "t", Measured("a"), Measured("b"), replace(GATE, checks=(), heads=None, says=()), ())
    parser = _Page()
    parser.feed(report_page(report))
    assert parser.open == []


def test_heads_lost_and_won_are_shown_from_both_sides(tmp_path: Path) -> None:
    missed, found = _gallery(tmp_path)
    assert (missed.kind, missed.sides, missed.total) == (NEWLY_MISSED, ("FP32", "INT8"), 2)
    assert (found.kind, found.total, [crop.picture for crop in found.crops]) == (NEWLY_FOUND, 1, ["道路2.png"])
    assert [crop.picture for crop in missed.crops] == ["道路1.png", "道路0.png"]  # the wider difference first
    assert missed.crops[0].says.startswith("no_helmet, 0.90 → nothing: not seen")
    red = []
    for text in missed.crops[0].jpegs:
        image = cv2.imdecode(np.frombuffer(base64.b64decode(text), np.uint8), cv2.IMREAD_COLOR)
        assert image.shape == (CROP_SIZE, CROP_SIZE, 3)
        blue, green, strong = (image[..., channel].astype(int) for channel in range(3))
        red.append(int(((strong > 200) & (green < 120) & (blue < 120)).sum()))
    assert red[0] > red[1] + 300  # the detection is drawn on the baseline's side alone


def test_a_long_list_is_cut_and_says_so(tmp_path: Path) -> None:
    comparison, sides, data = compared(tmp_path)
    heads = comparison.differences[0].changes
    many = replace(heads, newly_missed=heads.newly_missed * 10)
    longer = replace(comparison, differences=(replace(comparison.differences[0], changes=many),))
    part = cut_gallery(longer, sides, data, most=12)[0]
    assert (part.total, len(part.crops)) == (20, 12)
    assert "12 of 20 shown" in report_page(replace(a_report(), evidence=longer), (part,))


def test_a_picture_that_went_away_leaves_no_crop(tmp_path: Path) -> None:
    comparison, sides, data = compared(tmp_path)
    (tmp_path / "道路1.png").unlink()
    missed, _ = cut_gallery(comparison, sides, data)
    assert (missed.total, [crop.picture for crop in missed.crops]) == (2, ["道路0.png"])


def test_a_window_stays_inside_the_picture() -> None:
    image = np.arange(100 * 200 * 3, dtype=np.uint32).reshape(100, 200, 3).astype(np.uint8)
    window, corner, scale = cut_window(image, np.array([190, 0, 200, 10], np.float32))
    assert window.shape == (CROP_SIZE, CROP_SIZE, 3)
    assert corner.tolist() == [152.0, 0.0]  # 48 pixels wide, pushed back from the right and the top
    assert scale == CROP_SIZE / 48
    large, corner, _ = cut_window(image, np.array([0, 0, 200, 100], np.float32))
    assert corner.tolist() == [0.0, 0.0]
    assert (large[-1, -1] == 128).all()  # the picture is smaller than the window: grey


def test_the_terminal_shows_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    show_report(a_report(), width=160)
    shown = capsys.readouterr().out
    assert verdict_line(a_report()) in shown
    assert "input size 2.38 × precision 4.70 = 11.2× (measured: 11.2×)" in shown
    assert "mAP50-95: 2.00 points lost (95 % interval: a loss between 0.40 and 3.10)" in shown
    assert (
        "76 pictures: a loss below 2.9 points cannot be seen; about 640 would show 1 point half of the time." in shown
    )
    row = next(line for line in shown.splitlines() if line.strip().startswith("prune"))
    assert "unknown" in row
    assert "55.0–65.0" in row


def test_a_narrow_terminal_cuts_no_figure(capsys: pytest.CaptureFixture[str]) -> None:
    show_report(a_report(), width=80)
    shown = capsys.readouterr().out
    assert "…" not in shown
    tables = shown[: shown.index("faster by")]
    assert all(len(line) <= 80 for line in tables.splitlines())
    assert len([line for line in tables.splitlines() if line.strip().startswith("prune")]) == 2
    for figure in ("62.0", "55.0–65.0", "87.0 %", "34.0 G", "20.0 M", "80.0 MB", "338 ms", "11.2×"):
        assert figure in tables


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (figures.points(0.6243), "62.4"),
        (figures.points(None), "unknown"),
        (figures.share(0.963), "96.3 %"),
        (figures.milliseconds(338.4), "338 ms"),
        (figures.milliseconds(12.24), "12.2 ms"),
        (figures.milliseconds(1.234), "1.23 ms"),
        (figures.size(2_700_000), "2.70 MB"),
        (figures.size(999), "999 B"),
        (figures.size(999_700), "1.00 MB"),
        (figures.count(34_300_000_000), "34.3 G"),
        (figures.count(12), "12"),
        (figures.times(11.23), "11.2×"),
        (figures.times(123.4), "123×"),
        (figures.points_between((0.581, 0.664)), "58.1 to 66.4"),
        (figures.points_between(None), ""),
    ],
)
def test_figures(shown: str, text: str) -> None:
    assert shown == text


def test_ticks_are_round_and_cover() -> None:
    assert nice_ticks(0, 4.3, 5) == [0, 1, 2, 3, 4, 5]
    assert nice_ticks(-0.4, 0.3, 7) == [-0.4, -0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3]
    assert nice_ticks(2, 2, 2) == [2, 2.5, 3]
    assert (signed(2), signed(0), signed(-1.5)) == ("+2", "0", "−1.5")


def test_the_factor_bar_adds_logarithms() -> None:
    """Two factors of 2 lie side by side and are as long as the measured bar of 4."""
    svg = factor_bar([("size", 2.0), ("structure", 2.0)], 4.0)
    rects = re.findall(r'<rect class="fill (\w+)" x="([\d.]+)" y="\d+" width="([\d.]+)"', svg)
    first, second, total = ((float(x), float(width)) for _, x, width in rects)
    assert first[1] == pytest.approx(second[1], abs=0.2)
    assert second[0] + second[1] + 1.5 == pytest.approx(total[0] + total[1], abs=0.2)
    assert "= 4.0×" in svg
    assert factor_bar([], 4.0) == ""


def test_a_slower_step_points_back() -> None:
    svg = factor_bar([("size", 4.0), ("activation", 0.5)], 2.0)
    rects = re.findall(r'x="([\d.]+)" y="26" width="([\d.]+)"', svg)
    (x, width), (back_x, back_width) = ((float(a), float(b)) for a, b in rects)
    assert back_x + back_width == pytest.approx(x + width, abs=0.2)


def test_intervals_lie_on_one_scale() -> None:
    svg = interval_plot([IntervalRow("mAP", "passed", 1.0, 0.0, 2.0, 3.0)])
    low, high = re.findall(r'class="interval v-passed" x1="([\d.]+)" x2="([\d.]+)"', svg)[0]
    dot = re.findall(r'class="dot v-passed" cx="([\d.]+)"', svg)[0]
    assert float(dot) == pytest.approx((float(low) + float(high)) / 2, abs=0.1)
    assert interval_plot([]) == ""


def test_faster_is_left_and_better_is_up() -> None:
    svg = scatter_plot([ScatterPoint("base", "baseline", 100.0, 60.0), ScatterPoint("small", "result", 10.0, 58.0)])
    spots = {kind: (float(x), float(y)) for kind, x, y in re.findall(r'point (\w+)" cx="([\d.]+)" cy="([\d.]+)"', svg)}
    assert spots["result"][0] < spots["baseline"][0]
    assert spots["result"][1] > spots["baseline"][1]  # SVG counts down from the top
    assert scatter_plot([ScatterPoint("alone", "result", 10.0, 58.0)]) == ""


def test_labels_of_dots_that_lie_together_do_not_cover_each_other_and_are_led_to() -> None:
    crowd = [ScatterPoint(f"a name of some length {n}", "step", 20.0 + 0.2 * n, 26.0) for n in range(6)]
    svg = scatter_plot([ScatterPoint("base", "baseline", 170.0, 22.0), *crowd])
    places = [(float(x), float(y), anchor) for x, y, anchor in re.findall(_LABEL, svg)]
    assert len(places) == 7
    for n, (x, y, anchor) in enumerate(places):
        for other_x, other_y, other_anchor in places[:n]:
            assert abs(y - other_y) > 13 or (anchor == "end" and other_anchor == "start" and x < other_x), (x, y)
    assert svg.count('class="leader"') == sum(abs(y - 5 - at) > 16 for (_, y, _), at in zip(places, _dots(svg)))
    assert 'class="leader"' in svg


_LABEL = r'<text class="label [a-z]+" x="([0-9.]+)" y="([0-9.]+)" text-anchor="(start|end)"'


def _dots(svg: str) -> list[float]:
    return [float(y) for y in re.findall(r'<circle class="point [a-z]+" cx="[0-9.]+" cy="([0-9.]+)"', svg)]


def test_a_guide_takes_no_colour_of_the_others() -> None:
    lines = {"should": [(0.0, 0.0), (1.0, 1.0)], "is": [(0.0, 0.2), (1.0, 0.7)]}
    svg = line_chart("score", "right", lines, "t", guides=["should"])
    assert re.findall(r'<polyline class="line (\w+)"', svg) == ["guide", "c1"]


@pytest.mark.parametrize(("share", "told"), [(0.8, "20.0 % less"), (1.25, "25.0 % more")])
def test_the_measured_whole_is_held_against_the_product(share: float, told: str) -> None:
    product = a_report().factor_product
    assert product is not None
    page = report_page(replace(a_report(), speedup=share * product))
    assert f"timed once more: {figures.times(share * product)}, {told}." in page


def test_what_stayed_float_is_told_by_reason() -> None:
    parts = (StayedFloat("a", "wide range"), StayedFloat("b", "a head"), StayedFloat("c", "wide range"))
    page = report_page(replace(a_report(), stayed_float=parts))
    assert '<td>2</td><td class="text hash wrap" translate="no">a, c</td>' in page


def test_a_line_chart_of_one_point_and_of_none() -> None:
    assert "polyline" in line_chart("epoch", "loss", {"train": [(0.0, 1.0)]}, "t")
    assert line_chart("epoch", "loss", {"train": []}, "t") == ""


def test_report_json_is_strict(tmp_path: Path) -> None:
    write_report(replace(a_report(), minutes=float("nan")), tmp_path)
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["minutes"] is None
