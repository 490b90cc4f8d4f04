"""Drawn scenes: exact labels, the right heads, and the same picture for the same seed."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from helmlite.data import scenes
from helmlite.data.dataset import read_image
from helmlite.data.scene_canvas import Camera, Canvas, Figure, Pose, SunLight, draw_figure, pose_of
from helmlite.data.scene_people import BARE, HELMETS, Look, add_head, random_look
from helmlite.data.scene_street import Street
from helmlite.data.scene_vehicles import Car, TwoWheeler
from helmlite.data.scene_weather import random_air
from helmlite.data.scenes import SCENE_CLASSES, draw_scene, draw_sequence, write_scenes
from helmlite.data.yolo import load_yolo

GREY = (128, 128, 128)


def somebody(headwear: str = "open_face") -> Look:
    look = random_look(np.random.default_rng(3), helmet=True, rider=True, raining=False)
    return replace(look, headwear=headwear, hair_style="short", size=1.0, turn=0.0, cape=None, backpack=None)


def plain_world(*actors: scenes._Actor) -> scenes._World:
    """An empty grey street, seen by a camera 2 m above it: 100 pixels per metre at 5 m, horizon at row 60."""
    camera = Camera(640, 480, focal=500.0, horizon_y=60.0, centre_x=320.0, height_m=2.0)
    image = np.full((480, 640, 3), GREY, np.uint8)
    blank = np.zeros((480, 640), np.uint8)
    street = Street(image, blank.astype(np.float32), blank, np.zeros((0, 3)), camera, False, (4.0, 10.0))
    air = replace(random_air(np.random.default_rng(0), "day"), blur=0.0, noise=0.0, tint=(1.0, 1.0, 1.0))
    return scenes._World(street, air, actors)


def rider(x: float, depth: float, headwear: str = "open_face", speed: float = 0.0) -> scenes._Actor:
    bike = TwoWheeler("e_bike", (40, 90, 170), (200, 60, 50), "", GREY)
    return scenes._Actor(0, bike, (somebody(headwear),), x, depth, 0.0, speed, 0.0)


def test_the_same_seed_gives_the_same_scene() -> None:
    first, second, other = draw_scene(5), draw_scene(5), draw_scene(6)
    assert np.array_equal(first.image, second.image)
    assert np.array_equal(first.boxes_xyxy, second.boxes_xyxy)
    assert first.weather == second.weather
    assert not np.array_equal(first.image, other.image)


def test_scenes_are_well_formed_pictures() -> None:
    counts = np.zeros(2, int)
    empty = 0
    for seed in range(40):
        scene = draw_scene(seed, (320, 240))
        assert scene.image.shape == (240, 320, 3)
        assert scene.image.dtype == np.uint8
        assert scene.boxes_xyxy.dtype == np.float32
        assert scene.labels.dtype == np.int64
        assert scene.boxes_xyxy.shape == (len(scene.labels), 4)
        assert (scene.boxes_xyxy[:, :2] >= 0).all()
        assert (scene.boxes_xyxy[:, 2:] <= (320, 240)).all()
        assert (scene.boxes_xyxy[:, 2:] - scene.boxes_xyxy[:, :2] >= 3).all()
        counts += np.bincount(scene.labels, minlength=2)
        empty += len(scene.labels) == 0
    assert (counts >= 15).all(), counts  # both classes are common
    assert 1 <= empty <= 15  # and some pictures show no rider


@pytest.mark.parametrize("weather", ["day", "night", "rain"])
def test_weather_is_as_asked(weather: str) -> None:
    assert draw_scene(1, weather=weather).weather == weather


def test_nights_are_dark() -> None:
    day, night = (np.mean([draw_scene(seed, weather=w).image.mean() for seed in range(6)]) for w in ("day", "night"))
    assert night < 0.7 * day


def test_unknown_weather_and_tiny_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Unknown weather 'snow'.*day, night, rain"):
        draw_scene(0, weather="snow")
    with pytest.raises(ValueError, match="at least 64 x 64 pixels; got 640 x 20"):
        draw_scene(0, size=(640, 20))


@pytest.mark.parametrize("headwear", [*HELMETS, *BARE, "hard_hat"])
@pytest.mark.parametrize("yaw", [0.0, 0.8, math.pi / 2, math.pi, -math.pi / 2, -2.3])
def test_head_boxes_are_exact(headwear: str, yaw: float) -> None:
    canvas = Canvas(np.full((300, 300, 3), 255, np.uint8))
    figure = Figure()
    look = replace(somebody(headwear), headwear_colour=(20, 60, 90), hair=(30, 30, 30), skin=(150, 90, 60), mask=False)
    add_head(figure, look, np.array([0.0, 0.0, 0.0]), 0)
    box = draw_figure(canvas, figure, Pose(150, 150, 500, yaw, 0.2), SunLight())["head0"].box
    rows, columns = np.nonzero((canvas.image < 190).any(axis=2))
    drawn = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    assert np.abs(np.array(drawn) - box).max() <= 1.0, (drawn, box)


def test_a_head_is_where_the_camera_sees_it() -> None:
    # 5 m away a metre has 100 pixels, the road lies 2 m below the horizon's row 60: at row 260.
    (head,) = [
        item
        for item in plain_world(rider(0.0, 5.0)).frame(0.0, np.random.default_rng(0)).tracks
        if item.role == "helmet"
    ]
    left, top, right, bottom = head.box_xyxy
    assert 25 < right - left < 40  # a helmet is about 30 cm long
    assert 25 < bottom - top < 40
    assert 260 - 175 < (top + bottom) / 2 < 260 - 145  # heads of riders are about 1.6 m high
    assert head.visible > 0.9


def test_uncovered_pixels_decide_what_is_visible() -> None:
    car = scenes._Actor(10, Car("van", (200, 200, 200)), (), 0.0, 4.0, 0.0, 0.0, 0.0)
    hidden = plain_world(rider(0.0, 7.0), car).frame(0.0, np.random.default_rng(0)).tracks
    assert next(item for item in hidden if item.role == "helmet").visible == 0.0
    beside = plain_world(rider(3.5, 7.0), car).frame(0.0, np.random.default_rng(0)).tracks
    assert next(item for item in beside if item.role == "helmet").visible > 0.9


def test_a_half_covered_head_gets_the_box_of_what_is_seen() -> None:
    free = plain_world(rider(0.0, 6.0)).frame(0.0, np.random.default_rng(0)).tracks
    whole = next(item for item in free if item.role == "helmet").box_xyxy
    world = plain_world(rider(0.0, 6.0))
    canvas = Canvas(world.street.image.copy())
    figure, camera = world.actors[0].figure(0.0), world.street.camera
    groups = draw_figure(canvas, figure, pose_of(camera, 0.0, 6.0, 0.0, world.air.sky[1]), world.air.sun)
    middle = int((whole[0] + whole[2]) / 2)
    cv2.rectangle(canvas.image, (middle, 0), (639, 479), (0, 255, 0), -1)
    half = next(item for item in scenes._tracks(world.actors[0], groups, canvas) if item.role == "helmet")
    assert half.box_xyxy[0] == pytest.approx(whole[0], abs=1)
    assert half.box_xyxy[2] == pytest.approx(middle, abs=1)
    assert half.visible == pytest.approx(0.5, abs=0.08)


def test_heads_outside_the_picture_are_no_tracks() -> None:
    tracks = plain_world(rider(0.0, 1.0), rider(30.0, 5.0)).frame(0.0, np.random.default_rng(0)).tracks
    assert [item for item in tracks if item.role in SCENE_CLASSES] == []


def test_tracks_move_as_the_world_does() -> None:
    # 2 m/s to the right at 5 m, where a metre has 100 pixels: 20 pixels in a tenth of a second.
    world = plain_world(rider(-0.5, 5.0, speed=2.0))
    lefts = []
    for time in (0.0, 0.1, 0.2):
        tracks = world.frame(time, np.random.default_rng(0)).tracks
        lefts.append(next(item for item in tracks if item.role == "two_wheeler").box_xyxy[0])
    assert np.diff(lefts) == pytest.approx([20.0, 20.0], abs=0.6)  # it turns a little against the viewer


def test_only_heads_on_two_wheelers_are_heads() -> None:
    people = heads = 0
    for seed in range(12):
        (frame,) = draw_sequence(seed, 1)
        two_wheelers = {item.track_id for item in frame.tracks if item.role == "two_wheeler"}
        for item in frame.tracks:
            if item.role in (*SCENE_CLASSES, "rider"):
                assert item.belongs_to is not None
                heads += item.role in SCENE_CLASSES
            else:
                assert item.belongs_to is None
        riders = [item.belongs_to for item in frame.tracks if item.role == "rider"]
        assert all(riders.count(owner) <= 2 for owner in two_wheelers)
        people += sum(item.role == "person" for item in frame.tracks)
    assert people >= 8
    assert heads >= 8


def test_sequences_keep_ids_and_roles() -> None:
    roles: dict[int, str] = {}
    places: dict[int, tuple[float, float]] = {}
    frames = list(draw_sequence(4, 12, size=(320, 180)))
    assert len(frames) == 12
    for frame in frames:
        ids = [item.track_id for item in frame.tracks]
        assert len(ids) == len(set(ids))
        for item in frame.tracks:
            assert roles.setdefault(item.track_id, item.role) == item.role
            assert 0 <= item.visible <= 1
            left, top, right, bottom = item.box_xyxy
            assert 0 <= left < right <= 320
            assert 0 <= top < bottom <= 180
            places[item.track_id] = left, top
    assert len(roles) >= 3
    again = list(draw_sequence(4, 12, size=(320, 180)))
    assert all(np.array_equal(a.image, b.image) and a.tracks == b.tracks for a, b in zip(frames, again))


def test_no_frames_give_nothing() -> None:
    assert list(draw_sequence(4, 0)) == []


def test_written_scenes_are_read_back(tmp_path: Path) -> None:
    path = write_scenes(tmp_path / "scenes", train=3, val=1, test=2, seed=9, size=(320, 240))
    for number, (split, count) in enumerate((("train", 3), ("val", 1), ("test", 2))):
        dataset = load_yolo(path, split)
        assert len(dataset) == count
        assert [item.role for item in dataset.classes] == ["helmet", "no_helmet"]
        for index, sample in enumerate(dataset):
            scene = draw_scene((9, number, index), (320, 240))
            assert sample.boxes_xyxy == pytest.approx(scene.boxes_xyxy, abs=0.01)
            assert sample.labels.tolist() == scene.labels.tolist()
            difference = np.abs(read_image(sample.image_path).astype(int) - scene.image)
            assert difference.mean() < 6  # JPEG


def test_splits_without_pictures_are_left_out(tmp_path: Path) -> None:
    path = write_scenes(tmp_path, train=1, val=0, test=0, seed=1, size=(128, 96))
    assert len(load_yolo(path, "train")) == 1
    with pytest.raises(ValueError, match="no split 'val'"):
        load_yolo(path, "val")


def test_nothing_is_written_over(tmp_path: Path) -> None:
    write_scenes(tmp_path, train=1, val=0, test=0, seed=1, size=(128, 96))
    with pytest.raises(ValueError, match="already holds a data set"):
        write_scenes(tmp_path, train=1, val=0, test=0, seed=2, size=(128, 96))
    with pytest.raises(ValueError, match="must not be negative"):
        write_scenes(tmp_path / "other", train=-1, val=0, test=0, seed=2)
