"""Pictures that show the same thing: copies, re-encodings, mirrored copies, neighbouring frames of a video.

Two looks must agree, so that a false alarm is rare: a perceptual hash (the signs of the low frequencies of a 32 x 32
grey picture around their median, after Zauner, "Implementation and benchmarking of perceptual image hash functions",
2010) and the correlation of the two small grey pictures.

A fixed camera defeats both: its pictures share a background and look alike at any hour.  Where many pictures hang
together, they are taken as one scene, their median picture is subtracted, and only what is left is compared: the same
moment then still correlates, another moment does not.

Recompressed, scaled, darkened and mirrored copies are found; a copy that was cropped by some percent or rotated is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from helmlite.detections import Image

_SIDE = 32  # of the grey picture
_LOW = 8  # frequencies of the hash in each direction; the constant one is left out
_BITS = _LOW * _LOW - 1
_MOST_DIFFERENT_BITS = 12
_LEAST_CORRELATION, _LEAST_MIRRORED = 0.90, 0.93
_SCENE_PICTURES = 8  # fewer pictures than this have no median that would be their background
_LEAST_BACKGROUND = 0.8  # correlation with a scene's median picture that makes a picture part of it
_LEAST_MOMENT, _SAME = 0.90, 0.99  # within a scene: correlation without the background; with it
_BLOCK = 512  # rows compared at once

Floats = NDArray[np.float32]
Pairs = NDArray[np.int64]  # (M, 2), the smaller index first


@dataclass(frozen=True)
class Fingerprint:
    """How a picture looks.

    bits:     (63,) of its hash
    mirrored: (63,) of the hash of its mirror image
    grey:     (32, 32) float32, mean 0 and norm 1; zeros where the picture is of one grey
    """

    bits: NDArray[np.bool_]
    mirrored: NDArray[np.bool_]
    grey: Floats


@dataclass(frozen=True)
class Duplicates:
    """What was found among pictures.

    pairs:  (M, 2) indices of near-duplicates
    scenes: indices of the pictures that one fixed camera seems to have taken
    """

    pairs: Pairs
    scenes: tuple[NDArray[np.int64], ...]


def fingerprint(image: Image) -> Fingerprint:
    """The look of a picture.  (H, W, 3) RGB"""
    small = cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
    low = cv2.dct(grey)[:_LOW, :_LOW]
    turned = low * np.where(np.arange(_LOW) % 2, -1.0, 1.0)  # mirroring changes the sign of odd horizontal waves
    centred = grey - grey.mean()
    norm = float(np.linalg.norm(centred))
    return Fingerprint(_bits(low), _bits(turned), centred / norm if norm > _SIDE else np.zeros_like(centred))


def find_duplicates(fingerprints: Sequence[Fingerprint]) -> Duplicates:
    """Near-duplicates, plain and mirrored, and fixed scenes among these pictures."""
    if len(fingerprints) < 2:
        return Duplicates(np.zeros((0, 2), np.int64), ())
    bits = np.array([item.bits for item in fingerprints])
    mirrored = np.array([item.mirrored for item in fingerprints])
    grey = np.array([item.grey for item in fingerprints])
    flat, flipped = grey.reshape(len(grey), -1), grey[:, :, ::-1].reshape(len(grey), -1)
    alike = _alike(bits, bits, flat, flat, _LEAST_CORRELATION)
    scene_of = _scene_numbers(flat, alike)
    scenes = tuple(np.flatnonzero(scene_of == number) for number in range(int(scene_of.max()) + 1))
    found = [alike[scene_of[alike].min(axis=1) < 0], *(_same_moments(flat, scene) for scene in scenes)]
    found.append(_alike(bits, mirrored, flat, flipped, _LEAST_MIRRORED))
    return Duplicates(np.unique(np.concatenate(found), axis=0), scenes)


def components(count: int, pairs: Pairs) -> NDArray[np.int64]:
    """For each of `count` items the smallest index that pairs connect it with.  (count,)

    >>> components(4, np.array([[0, 2], [2, 3]]))
    array([0, 1, 0, 0])
    """
    member = np.arange(count)
    while len(pairs):
        low = np.minimum(member[pairs[:, 0]], member[pairs[:, 1]])
        lower = member.copy()
        np.minimum.at(lower, pairs[:, 0], low)
        np.minimum.at(lower, pairs[:, 1], low)
        lower = lower[lower]  # halves the length of chains
        if np.array_equal(lower, member):
            break
        member = lower
    return member


def _bits(low: Floats) -> NDArray[np.bool_]:
    frequencies = low.ravel()[1:]
    return frequencies > np.median(frequencies)


def _alike(bits: NDArray[np.bool_], others: NDArray[np.bool_], grey: Floats, other_grey: Floats, least: float) -> Pairs:
    """Pairs whose hashes and grey pictures both agree."""
    signs, other_signs = (np.where(each, 1, -1).astype(np.float32) for each in (bits, others))
    columns = np.arange(len(bits))
    found = [np.zeros((0, 2), np.int64)]
    for start in range(0, len(bits), _BLOCK):
        rows = columns[start : start + _BLOCK]
        different = (_BITS - signs[rows] @ other_signs.T) / 2
        near = (different <= _MOST_DIFFERENT_BITS) & (columns > rows[:, None])
        rows = rows[near.any(axis=1)]
        if len(rows):
            near = near[rows - start] & (grey[rows] @ other_grey.T > least)
            row, column = np.nonzero(near)
            found.append(np.stack([rows[row], column], axis=1))
    return np.concatenate(found)


def _scene_numbers(grey: Floats, alike: Pairs) -> NDArray[np.int64]:
    """Number of the fixed scene that each picture belongs to, -1 where it belongs to none.  (N,)

    Pictures that hang together make a scene; another joins the scene whose median picture it resembles.
    """
    member = components(len(grey), alike)
    numbers, counts = np.unique(member, return_counts=True)
    large = numbers[counts >= _SCENE_PICTURES]
    if not len(large):
        return np.full(len(grey), -1)
    backgrounds = np.stack([np.median(grey[member == number], axis=0) for number in large])
    backgrounds -= backgrounds.mean(axis=1, keepdims=True)
    backgrounds /= np.maximum(np.linalg.norm(backgrounds, axis=1, keepdims=True), 1e-6)
    resembles = grey @ backgrounds.T  # (N, scenes)
    joined = np.where(resembles.max(axis=1) > _LEAST_BACKGROUND, resembles.argmax(axis=1), -1)
    for position, number in enumerate(large):
        joined[member == number] = position
    return joined


def _same_moments(grey: Floats, scene: NDArray[np.int64]) -> Pairs:
    """Pairs of a scene that are alike beyond its background."""
    whole = grey[scene]
    rest = whole - np.median(whole, axis=0)
    rest -= rest.mean(axis=1, keepdims=True)
    rest /= np.maximum(np.linalg.norm(rest, axis=1, keepdims=True), 1e-6)
    columns = np.arange(len(scene))
    found = [np.zeros((0, 2), np.int64)]
    for start in range(0, len(scene), _BLOCK):
        rows = columns[start : start + _BLOCK]
        same = whole[rows] @ whole.T
        moment = (same > _LEAST_CORRELATION) & (rest[rows] @ rest.T > _LEAST_MOMENT)
        row, column = np.nonzero((moment | (same > _SAME)) & (columns > rows[:, None]))
        found.append(np.stack([scene[rows[row]], scene[column]], axis=1))
    return np.concatenate(found)
