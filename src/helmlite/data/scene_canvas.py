"""What drawn scenes are made with: a canvas, a camera, and figures of rounded solids seen from any side.

World frame: X to the right, Y up, Z away from the camera, metres.  A figure has a frame of its own: x forward,
y to its left, z up, metres, with the origin on the ground below its middle.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
Colour = tuple[int, int, int]  # RGB

_SHIFT = 4  # OpenCV draws with 4 bits of sub-pixel position
_EDGE = 0.7  # pixels by which OpenCV's anti-aliased filling goes beyond an outline, measured
_ANGLES = np.arange(12) * (2 * math.pi / 12)
_CIRCLE = np.column_stack([np.cos(_ANGLES), np.sin(_ANGLES)])  # (12, 2)


def mixed(first: Colour, second: Colour, share: float) -> Colour:
    """The first colour with `share` of the second in it.

    >>> mixed((0, 0, 0), (200, 100, 0), 0.5)
    (100, 50, 0)
    """
    rest = 1 - share
    return (
        int(first[0] * rest + second[0] * share),
        int(first[1] * rest + second[1] * share),
        int(first[2] * rest + second[2] * share),
    )


def shaded(colour: Colour, factor: float) -> Colour:
    """The colour made darker (factor below 1) or lighter."""
    return min(int(colour[0] * factor), 255), min(int(colour[1] * factor), 255), min(int(colour[2] * factor), 255)


class Canvas:
    """A picture that is drawn on.  image: (H, W, 3) uint8 RGB; a pixel (column, row) covers [column, column + 1)."""

    def __init__(self, image: NDArray[np.uint8]) -> None:
        self.image = image
        self.height, self.width = image.shape[:2]

    def convex(self, points: Points, colour: Colour) -> None:
        """Fills the convex hull of these pixels positions (N, 2)."""
        hull = cv2.convexHull(_fixed(points))
        cv2.fillConvexPoly(self.image, hull, colour, cv2.LINE_AA, _SHIFT)

    def polygon(self, points: Points, colour: Colour, hole: Points | None = None) -> None:
        """Fills an outline (N, 2), less its hole where one is given."""
        contours = [_fixed(points)] if hole is None else [_fixed(points), _fixed(hole)]
        cv2.fillPoly(self.image, contours, colour, cv2.LINE_AA, _SHIFT)

    def line(self, start: Points, end: Points, colour: Colour, width: int = 1) -> None:
        """A line of whole-pixel width."""
        first, last = _fixed(np.stack([start, end])).reshape(2, 2).tolist()
        cv2.line(self.image, first, last, colour, max(width, 1), cv2.LINE_AA, _SHIFT)

    def darken(self, outlines: Sequence[Points], factor: float, softness: float = 0.0) -> None:
        """Multiplies what lies below these convex outlines by `factor`, once wherever they overlap.

        softness: blur of the edge in pixels
        """
        everything = np.concatenate(outlines)
        margin = int(2 * softness) + 2
        left, top = np.maximum(np.floor(everything.min(0)).astype(int) - margin, 0)
        right, bottom = np.minimum(np.ceil(everything.max(0)).astype(int) + margin, (self.width, self.height))
        if right <= left or bottom <= top:
            return
        mask = np.zeros((bottom - top, right - left), np.uint8)
        for outline in outlines:
            cv2.fillConvexPoly(mask, cv2.convexHull(_fixed(outline - (left, top))), 255, cv2.LINE_AA, _SHIFT)
        if softness > 0.4:
            mask = cv2.GaussianBlur(mask, (0, 0), softness)
        weight = cv2.cvtColor(255 - cv2.convertScaleAbs(mask, alpha=1 - factor), cv2.COLOR_GRAY2RGB)
        patch = self.image[top:bottom, left:right]
        cv2.multiply(patch, weight, patch, 1 / 255)


def _fixed(points: Points) -> NDArray[np.int32]:
    """Pixel positions -> OpenCV's fixed point, in which whole numbers are pixel centres.  (N, 2) -> (N, 1, 2)."""
    limited = np.clip(points, -4000, 4000)
    return np.rint((limited - 0.5) * (1 << _SHIFT)).astype(np.int32).reshape(-1, 1, 2)


