"""What a user could have had without helmlite and without training: NNCF's own INT8 of the original detector."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
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
from helmlite.files import put_in_place
from helmlite.job.candidates import Candidate, kept_bundle
from helmlite.runtime.bundle import Bundle, BundlePredictor, Manifest, describe_file, read_bundle, write_manifest
from helmlite.runtime.packing import download_size
from helmlite.runtime.preprocess import network_input

_PICTURES = 300  # NNCF's own default


def stock_nncf(baseline: Candidate, train: Dataset, seed: int, folder: Path, log: Log) -> Candidate | None:
    """NNCF's post-training INT8 of the baseline at the run's input size, with its defaults; None without NNCF.

    Only for OpenVINO.  Written into `folder` once, sealed as a bundle, and taken from there later.
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
    bundle = kept_bundle(folder, log)
    if bundle is None:
        log(f"reference: stock NNCF INT8 at {baseline.input_size}")
        pictures = list(_calibration(train, baseline.input_size, seed))
        model: Any = openvino.Core().read_model(str(baseline.bundle.model_path("openvino")))
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):  # progress bars
            quantized = nncf.quantize(model, nncf.Dataset(pictures), subset_size=len(pictures))
        bundle = _sealed(quantized, baseline.bundle.manifest, folder)
    paths = [folder / name for name in bundle.manifest.files]
    return replace(
        baseline,
        name=f"NNCF INT8 at {baseline.input_size}",
        bundle=bundle,
        predictor=BundlePredictor(bundle, "openvino", baseline.predictor.session.threads),
        size_bytes=file_bytes(paths),
        download_bytes=download_size(paths),
        precision="int8",
        cause="precision",
        in_chain=False,
        note="needs no training",
        copy_of=baseline.name,
    )


def _sealed(quantized: Any, like: Manifest, folder: Path) -> Bundle:
    """The network in a folder of its own that is there whole or not at all, with the hashes of its files."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
        made = Path(temporary) / "bundle"
        made.mkdir()
        save_ir(quantized, made / "model.xml")
        files = {name: describe_file(made / name) for name in ("model.xml", "model.bin")}
        runtime_files = {"openvino": tuple(files)}
        write_manifest(
            made, replace(like, files=files, runtime_files=runtime_files, runtime="openvino", precision="int8")
        )
        put_in_place(made, folder, Path(temporary) / "before")
    return read_bundle(folder, verify=False)


def _calibration(train: Dataset, input_size: int, seed: int) -> Iterator[NDArray[np.float32]]:
    for index in np.random.default_rng(seed).permutation(len(train))[:_PICTURES].tolist():
        yield network_input(train[index].read_image(), input_size)[0]
