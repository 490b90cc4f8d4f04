"""Pages in Chinese: nothing of ours stays English, names stay what they are, and the page is otherwise the same."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from pathlib import Path

import pytest

import helmlite
from helmlite.data.roles import with_roles
from helmlite.evaluate.causes.causes import ALARM_KINDS, MISS_KINDS
from helmlite.evaluate.causes.label_mistakes import GHOST, MISSING, LabelCandidate, LabelMistakes
from helmlite.evaluate.causes.traits import TRAITS
from helmlite.evaluate.comparison import Comparison, Contender, compare, difference_in_words
from helmlite.evaluate.extra_loss import ExtraLoss, RobustnessComparison
from helmlite.evaluate.findings.blind import BlindHeights
from helmlite.evaluate.findings.chance import Unsaid
from helmlite.evaluate.findings.colours import SwappedColours
from helmlite.evaluate.findings.dead import DeadClass
from helmlite.evaluate.findings.leaks import Leak, LookAlike, OwnPictures, WithoutLeak
from helmlite.evaluate.findings.moved import MovedBoxes
from helmlite.evaluate.findings.scores import ShiftedScores
from helmlite.evaluate.findings.words import FAMILIES, Finding, in_words
from helmlite.evaluate.gate import GateCheck, GateVerdict, judge
from helmlite.evaluate.measured import Measured
from helmlite.evaluate.pages.chinese import CHINESE
from helmlite.evaluate.pages.comparison_page import comparison_page
from helmlite.evaluate.pages.crops import ListedCrop
from helmlite.evaluate.pages.gallery import (
    DOUBTFUL_LABELS,
    FALSE_ALARMS,
    NEWLY_FOUND,
    NEWLY_MISSED,
    GalleryPart,
    cut_gallery,
)
from helmlite.evaluate.pages.html import FOOTER, document, named
from helmlite.evaluate.pages.run_page import report_page
from helmlite.evaluate.pages.translate import Catalogue, in_chinese, untranslated
from helmlite.evaluate.plain import from_plain, to_plain
from helmlite.evaluate.report import Curve, RunReport
from helmlite.evaluate.robustness import WorsePredictions, all_cases
from helmlite.evaluate.statistics.resolution import Resolution
from helmlite.evaluate.statistics.risks import Risk
from helmlite.evaluate.thresholds import ThresholdRule, choose_thresholds
from helmlite.runtime.manifest import StayedFloat
from written_data import make_found, make_random
from written_reports import GATE, a_report, compared

CLASSES = with_roles(["helmet", "no_helmet"])
SIDES = ("first", "by night")  # names of two models
NAMES = {"helmet-yolo12m", "x86-openvino", *SIDES, "MIT", " · ".join(SIDES), "<b>&", "made.yaml", "AMD EPYC", "Linux"}
CATALOGUE = Catalogue(CHINESE)
HOLE = re.compile(r"\{(\w+)\}")


def _said(*texts: str) -> list[str]:
    """What of these texts stays English."""
    return untranslated("".join(f"<p>{text}</p>" for text in texts), NAMES)


@pytest.mark.parametrize("english", CHINESE)
def test_every_template_reads_itself(english: str) -> None:
    """Filled with numbers and names it gives its own translation, filled alike: none takes what is another's."""
    fills = {
        name: str(10 + number) if name.startswith("n_") else f"Name{number}"
        for number, name in enumerate(HOLE.findall(english))
    }
    found = CATALOGUE.translate(english.format(**fills) if fills else english)
    assert found.text == (CHINESE[english].format(**fills) if fills else CHINESE[english])
    assert found.is_known and set(found.left) == {text for text in fills.values() if text.startswith("Name")}


def test_a_translation_has_the_holes_of_its_template() -> None:
    for english, chinese in CHINESE.items():
        assert sorted(HOLE.findall(english)) == sorted(set(HOLE.findall(chinese))), english
    with pytest.raises(ValueError, match=r"'a \{n_one\}' and '甲 \{n_two\}' have different holes"):
        Catalogue({"a {n_one}": "甲 {n_two}"})


