from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from helmlite.data.dataset import read_image
from helmlite.runtime.bundle import Bundle, BundlePredictor
from helmlite.runtime.detect import detect
from helmlite.runtime.output import MARKER, JsonLines, PictureFolder, VideoFile, open_output
from helmlite.runtime.sources import Frame, Source, open_source

MakeBundle = Callable[..., Bundle]


def write_picture(path: Path, colour: tuple[int, int, int]) -> None:
    picture = np.full((64, 64, 3), colour[::-1], dtype=np.uint8)
    path.write_bytes(cv2.imencode(path.suffix, picture)[1].tobytes())


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A red picture, a blue one, and one that is none."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    write_picture(folder / "a.png", (255, 0, 0))
    write_picture(folder / "b.png", (0, 0, 255))
    (folder / "c.jpg").write_bytes(b"corrupt")
    return folder


def test_a_folder_by_hand(make_bundle: MakeBundle, pictures: Path, tmp_path: Path) -> None:
    source = open_source(str(pictures))
    predictor = BundlePredictor(make_bundle(), threads=1).in_real_use()
    told: list[int] = []
    with JsonLines.open(tmp_path / "lines.jsonl", source) as lines:
        output = open_output(tmp_path / "out", source)
        summary = detect(source, predictor, output=output, lines=lines, on_frame=told.append)
    # red: class 0 with 0.9 and 0.5 (threshold 0.5); blue: class 1 with 0.9 and 0.5 (threshold 0.2)
    assert summary.frames == 2
    assert told == [1, 2]
    assert [(item.name, count) for item, count in summary.watch.count_by_class()] == [("helmet", 2), ("未戴头盔", 2)]
    assert len(summary.problems) == 1
    assert "c.jpg" in summary.problems[0]
    records = [json.loads(line) for line in (tmp_path / "lines.jsonl").read_text("utf-8").splitlines()]
    assert [record["source"] for record in records] == ["a.png", "b.png"]
    best = records[1]["detections"][0]
    assert best == {"class": "未戴头盔", "role": "no_helmet", "score": 0.9, "box_xyxy": [4.0, 4.0, 32.0, 32.0]}
    assert (records[0]["frame"], records[0]["time_s"]) == (0, None)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [MARKER, "a.png", "b.png"]
    drawn = read_image(tmp_path / "out" / "b.png")
    assert tuple(drawn[20, 4]) == (225, 45, 45)  # the bare head's frame
    assert tuple(read_image(pictures / "b.png")[20, 4]) == (0, 0, 255)


def test_versus_counts_where_two_differ(make_bundle: MakeBundle, pictures: Path, tmp_path: Path) -> None:
    source = open_source(str(pictures))
    first = BundlePredictor(make_bundle(), threads=1)
    with JsonLines.open(tmp_path / "lines.jsonl", source) as lines:
        output = open_output(tmp_path / "out", source)
        summary = detect(source, first.in_real_use(), first.in_real_use(0.6), output, lines)
    # in each picture both find the box of 0.9; the box of 0.5 is found by the first only
    assert (summary.differing, summary.same, summary.only_left) == (2, 2, 2)
    assert (summary.only_right, summary.other_class) == (0, 0)
    record = json.loads((tmp_path / "lines.jsonl").read_text("utf-8").splitlines()[0])
    assert record["versus"]["only_left"] == [1]
    assert len(record["versus"]["detections"]) == 1
    assert read_image(tmp_path / "out" / "a.png").shape == (32 + 480 + 32, 480 + 4 + 480, 3)


