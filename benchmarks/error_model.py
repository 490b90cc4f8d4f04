"""Two detectors on pictures that do not exist: what they find, miss and invent, drawn from a model of their errors.

One set of pictures is drawn once and seen by both detectors, so that they are paired as in a real run.

    pictures   how many helmets and bare heads: drawn from the 505 labelled pictures of bikes_helmets (all splits)
    heads      a log-odds for the score:  MEAN_ODDS + HEAD_SD (a D + b H + c E), where D belongs to the picture (or its
               scene), H to the head, and E to head and detector: D and H make the detectors miss the same heads
    boxes      1 - IoU is log-normal about BOX_ERROR, split the same way; where IoU is under 0.5 the box is a false
               alarm and the head is missed
    alarms     ALARMS look-alikes of each class a picture, with log-odds about ALARM_ODDS; a share `own_alarms` of them
               is seen by one detector only, the rest by both
    candidate  its box errors are larger by the factor exp(box_loss), and the log-odds of its bare heads lower by
               score_loss: these two set its true losses

`Likeness` is how much two detectors have in common; two of the four kinds are held against real pairs on 76 pictures
of bikes_helmets by the half width of the interval of a loss of mAP50-95:  a near copy about 3.1 points (the stand-in
of helmlite.evaluate.statistics.resolution, and helmet-yolo12m at two input sizes), a pruned and retrained one about 5.1
(docs/results/bikes_helmets-balanced and -cpu).  A twin differs in a few heads only, the hardest case for an interval
of recall: where no head changes a bootstrap sees nothing.  A dropping candidate is the baseline itself, but for bare
heads that it loses at random, as another suppression or a smallest size would: nothing else gives it away.
The baseline is like helmet-yolo12m: mAP50-95 about 0.6, mAP50 about 0.95, recall of bare heads about 0.9 at 5 to 12
false alarms in 100 pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from helmlite.evaluate.accuracy import IOU_THRESHOLDS
from helmlite.evaluate.errors import NEVER_FOUND, Matches
from helmlite.evaluate.statistics.resampling import MatchRecord, MatchRecords

Floats = NDArray[np.float64]

# (helmets, bare heads): pictures of bikes_helmets
PICTURES = {
    (0, 1): 85,
    (0, 2): 34,
    (0, 3): 7,
    (0, 4): 7,
    (0, 5): 6,
    (0, 6): 1,
    (0, 7): 2,
    (0, 9): 1,
    (1, 0): 187,
    (1, 1): 15,
    (1, 2): 1,
    (1, 3): 2,
    (1, 4): 2,
    (1, 5): 1,
    (2, 0): 80,
    (2, 1): 5,
    (2, 2): 2,
    (2, 3): 1,
    (2, 5): 1,
    (3, 0): 28,
    (3, 2): 1,
    (4, 0): 14,
    (4, 2): 1,
    (5, 0): 9,
    (5, 3): 1,
    (6, 0): 5,
    (7, 0): 3,
    (8, 0): 1,
    (9, 0): 1,
    (10, 0): 1,
}
MEAN_ODDS, HEAD_SD = 1.9, 1.5
ALARM_ODDS, ALARM_SD, ALARMS = -2.0, 1.2, 1.0
BOX_ERROR, BOX_SD = 0.145, 0.55
SCENE_SHARE = 0.6  # of the variance of D, where scenes are asked for
HELMET, BARE = 0, 1
_NEVER = -100.0  # log-odds of what no threshold lets pass


@dataclass(frozen=True)
class Likeness:
    """What two detectors share.  Shares of variance of score and box: of the picture, of the detector; the rest: head.

    own_alarms: share of the look-alikes that only one of them takes for a head
    drops: the candidate loses a share of `Loss.score_loss` of the bare heads instead of some log-odds of all
    """

    picture: float
    own_score: float
    own_box: float
    own_alarms: float
    drops: bool = False


LIKENESS = {
    "near copy": Likeness(picture=0.15, own_score=0.06, own_box=0.14, own_alarms=0.1),
    "retrained": Likeness(picture=0.15, own_score=0.25, own_box=0.45, own_alarms=0.4),
    "twin": Likeness(picture=0.15, own_score=0.01, own_box=0.03, own_alarms=0.02),
    "dropping": Likeness(picture=0.15, own_score=0.0, own_box=0.0, own_alarms=0.0, drops=True),
}


@dataclass(frozen=True)
class Loss:
    """What makes the candidate worse.

    box_loss: log of the factor on 1 - IoU;  score_loss: log-odds of bare heads, or the share of them that is dropped
    """

    box_loss: float = 0.0
    score_loss: float = 0.0


@dataclass(frozen=True)
class Side:
    """One detector's own part of a class: log-odds and log(1 - IoU) of each head, log-odds of each alarm."""

    head_odds: Floats
    box_errors: Floats
    alarm_odds: Floats
    alarm_pictures: NDArray[np.int64]


@dataclass(frozen=True)
class Drawn:
    """Pictures as both detectors saw them.  heads: by class, the picture of each head; sides: [class][detector]

    luck: (G,) in [0, 1), by bare head, where the candidate drops those with the least; else None
    """

    pictures: int
    groups: tuple[str | None, ...]
    heads: tuple[NDArray[np.int64], ...]
    sides: tuple[tuple[Side, Side], ...]
    luck: Floats | None = None


@dataclass(frozen=True)
class Seen:
    """One detector on one set: what the mAP is counted from, and what the recall of bare heads is."""

    records: MatchRecords
    bare: Matches


