"""The gallery as cards: each crop opens large by its link, and is walked through by keyboard, without a script.

A crop's link leads to the crop itself (`:target` makes it large); there, links lead to the one before, the one after
and back.  Tab and Enter do all of it, and what was opened has the focus.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from helmlite.evaluate.pages.crops import ListedCrop
from helmlite.evaluate.pages.gallery import DOUBTFUL_LABELS, FALSE_ALARMS, NEWLY_FOUND, NEWLY_MISSED, GalleryPart
from helmlite.evaluate.pages.html import section

_LEADS = {
    NEWLY_MISSED: "The left detector finds these heads and the right one does not, at equal false alarms; the widest "
    "difference of scores first, bare heads before all others.",
    NEWLY_FOUND: "The right detector finds these heads and the left one does not, at equal false alarms; the widest "
    "difference of scores first, bare heads before all others.",
    FALSE_ALARMS: "Detections of the last named detector that take no labelled head, the surest first.",
    DOUBTFUL_LABELS: "Labels that the detectors contradict: probably wrong, to be looked at, not to be changed unseen.",
}
_KEY = (
    '<p class="key"><i class="truth"></i>labelled<i class="bare"></i>detected as no_helmet'
    '<i class="other"></i>detected as another class; each with its score</p>'
)


def gallery_sections(gallery: Sequence[GalleryPart]) -> list[str]:
    """A card for each part."""
    return [_card(number, part) for number, part in enumerate(gallery, start=1)]


def _card(number: int, part: GalleryPart) -> str:
    title = part.kind[:1].upper() + part.kind[1:]
    if len(part.sides) > 1 and part.kind != DOUBTFUL_LABELS:
        title = f"{title}: {part.sides[-1]}"
    counted = f"{part.total} in all" if len(part.crops) == part.total else f"{len(part.crops)} of {part.total} shown"
    figures = "".join(_figure(number, place, part) for place in range(len(part.crops)))
    inner = f'<p class="key">{counted}.</p>{_KEY}<div class="heads" id="gallery-{number}">{figures}</div>'
    return section(title, inner, _LEADS.get(part.kind, ""))


def _figure(number: int, place: int, part: GalleryPart) -> str:
    crop, last = part.crops[place], len(part.crops) - 1
    images = "".join(
        f'<img src="data:image/jpeg;base64,{data}" alt="{escape(crop.picture)}, {escape(side)}" width="240" '
        f'height="240">'
        for side, data in zip(part.sides, crop.jpegs, strict=True)
    )
    sides = "".join(f'<span translate="no">{escape(side)}</span>' for side in part.sides)
    columns = f'style="grid-template-columns: repeat({len(part.sides)}, 1fr)"'
    before = f'<a href="#{_name(number, place - 1)}">previous</a>' if place else "<span></span>"
    after = f'<a href="#{_name(number, place + 1)}">next</a>' if place < last else "<span></span>"
    return (
        f'<figure id="{_name(number, place)}" tabindex="-1"><a class="open" href="#{_name(number, place)}" '
        f'aria-label="{escape(_label(crop))}"><div class="pair" {columns}>{images}</div></a>'
        f'<figcaption><div class="sides" {columns}>{sides}</div>{escape(crop.says)}<br><span translate="no">'
        f"{escape(crop.picture)} · {crop.box_pixels} px</span></figcaption>"
        f'<nav class="walk">{before}<a href="#gallery-{number}">close</a>{after}</nav></figure>'
    )


def _label(crop: ListedCrop) -> str:
    return f"Picture {crop.picture}: {crop.says}"


def _name(number: int, place: int) -> str:
    return f"crop-{number}-{place + 1}"