@pytest.mark.parametrize("size", [(64, 48), (65, 49)])
def test_a_video_becomes_a_video(make_bundle: MakeBundle, tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "ride.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, size)
    for _ in range(6):
        writer.write(np.full((size[1], size[0], 3), (0, 0, 255), dtype=np.uint8))
    writer.release()
    source = open_source(str(path))
    predictor = BundlePredictor(make_bundle(), threads=1).in_real_use()
    output = open_output(tmp_path / "out", source)
    summary = detect(source, predictor, output=output, limit=4)
    assert summary.frames == 4
    assert sorted(item.name for item in (tmp_path / "out").iterdir()) == [MARKER, "ride.mp4"]
    written = open_source(str(tmp_path / "out" / "ride.mp4"))
    assert (written.count, written.fps) == (4, 10.0)
    frame = next(iter(written.frames(lambda problem: None)))
    assert frame.image.shape == (size[1] // 2 * 2, size[0] // 2 * 2, 3)


def test_an_interrupt_leaves_whole_files(make_bundle: MakeBundle, tmp_path: Path) -> None:
    def frames(on_problem: Callable[[str], None]):  # type: ignore[no-untyped-def]
        for index in range(3):
            yield Frame(np.zeros((48, 64, 3), np.uint8), "0", index, index / 10)
        raise KeyboardInterrupt

    source = Source("0", "camera", None, 10.0, (), frames)
    output = open_output(tmp_path / "out", source)
    summary = detect(source, BundlePredictor(make_bundle(), threads=1), output=output)
    assert summary.interrupted
    assert summary.frames == 3
    assert open_source(str(tmp_path / "out" / "camera-0.mp4")).count == 3


def test_nothing_readable_is_an_error(make_bundle: MakeBundle, tmp_path: Path) -> None:
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "a.jpg").write_bytes(b"x")
    source = open_source(str(tmp_path / "only"))
    with pytest.raises(ValueError, match=r"No frame of .* could be read\. .*a\.jpg"):
        detect(source, BundlePredictor(make_bundle(), threads=1))


def test_a_folder_with_other_things_is_refused_and_ours_is_used_again(pictures: Path, tmp_path: Path) -> None:
    source = open_source(str(pictures))
    with pytest.raises(ValueError, match="holds other things; give --out a new or empty folder"):
        PictureFolder(pictures, source)
    assert not (pictures / MARKER).exists()
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"--out wants a folder; .*file is a file"):
        PictureFolder(tmp_path / "file", source)
    PictureFolder(tmp_path / "out" / "deep", source)
    PictureFolder(tmp_path / "out" / "deep", source)
    assert (tmp_path / "out" / "deep" / MARKER).is_file()


def test_the_source_is_never_written_over(pictures: Path, tmp_path: Path) -> None:
    before = (pictures / "a.png").read_bytes()
    (pictures / MARKER).touch()  # even where the folder is marked as ours
    source = open_source(str(pictures))
    with pytest.raises(ValueError, match="belongs to the source and would be written over"):
        PictureFolder(pictures, source)
    with pytest.raises(ValueError, match="belongs to the source"):
        JsonLines.open(pictures / "a.png", source)
    assert (pictures / "a.png").read_bytes() == before
    video = Source("ride.mp4", "video", 1, 10.0, (pictures / "ride.mp4",), source.frames)
    with pytest.raises(ValueError, match="belongs to the source"):
        VideoFile(pictures, video)


def test_lines_go_into_no_file_of_somebody_else(pictures: Path, tmp_path: Path) -> None:
    source = open_source(str(pictures))
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"notes\.txt exists and holds other things"):
        JsonLines.open(tmp_path / "notes.txt", source)
    (tmp_path / "diary.txt").write_text("\nmine\n")
    with pytest.raises(ValueError, match="holds other things"):
        JsonLines.open(tmp_path / "diary.txt", source)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert (tmp_path / "diary.txt").read_text() == "\nmine\n"
    JsonLines.open(Path("/dev/null"), source).stream.close()  # a pipe or a device is nobody's file
    for _ in range(2):  # what we wrote may be written anew
        with JsonLines.open(tmp_path / "lines.jsonl", source) as lines:
            lines.write({"source": "a.png", "frame": 0, "detections": []})


def test_a_video_that_ends_in_an_error_gets_no_name(make_bundle: MakeBundle, tmp_path: Path) -> None:
    """The second frame has another size, which no video can hold."""
    frames = [
        Frame(np.zeros((size, size, 3), np.uint8), "ride.mp4", index, None) for index, size in enumerate((64, 32))
    ]

    def read(on_problem: object) -> Iterator[Frame]:
        yield from frames

    source = Source("ride.mp4", "video", 2, 10.0, (tmp_path / "ride.mp4",), read)  # type: ignore[arg-type]
    output = open_output(tmp_path / "out", source)
    with pytest.raises(OSError, match=r"Frame 1 of ride\.mp4 is 32 x 32 pixels, those before are 64 x 64"):
        detect(source, BundlePredictor(make_bundle(), threads=1).in_real_use(), output=output)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [MARKER]


def test_other_suffixes_become_png(tmp_path: Path) -> None:
    source = Source("x", "pictures", 1, None, (tmp_path / "photo.tiff",), lambda on_problem: iter(()))  # type: ignore[arg-type, return-value]
    output = PictureFolder(tmp_path / "out", source)
    output.write(Frame(np.zeros((4, 4, 3), np.uint8), "photo.tiff", 0, None), np.zeros((4, 4, 3), np.uint8))
    assert (tmp_path / "out" / "photo.tiff.png").is_file()
