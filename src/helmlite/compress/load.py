"""A detector from whatever the user names: a public model, an Ultralytics `.pt`, a checkpoint folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from helmlite.compress.checkpoint import is_checkpoint, load_checkpoint
from helmlite.data.roles import with_roles
from helmlite.detector.detector import Detector
from helmlite.detector.zoo import MODELS, fetch_model


def load_detector(source: Path | str, roles: Mapping[str, str] | None = None) -> Detector:
    """The detector that `source` names.

    source: a name of `helmlite models list`, the path of an Ultralytics `.pt`, or a helmlite checkpoint folder
    roles:  class name -> role, where the usual names do not tell
    Raises ValueError, saying what was expected.
    """
    path = Path(source)
    if str(source) in MODELS:
        path = fetch_model(str(source))
    if path.is_dir():
        if not is_checkpoint(path):
            raise ValueError(f"{path}: not a helmlite checkpoint folder (no architecture.json).")
        detector = load_checkpoint(path)
        if not roles:
            return detector
        return detector.with_classes(with_roles([item.name for item in detector.classes], roles))
    if not path.is_file():
        raise ValueError(f"{source}: no such file, folder or public model ({', '.join(MODELS)}).")
    from helmlite.detector.ultralytics import load_ultralytics

    return load_ultralytics(path, roles)
