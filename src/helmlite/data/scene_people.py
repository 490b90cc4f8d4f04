"""People for drawn scenes: what they look like, and their bodies and heads as solids."""

# ruff: noqa: RUF005  (an array plus a tuple is a sum here, not a concatenation)

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from helmlite.data.scene_canvas import Colour, Figure, Points, Solid, mixed, shaded

HELMETS = ("full_face", "open_face", "vented")
BARE = ("hair", "cap", "sun_hat", "beanie", "hood")

_SKINS = ((255, 219, 188), (241, 194, 153), (224, 172, 125), (198, 134, 90), (141, 85, 54), (92, 58, 40))
_HAIRS = ((22, 20, 22), (35, 28, 26), (58, 40, 30), (90, 60, 36), (150, 110, 60), (200, 170, 110), (150, 150, 152))
_DYED = ((200, 40, 50), (40, 80, 170), (230, 120, 170), (235, 225, 215))
_CLOTHES = (
    (36, 40, 48), (52, 60, 78), (84, 98, 120), (130, 138, 146), (196, 198, 196), (236, 234, 228), (160, 46, 44),
    (196, 82, 40), (226, 170, 60), (70, 110, 74), (44, 96, 128), (92, 60, 110), (120, 92, 68), (214, 148, 160),
)  # fmt: skip
_TROUSERS = ((32, 34, 42), (44, 54, 78), (70, 84, 112), (92, 84, 74), (140, 130, 112), (60, 66, 60), (180, 180, 178))
_HELMET_COLOURS = (
    (238, 238, 236), (28, 28, 32), (192, 36, 38), (236, 186, 44), (40, 84, 168), (232, 150, 178), (140, 146, 152),
    (52, 130, 88), (236, 120, 40), (94, 190, 200), (58, 46, 42), (205, 180, 150),
)  # fmt: skip
_WORK_VESTS = ((250, 196, 30), (40, 110, 220))  # of delivery riders


@dataclass(frozen=True)
class Look:
    """How somebody looks, from every side and in every frame.

    headwear: one of HELMETS, of BARE, or "hard_hat"; size: 1 for 1.70 m; turn: of the head, radians
    """

    headwear: str
    headwear_colour: Colour
    decal: Colour | None
    skin: Colour
    hair: Colour
    hair_style: str
    top: Colour
    sleeves: bool
    trousers: Colour
    shoes: Colour
    size: float
    turn: float
    mask: bool
    glasses: bool
    backpack: Colour | None
    cape: Colour | None

    @property
    def has_helmet(self) -> bool:
        return self.headwear in HELMETS


def random_look(random: np.random.Generator, helmet: bool, rider: bool, raining: bool) -> Look:
    """Somebody, with or without a helmet.  Pedestrians may wear a hard hat; riders in the rain a cape."""
    headwear = _headwear(random, helmet, rider, raining)
    hair = _pick(random, _DYED) if random.random() < 0.08 else _pick(random, _HAIRS)
    return Look(
        headwear=headwear,
        headwear_colour=_headwear_colour(random, headwear, hair),
        decal=_pick(random, _HELMET_COLOURS) if random.random() < 0.45 else None,
        skin=_pick(random, _SKINS),
        hair=hair,
        hair_style=str(random.choice(["short", "long", "bun", "curly"], p=[0.5, 0.25, 0.13, 0.12])),
        top=_pick(random, _WORK_VESTS) if rider and random.random() < 0.15 else _pick(random, _CLOTHES),
        sleeves=bool(random.random() < 0.65),
        trousers=_pick(random, _TROUSERS),
        shoes=_pick(random, ((30, 30, 32), (235, 235, 232), (120, 80, 50))),
        size=float(np.clip(random.normal(1.0, 0.05), 0.86, 1.12)),
        turn=float(np.clip(random.normal(0, 0.35), -0.9, 0.9)),
        mask=bool(random.random() < 0.15),
        glasses=bool(random.random() < 0.25),
        backpack=_pick(random, _CLOTHES) if random.random() < 0.2 else None,
        cape=_pick(random, (*_CLOTHES, (250, 210, 60), (110, 180, 220))) if raining and random.random() < 0.5 else None,
    )


