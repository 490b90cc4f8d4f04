"""Copies of pictures across two sets, looked at once and no larger than needed."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from helmlite.data import look_alikes as module
from helmlite.data.duplicates import fingerprint
from helmlite.data.look_alikes import look_alikes, look_of


def _street(seed: int, width: int = 640, height: int = 480) -> np.ndarray:  # type: ignore[type-arg]
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 9, 3)).astype(np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def _written(folder: Path, name: str, image: np.ndarray) -> Path:  # type: ignore[type-arg]
    cv2.imwrite(str(folder / name), image)
    return folder / name


def test_copies_across_are_found_and_copies_within_are_not(tmp_path: Path) -> None:
    tested = [_written(tmp_path, f"t{seed}.jpg", _street(seed)) for seed in (0, 1, 2)]
    tested.append(_written(tmp_path, "t1-again.jpg", _street(1)))
    learned = [_written(tmp_path, f"l{seed}.jpg", _street(seed)) for seed in (5, 6)]
    learned.append(_written(tmp_path, "smaller.png", cv2.resize(_street(1), (200, 150))))
    learned.append(_written(tmp_path, "mirrored.jpg", np.ascontiguousarray(_street(2)[:, ::-1])))
    assert look_alikes(tested, learned).tolist() == [[1, 2], [2, 3], [3, 2]]
    assert look_alikes(tested, learned[:2]).tolist() == []
    assert look_alikes([], learned).shape == look_alikes(tested, []).shape == (0, 2)


def test_what_cannot_be_read_looks_like_nothing(tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8 no picture")
    good = _written(tmp_path, "good.jpg", _street(0))
    seen: list[tuple[int, int]] = []
    found = look_alikes([broken, good], [tmp_path / "gone.jpg", good], lambda done, total: seen.append((done, total)))
    assert found.tolist() == [[1, 1]], "numbers are those of the whole lists"
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_picture_is_looked_at_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    monkeypatch.setattr(module, "fingerprint", lambda image: looked.append(1) or fingerprint(image))
    path = _written(tmp_path, "a.jpg", _street(0))
    first, again = look_of(path), look_of(path)
    assert first is again and len(looked) == 1
    _written(tmp_path, "a.jpg", _street(1, 320, 200))
    assert look_of(path) is not first and len(looked) == 2


@pytest.mark.parametrize("size", [(3000, 2000), (700, 520), (300, 280), (40, 30)])
def test_a_reduced_picture_looks_like_the_whole(tmp_path: Path, size: tuple[int, int]) -> None:
    image = _street(3, *size)
    noisy = np.clip(image + np.random.default_rng(0).normal(0, 12, image.shape), 0, 255).astype(np.uint8)
    path = _written(tmp_path, "a.jpg", noisy)
    look, whole = look_of(path), fingerprint(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB))
    assert look is not None
    assert int((look.bits != whole.bits).sum()) <= 2 and float((look.grey * whole.grey).sum()) > 0.999