def test_translations_are_chinese() -> None:
    """No English word is forgotten in a translation, terms of the field and commands aside."""
    kept = {
        *"mAP mAP50 mAP75 AP50 AP IoU px ms MACs BF16 bf16 FP32 INT8 DFL ONNX OpenVINO PyTorch Runtime NNCF".split(),
        *"JPEG TIDE Bolya ECE COCO CPU VNNI ADMM slim growing gates tie batch softmax bundle wheel MIT AGPL".split(),
        *"sha256 letterbox BGR RGB helmlite compare compress".split(),
        *"cross domain data check yaml DATA MODEL pt out DIR pip install English".split(),
        *"no_helmet role NAME train only Kaggle Helmet Detection MakeML Bikes Helmets".split(),
    }
    for english, chinese in CHINESE.items():
        words = re.findall(r"[A-Za-z_]{2,}\d*", HOLE.sub("", chinese))
        assert set(words) <= kept, (english, chinese)


def test_every_template_is_of_something_that_code_says() -> None:
    """A sentence that was changed or removed leaves no template behind: of each clause three words are in code."""
    said = []
    for path in Path(helmlite.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))) if path.name != "chinese.py" else ():
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                said.append(node.value.lower())
    everything = re.sub(r"<[^>]*>", "|", "|".join(said))
    for english in CHINESE:
        for clause in re.split(r"\{\w+\}|[;:.,()]", english.lower()):
            words = clause.split()
            runs = [" ".join(words[start : start + 3]) for start in range(len(words) - 2)]
            assert len(words) < 5 or any(run in everything for run in runs), english


def test_figures_come_in_another_order_and_with_their_units() -> None:
    found = Catalogue({"{n_lost} of {n_all} lost": "{n_all} 中损失 {n_lost}", "unknown": "未知"})
    assert found.translate("2.7 % of 54 lost").text == "54 中损失 2.7%"
    assert found.translate("unknown of −1.5 MB lost").text == "−1.5 MB 中损失 未知".replace(" 未", "未")
    assert found.translate("two of 54 lost") == ("two of 54 lost", ("two of 54 lost",), False)


def test_what_fills_a_hole_is_looked_up_in_its_turn_and_stays_where_it_is_not_known() -> None:
    found = Catalogue(
        {"{row} in BF16": "BF16 下的{row}", "{n_step}. {technique}": "{n_step}. {technique}", "prune": "剪枝"}
    )
    assert found.translate("1. prune in BF16") == ("BF16 下的1. 剪枝", (), True)
    assert found.translate("1. magic in BF16") == ("BF16 下的1. magic", ("magic",), True)
    assert found.translate("magic") == ("magic", ("magic",), False)


@pytest.mark.parametrize("name", ["small", "dark", "none", "background", "size small", "the best", "labelled"])
def test_a_name_that_is_a_word_of_ours_stays(name: str) -> None:
    sentences = {
        f"{name}: exported to ONNX for this evaluation.": f"{name}：为本次评测导出为 ONNX。",
        f"'rider' is left out: {name} has no such class.": f"不计入“rider”：{name} 没有这一类别。",
        f"'{name}' is left out: tiny has no such class.": f"不计入“{name}”：tiny 没有这一类别。",
        f"home: '{name}' is left out: tiny, {name} has no such class.": (
            f"home：不计入“{name}”：tiny, {name} 没有这一类别。"
        ),
        f"trained on {name}": f"训练于 {name}",
        f"class {name}": f"类别 {name}",
        f"on a head that is labelled {name}": f"位于标注为 {name} 的头部上",
    }
    for english, chinese in sentences.items():
        assert CATALOGUE.translate(english).text == chinese
    two = f"{name}: exported to ONNX for this evaluation. helmlite compare: {name}"
    assert CATALOGUE.translate(two).text == f"{name}：为本次评测导出为 ONNX。helmlite compare：{name}"
    assert (
        CATALOGUE.translate(f"What it loses on {name} is unknown: no model here was trained on it").text.count(name)
        == 1
    )


