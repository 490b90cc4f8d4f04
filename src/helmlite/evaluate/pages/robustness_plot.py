"""What bad conditions cost input and result, drawn beside each other as a heat map."""

from __future__ import annotations

from helmlite.evaluate import figures
from helmlite.evaluate.conditions import SEVERITIES
from helmlite.evaluate.extra_loss import ExtraLoss, RobustnessComparison
from helmlite.evaluate.gate import interval_in_words, told_in_words
from helmlite.evaluate.pages.plots import HeatBlock, HeatCell, heat_map
from helmlite.evaluate.robustness import CaseMeasured, Robustness

_OF_NO_CASE = HeatCell(None, False, "not measured")


def robustness_plot(before: Robustness, after: Robustness, comparison: RobustnessComparison) -> str:
    """Changes of mAP50-95 in points as inline SVG: of the input, of the result, and by how much they differ.

    Colour has what the 95 % interval tells from no change; in the last block only where the result provably loses more
    whichever case is looked at.  That it loses less is no gain: from a lower start there is less to lose.
    """
    names = list(dict.fromkeys(item.condition for item in before.cases))
    own = [{(item.condition, item.severity): _own_cell(item) for item in side.cases} for side in (before, after)]
    extra = {(item.condition, item.severity): _extra_cell(item) for item in comparison.cases}
    headings = (
        f"input: change from {figures.points(before.untouched.map)}",
        f"result: change from {figures.points(after.untouched.map)}",
        "result against input",
    )
    blocks = [
        HeatBlock(heading, [[cells.get((name, severity), _OF_NO_CASE) for severity in SEVERITIES] for name in names])
        for heading, cells in zip(headings, (*own, extra), strict=True)
    ]
    columns = [f"severity {severity}" for severity in SEVERITIES]
    return heat_map("Points of mAP50-95 under bad conditions", names, columns, blocks)


def _own_cell(item: CaseMeasured) -> HeatCell:
    told = told_in_words(item.loss_points, item.loss_ci95)
    says = f"{item.condition} at severity {item.severity} ({item.strength}): {told}"
    if item.loss_ci95 is not None:
        says += f" ({interval_in_words(item.loss_ci95)})"
    return HeatCell(None if item.loss_points is None else -item.loss_points, item.is_told_from_none, says)


def _extra_cell(item: ExtraLoss) -> HeatCell:
    name = f"{item.condition} at severity {item.severity}"
    interval = item.extra_all_ci95
    if item.extra_points is None:
        return HeatCell(None, False, f"{name}: unknown")
    says = f"{name}, result against input: {told_in_words(item.extra_points, item.extra_all_ci95)}"
    if interval is not None:
        says += f" ({interval_in_words(interval)}, over all cases)"
    return HeatCell(-item.extra_points, item.is_proved, says)