@dataclass(frozen=True)
class Joints:
    """Where a body is, in its figure's frame, metres: (3,) each, and pairs left, right as (2, 3)."""

    hip: Points
    neck: Points
    knees: Points
    feet: Points
    elbows: Points
    hands: Points


def walking(look: Look, phase: float) -> Joints:
    """Joints of somebody on foot; phase 2 pi is two steps, and a phase of None would be standing."""
    size = look.size
    swing = math.sin(phase)
    stride = np.array([swing, -swing])
    lift = np.array([max(math.cos(phase), 0.0), max(-math.cos(phase), 0.0)])
    sides = np.array([1.0, -1.0])
    knees = np.column_stack([0.16 * stride + 0.06 + 0.05 * lift, 0.09 * sides, 0.48 + 0.05 * lift])
    feet = np.column_stack([0.30 * stride - 0.10 * lift, 0.09 * sides, 0.05 + 0.10 * lift])
    elbows = np.column_stack([-0.13 * stride - 0.03, 0.24 * sides, [1.12, 1.12]])
    hands = np.column_stack([-0.24 * stride + 0.06, 0.25 * sides, 0.88 + 0.04 * np.abs(stride)])
    hip, neck = np.array([0.0, 0.0, 0.90]), np.array([0.02, 0.0, 1.43])
    return Joints(hip * size, neck * size, knees * size, feet * size, elbows * size, hands * size)


def add_body(figure: Figure, look: Look, joints: Joints, index: int) -> None:
    """Adds a body and head.  Their groups are `body<index>` and `head<index>`."""
    group = f"body{index}"
    size = look.size
    sides = np.array([[0.0, 1.0, 0.0], [0.0, -1.0, 0.0]])
    shoulders = joints.neck + sides * 0.17 * size - np.array([0, 0, 0.06 * size])
    hips = joints.hip + sides * 0.09 * size
    for side in (0, 1):
        figure.tube(hips[side], joints.knees[side], (0.088 * size, 0.066 * size), look.trousers, group)
        figure.tube(joints.knees[side], joints.feet[side], (0.062 * size, 0.045 * size), look.trousers, group)
        toe = joints.feet[side] + np.array([0.13, 0.0, -0.01]) * size
        figure.tube(joints.feet[side] - (0.02, 0, 0), toe, (0.05 * size, 0.035 * size), look.shoes, group)
        sleeve, lower = look.top, look.top if look.sleeves else look.skin
        figure.tube(shoulders[side], joints.elbows[side], (0.066 * size, 0.05 * size), shaded(sleeve, 0.9), group)
        figure.tube(joints.elbows[side], joints.hands[side], (0.047 * size, 0.034 * size), shaded(lower, 0.93), group)
        ball = joints.hands[side] + np.array([0.03, 0, 0])
        figure.tube(joints.hands[side], ball, (0.042 * size, 0.04 * size), look.skin, group)
    torso = np.concatenate([shoulders, hips + (0, 0, 0.03), [(joints.neck + joints.hip) / 2 + (0.03, 0, 0.08)]])
    radii = np.array([0.085, 0.085, 0.11, 0.11, 0.13]) * size
    figure.solids.append(Solid(torso, radii, look.top, group, bias=0.02, gloss=0.12))
    if look.backpack is not None and look.cape is None:
        _add_backpack(figure, look.backpack, joints, group, size)
    if look.cape is not None:
        low = [joints.knees[0], joints.knees[1], joints.hip + (-0.12, 0, 0.0)]
        cape = np.concatenate([shoulders, joints.elbows, np.array(low)])
        radii = np.array([0.10, 0.10, 0.10, 0.10, 0.12, 0.12, 0.12]) * size
        figure.solids.append(Solid(cape, radii, look.cape, group, bias=0.12, gloss=0.16))
    head = joints.neck + np.array([0.035, 0.0, 0.19]) * size
    figure.tube(joints.neck - (0, 0, 0.04), head - (0.01, 0, 0.06), (0.06 * size, 0.055 * size), look.skin, group)
    add_head(figure, look, head, index)


