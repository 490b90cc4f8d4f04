"""Label Studio's JSON: a task for each picture, suggestions as predictions, boxes in percent of the picture.

    tasks.json    what "Import" takes
    config.xml    the labelling interface that the tasks need, for "Settings > Labeling Interface > Code"

Pictures stay where they are and are served as local files: start Label Studio with
LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true and LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT=the folder above the set, and
add the set's `images/train` as a local storage, without synchronizing it (that makes a second task of each picture).

Source: labelstud.io/guide, "Import pre-annotated data", "Task format" and "Local storage".
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote
from xml.sax.saxutils import quoteattr

from helmlite.data.labels import number_fault
from helmlite.files import read_json, write_whole
from helmlite.mine.corners import Box, NamedBox, around_ellipse, box_around, turned

if TYPE_CHECKING:
    from helmlite.mine.choose import PreLabel
    from helmlite.mine.mined_set import MinedPicture, MinedSet

TASKS_NAME, CONFIG_NAME = "tasks.json", "config.xml"
_FROM, _TO, _KIND = "label", "image", "rectanglelabels"
_POLYGON, _ELLIPSE = "polygonlabels", "ellipselabels"
_NO_SHAPES = (  # which mark no area
    "keypointlabels", "keypoint", "choices", "taxonomy", "textarea", "rating", "number", "datetime", "relation",
    "pairwise", "ranker",
)  # fmt: skip
_UPLOADED = re.compile(r"^[0-9a-f]{8}-")  # what Label Studio puts before the name of an uploaded file


def write_label_studio(folder: Path, described: MinedSet, images: str) -> None:
    """Writes tasks.json and config.xml.  images: folder of the pictures, counted from the document root"""
    version = " + ".join(item.name for item in described.detectors)
    tasks = [_task(picture, f"/data/local-files/?d={quote(f'{images}/{picture.picture}')}", version)
             for picture in described.pictures]  # fmt: skip
    write_whole(folder / TASKS_NAME, json.dumps(tasks, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    labels = "".join(f"    <Label value={quoteattr(item.name)}/>\n" for item in described.classes)
    config = (
        f'<View>\n  <Image name="{_TO}" value="$image"/>\n'
        f'  <RectangleLabels name="{_FROM}" toName="{_TO}">\n{labels}  </RectangleLabels>\n</View>\n'
    )
    write_whole(folder / CONFIG_NAME, config)


def read_label_studio(
    path: Path, sizes: Mapping[str, tuple[int, int]]
) -> tuple[dict[str, tuple[NamedBox, ...]], list[str]]:
    """File name of each annotated picture -> its boxes; and the names of those that nobody has annotated.

    sizes: file name -> width and height, for boxes whose picture's size the export does not say
    A task's newest annotation counts, unless it was cancelled; a turned box, a polygon or an ellipse is taken as the
    upright box around it, and what marks no area (points, choices, texts) is left out.
    Raises ValueError for what is no export as "JSON", for a box that is none, for another shape (a brush's mask): it
    marks something that would be lost, and where two tasks of one picture are annotated.
    """
    tasks = read_json(path, list, "export again from Label Studio, as JSON")
    found: dict[str, tuple[NamedBox, ...]] = {}
    untouched: list[str] = []
    for task in tasks:
        if not isinstance(task, dict) or not isinstance(task.get("data"), dict) or "annotations" not in task:
            raise ValueError(f'{path}: expected an export of Label Studio as "JSON", with data and annotations.')
        name = _picture_name(task["data"], sizes)
        done = [item for item in _objects(task, "annotations", path, name) if not item.get("was_cancelled")]
        if not done:
            untouched.append(name)
            continue
        if name in found and name in sizes:
            raise ValueError(f"{path}: {name}: annotated in two tasks; delete one of them and export again.")
        newest = max(done, key=lambda item: str(item.get("updated_at") or item.get("created_at") or ""))
        results = [item for item in _objects(newest, "result", path, name) if item.get("type") not in _NO_SHAPES]
        found[name] = tuple(_box(item, sizes.get(name), path, name) for item in results)
    return found, untouched


def may_hold_tasks(path: Path) -> bool:
    """Whether a JSON file is worth reading as tasks: a list of objects, or damaged, which reading it says."""
    try:
        values = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return True
    return isinstance(values, list) and all(isinstance(item, dict) for item in values)


def _objects(holder: Mapping[str, Any], key: str, path: Path, name: str) -> list[dict[str, Any]]:
    values = holder.get(key) or []
    if not isinstance(values, list) or not all(isinstance(item, dict) for item in values):
        raise ValueError(f"{path}: {name}: '{key}' is not a list of objects; export again from Label Studio, as JSON.")
    return values


def _task(picture: MinedPicture, image: str, version: str) -> dict[str, Any]:
    results = [_result(number, item, picture.size) for number, item in enumerate(picture.labels)]
    about = {"image": image, "picture": picture.picture, "chosen_for": picture.chosen_for}
    says = "; ".join(item.says for item in picture.spots)
    prediction = {"model_version": version, "score": round(picture.score, 4), "result": results}
    return {"data": {**about, "says": says}, "predictions": [prediction]}


def _result(number: int, item: PreLabel, size: tuple[int, int]) -> dict[str, Any]:
    left, top, right, bottom = item.box_xyxy
    width, height = size
    value = {
        "x": 100 * left / width,
        "y": 100 * top / height,
        "width": 100 * (right - left) / width,
        "height": 100 * (bottom - top) / height,
        "rotation": 0,
        _KIND: [item.class_name],
    }
    about = {"id": f"box-{number}", "type": _KIND, "from_name": _FROM, "to_name": _TO, "image_rotation": 0}
    told = {} if item.score is None else {"score": round(item.score, 4)}
    return {**about, "original_width": width, "original_height": height, "value": value, **told}


def _picture_name(data: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    """The file name that a task is about: as we wrote it, else the end of its address."""
    if (own := data.get("picture")) and isinstance(own, str) and own in known:
        return own
    address = unquote(next((str(data[key]) for key in ("image", "img") if data.get(key)), ""))
    name = address.replace("\\", "/").rpartition("/")[2].rpartition("?d=")[2]
    return name if name in known else _UPLOADED.sub("", name)


def _box(item: Mapping[str, Any], size: tuple[int, int] | None, path: Path, name: str) -> NamedBox:
    kind = str(item.get("type"))
    if kind not in _BOX_OF:
        raise ValueError(
            f"{path}: {name}: what was drawn as '{kind}' is no box; draw a rectangle in its place, with {CONFIG_NAME} "
            "as the labelling interface."
        )
    try:
        width, height = size or (float(item["original_width"]), float(item["original_height"]))
        box = _BOX_OF[kind](item["value"], width / 100, height / 100)
        label = str(item["value"][kind][0])
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise ValueError(
            f"{path}: {name}: a shape ({kind}) without {_NEEDS[kind]} and one label ({' '.join(str(error).split())})."
        ) from error
    if fault := number_fault(box):
        raise ValueError(f"{path}: {name}: a number of a shape ({kind}) {fault}.")
    return NamedBox(label, box)


def _rectangle(value: Mapping[str, Any], across: float, down: float) -> Box:
    left, top = float(value["x"]) * across, float(value["y"]) * down
    right, bottom = left + float(value["width"]) * across, top + float(value["height"]) * down
    return turned((left, top, right, bottom), float(value.get("rotation") or 0), (left, top))


def _polygon(value: Mapping[str, Any], across: float, down: float) -> Box:
    points = [(float(x) * across, float(y) * down) for x, y in value["points"]]
    return box_around([x for x, _ in points], [y for _, y in points])


def _ellipse(value: Mapping[str, Any], across: float, down: float) -> Box:
    centre = float(value["x"]) * across, float(value["y"]) * down  # the documentation calls it a corner; it is none
    radii = float(value["radiusX"]) * across, float(value["radiusY"]) * down
    return around_ellipse(centre, radii, float(value.get("rotation") or 0))


_BOX_OF: Mapping[str, Callable[[Mapping[str, Any], float, float], Box]] = {  # pixels for every percent, both ways
    _KIND: _rectangle,
    _POLYGON: _polygon,
    _ELLIPSE: _ellipse,
}
_NEEDS = {_KIND: "x, y, width, height", _POLYGON: "points", _ELLIPSE: "x, y, radiusX, radiusY"}