def test_sentences_and_lists_are_taken_apart() -> None:
    catalogue = Catalogue(
        {"a head": "头部", "on {name}": "位于 {name} 上", "small ({n_px}, near: {n_near})": "小（{n_px}，{n_near}）"}
    )
    assert catalogue.translate("A head. On bus; a head, a head.").text == "头部。位于 bus 上；头部、头部。"
    assert catalogue.translate("on bus; small (9 px, near: 2)").text == "位于 bus 上；小（9 px，2）"
    assert catalogue.translate("a head, something else").text == "a head, something else"


def test_a_text_without_template_stays_as_it_is() -> None:
    page = document("A title", ["<p>Nobody said this before: truly, never.</p>", "<p>5 &lt; 6 &amp; 7</p>"])
    chinese = in_chinese(page)
    assert "<p>Nobody said this before: truly, never.</p><p>5 &lt; 6 &amp; 7</p>" in chinese
    assert "<title>A title</title>" in chinese
    assert untranslated(page) == ["A title", "Nobody said this before: truly, never."]


def test_names_and_commands_stay() -> None:
    page = document(
        "unknown",
        [
            named("unknown"),
            '<p translate="no">unknown<br><i>unknown</i></p><p>unknown</p>',
            "<pre>unknown</pre>",
            '<a href="#x" aria-label="unknown"><img src="x" alt="unknown"></a>',
        ],
    )
    chinese = in_chinese(page)
    assert '<html lang="zh-CN">' in chinese and "<title>未知</title>" in chinese
    assert '<span translate="no">unknown</span><p translate="no">unknown<br><i>unknown</i></p><p>未知</p>' in chinese
    assert "<pre>unknown</pre>" in chinese
    assert '<a href="#x" aria-label="未知"><img src="x" alt="unknown">' in chinese
    assert chinese.count("<style>") == 1 and page[page.index("<style>") : page.index("</style>")] in chinese
    assert in_chinese(FOOTER) in chinese and FOOTER not in chinese


def test_each_page_leads_to_the_other() -> None:
    page = report_page(a_report(), twin="report.zh-CN.html")
    assert '<a class="twin" href="report.zh-CN.html">中文</a>' in page
    assert '<a class="twin" href="report.html">English</a>' in in_chinese(report_page(a_report(), twin="report.html"))
    assert 'class="twin"' not in report_page(a_report())


@pytest.fixture(scope="module")
def in_bad_conditions() -> Comparison:
    """Two models on 80 pictures, in nine conditions, with thresholds that both carry."""
    dataset, found = make_random(4, pictures=80, noise=1.0, false=1)
    nothing = replace(found, detections=(make_found([], [], []),) * len(found))
    worse = [
        {case: nothing if blind and case.condition == "night" else found for case in all_cases(["night", "fog"])}
        for blind in (False, True)
    ]
    sides = [
        Contender(Measured(name, latency_ms_median=latency), found, found, (0.3, 0.3), WorsePredictions(found, cases))
        for name, latency, cases in zip(("first", "by night"), (12.3, 4.5), worse)
    ]
    return replace(
        compare(sides, replace(dataset, split="test"), dataset),
        remarks=(
            "'helmet' is left out: first has no such class.",
            "left out: a.jpg: not a readable picture (3 bytes)",
            "first: exported to ONNX for this evaluation",
            "first: licence: MIT",
            "These are pictures of train: what a model scores on pictures it learned from is no test of it.",
        ),
        commands=("helmlite compare first second",),
        versions={"torch": "2.14.1"},
        measured_on={"CPU": "AMD EPYC, 2 of 2 cores, Linux 6.18", "threads": "1", "rounds": ROUNDS},
        created="2026-11-28T23:00:00+00:00",
    )


ROUNDS = "40 interleaved, batch 1, network alone"


