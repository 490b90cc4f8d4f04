"""Vehicles for drawn scenes: e-bikes, motorcycles and bicycles with their riders, and cars."""

# ruff: noqa: RUF005  (an array plus a tuple is a sum here, not a concatenation)

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from helmlite.data.scene_canvas import Colour, Figure, Lamp, Solid, mixed, shaded
from helmlite.data.scene_people import Joints, Look, add_body

TWO_WHEELERS = ("e_bike", "motorcycle", "bicycle")

PAINTS = (
    (236, 236, 232), (30, 32, 36), (184, 34, 38), (38, 88, 170), (120, 128, 134), (236, 178, 52), (60, 140, 110),
    (214, 130, 160), (94, 178, 196), (232, 112, 42), (70, 52, 44),
)  # fmt: skip
_TYRE, _METAL, _DARK = (26, 26, 28), (150, 154, 158), (44, 46, 50)
_WHITE_LIGHT, _RED_LIGHT = (255, 244, 214), (255, 52, 40)
_TURNS = np.arange(18) * (2 * math.pi / 18)


@dataclass(frozen=True)
class TwoWheeler:
    """What a two-wheeler looks like.  load: "box", "basket" or ""."""

    kind: str
    paint: Colour
    trim: Colour
    load: str
    load_colour: Colour


def random_two_wheeler(random: np.random.Generator) -> TwoWheeler:
    """Most are e-bikes, as in the streets that helmet rules are made for."""
    kind = str(random.choice(TWO_WHEELERS, p=[0.5, 0.33, 0.17]))
    return TwoWheeler(
        kind=kind,
        paint=PAINTS[int(random.integers(len(PAINTS)))],
        trim=PAINTS[int(random.integers(len(PAINTS)))],
        load=str(random.choice(["", "box", "basket"], p=[0.55, 0.25, 0.2])),
        load_colour=PAINTS[int(random.integers(len(PAINTS)))],
    )


def two_wheeler_figure(vehicle: TwoWheeler, riders: tuple[Look, ...], phase: float) -> Figure:
    """A two-wheeler with none, one or two people on it.  phase: how far its wheels (and pedals) have turned."""
    figure = Figure()
    {"e_bike": _add_e_bike, "motorcycle": _add_motorcycle, "bicycle": _add_bicycle}[vehicle.kind](
        figure, vehicle, phase
    )
    _add_load(figure, vehicle, has_passenger=len(riders) > 1)
    for index, look in enumerate(riders):
        add_body(figure, look, _seated(vehicle.kind, look, phase, index), index)
    return figure


def _seated(kind: str, look: Look, phase: float, index: int) -> Joints:
    """Joints of the driver (0) or of the passenger behind (1)."""
    sides = np.array([1.0, -1.0])
    back = -0.36 * index
    if kind == "e_bike":
        hip, neck = np.array([-0.22 + back, 0, 0.82]), np.array([-0.10 + back, 0, 1.35])
        knees = np.column_stack([[0.20 + back] * 2, 0.15 * sides, [0.70] * 2])
        feet = np.column_stack([[0.19 + 0.62 * back] * 2, 0.13 * sides, [0.28] * 2])
    elif kind == "motorcycle":
        hip, neck = np.array([-0.24 + back, 0, 0.86 + 0.06 * index]), np.array([-0.04 + back, 0, 1.38 + 0.05 * index])
        knees = np.column_stack([[0.16 + back] * 2, 0.21 * sides, [0.70] * 2])
        feet = np.column_stack([[-0.08 + back] * 2, 0.18 * sides, [0.36] * 2])
    else:
        hip, neck = np.array([-0.24 + back, 0, 0.95 - 0.1 * index]), np.array([-0.03 + back, 0, 1.46 - 0.1 * index])
        turn = np.array([phase, phase + math.pi]) if index == 0 else np.array([math.pi / 2] * 2)
        pedal_x, pedal_z = 0.16 * np.cos(turn), 0.34 + 0.16 * np.sin(turn)
        knees = np.column_stack([0.12 + 0.5 * pedal_x + back, 0.11 * sides, 0.60 + 0.5 * pedal_z])
        feet = np.column_stack([-0.02 + pedal_x + back, 0.12 * sides, pedal_z])
    grip = np.array([0.40, 0, {"e_bike": 1.00, "motorcycle": 1.02, "bicycle": 1.06}[kind]])
    if index == 0:
        hands = np.stack([grip + (0, 0.27, 0), grip + (0, -0.27, 0)])
        elbows = np.column_stack([[(neck[0] + grip[0]) / 2 - 0.02] * 2, 0.31 * sides, [1.08] * 2])
    else:
        hands = np.stack([hip + (0.26, 0.14, 0.12), hip + (0.26, -0.14, 0.12)])
        elbows = np.column_stack([[neck[0] + 0.02] * 2, 0.26 * sides, [neck[2] - 0.32] * 2])
    neck = hip + (neck - hip) * look.size
    return Joints(hip, neck, knees, feet, elbows, hands)