def draw(pictures: int, likeness: Likeness, random: np.random.Generator, scene_size: int = 1) -> Drawn:
    """A set of pictures and what two detectors see in them.  scene_size: pictures of a scene, which share difficulty"""
    kinds = np.array(list(PICTURES))
    chance = np.array(list(PICTURES.values())) / sum(PICTURES.values())
    numbers = kinds[random.choice(len(kinds), size=pictures, p=chance)]  # (N, 2)
    scene = np.arange(pictures) // scene_size
    share = SCENE_SHARE if scene_size > 1 else 0.0
    difficulty = np.sqrt(share) * random.standard_normal((pictures, 2))[scene]
    difficulty += np.sqrt(1 - share) * random.standard_normal((pictures, 2))  # of scores, of boxes
    heads = tuple(np.repeat(np.arange(pictures), numbers[:, label]) for label in (HELMET, BARE))
    sides = tuple(_sides(of_class, difficulty, likeness, random) for of_class in heads)
    groups = tuple(None if scene_size == 1 else str(number) for number in scene)
    luck = random.random(len(heads[BARE])) if likeness.drops else None
    return Drawn(pictures, groups, heads, sides, luck)


def seen_by_baseline(drawn: Drawn) -> Seen:
    """What the first detector found."""
    return _seen(drawn, 0, Loss())


def seen_by_candidate(drawn: Drawn, loss: Loss) -> Seen:
    """What the second detector found, made worse by `loss`."""
    return _seen(drawn, 1, loss)


def _sides(
    heads: NDArray[np.int64], difficulty: Floats, likeness: Likeness, random: np.random.Generator
) -> tuple[Side, Side]:
    odds = _two_alike(difficulty[heads, 0], likeness.picture, likeness.own_score, random)
    boxes = _two_alike(difficulty[heads, 1], likeness.picture, likeness.own_box, random)
    pictures = len(difficulty)
    common = np.repeat(np.arange(pictures), random.poisson(ALARMS * (1 - likeness.own_alarms), pictures))
    shared = _two_alike(np.zeros(len(common)), 0.0, likeness.own_score, random)
    made = []
    for number in (0, 1):
        own = np.repeat(np.arange(pictures), random.poisson(ALARMS * likeness.own_alarms, pictures))
        alarm = np.concatenate([shared[number], random.standard_normal(len(own))])
        made.append(
            Side(
                MEAN_ODDS + HEAD_SD * odds[number],
                np.log(BOX_ERROR) + BOX_SD * boxes[number],
                ALARM_ODDS + ALARM_SD * alarm,
                np.concatenate([common, own]),
            )
        )
    return made[0], made[1]


def _two_alike(
    of_picture: Floats, picture_share: float, own_share: float, random: np.random.Generator
) -> tuple[Floats, Floats]:
    """Two standard normal values for each head, correlated by 1 - own_share."""
    shared = np.sqrt(picture_share) * of_picture
    shared = shared + np.sqrt(1 - picture_share - own_share) * random.standard_normal(len(of_picture))
    first, second = (shared + np.sqrt(own_share) * random.standard_normal(len(of_picture)) for _ in range(2))
    return first, second


def _seen(drawn: Drawn, detector: int, loss: Loss) -> Seen:
    records = []
    for label in (HELMET, BARE):
        heads, side = drawn.heads[label], drawn.sides[label][detector]
        odds, iou = side.head_odds, 1 - np.exp(side.box_errors + loss.box_loss)
        if label == BARE and drawn.luck is None:
            odds = odds - loss.score_loss
        elif label == BARE:
            is_dropped = drawn.luck < loss.score_loss
            odds, iou = np.where(is_dropped, _NEVER, odds), np.where(is_dropped, 0.0, iou)
        records.append(_record(heads, odds, iou, side, drawn.pictures))
    return Seen(
        MatchRecords(tuple({"all": record} for record in records), drawn.pictures),
        _matches(heads, odds, iou, side, drawn.pictures),  # of the last class, the bare heads
    )


def _record(heads: NDArray[np.int64], odds: Floats, iou: Floats, side: Side, pictures: int) -> MatchRecord:
    scores = np.concatenate([odds, side.alarm_odds])
    order = np.argsort(-scores, kind="stable")
    overlap = np.concatenate([iou, np.zeros(len(side.alarm_odds))])[order]
    is_true = overlap[None, :] >= np.array(IOU_THRESHOLDS)[:, None]
    of_detection = np.concatenate([heads, side.alarm_pictures])[order]
    return MatchRecord(of_detection, is_true, np.ones_like(is_true), np.bincount(heads, minlength=pictures))


def _matches(heads: NDArray[np.int64], odds: Floats, iou: Floats, side: Side, pictures: int) -> Matches:
    found = iou >= IOU_THRESHOLDS[0]
    first = np.concatenate([[0], np.flatnonzero(np.diff(heads)) + 1]) if len(heads) else np.zeros(0, dtype=np.int64)
    in_picture = np.arange(len(heads)) - np.repeat(first, np.diff(np.append(first, len(heads))))
    return Matches(
        np.where(found, _scores(odds), NEVER_FOUND),
        heads,
        in_picture,
        np.concatenate([_scores(odds[~found]), _scores(side.alarm_odds)]),
        np.concatenate([heads[~found], side.alarm_pictures]),
        pictures,
    )


def _scores(odds: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-odds)))