@dataclass(frozen=True)
class _HeadPart:
    """A shape of a head and how it is drawn.  fore: metres towards the viewer; is_feature: seen from the front only;
    hangs: below the head, so that it belongs to the body's box"""

    shape: Points
    colour: Colour
    fore: float
    gloss: float = 0.0
    is_feature: bool = False
    hangs: bool = False


def add_head(figure: Figure, look: Look, centre: Points, index: int) -> None:
    """Adds a head at `centre`: skull, face, hair and what is worn on it, all of the group `head<index>`.

    The head's box is the box of this group; hair that hangs below the chin belongs to `body<index>`.
    """
    cos, sin = math.cos(look.turn), math.sin(look.turn)
    turned = np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]]) * look.size
    parts = _full_face(look) if look.headwear == "full_face" else [*_bare_head(look), *_headwear_parts(look)]
    for part in parts:
        group = f"body{index}" if part.hangs else f"head{index}"
        facing = (cos, sin, 0.0) if part.is_feature else None
        shape = part.shape @ turned + centre
        figure.solids.append(
            Solid(shape, np.zeros(len(shape)), part.colour, group, 0.1 + part.fore, facing, None, part.gloss)
        )


def _full_face(look: Look) -> list[_HeadPart]:
    visor = mixed((24, 28, 36), look.headwear_colour, 0.12)
    parts = [_HeadPart(_FULL_SHELL, look.headwear_colour, 0.03, 0.45), _HeadPart(_VISOR, visor, 0.05, 0.25)]
    return parts if look.decal is None else [*parts, _HeadPart(_STRIPE, look.decal, 0.04)]


def _bare_head(look: Look) -> list[_HeadPart]:
    parts = [_HeadPart(_SKULL, shaded(look.skin, 0.93), -0.04), _HeadPart(_FACE, look.skin, 0.008, 0.10)]
    if look.mask:
        parts.append(_HeadPart(_MASK, (206, 222, 232), 0.02))
    if look.glasses:
        parts.append(_HeadPart(_GLASSES, (24, 24, 28), 0.024))
    else:
        parts += [_HeadPart(eye, (40, 30, 28), 0.012, is_feature=True) for eye in _EYES]
    return parts


def _headwear_parts(look: Look) -> list[_HeadPart]:
    """What covers the head, helmets that leave the face free among it."""
    colour = look.headwear_colour
    if look.headwear in ("open_face", "vented", "hard_hat"):
        return _open_helmet(look)
    if look.headwear == "hood":
        return [_HeadPart(_HOOD, colour, -0.015, 0.15)]
    parts = _hair(look)
    if look.headwear == "cap":
        parts += [_HeadPart(_CAP, colour, 0.02, 0.15), _HeadPart(_PEAK, shaded(colour, 0.8), 0.03)]
    elif look.headwear == "beanie":
        parts += [_HeadPart(_CAP, colour, 0.02, 0.12), _HeadPart(_CUFF, shaded(colour, 0.82), 0.025)]
    elif look.headwear == "sun_hat":
        parts += [_HeadPart(_WIDE_BRIM, shaded(colour, 0.85), 0.015), _HeadPart(_CAP, colour, 0.03, 0.12)]
    return parts