def _wheel(figure: Figure, x: float, radius: float, width: float, phase: float, filled: bool) -> None:
    """A tyre whose hull is exact from every side, with a rim and spokes or a disc inside."""
    ring = np.column_stack([x + radius * np.cos(_TURNS), np.zeros(18), radius + radius * np.sin(_TURNS)])
    offset = np.array([0.0, width / 2, 0.0])
    tyre = np.concatenate([ring + offset, ring - offset])
    inside = np.column_stack([x + 0.8 * radius * np.cos(_TURNS), np.zeros(18), radius + 0.8 * radius * np.sin(_TURNS)])
    none = np.zeros(len(tyre))
    if filled:
        figure.solids.append(Solid(tyre, none, _TYRE, "vehicle"))
        for side in (1.0, -1.0):
            rim = (inside - (x, 0, radius)) * 0.82 + (x, side * width * 0.52, radius)
            figure.solids.append(Solid(rim, np.zeros(18), _METAL, "vehicle", 0.01, (0, side, 0), gloss=0.3))
        return
    figure.solids.append(Solid(tyre, none, _TYRE, "vehicle", hole=inside))
    hub = np.array([x, 0.0, radius])
    for spoke in range(3):
        angle = phase + spoke * math.pi / 3
        reach = 0.82 * radius * np.array([math.cos(angle), 0.0, math.sin(angle)])
        figure.solids.append(Solid(np.stack([hub - reach, hub + reach]), np.full(2, 0.006), _METAL, "vehicle"))


def _bar(figure: Figure, points: list[tuple[float, float, float]], radius: float, colour: Colour) -> None:
    """Pipes from point to point."""
    for start, end in pairwise(points):
        figure.tube(np.array(start), np.array(end), (radius, radius), colour, "vehicle")


def _slab(
    figure: Figure, outline: list[tuple[float, float]], width: float, colour: Colour, radius: float = 0.02
) -> None:
    """A body with this outline seen from the side (x, z), `width` wide."""
    corners = np.array([(x, side * (width / 2 - radius), z) for x, z in outline for side in (1.0, -1.0)])
    figure.hull(corners, colour, "vehicle", radius=radius, gloss=0.22)


def _add_lamps(figure: Figure, front: tuple[float, float], rear: tuple[float, float]) -> None:
    for (x, z), beam, colour, body in (
        (front, (1.0, 0.0, 0.0), _WHITE_LIGHT, (232, 234, 226)),
        (rear, (-1.0, 0.0, 0.0), _RED_LIGHT, (170, 30, 30)),
    ):
        disc = np.column_stack([np.full(18, x), 0.06 * np.cos(_TURNS), z + 0.05 * np.sin(_TURNS)])
        figure.solids.append(Solid(disc, np.zeros(18), body, "vehicle", 0.06, beam, gloss=0.3))
        figure.lamps.append(Lamp((x, 0.0, z), beam, colour, 0.9 if x > 0 else 0.35))


def _add_mirrors(figure: Figure, x: float, z: float) -> None:
    for side in (1.0, -1.0):
        _bar(figure, [(x, side * 0.2, z), (x + 0.02, side * 0.3, z + 0.16)], 0.008, _DARK)
        disc = np.array([x + 0.02, side * 0.32, z + 0.18])
        figure.hull(np.stack([disc, disc + (0, side * 0.04, 0)]), _DARK, "vehicle", radius=0.035)