def a_full_report(evidence: Comparison) -> RunReport:
    """Every part of a run's page filled, unknown figures among them."""
    report = a_report()
    checks = tuple(
        GateCheck(name, verdict, f"{name}: {says}", 0.6, 0.5, 0.3, (-0.4, 0.9), 1.0)
        for name, verdict, says in (
            ("mAP50-95", "failed", "1.30 points lost (95 % interval: a loss between 1.10 and 2.40; allowed 1)."),
            (
                "recall of no_helmet",
                "undecided",
                "unchanged (95 % interval: between a gain of 2.00 and a loss of 4.00; allowed 2); 76 pictures cannot "
                "tell, about 640 would if the loss stays what it is. 2 of 54 bare heads newly missed, 1 newly found, "
                "at 5.0 false alarms per 100 pictures.",
            ),
            (
                "class helmet",
                "not judged",
                "19 boxes in 9 independent pictures are too few to judge (at least 10 pictures).",
            ),
            ("size small", "failed", "unknown, nothing of it is labelled here."),
        )
    )
    row = replace(report.result, note="33 % of the kernels' weights are zero: a smaller download", input_size=640)
    return replace(
        report,
        baseline=replace(report.baseline, name="FP32 at 640", runtime="openvino", precision="INT8, rest BF16"),
        result=replace(report.result, name="4. quantize", by_size={"small": 0.5, "medium": None, "large": 0.7}),
        gate=replace(GATE, verdict="undecided", checks=checks, units=40),
        steps=(replace(row, name="1. prune"), replace(row, name="2. activation", size_bytes=None)),
        references=(
            Measured("NNCF INT8 at 640", note="needs no training", latency_ms_median=20.0, map=0.5),
            Measured(
                "4. quantize, rest in BF16", note="weights stored in INT8, computed in float: a smaller file, no speed"
            ),
        ),
        data=(replace(report.data[0], source="made.yaml"), replace(report.data[0], purpose="tuning and gate")),
        stayed_float=(
            StayedFloat("model.2/conv", "kept in float: sensitivity 0.0031 of noise to signal"),
            StayedFloat("decode", "boxes in pixels and scores in [0, 1] cannot share a scale; DFL needs its softmax"),
        ),
        speedup_factors=tuple(replace(item, note="") for item in report.speedup_factors),
        curves=(Curve("3. distill", "epoch", "parts of the loss", {"box_loss": ((0.0, 3.0), (1.0, 2.0))}),),
        notes=(
            "licence: AGPL-3.0",
            "5 labelled boxes of val are of classes that the detector lacks; they were left out.",
        ),
        measured_on={
            "CPU": "AMD EPYC, 2 of 2 cores, Linux 6.18",
            "runtime": "openvino 2026",
            "threads": "1",
            "rounds": ROUNDS,
        },
        hashes={"train": "ab" * 32},
        evidence=evidence,
    )


def test_a_full_page_of_a_run_has_no_english_left(in_bad_conditions: Comparison, tmp_path: Path) -> None:
    comparison, sides, data = compared(tmp_path)
    report = a_full_report(in_bad_conditions)
    names = {*NAMES, *(f"道路{number}.png" for number in range(3)), "AGPL-3.0"}
    gallery = cut_gallery(comparison, sides, data)
    for page in (
        report_page(report, gallery),
        report_page(replace(report, heads=None, speedup=None, map_loss_ci95=None, minutes=None), ()),
        report_page(replace(report, evidence=None, result=Measured("4. quantize"), created="2026-11-28"), gallery),
    ):
        assert untranslated(page, names) == []
        chinese = in_chinese(page)
        assert re.sub(r"<[^>]+>", "", page) != re.sub(r"<[^>]+>", "", chinese)
        structure = [re.sub(r' (aria-label|lang)="[^"]*"', "", tag) for tag in re.findall(r"<[^>]+>", page)]
        assert structure == [re.sub(r' (aria-label|lang)="[^"]*"', "", tag) for tag in re.findall(r"<[^>]+>", chinese)]
    assert "54 个未戴头盔的头部中新漏检 2 个，新检出 1 个" in chinese


def test_a_full_page_of_a_comparison_has_no_english_left(in_bad_conditions: Comparison, tmp_path: Path) -> None:
    crop = ListedCrop(
        0, "a.jpg", 31, "helmet (score 0.92): on a head that is labelled no_helmet; dark (luma 31)", ("", "")
    )
    gallery = [
        GalleryPart(kind, ("first", "by night"), 3, (crop,))
        for kind in (NEWLY_MISSED, NEWLY_FOUND, FALSE_ALARMS, DOUBTFUL_LABELS)
    ]
    names = {*NAMES, "a.jpg", "FP32", "INT8"}
    assert untranslated(comparison_page(in_bad_conditions, gallery), names) == []
    one = replace(in_bad_conditions, models=in_bad_conditions.models[:1], differences=(), measured_on={}, created="")
    assert untranslated(comparison_page(one), names) == []
    few, *_ = compared(tmp_path)
    assert untranslated(comparison_page(few), names) == []
    first, second = in_bad_conditions.models
    three = replace(in_bad_conditions, models=(first, second, second), differences=in_bad_conditions.differences * 2)
    assert "个模型与 first 对比：证实 mAP50-95 更低的" in in_chinese(comparison_page(three))


