"""The matrix trained on x tested on: cells, paired losses and files, on data that can be counted by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from helmlite.data.dataset import Dataset, dataset_of
from helmlite.evaluate.accuracy import Predictions
from helmlite.evaluate.comparison import Contender
from helmlite.evaluate.cross_domain import CrossDomain, LookedAt, TrainedModel, cross_domain
from helmlite.evaluate.cross_domain_files import (
    JSON_NAME,
    MARKDOWN_NAME,
    cross_domain_json,
    read_cross_domain,
    write_cross_domain,
)
from helmlite.evaluate.measured import Measured
from helmlite.evaluate.pages.cross_domain_page import cross_domain_page, headline
from helmlite.evaluate.pages.markdown import cross_domain_markdown
from helmlite.evaluate.pages.terminal import show_cross_domain
from helmlite.evaluate.pages.translate import in_chinese, untranslated
from helmlite.evaluate.schema import report_schema
from written_data import CLASSES, make_found, make_predictions, make_sample

_BOX = (10.0, 10.0, 60.0, 60.0)
_HALF = 51 / 101  # recall points 0, 0.01, ..., 0.50 of the 101 that half of the heads reach


def _set(name: str, count: int, split: str = "test") -> Dataset:
    """So many pictures with one bare head each."""
    return dataset_of([make_sample([_BOX], [1], f"{name}{number}") for number in range(count)], CLASSES, split)


def _found(count: int, share: float) -> Predictions:
    """The first pictures' heads, exactly; nothing in the others."""
    one, none = make_found([_BOX], [0.9], [1]), make_found([], [], [])
    return make_predictions(*(one if number < share * count else none for number in range(count)))


def _looked(name: str, count: int, *reported: tuple[str, float], tuning: tuple[float, ...] | None = None) -> LookedAt:
    """reported: (model, share of the heads that it finds);  tuning: the shares that they find there"""
    shares = tuning or tuple(share for _, share in reported)
    contenders = tuple(
        Contender(Measured(model), _found(count, share), _found(count, of_tuning), (0.5, 0.5))
        for (model, share), of_tuning in zip(reported, shares, strict=True)
    )
    return LookedAt(name, _set(name, count), _set(name, count, "val"), contenders)


MODELS = (TrainedModel("native", ("here",), "as given"), TrainedModel("<stranger>", ("elsewhere",), "as given"))


@pytest.fixture(scope="module")
def matrix() -> CrossDomain:
    """Eighty pictures of either place; nobody was trained on the second."""
    return cross_domain(
        MODELS,
        [
            _looked("here", 80, ("native", 1.0), ("<stranger>", 0.5)),
            _looked("there", 80, ("native", 0.5), ("<stranger>", 0.5)),
        ],
    )


def test_a_cell_is_counted_by_hand() -> None:
    found = cross_domain(MODELS, [_looked("here", 4, ("native", 1.0), ("<stranger>", 0.5))])
    native, stranger = found.cells
    assert (native.map, native.map50) == (pytest.approx(1.0), pytest.approx(1.0))
    assert (stranger.map, stranger.map50) == (pytest.approx(_HALF), pytest.approx(_HALF))
    assert stranger.map_loss_points == pytest.approx(100 * (1 - _HALF))
    assert stranger.recall_loss_points == pytest.approx(50.0)
    assert native.at_level is not None and native.at_level.recall == 1.0
    assert stranger.as_carried is not None and stranger.as_carried.recall == 0.5
    assert (native.at_home, stranger.at_home) == (True, False)
    assert (native.against, stranger.against) == (None, "native")
    assert native.map_ci95 is stranger.map_loss_ci95 is stranger.recall_loss_ci95 is None, "four pictures prove nothing"
    assert stranger.says[0] == "mAP50-95: measured 49.50 points lower, too few pictures for an interval."
    assert headline(found) == "2 models on 1 set: too few pictures to prove anything"


def test_a_proven_loss_has_an_interval_around_it(matrix: CrossDomain) -> None:
    lost = matrix.cell("<stranger>", "here")
    assert lost.map_loss_points == pytest.approx(100 * (1 - _HALF))
    assert lost.map_loss_ci95 is not None and 0 < lost.map_loss_ci95[0] < 49.5 < lost.map_loss_ci95[1] < 75
    assert lost.recall_loss_ci95 is not None and 0 < lost.recall_loss_ci95[0] < 50 < lost.recall_loss_ci95[1]
    assert lost.recall_ci95 is not None and 0.3 < lost.recall_ci95[0] < 0.5 < lost.recall_ci95[1] < 0.7
    assert matrix.cell("native", "here").map_ci95 == (1.0, 1.0)


def test_where_nobody_was_trained_the_loss_is_unknown(matrix: CrossDomain) -> None:
    for cell in (item for item in matrix.cells if item.tested_on == "there"):
        assert cell.map == pytest.approx(_HALF) and cell.map_loss_points is cell.map_loss_ci95 is None
        assert cell.says == ("What it loses on there is unknown: no model here was trained on it.",)
    assert matrix.domains[1].best is None
    assert headline(matrix) == (
        "2 models on 2 sets: away from home mAP50-95 shown to be lower in 1, higher in 0, not told apart in 0; "
        "unknown in 2"
    )
    assert "<stranger>: it was trained on elsewhere, which is none of the sets here." in matrix.remarks


