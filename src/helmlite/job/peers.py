"""What a user could have had without helmlite and without training: NNCF's own INT8 of the original detector."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helmlite.data.dataset import Dataset
from helmlite.detector.detector import Log
from helmlite.evaluate.cost import file_bytes
from helmlite.export.openvino import save_ir
from helmlite.job.candidates import Candidate
from helmlite.runtime.bundle import BundlePredictor, describe_file
from helmlite.runtime.packing import download_size
from helmlite.runtime.preprocess import network_input

_PICTURES = 300  # NNCF's own default


def stock_nncf(baseline: Candidate, train: Dataset, seed: int, folder: Path, log: Log) -> Candidate | None:
    """NNCF's post-training INT8 of the baseline at the run's input size, with its defaults; None without NNCF.

    Only for OpenVINO.  Written into `folder` once, and taken from there later.
    """
    if baseline.predictor.session.runtime != "openvino":
        return None
    for name in ("nncf", "torch.utils.cpp_extension"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        import nncf
        import openvino
    except ImportError:
        log("reference: NNCF is not installed, so its INT8 is not measured (pip install nncf)")
        return None
    xml = folder / "model.xml"
    if not xml.is_file():
        log(f"reference: stock NNCF INT8 at {baseline.input_size}")
        pictures = list(_calibration(train, baseline.input_size, seed))
        model: Any = openvino.Core().read_model(str(baseline.bundle.model_path("openvino")))
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):  # progress bars
            quantized = nncf.quantize(model, nncf.Dataset(pictures), subset_size=len(pictures))
        folder.mkdir(parents=True, exist_ok=True)
        save_ir(quantized, folder / "part.xml")
        (folder / "part.bin").replace(folder / "model.bin")
        (folder / "part.xml").replace(xml)
    files = {name: describe_file(folder / name) for name in ("model.xml", "model.bin")}
    manifest = replace(
        baseline.bundle.manifest,
        files=files,
        runtime_files={"openvino": tuple(files)},
        runtime="openvino",
        precision="int8",
    )
    bundle = replace(baseline.bundle, folder=folder, manifest=manifest)
    return replace(
        baseline,
        name=f"NNCF INT8 at {baseline.input_size}",
        bundle=bundle,
        predictor=BundlePredictor(bundle, "openvino", baseline.predictor.session.threads),
        size_bytes=file_bytes([xml, folder / "model.bin"]),
        download_bytes=download_size([xml, folder / "model.bin"]),
        precision="int8",
        cause="precision",
        in_chain=False,
        note="needs no training",
        copy_of=baseline.name,
    )


def _calibration(train: Dataset, input_size: int, seed: int) -> Iterator[NDArray[np.float32]]:
    for index in np.random.default_rng(seed).permutation(len(train))[:_PICTURES].tolist():
        yield network_input(train[index].read_image(), input_size)[0]