def _open_helmet(look: Look) -> list[_HeadPart]:
    colour = look.headwear_colour
    strap = shaded(colour, 0.35) if sum(colour) > 200 else (70, 70, 74)
    parts = [
        _HeadPart(_OPEN_SHELL, colour, -0.012, 0.45),
        _HeadPart(_OPEN_BROW, colour, 0.03, 0.30),
        _HeadPart(_STRAP, strap, 0.011),
    ]
    if look.headwear == "vented":
        parts += [_HeadPart(vent, shaded(colour, 0.35), 0.035) for vent in _VENTS]
    elif look.headwear == "hard_hat":
        parts.append(_HeadPart(_WIDE_BRIM, shaded(colour, 0.9), 0.0))
    elif look.decal is not None:
        parts.append(_HeadPart(_SHIELD, mixed(look.decal, (210, 225, 235), 0.55), 0.034, 0.3))
    return parts


def _hair(look: Look) -> list[_HeadPart]:
    parts = [_HeadPart(_HAIR, look.hair, -0.015, 0.16)]
    if look.hair_style == "long":
        parts.append(_HeadPart(_LONG_HAIR, shaded(look.hair, 0.9), -0.035, hangs=True))
    if look.headwear != "hair":
        return parts
    if look.hair_style == "bun":
        parts.append(_HeadPart(_BUN, look.hair, -0.01, 0.1))
    elif look.hair_style == "curly":
        parts.append(_HeadPart(_CURLS, look.hair, -0.014, 0.12))
    return [*parts, _HeadPart(_FRINGE, shaded(look.hair, 1.05), 0.016)]


def _add_backpack(figure: Figure, colour: Colour, joints: Joints, group: str, size: float) -> None:
    middle = (joints.neck + joints.hip) / 2
    corners = [middle + (-0.2 * size, side * 0.11 * size, up * size) for side in (-1, 1) for up in (-0.12, 0.17)]
    corners += [middle + (-0.12 * size, side * 0.13 * size, up * size) for side in (-1, 1) for up in (-0.16, 0.2)]
    figure.hull(np.array(corners), colour, group, radius=0.03 * size, gloss=0.12, bias=0.0)


def _headwear(random: np.random.Generator, helmet: bool, rider: bool, raining: bool) -> str:
    if helmet:
        return str(random.choice(HELMETS, p=[0.3, 0.45, 0.25]))
    if not rider and random.random() < 0.06:
        return "hard_hat"
    hood = 0.3 if raining else 0.06
    others = np.array([0.56, 0.2, 0.09, 0.09]) * (1 - hood) / 0.94
    return str(random.choice(BARE, p=[*others, 1 - others.sum()]))


def _headwear_colour(random: np.random.Generator, headwear: str, hair: Colour) -> Colour:
    if headwear in HELMETS:
        return _pick(random, _HELMET_COLOURS)
    if headwear == "hard_hat":
        return _pick(random, ((244, 200, 40), (240, 240, 236), (220, 60, 40), (40, 110, 200)))
    if headwear == "hair":
        return hair
    return _pick(random, (*_CLOTHES, *_HELMET_COLOURS))


def _pick(random: np.random.Generator, colours: tuple[Colour, ...]) -> Colour:
    red, green, blue = colours[int(random.integers(len(colours)))]
    first, second, third = random.integers(-12, 13, size=3).tolist()
    return _byte(red + first), _byte(green + second), _byte(blue + third)


def _byte(value: int) -> int:
    return min(max(value, 4), 252)


# Shapes of a head, around its centre, x forward, metres.


def _sphere() -> Points:
    """Points spread over the unit sphere: seven latitudes."""
    rows = []
    for latitude, count in ((-1.2, 5), (-0.75, 9), (-0.3, 12), (0.1, 12), (0.5, 12), (0.9, 8), (1.3, 4)):
        turns = np.arange(count) * (2 * math.pi / count)
        ring = np.cos(latitude)
        rows.append(np.column_stack([ring * np.cos(turns), ring * np.sin(turns), np.full(count, math.sin(latitude))]))
    return np.concatenate([*rows, [[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]]])


_SPHERE = _sphere()


def _ball(radii: tuple[float, float, float], centre: tuple[float, float, float] = (0, 0, 0)) -> Points:
    return _SPHERE * radii + np.array(centre)


