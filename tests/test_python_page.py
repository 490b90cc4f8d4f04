"""The page on helmlite in Python: its blocks run as they stand, one after another."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import helmlite
from helmlite.compress.checkpoint import save_checkpoint
from helmlite.compress.load import load_detector
from helmlite.compress.quantize import Quantize
from helmlite.compress.technique import Context
from helmlite.data.load import load_dataset, match_classes
from helmlite.data.scenes import write_scenes
from helmlite.export.pack import write_bundle

_PAGE = Path(__file__).parents[1] / "docs" / "python.md"


@pytest.mark.slow
def test_every_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = _PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len(blocks) == text.count("```python") == 6
    detector = load_detector(str(Path(helmlite.__file__).parent / "weights" / "tiny-scenes"))
    data = write_scenes(tmp_path, train=12, val=8, test=8, seed=0)
    train = match_classes(load_dataset(data, "train"), detector.classes)
    small = Quantize(pictures=12).apply(detector, Context(train, detector, 160, 0, tmp_path / "work"))
    write_bundle(tmp_path / "run" / "bundle", small, 160, precision="int8", target="x86-openvino")
    save_checkpoint(detector, tmp_path / "best", {})
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block.replace('"best.pt', '"best'), str(_PAGE), "exec"), names)
    assert (tmp_path / "versus" / "comparison.zh-CN.html").is_file()
    assert (tmp_path / "label-mistakes.csv").is_file()
    matrix = json.loads((tmp_path / "matrix" / "cross-domain.json").read_text("utf-8"))
    assert [item["name"] for item in matrix["models"]] == ["ours", "small"] and matrix["commands"] == []
    verdict, thresholds = names["verdict"], names["thresholds"]
    assert verdict.verdict == "undecided" and "on 8 independent pictures" in " ".join(verdict.says)  # type: ignore[attr-defined]
    assert "5" in thresholds.rule and len(thresholds.by_class) == 2  # type: ignore[attr-defined]