def _add_e_bike(figure: Figure, vehicle: TwoWheeler, phase: float) -> None:
    paint, trim = vehicle.paint, vehicle.trim
    _wheel(figure, 0.62, 0.23, 0.08, phase, filled=True)
    _wheel(figure, -0.58, 0.23, 0.08, phase, filled=True)
    _bar(figure, [(0.62, 0, 0.23), (0.46, 0, 0.72), (0.40, 0, 0.98)], 0.028, _DARK)  # fork and column
    _slab(figure, [(0.44, 0.30), (0.52, 0.62), (0.47, 0.92), (0.40, 0.90), (0.40, 0.34)], 0.34, paint)  # shield
    _slab(figure, [(0.42, 0.26), (-0.16, 0.26), (-0.16, 0.20), (0.40, 0.20)], 0.28, _DARK)  # floor
    _slab(figure, [(-0.12, 0.24), (-0.08, 0.66), (-0.66, 0.70), (-0.82, 0.60), (-0.44, 0.34)], 0.30, paint)
    _slab(figure, [(-0.30, 0.36), (-0.26, 0.48), (-0.60, 0.52), (-0.50, 0.40)], 0.31, trim)
    _slab(figure, [(-0.02, 0.70), (-0.06, 0.77), (-0.66, 0.79), (-0.70, 0.71)], 0.26, (36, 34, 36))  # seat
    _slab(figure, [(0.82, 0.36), (0.72, 0.48), (0.52, 0.48), (0.46, 0.40)], 0.14, shaded(paint, 0.85))  # mudguard
    figure.tube(np.array([0.40, 0.32, 1.0]), np.array([0.40, -0.32, 1.0]), (0.022, 0.022), _DARK, "vehicle")
    _slab(figure, [(0.48, 0.94), (0.40, 1.06), (0.34, 1.02), (0.38, 0.92)], 0.24, shaded(paint, 0.9))
    _add_mirrors(figure, 0.40, 1.02)
    _add_lamps(figure, (0.54, 0.80), (-0.84, 0.62))


def _add_motorcycle(figure: Figure, vehicle: TwoWheeler, phase: float) -> None:
    paint, trim = vehicle.paint, vehicle.trim
    _wheel(figure, 0.70, 0.30, 0.10, phase, filled=False)
    _wheel(figure, -0.62, 0.30, 0.13, phase, filled=False)
    for side in (0.08, -0.08):
        _bar(figure, [(0.70, side, 0.30), (0.44, side, 0.94)], 0.028, _METAL)
    _slab(figure, [(0.24, 0.30), (0.26, 0.56), (-0.20, 0.58), (-0.24, 0.30)], 0.26, (70, 72, 76))  # engine
    _slab(figure, [(0.38, 0.66), (0.30, 0.90), (-0.06, 0.84), (-0.06, 0.62)], 0.28, paint, radius=0.05)  # tank
    _slab(figure, [(-0.04, 0.72), (-0.06, 0.82), (-0.74, 0.88), (-0.78, 0.82), (-0.30, 0.70)], 0.24, (34, 32, 34))
    _slab(figure, [(-0.30, 0.52), (-0.28, 0.72), (-0.84, 0.80), (-0.88, 0.74)], 0.20, trim)
    _slab(figure, [(0.92, 0.58), (0.70, 0.66), (0.50, 0.60)], 0.12, paint)
    for start, end in (((0.1, -0.14, 0.28), (-0.35, -0.15, 0.30)), ((-0.35, -0.15, 0.30), (-0.80, -0.16, 0.44))):
        figure.tube(np.array(start), np.array(end), (0.04, 0.05), _METAL, "vehicle")
    figure.tube(np.array([0.40, 0.34, 1.02]), np.array([0.40, -0.34, 1.02]), (0.02, 0.02), _DARK, "vehicle")
    _slab(figure, [(0.58, 0.80), (0.56, 0.98), (0.42, 1.00), (0.42, 0.80)], 0.18, paint, radius=0.04)
    _add_mirrors(figure, 0.40, 1.04)
    _add_lamps(figure, (0.60, 0.89), (-0.88, 0.80))


