"""What a person decided about each suggestion, worked by hand."""

from __future__ import annotations

from helmlite.data.roles import with_roles
from helmlite.mine.choose import PreLabel
from helmlite.mine.corners import NamedBox
from helmlite.mine.outcomes import Outcome, decide, is_as_suggested
from written_data import Box

CLASSES = with_roles(["helmet", "no_helmet"])
HERE: Box = (0, 0, 10, 10)
NEAR: Box = (1, 0, 11, 10)
FAR: Box = (6, 0, 16, 10)  # IoU 4 / 16 with HERE


def decided(suggestions: list[PreLabel], corrected: list[NamedBox]) -> list[tuple[str, str | None, str | None]]:
    return [(item.kind, item.class_name, item.suggested) for item in outcomes(suggestions, corrected)]


def outcomes(suggestions: list[PreLabel], corrected: list[NamedBox]) -> tuple[Outcome, ...]:
    return decide("x.jpg", suggestions, corrected, CLASSES, "a")


def suggested(name: str = "no_helmet", *by: str, box: Box = HERE) -> PreLabel:
    return PreLabel(name, box, 0.7, by or ("a",))


def test_kept_as_it_was() -> None:
    assert decided([suggested()], [NamedBox("no_helmet", NEAR)]) == [("confirmed", "no_helmet", "no_helmet")]
    (outcome,) = outcomes([suggested()], [NamedBox("no_helmet", NEAR)])
    assert (outcome.box_xyxy, outcome.score, outcome.by) == (NEAR, 0.7, ("a",))


def test_taken_away() -> None:
    (outcome,) = outcomes([suggested("helmet", "a", "b")], [])
    assert (outcome.kind, outcome.class_name, outcome.suggested) == ("hard negative", None, "helmet")
    assert (outcome.box_xyxy, outcome.says) == (HERE, "no helmet there, though a and b report it")


def test_added_and_of_another_class() -> None:
    assert decided([], [NamedBox("helmet", HERE)]) == [("hard positive", "helmet", None)]
    assert decided([suggested()], [NamedBox("helmet", NEAR)]) == [("hard positive", "helmet", "no_helmet")]


def test_confirmed_but_not_reported_by_the_detector_that_is_to_become_better() -> None:
    (outcome,) = outcomes([suggested("no_helmet", "b")], [NamedBox("no_helmet", HERE)])
    assert (outcome.kind, outcome.says) == ("hard positive", "no_helmet confirmed, which a does not report")
    assert decided([suggested("no_helmet", "frames around")], [NamedBox("no_helmet", HERE)])[0][0] == "hard positive"


def test_a_box_that_was_moved_far_is_one_taken_away_and_one_added() -> None:
    assert decided([suggested()], [NamedBox("no_helmet", FAR)]) == [
        ("hard negative", None, "no_helmet"),
        ("hard positive", "no_helmet", None),
    ]


def test_a_class_of_the_persons_own_is_understood_by_its_name() -> None:
    assert decided([suggested()], [NamedBox("bare head", HERE)]) == [("confirmed", "bare head", "no_helmet")]
    assert decided([suggested()], [NamedBox("cap", HERE)]) == [("hard positive", "cap", "no_helmet")]


def test_labels_that_are_the_suggestions() -> None:
    two = [suggested(), suggested("helmet", "b", box=FAR)]
    rounded = (0.1, -0.4, 10.0, 10.5)
    assert is_as_suggested(two, [NamedBox("helmet", FAR), NamedBox("no_helmet", rounded)])
    assert is_as_suggested([], [])
    for other in (
        [NamedBox("no_helmet", HERE)],
        [NamedBox("no_helmet", HERE), NamedBox("no_helmet", FAR)],
        [NamedBox("no_helmet", NEAR), NamedBox("helmet", FAR)],
        [NamedBox("no_helmet", HERE), NamedBox("helmet", FAR), NamedBox("helmet", FAR)],
    ):
        assert not is_as_suggested(two, other)
    twice = [suggested(), suggested()]
    assert not is_as_suggested(twice, [NamedBox("no_helmet", HERE), NamedBox("helmet", HERE)])


def test_nothing_suggested_and_nothing_there() -> None:
    assert outcomes([], []) == ()


def test_many_in_the_order_of_what_they_teach() -> None:
    many = [suggested(box=HERE), suggested("helmet", box=(50, 0, 60, 10)), suggested(box=(80, 0, 90, 10))]
    kept = [NamedBox("no_helmet", HERE), NamedBox("no_helmet", (50, 0, 60, 10))]
    assert [item[0] for item in decided(many, kept)] == ["hard negative", "hard positive", "confirmed"]
