"""Empty streets for drawn scenes: sky, houses, trees, pavements, the road and its markings."""

# ruff: noqa: RUF005  (an array plus a tuple is a sum here, not a concatenation)

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from helmlite.data.scene_canvas import Camera, Canvas, Colour, Points, mixed, shaded

_WALLS = (
    (196, 178, 152), (214, 204, 188), (168, 120, 96), (150, 150, 152), (186, 160, 120), (120, 128, 140),
    (206, 190, 196), (132, 100, 88), (222, 214, 178), (158, 172, 168),
)  # fmt: skip
_SHOPS = ((170, 40, 40), (40, 96, 150), (226, 160, 40), (50, 120, 80), (110, 60, 120), (230, 226, 216), (40, 42, 48))
_LEAVES = ((62, 104, 52), (84, 124, 58), (50, 92, 62), (104, 128, 60))
_STRIP_SCALE = 16  # pixels per metre of the strip on which house fronts are drawn before they are put up


@dataclass(frozen=True)
class Street:
    """An empty street.

    image:   (H, W, 3) uint8
    road:    (H, W) float32 in [0, 1], where the road is: it shines when wet
    windows: (H, W) uint8, 255 where a window or a sign shines at night
    lamps:   pixels (N, 2) of street lamps' heads, and pixels per metre there, as (N, 3) rows x, y, scale
    along:   whether the road leads away from the viewer, or crosses the picture
    edges:   road's borders in metres: X from, to when `along`; else depth from, to
    """

    image: NDArray[np.uint8]
    road: NDArray[np.float32]
    windows: NDArray[np.uint8]
    lamps: Points
    camera: Camera
    along: bool
    edges: tuple[float, float]


@dataclass(frozen=True)
class _Fronts:
    """House fronts side by side, seen straight on.  image: (H, W, 3), and masks (H, W) of walls and of windows."""

    image: NDArray[np.uint8]
    wall: NDArray[np.uint8]
    window: NDArray[np.uint8]


def draw_street(random: np.random.Generator, width: int, height: int, sky: tuple[Colour, Colour]) -> Street:
    """A street of one of two kinds: along the view, or across it.  sky: colours at the top and at the horizon."""
    along = bool(random.random() < 0.5)
    camera = _random_camera(random, width, height)
    canvas = Canvas(_sky_and_ground(random, camera, sky))
    windows = np.zeros((height, width), np.uint8)
    if along:
        edges, lamps = _street_along(random, canvas, camera, windows)
    else:
        edges, lamps = _street_across(random, canvas, camera, windows)
    road = np.zeros((height, width), np.uint8)
    cv2.fillPoly(road, [np.rint(_road_outline(camera, along, edges)).astype(np.int32)], 255)
    _roughen(random, canvas.image, camera)
    return Street(canvas.image, road.astype(np.float32) / np.float32(255), windows, lamps, camera, along, edges)


def _random_camera(random: np.random.Generator, width: int, height: int) -> Camera:
    return Camera(
        width=width,
        height=height,
        focal=width * random.uniform(0.85, 1.35),
        horizon_y=height * random.uniform(0.20, 0.38),
        centre_x=width * random.uniform(0.35, 0.65),
        height_m=float(random.uniform(1.6, 2.9)),
    )


def _sky_and_ground(random: np.random.Generator, camera: Camera, sky: tuple[Colour, Colour]) -> NDArray[np.uint8]:
    image = np.empty((camera.height, camera.width, 3), np.uint8)
    horizon = int(camera.horizon_y)
    share = np.linspace(0, 1, horizon)[:, None] ** 0.8
    image[:horizon] = (np.array(sky[0]) * (1 - share) + np.array(sky[1]) * share)[:, None]
    stone = np.array(_near(random, (148, 144, 138)))
    depth = np.linspace(1.08, 0.92, camera.height - horizon)[:, None]
    image[horizon:] = np.clip(stone * depth, 0, 255)[:, None]
    return image