def _add_bicycle(figure: Figure, vehicle: TwoWheeler, phase: float) -> None:
    paint = vehicle.paint
    _wheel(figure, 0.55, 0.34, 0.05, phase, filled=False)
    _wheel(figure, -0.55, 0.34, 0.05, phase, filled=False)
    _bar(figure, [(0.55, 0, 0.34), (0.40, 0, 0.86), (0.38, 0, 1.02)], 0.020, paint)
    _bar(figure, [(0.42, 0, 0.74), (-0.02, 0, 0.32), (-0.55, 0, 0.34)], 0.022, paint)
    _bar(figure, [(-0.02, 0, 0.32), (-0.22, 0, 0.88)], 0.020, paint)
    _bar(figure, [(-0.55, 0, 0.34), (-0.20, 0, 0.74)], 0.014, paint)
    _slab(figure, [(0.34, 0.44), (0.28, 0.60), (0.14, 0.46), (0.20, 0.38)], 0.10, _DARK)  # battery
    _slab(figure, [(-0.08, 0.88), (-0.12, 0.93), (-0.36, 0.95), (-0.36, 0.88)], 0.16, (34, 32, 34))
    _slab(figure, [(-0.36, 0.72), (-0.36, 0.75), (-0.82, 0.75), (-0.82, 0.72)], 0.12, _DARK)
    figure.tube(np.array([0.38, 0.30, 1.06]), np.array([0.38, -0.30, 1.06]), (0.017, 0.017), _DARK, "vehicle")
    _add_lamps(figure, (0.48, 0.86), (-0.84, 0.70))


def _add_load(figure: Figure, vehicle: TwoWheeler, has_passenger: bool) -> None:
    if vehicle.load == "box" and not has_passenger:
        base = {"e_bike": 0.80, "motorcycle": 0.90, "bicycle": 0.76}[vehicle.kind]
        _slab(
            figure,
            [(-0.50, base), (-0.50, base + 0.42), (-0.94, base + 0.42), (-0.94, base)],
            0.44,
            vehicle.load_colour,
        )
        lid = [(-0.49, base + 0.40), (-0.49, base + 0.47), (-0.95, base + 0.47), (-0.95, base + 0.40)]
        _slab(figure, lid, 0.46, mixed(vehicle.load_colour, (255, 255, 255), 0.25))
    elif vehicle.load == "basket" and vehicle.kind != "motorcycle":
        _slab(figure, [(0.50, 0.78), (0.48, 1.0), (0.78, 1.0), (0.74, 0.78)], 0.30, (96, 92, 86), radius=0.01)


@dataclass(frozen=True)
class Car:
    """kind: "car", "van" or "bus"."""

    kind: str
    paint: Colour


def random_car(random: np.random.Generator) -> Car:
    """Mostly plain colours, as in a car park."""
    plain: tuple[Colour, ...] = ((232, 232, 230), (36, 38, 42), (120, 124, 128), (176, 180, 184))
    colours = plain if random.random() < 0.65 else PAINTS
    kind = str(random.choice(["car", "van", "bus"], p=[0.72, 0.22, 0.06]))
    return Car(kind, colours[int(random.integers(len(colours)))])