def test_the_best_of_several_is_chosen_on_the_tuning_pictures() -> None:
    models = (TrainedModel("lucky", ("here",)), TrainedModel("best", ("here", "there")))
    looked = _looked("here", 80, ("lucky", 1.0), ("best", 0.75), tuning=(0.25, 1.0))
    found = cross_domain(models, [looked])
    assert found.domains[0].best == "best"
    assert found.cells[0].map_loss_points is not None and found.cells[0].map_loss_points < 0
    assert headline(found) == "2 models on 1 set: every model was trained on every set"


def test_what_a_model_does_not_know_is_not_called_away_from_home() -> None:
    found = cross_domain([TrainedModel("a")], [_looked("here", 4, ("a", 1.0))])
    assert found.cells[0].at_home is None and found.cells[0].map_loss_points is None
    assert "a: what it was trained on is not known; say so with a,trained_on=NAME." in found.remarks
    assert headline(found) == "1 model on 1 set: what models lose away from home is unknown"
    looked = _looked("here", 80, ("native", 1.0), ("<stranger>", 0.5), ("a", 0.5))
    mixed = cross_domain([*MODELS, TrainedModel("a")], [looked])
    assert mixed.cells[2].map_loss_ci95 == mixed.cells[1].map_loss_ci95, "it is held against the best all the same"
    assert headline(mixed).endswith("shown to be lower in 1, higher in 0, not told apart in 0; unknown in 1")


def test_thresholds_of_the_reported_pictures_are_said_to_flatter() -> None:
    looked = _looked("here", 4, ("a", 1.0))
    found = cross_domain([TrainedModel("a", ("here",))], [replace(looked, tuning=looked.reported)])
    assert any("chosen on the reported pictures themselves (test)" in line for line in found.remarks)
    assert len(found.domains[0].data) == 1


def test_what_cannot_be_filled_is_refused() -> None:
    looked = _looked("here", 4, ("a", 1.0))
    a = TrainedModel("a")
    with pytest.raises(ValueError, match="There is no model"):
        cross_domain([], [looked])
    with pytest.raises(ValueError, match="There is no data set"):
        cross_domain([a], [])
    with pytest.raises(ValueError, match="Every data set needs a name of its own; got here, here"):
        cross_domain([a], [looked, looked])
    with pytest.raises(ValueError, match="here: expected predictions of b"):
        cross_domain([TrainedModel("b")], [looked])
    other = Contender(Measured("b"), _found(3, 1.0), _found(4, 1.0))
    with pytest.raises(ValueError, match="must be measured on the same pictures"):
        cross_domain([a, TrainedModel("b")], [replace(looked, contenders=(*looked.contenders, other))])
    with pytest.raises(KeyError):
        cross_domain([a], [looked]).cell("a", "there")


def test_the_files_are_read_back_and_fit_the_schema(matrix: CrossDomain, tmp_path: Path) -> None:
    page = write_cross_domain(matrix, tmp_path / "out")
    assert read_cross_domain(tmp_path / "out") == matrix
    text = page.read_text("utf-8")
    assert "&lt;stranger&gt;" in text and "<stranger>" not in text
    assert "−49.5" in text and "heat lost" in text and "://" not in text
    jsonschema = pytest.importorskip("jsonschema")
    values = json.loads((tmp_path / "out" / JSON_NAME).read_text("utf-8"))
    jsonschema.Draft202012Validator(report_schema()).validate(values)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(report_schema()).validate({**values, "cells": 3})
    (tmp_path / "out" / JSON_NAME).write_text(json.dumps({**cross_domain_json(matrix), "format": 9}))
    with pytest.raises(ValueError, match="expected a file of helmlite of kind 'cross-domain', format 1"):
        read_cross_domain(tmp_path / "out")
    told = (tmp_path / "out" / MARKDOWN_NAME).read_text("utf-8")
    assert told == cross_domain_markdown(matrix)
    assert "| \\<stranger>: elsewhere (as given) | 49.5 (" in told
    assert "| native: here (as given) | held against |" in told


def test_a_name_in_the_page_is_never_html(matrix: CrossDomain) -> None:
    assert "<script" not in cross_domain_page(replace(matrix, remarks=("<script>alert(1)</script>",)))


def test_the_terminal_says_each_loss(matrix: CrossDomain, capsys: pytest.CaptureFixture[str]) -> None:
    show_cross_domain(matrix, width=140)
    shown = capsys.readouterr().out
    assert "held against" in shown and "100.0 (100.0 to 100.0), at home" in shown
    assert "<stranger> on here  mAP50-95: 49.50 points lost (95 % interval: a loss between" in shown
    assert shown.strip().endswith("not told apart in 0; unknown in 2")


def test_its_page_has_no_english_left_in_chinese(matrix: CrossDomain) -> None:
    unknown = TrainedModel("native", None, "its own record")
    few = cross_domain((unknown, MODELS[1]), [_looked("here", 4, ("native", 1.0), ("<stranger>", 0.5))])
    alone = cross_domain(MODELS[:1], [_looked("here", 80, ("native", 1.0))])
    same = replace(matrix, remarks=(*matrix.remarks, "here: 'helmet' is left out: native has no such class."))
    names = {"native", "<stranger>", "here", "there", "elsewhere", "native · <stranger>", "native,trained_on=NAME"}
    for found in (few, alone, same):
        assert untranslated(cross_domain_page(found), names) == []
    chinese = in_chinese(cross_domain_page(matrix, twin="cross-domain.html"))
    assert "2 个模型、2 个数据集：跨域时证实 mAP50-95 更低的 1 处" in chinese and 'href="cross-domain.html"' in chinese
