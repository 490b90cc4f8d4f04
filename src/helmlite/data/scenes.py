"""Drawn street scenes with exact labels: riders on two-wheelers and people on foot, by day, by night and in the rain.

They stand in where no real pictures are at hand: for the demo, for the weights of `tiny`, and for tests that need
exact boxes and tracks.  What is measured on them says nothing about real streets.

Only heads on two-wheelers are labelled, as `helmet` or `no_helmet`.  Heads of people on foot never are, not even
under a hard hat, and neither is a helmet without a head.
"""

# ruff: noqa: RUF005  (an array plus a tuple is a sum here, not a concatenation)

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from helmlite.data.scene_canvas import Canvas, Drawn, Figure, Pose, draw_figure, draw_shadow, pose_of
from helmlite.data.scene_people import Look, add_body, random_look, walking
from helmlite.data.scene_street import Street, draw_street
from helmlite.data.scene_vehicles import (
    Car,
    TwoWheeler,
    car_figure,
    random_car,
    random_two_wheeler,
    two_wheeler_figure,
)
from helmlite.data.scene_weather import WEATHERS, Air, Glow, equal_pixels, random_air, street_glows, weathered
from helmlite.detections import Image

SCENE_CLASSES = ("helmet", "no_helmet")
_WEATHER_SHARES = (0.5, 0.27, 0.23)
_LEAST_VISIBLE = 0.35  # of a head that is labelled
_LEAST_SIDE = 0.014  # of a labelled head, in parts of the picture's height


@dataclass(frozen=True)
class Scene:
    """A drawn picture and its labels.

    image: (H, W, 3) uint8 RGB; boxes_xyxy: (N, 4) float32 pixels; labels: (N,) int64, index into SCENE_CLASSES
    """

    image: Image
    boxes_xyxy: NDArray[np.float32]
    labels: NDArray[np.int64]
    weather: str


@dataclass(frozen=True)
class TrackBox:
    """Something in one frame of a sequence.

    track_id:   the same in all frames
    role:       "helmet", "no_helmet" (heads of riders), "rider", "two_wheeler" or "person" (on foot)
    box_xyxy:   pixels, cut at the picture's border
    visible:    share of it, in [0, 1], that lies in the picture and that nothing nearer covers
    belongs_to: track_id of the two-wheeler that a rider or a head is on
    """

    track_id: int
    role: str
    box_xyxy: tuple[float, float, float, float]
    visible: float
    belongs_to: int | None = None


@dataclass(frozen=True)
class Frame:
    """One picture of a sequence and everything that is in it."""

    image: Image
    tracks: tuple[TrackBox, ...]


def draw_scene(seed: int | tuple[int, ...], size: tuple[int, int] = (640, 360), weather: str | None = None) -> Scene:
    """One scene, the same for the same arguments.

    size: width and height in pixels; weather: one of "day", "night", "rain", or None for any
    Raises ValueError for an unknown weather or a size below 64 pixels.
    """
    world = _random_world(seed, size, weather)
    frame = world.frame(0.0, np.random.default_rng(_key(seed, 1)))
    heads = [item for item in frame.tracks if item.role in SCENE_CLASSES and _is_labelled(item, size[1])]
    boxes = np.array([item.box_xyxy for item in heads], dtype=np.float32).reshape(-1, 4)
    labels = np.array([SCENE_CLASSES.index(item.role) for item in heads], dtype=np.int64)
    return Scene(frame.image, boxes, labels, world.air.weather)


def draw_sequence(
    seed: int | tuple[int, ...],
    frames: int,
    size: tuple[int, int] = (640, 360),
    weather: str | None = None,
    frames_per_second: float = 10.0,
) -> Iterator[Frame]:
    """The frames of a still camera's film in which everything moves, with exact tracks.

    Everything in a frame is listed, also heads that are small or mostly covered: `visible` says so.
    Raises ValueError as `draw_scene` does.
    """
    seconds = frames / frames_per_second
    world = _random_world(seed, size, weather, seconds)
    for index in range(frames):
        yield world.frame(index / frames_per_second, np.random.default_rng(_key(seed, 1, index)))


