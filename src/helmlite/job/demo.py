"""The demo: helmlite's own small detector, compressed on streets that helmlite draws."""

from __future__ import annotations

from pathlib import Path

from helmlite.compress.shipped import DEMO_WEIGHTS
from helmlite.data.scenes import write_scenes
from helmlite.detector.detector import Log
from helmlite.evaluate.report import RunReport
from helmlite.job.compress import compress
from helmlite.job.prepare import CompressSettings, check_numbers

DRAWN = "The pictures of this demo are drawn by helmlite: they show how it works, and nothing about real streets."
NEXT = "With your own: helmlite data check DATA.yaml, then helmlite compress MODEL.pt --data DATA.yaml --out DIR."
_TRAIN, _VAL, _TEST = 600, 150, 150  # pictures


def demo(out: Path, minutes: float, seed: int, log: Log) -> RunReport:
    """Draws a data set into `out/scenes`, compresses `tiny` on it, and writes bundle and report into `out/run`.

    Goes on where an earlier demo in the same folder was stopped.
    """
    scenes = out / "scenes" / "data.yaml"
    settings = CompressSettings(
        model=str(DEMO_WEIGHTS),
        data=scenes,
        out=out / "run",
        recipe="demo",
        max_drop=5.0,
        max_recall_drop=5.0,
        minutes=minutes,
        seed=seed,
        notes=(DRAWN, NEXT),
    )
    check_numbers(settings)  # before minutes of drawing
    if not scenes.is_file():
        log(f"drawing {_TRAIN + _VAL + _TEST} street scenes")
        write_scenes(out / "scenes", train=_TRAIN, val=_VAL, test=_TEST, seed=seed + 1000)
    return compress(settings, log)