@dataclass(frozen=True)
class Camera:
    """A pinhole camera that looks along Z.  focal, horizon_y, centre_x: pixels; height_m: above the road."""

    width: int
    height: int
    focal: float
    horizon_y: float
    centre_x: float
    height_m: float

    def project(self, points: Points) -> Points:
        """World positions (N, 3) -> pixels (N, 2).  Depths are taken to be at least 0.3 m."""
        depth = np.maximum(points[:, 2], 0.3)
        x = self.centre_x + self.focal * points[:, 0] / depth
        y = self.horizon_y + self.focal * (self.height_m - points[:, 1]) / depth
        return np.column_stack([x, y])

    def scale_at(self, depth: float) -> float:
        """Pixels per metre at this depth."""
        return self.focal / depth

    def depth_at_scale(self, scale: float) -> float:
        """The depth at which a metre has this many pixels."""
        return self.focal / scale


@dataclass(frozen=True)
class Solid:
    """The convex hull of some balls: everything in a figure is made of these.

    centres: (K, 3) figure frame; radii: (K,) metres
    group:   what it belongs to, for boxes ("vehicle", "body0", "head0")
    bias:    metres that it is moved towards the viewer when solids are put in order
    facing:  seen only from the side that this direction points to
    hole:    (M, 3) outline that is cut out
    gloss:   strength of the light spot on it, 0 for none
    """

    centres: Points
    radii: Points
    colour: Colour
    group: str
    bias: float = 0.0
    facing: tuple[float, float, float] | None = None
    hole: Points | None = None
    gloss: float = 0.0


@dataclass(frozen=True)
class Lamp:
    """A light on a figure.  position: figure frame; beam: direction it is seen from; reach: of its glow, metres."""

    position: tuple[float, float, float]
    beam: tuple[float, float, float]
    colour: Colour
    reach: float


@dataclass
class Figure:
    """Solids and lamps of one thing in the street."""

    solids: list[Solid] = field(default_factory=list)
    lamps: list[Lamp] = field(default_factory=list)

    def tube(self, start: Points, end: Points, radii: tuple[float, float], colour: Colour, group: str) -> None:
        """A limb or a pipe, thicker at one end."""
        self.solids.append(Solid(np.stack([start, end]), np.array(radii), colour, group, gloss=0.14))

    def hull(
        self, points: Points, colour: Colour, group: str, radius: float = 0.0, bias: float = 0.0, gloss: float = 0.0
    ) -> None:
        """A body with these corners, rounded by `radius`."""
        self.solids.append(Solid(points, np.full(len(points), radius), colour, group, bias, gloss=gloss))


@dataclass(frozen=True)
class Pose:
    """Where and how a figure stands in the picture.

    x, y: pixels of its origin; scale: pixels per metre; yaw: 0 heads to the right, pi / 2 towards the viewer;
    tilt: sine of the angle from above; haze: share of haze colour
    """

    x: float
    y: float
    scale: float
    yaw: float
    tilt: float
    haze: float = 0.0
    haze_colour: Colour = (200, 205, 210)

    def seen(self, points: Points) -> tuple[Points, Points]:
        """Figure positions (N, 3) -> pixels (N, 2) and nearness (N,) in metres."""
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        right = points[:, 0] * cos + points[:, 1] * sin
        near = points[:, 0] * sin - points[:, 1] * cos
        up = points[:, 2] * math.sqrt(1 - self.tilt * self.tilt) - near * self.tilt
        return np.column_stack([self.x + self.scale * right, self.y - self.scale * up]), near

    def faces(self, direction: tuple[float, float, float]) -> float:
        """Cosine between a figure's direction and the one to the viewer, from above left out."""
        return direction[0] * math.sin(self.yaw) - direction[1] * math.cos(self.yaw)