@pytest.mark.parametrize("names", [("small", "dark"), ("none", "background")])
def test_a_page_of_models_that_are_called_like_words_keeps_their_names(
    in_bad_conditions: Comparison, names: tuple[str, str]
) -> None:
    """The page of models with names that mean nothing, with the same number of letters, is the same but for them."""

    def page(first: str, second: str) -> str:
        def called(value: object) -> object:
            if isinstance(value, list):
                return [called(item) for item in value]
            if isinstance(value, dict):
                return {key: called(item) for key, item in value.items()}
            if isinstance(value, str):
                return re.sub(r"\bfirst\b", first, value.replace(SIDES[1], second))
            return value

        return in_chinese(comparison_page(from_plain(Comparison, called(to_plain(in_bad_conditions))), ()))

    meaningless = tuple(letter * len(name) for letter, name in zip("QZ", names))
    expected = page(*meaningless)
    for name, other in zip(names, meaningless):
        expected = expected.replace(other, name)
    assert page(*names) == expected


def test_what_the_gate_says() -> None:
    dataset, found = make_random(2, pictures=80, noise=2.0, false=2)
    blind = replace(found, detections=tuple(item[item.labels != 1] for item in found.detections))
    few, found_few = make_random(2, pictures=20)
    no_role = replace(dataset, classes=with_roles(["helmet", "plate"]))
    verdicts: list[GateVerdict] = [
        judge(found, blind, dataset),
        judge(found, found, dataset),
        judge(blind, found, dataset, 0.0, 0.0),
        judge(found_few, found_few, few),
        judge(found, found, no_role),
    ]
    says = [check.says for verdict in verdicts for check in verdict.checks]
    assert len(says) > 20
    assert set(_said(*says)) == {"plate", "helmet, plate"}
    assert _said(*(check.name for verdict in verdicts for check in verdict.checks)) == ["plate"]


def test_what_a_comparison_says() -> None:
    intervals = ((0.2, 1.8), (-1.8, -0.2), (-0.5, 2.5), None)
    says = [difference_in_words("Recall of no_helmet", loss, ends) for loss in (1.0, 0.0, None) for ends in intervals]
    assert _said(*says, *(f"{text} 2 of 54 bare heads newly missed, 1 newly found." for text in says)) == []


def test_what_pictures_can_show() -> None:
    known = Resolution("test", 76, 76, 2.9, 640, 54, 1.85)
    cases = (known, replace(known, loss_points=None), replace(known, bare_heads=None), replace(known, bare_heads=0))
    assert _said(*(item.in_words() for item in cases)) == []


def test_what_goes_with_being_missed() -> None:
    risk = Risk("dark", 9, 20, 6, 120, 0.45, (0.2, 0.6), 0.05, (0.0, 0.1), 9.0, (0.1, 0.6), True)
    cases = (risk, replace(risk, is_shown=False), replace(risk, times=None), replace(risk, heads_with=0))
    says = [
        replace(item, trait=trait).in_words(hit)
        for item in cases
        for trait in TRAITS
        for hit in ("missed", "newly found")
    ]
    assert _said(*says) == []


