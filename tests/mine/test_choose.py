"""Which pictures are kept: reasons take turns, and nothing is kept twice."""

from __future__ import annotations

from helmlite.data.duplicates import fingerprint
from helmlite.mine.choose import Candidate, choose
from helmlite.mine.reasons import DISAGREEMENT, LOW_CONFIDENCE, Spot
from numbered_pictures import patchy


def candidate(number: int, looks_like: int | None = None, **worths: float) -> Candidate:
    names = {"d": DISAGREEMENT, "c": LOW_CONFIDENCE}
    spots = tuple(Spot(names[key], worth, (0, 0, 1, 1), "") for key, worth in worths.items())
    look = fingerprint(patchy(number if looks_like is None else looks_like))
    return Candidate(f"{number}.png", number, None, None, (64, 48), spots, (), look)


def kept(candidates: list[Candidate], count: int, known: tuple[int, ...] = ()) -> list[tuple[int, str]]:
    chosen = choose(candidates, count, [fingerprint(patchy(item)) for item in known])
    return [(item.index, reason) for item, reason in chosen.pictures]


def test_reasons_take_turns_the_best_of_each_first() -> None:
    unsure = [candidate(1, c=0.9), candidate(2, c=0.95), candidate(5, c=0.2)]
    pictures = [*unsure, candidate(3, d=0.4), candidate(4, d=0.5)]
    assert kept(pictures, 3) == [(4, DISAGREEMENT), (2, LOW_CONFIDENCE), (3, DISAGREEMENT)]
    assert kept(pictures, 10)[3:] == [(1, LOW_CONFIDENCE), (5, LOW_CONFIDENCE)]


def test_a_picture_with_two_reasons_is_kept_once() -> None:
    assert kept([candidate(1, d=0.9, c=0.9), candidate(2, c=0.3)], 5) == [(1, DISAGREEMENT), (2, LOW_CONFIDENCE)]


def test_of_equals_the_earlier_one() -> None:
    assert kept([candidate(1, c=0.5), candidate(2, c=0.5)], 1) == [(1, LOW_CONFIDENCE)]


def test_what_shows_the_same_is_kept_once_and_the_best_of_it() -> None:
    pictures = [candidate(1, c=0.5), candidate(2, looks_like=1, c=0.9), candidate(3, c=0.1)]
    assert kept(pictures, 3) == [(2, LOW_CONFIDENCE), (3, LOW_CONFIDENCE)]
    assert choose(pictures, 3).twins == 1


def test_what_is_labelled_already_is_left_out() -> None:
    pictures = [candidate(1, c=0.5), candidate(2, c=0.4)]
    assert kept(pictures, 3, known=(9, 1)) == [(2, LOW_CONFIDENCE)]
    chosen = choose(pictures, 3, [fingerprint(patchy(1))])
    assert (chosen.known_twins, chosen.twins) == (1, 0)


def test_nothing_to_choose_from() -> None:
    assert choose([], 3).pictures == ()
    assert choose([candidate(1)], 3).pictures == ()