def pose_of(camera: Camera, x: float, depth: float, heading: float, haze_colour: Colour = (200, 205, 210)) -> Pose:
    """The pose of a figure on the road at (x, depth) whose heading is 0 to the right and pi / 2 to the camera."""
    ground = camera.project(np.array([[x, 0.0, depth]]))[0]
    tilt = min(max((camera.height_m - 0.8) / math.hypot(depth, camera.height_m), 0.0), 0.6)
    yaw = heading - math.atan2(x, depth)
    haze = 0.55 * (1 - math.exp(-depth / 70))
    return Pose(float(ground[0]), float(ground[1]), camera.scale_at(depth), yaw, tilt, haze, haze_colour)


@dataclass(frozen=True)
class SunLight:
    """How a figure is lit.  side: -1 from the left, 1 from the right; shadow: metres of shadow for a metre of height,
    to the right and away, 0 for a soft spot below it; darkness: factor on the road in the shadow."""

    side: float = -1.0
    shadow: tuple[float, float] = (0.0, 0.0)
    darkness: float = 0.6


def draw_shadow(canvas: Canvas, figure: Figure, pose: Pose, light: SunLight) -> None:
    """Darkens the road where the figure keeps the light away: its silhouette in the sun, a soft spot otherwise."""
    outline = _Outlines.of([solid for solid in figure.solids if solid.facing is None])
    if outline is None:
        return
    drop = math.sqrt(1 - pose.tilt * pose.tilt)
    height = outline.centres[:, 2]
    if light.shadow == (0.0, 0.0) or pose.scale < 25:
        low = outline.centres[height < 0.45]
        low = np.column_stack([low[:, :2], np.zeros(len(low))])
        canvas.darken([pose.seen(low)[0]], light.darkness, softness=0.07 * pose.scale)
        return
    pixels, _ = pose.seen(outline.centres)
    pixels[:, 1] += pose.scale * height * (drop - light.shadow[1] * pose.tilt)  # down to the road, then away
    pixels[:, 0] += pose.scale * height * light.shadow[0]
    rounded = outline.around(pixels, pose.scale, flatness=max(pose.tilt, 0.12))
    canvas.darken(outline.pieces(rounded), light.darkness)


@dataclass(frozen=True)
class Drawn:
    """Where a group of a figure's solids is in the picture.

    box: exact (4,) xyxy of its outline, also where that leaves the picture
    left, top, patch: the picture inside that box as it was right after the group was drawn, to see what covers it
    """

    box: Points
    left: int
    top: int
    patch: NDArray[np.uint8]


def draw_figure(canvas: Canvas, figure: Figure, pose: Pose, light: SunLight) -> dict[str, Drawn]:
    """Draws the figure's solids, farthest first, and says where each group of them is."""
    visible = [solid for solid in figure.solids if solid.facing is None or pose.faces(solid.facing) > 0]
    outlines = _Outlines.of(visible)
    if outlines is None:
        return {}
    pixels, near = pose.seen(outlines.centres)
    rounded = outlines.around(pixels, pose.scale)
    fixed = _fixed(rounded)
    boxes = outlines.boxes(rounded, [solid.group for solid in visible])
    nearness = np.add.reduceat(near, outlines.centre_starts) / outlines.centre_counts
    order = np.argsort(nearness + [solid.bias for solid in visible], kind="stable").tolist()
    last_of = {visible[index].group: index for index in order}
    drawn: dict[str, Drawn] = {}
    for index in order:
        solid = visible[index]
        start, end = outlines.spans[index]
        _draw_solid(canvas, solid, cv2.convexHull(fixed[start:end]), pose, light)
        if last_of[solid.group] == index:
            drawn[solid.group] = _now(canvas, boxes[solid.group])
    return drawn