def _street_across(
    random: np.random.Generator, canvas: Canvas, camera: Camera, windows: NDArray[np.uint8]
) -> tuple[tuple[float, float], Points]:
    """The road crosses the picture; houses stand behind the far pavement."""
    bottom = camera.focal * camera.height_m / (camera.height - camera.horizon_y)  # depth at the picture's lower edge
    near = bottom * random.uniform(0.7, 1.1)
    far = near + random.uniform(5.5, 8.0)
    house = far + random.uniform(3.0, 6.0)
    scale = camera.scale_at(house)
    fronts = _house_fronts(random, camera.width / scale * 1.1 + 12, floors=(2, 6))
    left_world = (0 - camera.centre_x) / scale - random.uniform(0, 6)
    ground_y = camera.horizon_y + camera.height_m * scale
    long, high = fronts.image.shape[1] / _STRIP_SCALE, fronts.image.shape[0] / _STRIP_SCALE
    corners = [(left_world + x, y, house) for x, y in ((0, high), (long, high), (long, 0), (0, 0))]
    _put_up(canvas, windows, fronts, camera.project(np.array(corners)))
    _pavement_tiles(canvas, camera, house, far, ground_y)
    asphalt = _near(random, (92, 94, 98))
    canvas.polygon(_road_outline(camera, False, (near, far)), asphalt)
    for depth, thick in ((far, 0.16), (near, -0.16)):
        _ground_strip(canvas, camera, [(-60.0, depth), (60.0, depth)], thick, (188, 186, 180))
    middle = (near + far) / 2
    for start in np.arange(-40, 40, 4.5):
        _ground_strip(canvas, camera, [(start, middle), (start + 2.0, middle)], 0.14, (214, 210, 196))
    if random.random() < 0.35:
        _zebra(canvas, camera, random.uniform(-2, 2), near, far)
    lamps = []
    reach = camera.width / camera.scale_at(far)
    for x in np.arange(-reach, reach, random.uniform(5.0, 8.0)) + random.uniform(0, 4):
        if random.random() < 0.55:
            _tree(random, canvas, windows, camera, x, far + 1.2)
        elif random.random() < 0.6:
            lamps.append(_lamp_post(canvas, camera, x, far + 0.8, -1.0))
    return (near, far), np.array(lamps).reshape(-1, 3)


def _street_along(
    random: np.random.Generator, canvas: Canvas, camera: Camera, windows: NDArray[np.uint8]
) -> tuple[tuple[float, float], Points]:
    """The road leads to the vanishing point, houses on both sides."""
    left = -random.uniform(3.2, 5.5)
    right = left + random.uniform(7.5, 10.5)
    walk = random.uniform(2.2, 4.0)
    _skyline(random, canvas, camera)
    for side, edge in ((-1, left - walk), (1, right + walk)):
        fronts = _house_fronts(random, 56.0, floors=(2, 5))
        high, long = fronts.image.shape[0] / _STRIP_SCALE, fronts.image.shape[1] / _STRIP_SCALE
        first, last = (3.0 + long, 3.0) if side < 0 else (3.0, 3.0 + long)
        # Left houses are read towards the viewer, right ones away from him.
        corners = [(edge, high, first), (edge, high, last), (edge, 0.0, last), (edge, 0.0, first)]
        _put_up(canvas, windows, fronts, camera.project(np.array(corners)))
    canvas.polygon(_road_outline(camera, True, (left, right)), _near(random, (92, 94, 98)))
    for edge in (left, right):
        kerb = np.array([(edge - 0.09, 0, 2.0), (edge + 0.09, 0, 2.0), (edge + 0.09, 0, 90.0), (edge - 0.09, 0, 90.0)])
        canvas.polygon(camera.project(kerb), (188, 186, 180))
    middle = (left + right) / 2
    for depth in np.arange(2.5, 60, 5.0):
        dash = [(x, 0.0, z) for x, z in ((-0.07, 0), (0.07, 0), (0.07, 2.2), (-0.07, 2.2))]
        canvas.polygon(camera.project(np.array(dash) + (middle, 0, depth)), (214, 210, 196))
    if random.random() < 0.35:
        depth = random.uniform(8, 16)
        for x in np.arange(left + 0.4, right - 0.6, 0.95):
            bar = np.array([(x, 0, depth), (x + 0.5, 0, depth), (x + 0.5, 0, depth + 3), (x, 0, depth + 3)])
            canvas.polygon(camera.project(bar), (206, 204, 196))
    lamps = []
    for depth in np.arange(46, 5, -random.uniform(5, 8)):
        for side, x in ((-1, left - 0.8), (1, right + 0.8)):
            if random.random() < 0.45:
                _tree(random, canvas, windows, camera, x, float(depth))
            elif random.random() < 0.4:
                lamps.append(_lamp_post(canvas, camera, x, float(depth), float(-side)))
    return (left, right), np.array(lamps).reshape(-1, 3)