def write_scenes(folder: Path, train: int, val: int, test: int, seed: int, size: tuple[int, int] = (480, 360)) -> Path:
    """Draws a YOLO data set with these numbers of pictures; gives the path of its `data.yaml`.

    No picture is the same in two splits, or for two seeds.
    Raises ValueError where the folder already holds a data set, or a number is negative.
    """
    description = folder / "data.yaml"
    if description.exists():
        raise ValueError(f"{folder} already holds a data set; draw the scenes into another folder.")
    counts = {"train": train, "val": val, "test": test}
    if min(counts.values()) < 0:
        raise ValueError(f"The numbers of pictures must not be negative; got {counts}.")
    for number, (split, count) in enumerate(counts.items()):
        images, labels = folder / "images" / split, folder / "labels" / split
        images.mkdir(parents=True, exist_ok=True)
        labels.mkdir(parents=True, exist_ok=True)
        for index in range(count):
            scene = draw_scene((seed, number, index), size)
            name = f"{split}_{index:05d}_{scene.weather}"
            _write_image(images / f"{name}.jpg", scene.image)
            (labels / f"{name}.txt").write_text(_yolo_lines(scene), encoding="utf-8")
    splits = "".join(f"{split}: images/{split}\n" for split, count in counts.items() if count)
    names = "".join(f"  {index}: {name}\n" for index, name in enumerate(SCENE_CLASSES))
    description.write_text(f"path: .\n{splits}names:\n{names}", encoding="utf-8")
    return description


@dataclass(frozen=True)
class _Actor:
    """Somebody or something in the street.

    x, depth: metres at time 0; heading: 0 to the right, pi / 2 to the viewer; speed: m/s
    thing: what it is; looks: the people on a two-wheeler, or the one on foot; track_id: first of its ids
    """

    track_id: int
    thing: TwoWheeler | Car | None
    looks: tuple[Look, ...]
    x: float
    depth: float
    heading: float
    speed: float
    phase: float

    def figure(self, time: float) -> Figure:
        way = self.speed * time
        if isinstance(self.thing, TwoWheeler):
            turns = 0.25 if self.thing.kind == "bicycle" else 1.0  # pedals turn slower than wheels
            return two_wheeler_figure(self.thing, self.looks, self.phase - way / 0.3 * turns)
        if isinstance(self.thing, Car):
            return car_figure(self.thing)
        figure = Figure()
        add_body(figure, self.looks[0], walking(self.looks[0], self.phase + way * 4.2), 0)
        return figure

    @property
    def is_lit(self) -> bool:
        """Whether its lamps burn: not on what is parked."""
        return self.speed > 0

    def place(self, time: float) -> tuple[float, float]:
        """(X, depth) at this time."""
        way = self.speed * time
        return self.x + way * math.cos(self.heading), self.depth - way * math.sin(self.heading)


@dataclass(frozen=True)
class _World:
    """A street, its weather, and who is in it."""

    street: Street
    air: Air
    actors: tuple[_Actor, ...]

    def frame(self, time: float, random: np.random.Generator) -> Frame:
        canvas = Canvas(self.street.image.copy())
        placed = []
        for actor in self.actors:
            x, depth = actor.place(time)
            if depth > 2.0:
                haze = self.air.sky[1]
                placed.append((depth, actor, pose_of(self.street.camera, x, depth, actor.heading, haze)))
        placed.sort(key=lambda item: -item[0])
        figures = [(actor, pose, actor.figure(time)) for _, actor, pose in placed if _is_near(canvas, pose)]
        for _, pose, figure in figures:
            draw_shadow(canvas, figure, pose, self.air.sun)
        drawn: list[tuple[_Actor, dict[str, Drawn]]] = []
        lights: list[tuple[Glow, tuple[int, ...]]] = []  # with the colour of their pixel when they were drawn
        for actor, pose, figure in figures:
            drawn.append((actor, draw_figure(canvas, figure, pose, self.air.sun)))
            if actor.is_lit:
                lights += [(glow, _pixel(canvas, glow)) for glow in _glows_of(figure, pose)]
        tracks = [track for actor, groups in drawn for track in _tracks(actor, groups, canvas)]
        glows = [glow for glow, colour in lights if not glow.halo or _pixel(canvas, glow) == colour]
        if self.air.weather == "day":
            glows = []
        elif self.air.ambient is not None:
            glows = street_glows(self.street) + glows
        return Frame(weathered(canvas.image, self.street, self.air, glows, random), tuple(tracks))


def _random_world(
    seed: int | tuple[int, ...], size: tuple[int, int], weather: str | None, seconds: float = 0.0
) -> _World:
    width, height = size
    if min(size) < 64:
        raise ValueError(f"A drawn scene needs at least 64 x 64 pixels; got {width} x {height}.")
    random = np.random.default_rng(_key(seed, 0))
    air = random_air(random, weather or str(random.choice(WEATHERS, p=_WEATHER_SHARES)))
    street = draw_street(random, width, height, air.sky)
    return _World(street, air, _random_actors(random, street, air, seconds))