def _now(canvas: Canvas, box: Points) -> Drawn:
    left, top = max(math.floor(box[0]), 0), max(math.floor(box[1]), 0)
    right, bottom = max(math.ceil(box[2]), 0), max(math.ceil(box[3]), 0)
    return Drawn(box, left, top, canvas.image[top:bottom, left:right].copy())


@dataclass(frozen=True)
class _Outlines:
    """Some solids as one array, so that they are projected at once.

    centres: (N, 3) of all balls; source: (P,) the ball of each outline point; offset: (P, 2) metres from its centre
    starts: first outline point of each solid; spans: first and last; centre_starts, centre_counts: likewise for balls
    """

    centres: Points
    source: NDArray[np.int64]
    offset: Points
    starts: NDArray[np.int64]
    spans: list[tuple[int, int]]
    centre_starts: NDArray[np.int64]
    centre_counts: NDArray[np.int64]

    @staticmethod
    def of(solids: Sequence[Solid]) -> _Outlines | None:
        """None for no solids."""
        if not solids:
            return None
        radii = np.concatenate([solid.radii for solid in solids])
        copies = np.where(radii > 0, len(_CIRCLE), 1)  # a ball of no size is one point
        source = np.repeat(np.arange(len(radii)), copies)
        ends_of_balls = np.cumsum(copies)
        step = np.arange(len(source)) - np.repeat(ends_of_balls - copies, copies)
        centre_counts = np.array([len(solid.radii) for solid in solids])
        ends = ends_of_balls[np.cumsum(centre_counts) - 1]
        starts = np.concatenate([[0], ends[:-1]])
        return _Outlines(
            centres=np.concatenate([solid.centres for solid in solids]),
            source=source,
            offset=_CIRCLE[step] * radii[source][:, None],
            starts=starts,
            spans=list(zip(starts.tolist(), ends.tolist())),
            centre_starts=np.cumsum(centre_counts) - centre_counts,
            centre_counts=centre_counts,
        )

    def around(self, pixels: Points, scale: float, flatness: float = 1.0) -> Points:
        """Outline points (P, 2) in pixels for these centres; the hull of a solid's points is its picture."""
        return pixels[self.source] + self.offset * (scale, scale * flatness)

    def boxes(self, rounded: Points, groups: Sequence[str]) -> dict[str, Points]:
        """The box (4,) xyxy around all solids of each group; `groups` names that of each solid."""
        low = np.minimum.reduceat(rounded, self.starts)
        high = np.maximum.reduceat(rounded, self.starts)
        boxes = {}
        for group in dict.fromkeys(groups):
            own = [index for index, name in enumerate(groups) if name == group]
            boxes[group] = np.concatenate([low[own].min(0) - _EDGE, high[own].max(0) + _EDGE])
        return boxes

    def pieces(self, rounded: Points) -> list[Points]:
        return [rounded[start:end] for start, end in self.spans]


def _draw_solid(canvas: Canvas, solid: Solid, hull: NDArray[np.int32], pose: Pose, light: SunLight) -> None:
    """hull: (N, 1, 2) in OpenCV's fixed point."""
    colour = mixed(solid.colour, pose.haze_colour, pose.haze)
    if solid.hole is not None:
        inside = _fixed(pose.seen(solid.hole)[0])
        cv2.fillPoly(canvas.image, [hull, inside], colour, cv2.LINE_AA, _SHIFT)
        return
    cv2.fillConvexPoly(canvas.image, hull, colour, cv2.LINE_AA, _SHIFT)
    if solid.gloss > 0 and pose.scale > 36:
        left, top, width, height = cv2.boundingRect(hull)
        shift = np.array((left + (0.5 * width), top + 0.5 * height)) * 0.38
        lit = hull * 0.62 + (shift + (width * 0.13 * light.side, height * -0.12))
        cv2.fillConvexPoly(
            canvas.image, lit.astype(np.int32), mixed(colour, (255, 255, 255), solid.gloss), cv2.LINE_AA, _SHIFT
        )
