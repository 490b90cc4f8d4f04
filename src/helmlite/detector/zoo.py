"""Public helmet detectors by name: where each comes from, and how to fetch it as data."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from helmlite.files import write_whole


@dataclass(frozen=True)
class PublicModel:
    """A detector inside a package of the Python index.

    package, version: the wheel; member: the file inside it; sha256: of that file
    """

    name: str
    package: str
    version: str
    member: str
    sha256: str
    licence: str
    training_data: str


MODELS = {
    model.name: model
    for model in (
        PublicModel(
            name="helmet-yolo12m",
            package="helmet-detector",
            version="2.1.0",
            member="helmet_detector_pkg/weights/best.pt",
            sha256="11e0c29b9247d44df88210d1dbc9881cdc1ce4c21e31bfab2ecb0e9161c0d9c6",
            licence="the wheel says MIT, the checkpoint inside says AGPL-3.0",
            training_data="pictures of the same origin as Kaggle's 'Helmet Detection' (MakeML Bikes Helmets)",
        ),
    )
}


def model_named(name: str) -> PublicModel:
    """The entry of this name.  Raises ValueError, naming the known ones."""
    if name not in MODELS:
        raise ValueError(f"No public model is called '{name}'. Known: {', '.join(MODELS)}.")
    return MODELS[name]


def fetch_model(name: str) -> Path:
    """The model's checkpoint in the user's cache, fetched with pip where it is not there yet.

    The wheel is opened as an archive; none of its code is installed or run.
    Raises ValueError where the download fails or the file is not the pinned one.
    """
    model = model_named(name)
    path = cache_folder() / f"{model.name}-{model.version}.pt"
    if path.is_file() and _sha256(path) == model.sha256:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        wheel = _download(model, Path(folder))
        with zipfile.ZipFile(wheel) as archive:
            content = archive.read(model.member)
        found = hashlib.sha256(content).hexdigest()
        if found != model.sha256:
            raise ValueError(f"{model.member} of {wheel.name} has sha256 {found[:12]}, expected {model.sha256[:12]}.")
        write_whole(path, content)
    return path


def cache_folder() -> Path:
    """`$HELMLITE_CACHE`, else helmlite's folder in the user's cache."""
    stated = os.environ.get("HELMLITE_CACHE")
    if stated:
        return Path(stated)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "helmlite"


def _download(model: PublicModel, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--disable-pip-version-check", f"{model.package}=={model.version}", "--dest", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ValueError(f"{model.package} {model.version} could not be fetched with pip: {reason}")
    return wheels[0]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