def _random_actors(random: np.random.Generator, street: Street, air: Air, seconds: float) -> tuple[_Actor, ...]:
    """Cars, two-wheelers and people, each in the picture at some moment of the film."""
    raining = air.rain > 0
    helmets = random.choice([0.25, 0.5, 0.75])  # streets differ
    busy = max(seconds / 6.0, 1.0)
    actors: list[_Actor] = []
    wanted = [("two_wheeler", int(random.integers(1, 6)) if random.random() > 0.06 else 0)]
    wanted += [("parked", int(random.integers(0, 3))), ("car", int(random.integers(0, 3 if street.along else 2)))]
    wanted += [("person", int(random.integers(1, 6)))]
    for kind, count in wanted:
        for _ in range(round(count * (busy if kind != "parked" else 1))):
            actor = _random_actor(random, street, kind, len(actors) * 10, helmets, raining)
            if seconds == 0 and any(_collide(actor, other) for other in actors):
                continue
            moment = random.uniform(0, seconds)
            x, depth = actor.place(-moment)
            actors.append(replace(actor, x=x, depth=depth))
    return tuple(actors)


def _random_actor(
    random: np.random.Generator, street: Street, kind: str, track_id: int, helmets: float, raining: bool
) -> _Actor:
    x, depth, heading = _random_place(random, street, kind)
    phase = float(random.uniform(0, 2 * math.pi))
    if kind == "person":
        look = random_look(random, helmet=False, rider=False, raining=raining)
        return _Actor(track_id, None, (look,), x, depth, heading, float(random.uniform(0.0, 1.5)), phase)
    if kind == "car":
        speed = float(random.uniform(3, 9)) if random.random() < 0.5 else 0.0
        return _Actor(track_id, random_car(random), (), x, depth, heading, speed, phase)
    if kind == "parked":
        return _Actor(track_id, random_two_wheeler(random), (), x, depth, heading, 0.0, phase)
    people = 2 if random.random() < 0.22 else 1
    looks = tuple(random_look(random, bool(random.random() < helmets), True, raining) for _ in range(people))
    return _Actor(track_id, random_two_wheeler(random), looks, x, depth, heading, float(random.uniform(2.5, 7)), phase)


def _random_place(random: np.random.Generator, street: Street, kind: str) -> tuple[float, float, float]:
    """X, depth and heading of something of this kind, somewhere in the picture."""
    camera = street.camera
    first, last = street.edges
    right_hand = bool(random.random() < 0.5)  # which of the two directions of traffic
    share = random.uniform(0.10, 0.46) if right_hand else random.uniform(0.54, 0.90)
    if kind == "parked" or (kind == "person" and random.random() < 0.75):
        share = random.uniform(-0.22, -0.06) if right_hand else random.uniform(1.06, 1.22)
    elif kind == "car":
        share = 0.24 if right_hand else 0.76
    across_road = first + share * (last - first)
    turn = random.normal(0, 0.22)
    if kind == "parked" or (kind == "person" and random.random() < 0.3):
        turn = random.uniform(-math.pi, math.pi)
    elif kind == "two_wheeler" and random.random() < 0.12:
        turn = random.uniform(-1.4, 1.4)
    if street.along:
        nearest, farthest = (0.46, 0.105) if kind != "car" else (0.18, 0.06)
        scale = math.exp(random.uniform(math.log(farthest), math.log(nearest))) * camera.height
        depth = camera.depth_at_scale(scale)
        heading = math.pi / 2 if right_hand else -math.pi / 2
        return _into_view(camera.width, camera.centre_x, scale, across_road), depth, heading + turn
    depth = max(across_road, 2.4)
    x = (random.uniform(0.04, 0.96) * camera.width - camera.centre_x) / camera.scale_at(depth)
    return x, depth, (0.0 if right_hand else math.pi) + turn


def _into_view(width: int, centre_x: float, scale: float, x: float) -> float:
    """The nearest place to x that is inside the picture."""
    return min(max(x, (0.05 * width - centre_x) / scale), (0.95 * width - centre_x) / scale)


def _collide(first: _Actor, second: _Actor) -> bool:
    long = 4.0 if isinstance(first.thing, Car) or isinstance(second.thing, Car) else 1.5
    away = abs(first.x - second.x), abs(first.depth - second.depth)
    return away[0] < (long if abs(math.cos(first.heading)) > 0.7 else 0.9) and away[1] < (
        long if abs(math.sin(first.heading)) > 0.7 else 0.9
    )


def _is_near(canvas: Canvas, pose: Pose) -> bool:
    """Whether anything of a figure with this pose may be in the picture."""
    reach = 5.0 * pose.scale
    return -reach < pose.x < canvas.width + reach and pose.y > 0