def test_every_kind_of_error_and_every_cause() -> None:
    scores = ("", " (score 0.31)")
    happened = ("reported as helmet", "the box lies badly", "seen, but below the threshold")
    traits = "small (14 px high), blurred (sharpness 0.31), dark (luma 31), crowded (IoU 0.12, heads near: 3)"
    ends = (
        "",
        f"; shown to matter here: {traits}",
        f"; shown to matter here: small (9 px high); not shown to: {traits}",
    )
    misses = [f"{what}{score}{end}" for what in happened for score in scores for end in ends]
    misses += [f"not seen{end}" for end in ends]
    assert _said(*misses, *(f"no_helmet, 0.90 → nothing: {text}" for text in misses)) == []
    assert _said(*(f"missed: {kind}" for kind in MISS_KINDS), *(f"false alarm: {kind}" for kind in ALARM_KINDS)) == []
    alarms = [
        f"helmet (score 0.92): {what}; {traits}, cut off by the border"
        for what in (
            "a second box on a head that is labelled no_helmet",
            "lies badly on a head that is labelled helmet",
            "something that looks like it: surer than half of the true detections",
            "on background",
        )
    ]
    assert _said(*alarms) == []


def test_doubtful_labels() -> None:
    one = LabelCandidate("a.jpg", 0, MISSING, 0.9, (0, 0, 9, 9), None, None, "helmet", (0.9,), "")
    for found in (
        LabelMistakes((one, replace(one, kind=GHOST)), "val", 76, 140, 1, 3),
        LabelMistakes((), "val", 76, 140, 2),
    ):
        assert _said(found.in_words()) == []
    assert _said("labelled helmet, 14 px high, but nothing above 0.05 is reported") == []


def test_rules_of_thresholds() -> None:
    dataset, found = make_random(3, pictures=5)
    rules = (ThresholdRule(), ThresholdRule("recall", 0.9), ThresholdRule("recall", 1.0), ThresholdRule("alarms", 5))
    nothing = replace(found, detections=(make_found([], [], []),) * len(found))
    says = [f"Chosen by {choose_thresholds(side, dataset, rule).rule}." for rule in rules for side in (found, nothing)]
    assert _said(*says) in ([], ["helmet, no_helmet"])


def test_bad_conditions() -> None:
    cases = all_cases()
    lost = [
        ExtraLoss(case.condition, case.severity, 0.5, 0.4, 1.0, 9.0, 8.0, (5.0, 9.0), (2.0, 10.2)) for case in cases
    ]
    for found in (
        *(RobustnessComparison(tuple(lost), case, 80, 80) for case in lost),
        RobustnessComparison(tuple(lost), None, 80, 80),
        RobustnessComparison(tuple(lost), None, 20, 20),
        RobustnessComparison((), None, 80, 80),
    ):
        assert _said(found.in_words()) == []


def test_findings() -> None:
    dead = DeadClass("helmet", "helmet", 40, 38, 0, 60, 0)
    blind = BlindHeights(24.0, True, 30, 1, 50, 50)
    moved = MovedBoxes(60, 4.0, 4.1, (3.0, 5.0), (3.0, 5.0), 40.0, None, None)
    scores = ShiftedScores("no_helmet", 60, 0.5, (0.4, 0.6), 0.4, 0.2, 60, 50, 20, 5, 2)
    leak = Leak(
        "test", "train", 7, 76, 300, (LookAlike("a.jpg", "b.jpg"),), (WithoutLeak("first", 0.6, 0.5, (0.4, 0.6)),)
    )
    own = OwnPictures("first", "train", "ab" * 32)
    found: list[Finding] = [
        dead, replace(dead, shown_after=2),
        blind, replace(blind, is_below=False), replace(blind, other_kept=40),
        replace(blind, is_below=False, other_kept=0),
        moved, replace(moved, right_px=-2.0, down_px=0.0),
        replace(moved, before_off_px=(0.1, 0.0), after_off_px=(4.0, -4.1)),
        scores, replace(scores, ratio=2.0, alarms_kept=9),
        SwappedColours(20, 60, 5, 55),
        leak, replace(leak, pictures=1, without=(WithoutLeak("first", None, None, None),)),
        own, replace(own, split="val"),
    ]  # fmt: skip
    pairs = {"a.jpg ≈ b.jpg"}
    assert set(_said(*(in_words(item, "first") for item in found))) == pairs
    assert set(_said(*(in_words(item) for item in found))) == pairs
    unsaid = [Unsaid(family, name, 3, 10) for family in FAMILIES for name in ("helmet", None)]
    assert _said(*(f"by night: {in_words(item)}" for item in unsaid)) == []