def _part_of_ball(
    radii: tuple[float, float, float], height: float, slope: float, front: float = -2.0, top: float = 2.0
) -> Points:
    """What of a ball lies above the plane z = height + slope * x, before `front` and below `top`, in its radii."""
    x, z = _SPHERE[:, 0], _SPHERE[:, 2]
    return _SPHERE[(z >= height + slope * x) & (x >= front) & (z <= top)] * radii


_SKULL = _ball((0.098, 0.080, 0.122))
_FACE = _ball((0.074, 0.068, 0.105), (0.028, 0.0, -0.018))
_HAIR = _part_of_ball((0.110, 0.092, 0.136), -0.45, 0.75)
_FRINGE = _part_of_ball((0.111, 0.090, 0.134), 0.62, 0.0, front=-0.3)
_LONG_HAIR = np.concatenate(
    [_ball((0.06, 0.09, 0.05), (-0.05, 0, -0.03)), _ball((0.04, 0.10, 0.05), (-0.07, 0, -0.20))]
)
_BUN = _ball((0.045, 0.045, 0.045), (-0.085, 0.0, 0.105))
_CURLS = _part_of_ball((0.135, 0.122, 0.165), -0.55, 0.75)
_HOOD = _part_of_ball((0.135, 0.118, 0.160), -1.1, 0.5)
_CAP = _part_of_ball((0.116, 0.098, 0.136), 0.28, 0.10)
_CUFF = _part_of_ball((0.120, 0.102, 0.140), 0.10, 0.10, top=0.52)
_PEAK = np.array(
    [[0.08, 0.075, 0.052], [0.08, -0.075, 0.052], [0.19, 0.05, 0.035], [0.19, -0.05, 0.035], [0.205, 0, 0.036]]
)
_TURNS = np.arange(14) * (2 * math.pi / 14)
_WIDE_BRIM = np.column_stack([0.19 * np.cos(_TURNS), 0.175 * np.sin(_TURNS), np.full(14, 0.048)])
_FULL_SHELL = _ball((0.158, 0.132, 0.168), (0.004, 0.0, 0.008))
_VISOR = _part_of_ball((0.165, 0.136, 0.160), -0.32, 0.0, front=0.42, top=0.52)
_STRIPE = _part_of_ball((0.162, 0.040, 0.174), 0.55, 0.0)
_OPEN_SHELL = _part_of_ball((0.150, 0.128, 0.160), -0.28, 0.50)
_OPEN_BROW = _part_of_ball((0.152, 0.127, 0.160), 0.44, 0.0, front=-0.2)
_STRAP = np.array([[0.01, 0.085, 0.0], [0.01, -0.085, 0.0], [0.03, 0.03, -0.128], [0.03, -0.03, -0.128]])
_SHIELD = _part_of_ball((0.165, 0.128, 0.14), -0.55, 0.0, front=0.55, top=0.42)
_VENTS = [
    np.array([[0.10, y - 0.009, 0.105], [0.10, y + 0.009, 0.105], [-0.05, y + 0.009, 0.148], [-0.05, y - 0.009, 0.148]])
    for y in (-0.055, 0.0, 0.055)
]
_MASK = np.array(
    [[0.092, 0.05, -0.035], [0.092, -0.05, -0.035], [0.06, 0.062, -0.08], [0.06, -0.062, -0.08], [0.10, 0.0, -0.03],
     [0.085, 0.025, -0.115], [0.085, -0.025, -0.115]]
)  # fmt: skip
_GLASSES = np.array([[0.100, 0.062, 0.012], [0.100, -0.062, 0.012], [0.100, 0.058, -0.016], [0.100, -0.058, -0.016]])
_EYES = [
    np.array([[0.10, y - 0.010, 0.0], [0.10, y + 0.010, 0.0], [0.10, y, 0.012], [0.10, y, -0.008]])
    for y in (0.033, -0.033)
]