def _road_outline(camera: Camera, along: bool, edges: tuple[float, float]) -> Points:
    first, last = edges
    if along:
        corners = [(first, 0, 1.0), (last, 0, 1.0), (last, 0, 400.0), (first, 0, 400.0)]
    else:
        corners = [(-90, 0, first), (90, 0, first), (90, 0, last), (-90, 0, last)]
    return camera.project(np.array(corners, dtype=np.float64))


def _ground_strip(
    canvas: Canvas, camera: Camera, line: list[tuple[float, float]], thick: float, colour: Colour
) -> None:
    """A stripe on the ground from one (X, depth) to another, `thick` metres deep."""
    (x1, z1), (x2, z2) = line
    corners = np.array([(x1, 0, z1), (x2, 0, z2), (x2, 0, z2 + thick), (x1, 0, z1 + thick)])
    canvas.polygon(camera.project(corners), colour)


def _zebra(canvas: Canvas, camera: Camera, x: float, near: float, far: float) -> None:
    for depth in np.arange(near + 0.4, far - 0.4, 0.95):
        _ground_strip(canvas, camera, [(x, depth), (x + 3.2, depth)], 0.5, (206, 204, 196))


def _pavement_tiles(canvas: Canvas, camera: Camera, back: float, front: float, ground_y: float) -> None:
    joint = tuple(int(v) for v in canvas.image[min(int(ground_y) + 2, canvas.height - 1), canvas.width // 2])
    colour = shaded((joint[0], joint[1], joint[2]), 0.9)
    for x in np.arange(-30, 30, 1.2):
        line = camera.project(np.array([(x, 0, back), (x, 0, front)]))
        canvas.line(line[0], line[1], colour)
    for depth in np.arange(front, back, 1.2):
        y = camera.project(np.array([(0, 0, depth)]))[0, 1]
        canvas.line(np.array([0.0, y]), np.array([float(canvas.width), y]), colour)


def _house_fronts(random: np.random.Generator, metres: float, floors: tuple[int, int]) -> _Fronts:
    """House fronts drawn straight on, one beside the other."""
    scale = _STRIP_SCALE
    height = int(((floors[1] + 0.6) * 3.0 + 1.4) * scale)
    width = int(metres * scale)
    image = np.zeros((height, width, 3), np.uint8)
    wall, window = np.zeros((height, width), np.uint8), np.zeros((height, width), np.uint8)
    fronts = _Fronts(image, wall, window)
    left = 0
    while left < width:
        wide = min(int(random.uniform(5.5, 12.0) * scale), width - left)
        _house(random, fronts, left, wide, int(random.integers(floors[0], floors[1] + 1)))
        left += wide
    return fronts


def _house(random: np.random.Generator, fronts: _Fronts, left: int, wide: int, floors: int) -> None:
    scale, height = _STRIP_SCALE, len(fronts.image)
    right, top = left + wide, height - int((floors * 3.0 + 1.2) * scale)
    paint = _near(random, _WALLS[int(random.integers(len(_WALLS)))])
    _block(fronts.image, left, top, right, height, paint)
    _block(fronts.image, left, top, right, top + scale // 3, shaded(paint, 0.75))
    _block(fronts.image, left, top, left + 2, height, shaded(paint, 0.7))
    cv2.rectangle(fronts.wall, (left, top), (right - 1, height), 255, -1)
    glass = _near(random, (88, 104, 118))
    step = int(random.uniform(1.7, 2.6) * scale)
    pane_w, pane_h = int(step * random.uniform(0.45, 0.65)), int(random.uniform(1.2, 1.7) * scale)
    frame = shaded(paint, 1.15) if random.random() < 0.6 else shaded(paint, 0.7)
    lit = random.random((floors, wide // step + 1)) < 0.4
    bright, sill = shaded(glass, 1.25), shaded(paint, 0.65)
    for floor in range(1, floors):
        y = height - int((floor * 3.0 + 1.2) * scale) - pane_h
        for number, x in enumerate(range(left + (step - pane_w) // 2, right - pane_w, step)):
            _block(fronts.image, x - 1, y - 1, x + pane_w + 1, y + pane_h + 1, frame)
            _block(fronts.image, x, y, x + pane_w, y + pane_h, glass)
            _block(fronts.image, x, y, x + pane_w, y + pane_h // 3, bright)
            _block(fronts.image, x - 2, y + pane_h + 1, x + pane_w + 2, y + pane_h + 3, sill)
            if lit[floor, number]:
                cv2.rectangle(fronts.window, (x, y), (x + pane_w - 1, y + pane_h - 1), 200, -1)
    if random.random() < 0.75:
        _shop(random, fronts, left, right, paint)
    else:
        door = left + int(wide * random.uniform(0.2, 0.6))
        _block(fronts.image, door, height - int(2.2 * scale), door + scale, height, _near(random, (96, 70, 56)))


def _shop(random: np.random.Generator, fronts: _Fronts, left: int, right: int, paint: Colour) -> None:
    """A shop window on the ground floor, with a sign above it and perhaps an awning."""
    scale, height = _STRIP_SCALE, len(fronts.image)
    image, inset = fronts.image, scale // 2
    sign = _SHOPS[int(random.integers(len(_SHOPS)))]
    top, bottom = height - int(2.4 * scale), height - inset
    _block(image, left + inset, top, right - inset, bottom, _near(random, (74, 84, 92)))
    if random.random() < 0.7:
        cv2.rectangle(fronts.window, (left + inset, top), (right - inset - 1, bottom - 1), 230, -1)
    for x in range(left + inset, right - inset, int(1.6 * scale)):
        _block(image, x, top, x + 2, bottom, shaded(paint, 0.8))
    board_top, board_bottom = height - int(3.2 * scale), height - int(2.5 * scale)
    _block(image, left + 4, board_top, right - 4, board_bottom, sign)
    cv2.rectangle(fronts.window, (left + 4, board_top), (right - 5, board_bottom - 1), 110, -1)
    letters = mixed(sign, (255, 255, 255), 0.75) if sum(sign) < 420 else shaded(sign, 0.35)
    for x in range(left + scale, right - scale, int(0.75 * scale)):
        wide = int(random.uniform(0.25, 0.6) * scale)
        _block(image, x, board_top + scale // 6, x + wide, board_bottom - scale // 6, letters)
    if random.random() < 0.4:
        for number, x in enumerate(range(left + 4, right - 4, inset)):
            colour = sign if number % 2 else (232, 230, 222)
            _block(image, x, board_bottom, min(x + inset, right - 4), board_bottom + int(0.6 * scale), colour)


def _block(image: NDArray[np.uint8], left: int, top: int, right: int, bottom: int, colour: Colour) -> None:
    """Fills a rectangle; right and bottom are the first pixels outside."""
    if right > left and bottom > top:
        cv2.rectangle(image, (left, top), (right - 1, bottom - 1), colour, -1)


def _put_up(canvas: Canvas, windows: NDArray[np.uint8], fronts: _Fronts, corners: Points) -> None:
    """Puts house fronts into the picture.  corners: pixels of top left, top right, bottom right, bottom left."""
    height, width = fronts.wall.shape
    source = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32)
    matrix = cv2.getPerspectiveTransform(source, corners.astype(np.float32))
    left, top = np.clip(np.floor(corners.min(0)), 0, (canvas.width, canvas.height)).astype(int).tolist()
    right, bottom = np.clip(np.ceil(corners.max(0)), 0, (canvas.width, canvas.height)).astype(int).tolist()
    if right <= left or bottom <= top:
        return
    shifted = np.array([[1.0, 0, -left], [0, 1, -top], [0, 0, 1]]) @ matrix
    size = (right - left, bottom - top)
    image = cv2.warpPerspective(fronts.image, shifted, size, flags=cv2.INTER_LINEAR)
    wall = cv2.warpPerspective(fronts.wall, shifted, size, flags=cv2.INTER_NEAREST)
    shining = cv2.warpPerspective(fronts.window, shifted, size, flags=cv2.INTER_NEAREST)
    cv2.copyTo(image, wall, canvas.image[top:bottom, left:right])
    cv2.copyTo(shining, wall, windows[top:bottom, left:right])


def _skyline(random: np.random.Generator, canvas: Canvas, camera: Camera) -> None:
    """Far houses in the haze at the end of the street."""
    horizon = int(camera.horizon_y)
    haze = canvas.image[max(horizon - 2, 0), 0].astype(int)
    x = 0
    while x < canvas.width:
        wide, high = int(random.uniform(12, 40)), int(random.uniform(6, 40))
        canvas.image[max(horizon - high, 0) : horizon + 2, x : x + wide] = np.clip(haze - random.uniform(8, 42), 0, 255)
        x += wide


def _tree(
    random: np.random.Generator, canvas: Canvas, windows: NDArray[np.uint8], camera: Camera, x: float, depth: float
) -> None:
    foot = camera.project(np.array([(x, 0.0, depth)]))[0]
    scale = camera.scale_at(depth)
    if not -3 * scale < foot[0] < canvas.width + 3 * scale:
        return
    high, crown = random.uniform(2.4, 3.4) * scale, random.uniform(1.0, 1.6) * scale
    top = foot - (0, high)
    trunk = np.array(
        [foot - (0.13 * scale, 0), foot + (0.13 * scale, 0), top + (0.07 * scale, 0), top - (0.07 * scale, 0)]
    )
    canvas.convex(trunk, (92, 74, 58))
    leaf = _near(random, _LEAVES[int(random.integers(len(_LEAVES)))])
    spread = np.clip(random.normal(0, 0.42, size=(22, 2)), -0.8, 0.8) * crown
    sizes = random.uniform(0.3, 0.55, size=22) * crown
    for (dx, dy), radius in zip(spread[np.argsort(-spread[:, 1])], sizes):
        light = 0.78 + 0.34 * (0.5 - dy / (2.4 * crown)) + random.uniform(-0.06, 0.06)
        centre = int(top[0] + dx), int(top[1] - 0.4 * crown + dy)
        cv2.circle(canvas.image, centre, max(int(radius), 1), shaded(leaf, light), -1, cv2.LINE_AA)
        cv2.circle(windows, centre, max(int(radius), 1), 0, -1)  # no light comes through


def _lamp_post(canvas: Canvas, camera: Camera, x: float, depth: float, side: float) -> tuple[float, float, float]:
    """A street lamp; gives its head's pixel and the pixels per metre there."""
    scale = camera.scale_at(depth)
    points = camera.project(np.array([(x, 0.0, depth), (x, 5.2, depth), (x + 1.1 * side, 5.5, depth)]))
    width = max(int(0.09 * scale), 1)
    canvas.line(points[0], points[1], (86, 90, 94), width)
    canvas.line(points[1], points[2], (86, 90, 94), width)
    canvas.line(points[2] - (0.2 * scale, 0), points[2] + (0.2 * scale, 0), (226, 224, 210), max(int(0.1 * scale), 1))
    return float(points[2, 0]), float(points[2, 1]), scale


def _roughen(random: np.random.Generator, image: NDArray[np.uint8], camera: Camera) -> None:
    """Grain and stains on the ground, so that it is no flat colour."""
    horizon = int(camera.horizon_y) + 1
    ground = image[horizon:]
    tile = _grain()
    top, left = random.integers(0, 512, size=2)
    grain = np.take(
        np.take(tile, np.arange(len(ground)) + top, 0, mode="wrap"), np.arange(image.shape[1]) + left, 1, mode="wrap"
    )
    cv2.multiply(ground, cv2.cvtColor(grain, cv2.COLOR_GRAY2RGB), ground, 1 / 128)


@lru_cache(maxsize=1)
def _grain() -> NDArray[np.uint8]:
    """(1024, 1024) uint8 around 128: fine and coarse noise, wide rather than high, as the ground is seen."""
    random = np.random.default_rng(7)
    fine = random.normal(0, 5, (1024, 1024)).astype(np.float32)
    coarse = cv2.resize(random.normal(0, 4, (64, 16)).astype(np.float32), (1024, 1024), interpolation=cv2.INTER_CUBIC)
    return np.clip(128 + cv2.GaussianBlur(fine, (5, 1), 0) * 1.5 + coarse, 0, 255).astype(np.uint8)


def _near(random: np.random.Generator, colour: Colour) -> Colour:
    changes = random.integers(-10, 11, size=3).tolist()
    red, green, blue = (min(max(part + change, 0), 255) for part, change in zip(colour, changes))
    return red, green, blue
