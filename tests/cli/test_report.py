"""`helmlite report` from the outside: pages made again, and every way to ask wrongly."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from helmlite.evaluate.comparison_files import comparison_json
from written_reports import compared

RESULTS = Path(__file__).parents[2] / "docs" / "results"


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """The folder of a run, with a crop."""
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(RESULTS / "bikes_helmets-cpu" / "report.json", folder)
    crop = {"number": 0, "picture": "a.jpg", "box_pixels": 9, "says": "not seen", "jpegs": ["AA", "AA"]}
    part = {"kind": "heads newly missed", "sides": ["FP32", "INT8"], "total": 1, "crops": [crop]}
    (folder / "gallery.json").write_text(json.dumps([part]))
    return folder


def test_a_run_s_page_is_made_again(run, finished: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    code, shown, _ = run("report", finished)
    page = (finished / "report.html").read_text("utf-8")
    assert code == 0 and shown == f"written to {finished / 'report.html'}\n"
    assert "data:image/jpeg;base64,AA" in page and "13.6× faster" in page
    assert run("report", finished, "--no-crops", "--page", tmp_path / "new" / "page.html")[0] == 0
    passed_on = (tmp_path / "new" / "page.html").read_text("utf-8")
    assert "data:image" not in passed_on and "Crops were not asked for." in passed_on
    assert run("report", finished)[0] == 0, "its own page may be written over"


def test_a_page_in_chinese(run, finished: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    code, shown, _ = run("report", finished, "--language", "zh")
    assert code == 0 and shown == f"written to {finished / 'report.zh-CN.html'}\n"
    english, chinese = ((finished / name).read_text("utf-8") for name in ("report.html", "report.zh-CN.html"))
    assert '<html lang="en">' in english and 'href="report.zh-CN.html">中文</a>' in english
    assert '<html lang="zh-CN">' in chinese and 'href="report.html">English</a>' in chinese
    assert "加速 13.6×" in chinese and "data:image/jpeg;base64,AA" in chinese
    assert run("report", finished)[0] == 0, "its own pages may be written over"
    place = tmp_path / "页面.html"
    assert run("report", finished, "--language", "zh", "--page", place, "--no-crops")[0] == 0
    alone = place.read_text("utf-8")
    assert "未要求附上截图。" in alone and "data:image" not in alone and 'class="twin"' not in alone
    assert run("report", finished, "--page", place)[0] == 0 and '<html lang="en">' in place.read_text("utf-8")


def test_no_page_is_written_where_one_of_both_is_not_ours(run, finished: Path) -> None:  # type: ignore[no-untyped-def]
    (finished / "report.zh-CN.html").write_text("<!doctype html>dear diary")
    code, _, error = run("report", finished)
    assert code == 2 and "report.zh-CN.html exists and holds other things" in error
    assert not (finished / "report.html").exists()


def test_markdown_and_schema_are_printed(run, finished: Path) -> None:  # type: ignore[no-untyped-def]
    code, shown, _ = run("report", finished, "--markdown")
    assert code == 0 and shown.startswith("## 13.6× faster") and not (finished / "report.html").exists()
    code, shown, _ = run("report", "--schema")
    assert code == 0 and json.loads(shown) == json.loads((RESULTS.parent / "report-schema.json").read_text("utf-8"))


def test_it_refuses_in_one_line(run, finished: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "diary.html").write_text("<!doctype html>dear diary")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "report.json").write_text((finished / "report.json").read_text("utf-8")[:500])
    empty = tmp_path / "empty"
    empty.mkdir()
    values = comparison_json(compared(tmp_path)[0])
    (empty / "comparison.json").write_text(json.dumps({**values, "models": []}))
    cases = (
        ((), "wants the --out folder"),
        ((tmp_path / "gone",), "none of report.json, comparison.json, cross-domain.json is there"),
        ((finished, "--page", tmp_path / "diary.html"), "exists and holds other things"),
        ((finished, "--page", tmp_path), "is a folder"),
        ((finished, "--language", "de"), "--language is en or zh; got 'de'."),
        ((finished, "--language", "zh", "--markdown"), "--markdown is in English only"),
        ((finished, "--page", finished / "x.html", "--markdown"), "--markdown prints and --page writes a page"),
        ((broken,), "report.json: damaged (it is not JSON"),
        ((empty,), "damaged (it compares no models)"),
    )
    for words, message in cases:
        code, _, error = run("report", *words)
        lines = [line for line in error.splitlines() if line.strip()]
        assert (code, len(lines)) == (2, 1), (words, error)
        assert message in lines[0]
    assert (tmp_path / "diary.html").read_text() == "<!doctype html>dear diary"
