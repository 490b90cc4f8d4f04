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
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote
from xml.sax.saxutils import quoteattr

from helmlite.data.labels import number_fault
from helmlite.files import read_json, write_whole
from helmlite.mine.corners import NamedBox, turned

if TYPE_CHECKING:
    from helmlite.mine.choose import PreLabel
    from helmlite.mine.mined_set import MinedPicture, MinedSet

TASKS_NAME, CONFIG_NAME = "tasks.json", "config.xml"
_FROM, _TO, _KIND = "label", "image", "rectanglelabels"
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
    A task's newest annotation counts, unless it was cancelled; a turned box is taken as the upright box around it.
    Raises ValueError for what is no export as "JSON", and for a box that is none.
    """
    tasks = read_json(path, list, "export again from Label Studio, as JSON")
    found: dict[str, tuple[NamedBox, ...]] = {}
    untouched: list[str] = []
    for task in tasks:
        if not isinstance(task, dict) or not isinstance(task.get("data"), dict) or "annotations" not in task:
            raise ValueError(f'{path}: expected an export of Label Studio as "JSON", with data and annotations.')
        name = _picture_name(task["data"], sizes)
        done = [item for item in task["annotations"] or [] if isinstance(item, dict) and not item.get("was_cancelled")]
        if not done:
            untouched.append(name)
            continue
        newest = max(done, key=lambda item: str(item.get("updated_at") or item.get("created_at") or ""))
        results = [item for item in newest.get("result") or [] if isinstance(item, dict) and item.get("type") == _KIND]
        found[name] = tuple(_box(item, sizes.get(name), path, name) for item in results)
    return found, untouched


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
    if data.get("picture") in known:
        return str(data["picture"])
    address = unquote(next((str(data[key]) for key in ("image", "img") if data.get(key)), ""))
    name = address.replace("\\", "/").rpartition("/")[2].rpartition("?d=")[2]
    return name if name in known else _UPLOADED.sub("", name)


def _box(item: Mapping[str, Any], size: tuple[int, int] | None, path: Path, name: str) -> NamedBox:
    try:
        value = item["value"]
        width, height = (float(item[key]) for key in ("original_width", "original_height")) if size is None else size
        left, top = float(value["x"]) * width / 100, float(value["y"]) * height / 100
        right, bottom = left + float(value["width"]) * width / 100, top + float(value["height"]) * height / 100
        box = turned((left, top, right, bottom), float(value.get("rotation") or 0), (left, top))
        classes = value[_KIND]
        label = str(classes[0])
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ValueError(f"{path}: {name}: a rectangle without x, y, width, height and one label ({error}).") from error
    if fault := number_fault(box):
        raise ValueError(f"{path}: {name}: a number of a rectangle {fault}.")
    return NamedBox(label, box)