def _glows_of(figure: Figure, pose: Pose) -> list[Glow]:
    """Light of a figure's lamps: themselves where they face the viewer, and the road before a head lamp."""
    glows = []
    for lamp in figure.lamps:
        ahead = (lamp.position[0] + 1.8 * lamp.beam[0], lamp.position[1], 0.0)
        pixels, _ = pose.seen(np.array([lamp.position, ahead]))
        (x, y), (road_x, road_y) = pixels.tolist()
        reach, facing = lamp.reach * pose.scale, pose.faces(lamp.beam)
        if facing > 0.1:
            glows.append(Glow(x, y, reach, lamp.colour, 0.45 + 0.55 * facing))
        if lamp.beam[0] > 0:
            glows.append(Glow(road_x, road_y, reach, lamp.colour, 0.45, road_y, halo=False))
    return glows


def _pixel(canvas: Canvas, glow: Glow) -> tuple[int, ...]:
    x, y = int(glow.x), int(glow.y)
    return tuple(canvas.image[y, x].tolist()) if 0 <= x < canvas.width and 0 <= y < canvas.height else ()


def _tracks(actor: _Actor, groups: dict[str, Drawn], canvas: Canvas) -> Iterator[TrackBox]:
    """What of an actor is in the picture.  Ids: two-wheeler + 0, rider n + 1 + n, head n + 5 + n."""
    is_ridden = isinstance(actor.thing, TwoWheeler)
    owner = actor.track_id if is_ridden else None
    if is_ridden:
        yield from _track(actor.track_id, "two_wheeler", [groups["vehicle"]], canvas, None)
    for index, look in enumerate(actor.looks):
        body, head = groups[f"body{index}"], groups[f"head{index}"]
        role = "rider" if is_ridden else "person"
        yield from _track(actor.track_id + 1 + index, role, [body, head], canvas, owner)
        if is_ridden:
            role = "helmet" if look.has_helmet else "no_helmet"
            yield from _track(actor.track_id + 5 + index, role, [head], canvas, owner)


def _track(track_id: int, role: str, parts: list[Drawn], canvas: Canvas, owner: int | None) -> Iterator[TrackBox]:
    """The box around these parts, cut at the border; none where nothing of it is in the picture."""
    low = np.min([part.box[:2] for part in parts], axis=0)
    high = np.max([part.box[2:] for part in parts], axis=0)
    inside_low, inside_high = np.maximum(low, 0), np.minimum(high, (canvas.width, canvas.height))
    if (inside_high - inside_low).min() <= 0.5:
        return
    share = float((inside_high - inside_low).prod() / (high - low).prod())
    seen = _uncovered(parts[0], canvas)
    if role in SCENE_CLASSES and seen.any() and seen.mean() < 0.9:
        # A covered head is labelled as annotators do: what can be seen of it.
        rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
        corner = np.array([parts[0].left, parts[0].top])
        inside_low = np.maximum(inside_low, corner + (columns[0], rows[0]))
        inside_high = np.minimum(inside_high, corner + (columns[-1] + 1, rows[-1] + 1))
    box = (float(inside_low[0]), float(inside_low[1]), float(inside_high[0]), float(inside_high[1]))
    yield TrackBox(track_id, role, box, share * float(seen.mean()) if seen.size else 0.0, owner)


def _uncovered(part: Drawn, canvas: Canvas) -> NDArray[np.bool_]:
    """For each pixel of the part's box: whether it still shows what it showed when the part was drawn."""
    height, width = part.patch.shape[:2]
    now = canvas.image[part.top : part.top + height, part.left : part.left + width]
    return equal_pixels(now, part.patch) > 0 if part.patch.size else np.zeros((0, 0), dtype=bool)


def _is_labelled(head: TrackBox, height: int) -> bool:
    left, top, right, bottom = head.box_xyxy
    return head.visible >= _LEAST_VISIBLE and min(right - left, bottom - top) >= _LEAST_SIDE * height


def _key(seed: int | tuple[int, ...], *more: int) -> tuple[int, ...]:
    return (*(seed if isinstance(seed, tuple) else (seed,)), *more)


def _write_image(path: Path, image: Image) -> None:
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 92])
    path.write_bytes(encoded.tobytes())


def _yolo_lines(scene: Scene) -> str:
    height, width = scene.image.shape[:2]
    lines = []
    for label, (left, top, right, bottom) in zip(scene.labels.tolist(), scene.boxes_xyxy.tolist()):
        centre = (left + right) / 2 / width, (top + bottom) / 2 / height
        lines.append(
            f"{label} {centre[0]:.6f} {centre[1]:.6f} {(right - left) / width:.6f} {(bottom - top) / height:.6f}\n"
        )
    return "".join(lines)