def car_figure(car: Car) -> Figure:
    """A car, van or bus."""
    figure = Figure()
    long, wide, high = {"car": (4.3, 1.74, 1.46), "van": (4.9, 1.9, 2.1), "bus": (9.0, 2.4, 3.0)}[car.kind]
    front, half, belt = long / 2, wide / 2, {"car": 0.88, "van": 1.1, "bus": 1.25}[car.kind]
    _body(figure, [(front, 0.28), (front - 0.08, belt - 0.12), (-front + 0.06, belt), (-front, 0.28)], half, car.paint)
    cabin = {
        "car": [(front - 1.35, belt), (front - 2.0, high), (-front + 0.85, high), (-front + 0.25, belt)],
        "van": [(front - 0.55, belt), (front - 1.2, high), (-front + 0.12, high), (-front + 0.05, belt)],
        "bus": [(front - 0.04, belt), (front - 0.15, high), (-front + 0.1, high), (-front + 0.02, belt)],
    }[car.kind]
    _body(figure, cabin, half * 0.93, shaded(car.paint, 0.94), bias=0.6)
    _add_windows(figure, cabin, half * 0.93)
    radius = 0.33 if car.kind != "bus" else 0.48
    for x in (front - 0.8, -front + 0.8):
        for side in (1.0, -1.0):
            ring = np.column_stack(
                [x + radius * np.cos(_TURNS), np.full(18, side * half), radius * (1 + np.sin(_TURNS))]
            )
            figure.solids.append(Solid(ring, np.zeros(18), _TYRE, "vehicle", 0.9, (0, side, 0)))
            rim = (ring - (x, 0, radius)) * (0.6, 1.01, 0.6) + (x, 0, radius)
            figure.solids.append(Solid(rim, np.zeros(18), _METAL, "vehicle", 1.0, (0, side, 0), gloss=0.2))
    for x, colour, paint, reach in (
        (front, _WHITE_LIGHT, (236, 236, 226), 1.3),
        (-front, _RED_LIGHT, (176, 28, 28), 0.5),
    ):
        beam = (math.copysign(1.0, x), 0.0, 0.0)
        for side in (1.0, -1.0):
            lamp = np.array([(x, side * (half - 0.32), 0.72), (x, side * (half - 0.05), 0.72)])
            figure.solids.append(Solid(lamp, np.full(2, 0.08), paint, "vehicle", 1.2, beam))
            figure.lamps.append(Lamp((x, side * (half - 0.2), 0.72), beam, colour, reach))
        plate = np.array([(x * 1.005, y, z) for y in (-0.24, 0.24) for z in (0.42, 0.54)])
        figure.solids.append(Solid(plate, np.zeros(4), (60, 110, 200), "vehicle", 1.2, beam))
    return figure


def _body(figure: Figure, outline: list[tuple[float, float]], half: float, paint: Colour, bias: float = 0.0) -> None:
    """A block with this side view; its sides, front and back are shaded apart so that its form is seen."""
    middle = np.mean(outline, axis=0)
    corners = np.array([(x, side * half, z) for x, z in outline for side in (1.0, -1.0)])
    figure.hull(corners, shaded(paint, 1.05), "vehicle", radius=0.05, bias=bias)
    for side in (1.0, -1.0):
        flank = np.array([(x, side * half, z) for x, z in outline])
        figure.solids.append(Solid(flank, np.zeros(len(flank)), shaded(paint, 0.88), "vehicle", bias, (0, side, 0)))
    for sign in (1.0, -1.0):
        end = [(x, z) for x, z in outline if (x - middle[0]) * sign > 0]
        face = np.array([(x, side * half, z) for x, z in end for side in (1.0, -1.0)])
        figure.solids.append(Solid(face, np.zeros(len(face)), shaded(paint, 0.78), "vehicle", bias, (sign, 0, 0)))


def _add_windows(figure: Figure, cabin: list[tuple[float, float]], half: float) -> None:
    glass: Colour = (58, 72, 84)
    outline = np.array(cabin)
    for side in (1.0, -1.0):
        inner = (outline - outline.mean(0)) * (0.86, 0.72) + outline.mean(0)
        pane = np.column_stack([inner[:, 0], np.full(len(inner), side * half * 1.01), inner[:, 1]])
        figure.solids.append(Solid(pane, np.zeros(len(pane)), glass, "vehicle", 0.8, (0, side, 0), None, 0.12))
    for bottom, top, sign in ((0, 1, 1.0), (3, 2, -1.0)):
        edge = outline[bottom] + (outline[top] - outline[bottom]) * np.array([[0.12], [0.88]])
        pane = np.array([(x + sign * 0.01, side * half * 0.88, z) for x, z in edge for side in (1.0, -1.0)])
        figure.solids.append(Solid(pane, np.zeros(4), glass, "vehicle", 0.9, (sign, 0, 0), None, 0.15))
