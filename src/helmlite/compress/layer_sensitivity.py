"""How much the network's answer suffers from an error in one layer: measured, layer by layer.

Each layer is disturbed alone and the raw maps are compared on a few training pictures.  What comes out is

    mean over maps of  |map' - map|^2 / |map - mean(map)|^2     for each unit of the layer's relative squared error

so that weight * error foretells, to first order, what a layer's error costs at the output.  Errors of several layers
are taken to add up, which they do while they are small.  As in measured sensitivities of pruning (Li 2017, arXiv
1608.08710, section 3.2), with the maps in the place of accuracy, so that no labels are needed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from helmlite.compress.edits.module_swap import put_module
from helmlite.compress.technique import Context
from helmlite.detector.batches import plain_batches
from helmlite.detector.detector import Detector
from helmlite.detector.fit_state import detector_sha256, json_sha256
from helmlite.files import write_whole

_PICTURES = 4
_LARGEST_SIZE = 192  # pixels: what matters hardly depends on it, and a large network is run once for each layer
_LEAST = 1e-9

Disturbance = Callable[[], tuple[nn.Module, float]]  # gives what stands in a layer's place, and its relative error^2


def measured_sensitivities(
    detector: Detector, disturbances: Mapping[str, Disturbance], context: Context, about: Mapping[str, object]
) -> dict[str, float]:
    """Layer path -> error of the maps for each unit of the layer's own error, at least a little above 0.

    disturbances: layer path -> what disturbs it.  about: what they depend on beside the detector, as plain data.
    Kept in the workspace, under the hash of all this.
    """
    images = _pictures(context)
    asked = json_sha256(
        {
            "detector": detector_sha256(detector),
            "layers": list(disturbances),
            "about": dict(about),
            "pictures": [float(images.double().mean()), float(images.double().std()), *images.shape],
        }
    )
    path = context.workspace / f"sensitivity-{asked[:12]}.json"
    if path.is_file():
        known: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
        return known
    found = _measured(detector, disturbances, images)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(found, indent=1))
    return found


def _measured(detector: Detector, disturbances: Mapping[str, Disturbance], images: Tensor) -> dict[str, float]:
    network = detector.copy().network.eval()
    found = {}
    with torch.inference_mode():
        expected = network(images)
        for path, disturb in disturbances.items():
            layer = network.get_submodule(path)
            stand_in, error = disturb()
            put_module(network, path, stand_in)
            found[path] = max(maps_error(network(images), expected) / max(error, _LEAST), _LEAST)
            put_module(network, path, layer)
    return found


def maps_error(got: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Mean over maps of the squared error, each relative to how much the map varies."""
    shares = [
        float((a - b).double().square().sum() / (b - b.mean()).double().square().sum().clamp(min=1e-30))
        for a, b in zip(got, expected)
    ]
    return sum(shares) / len(shares)


def _pictures(context: Context) -> Tensor:
    size = min(context.input_size, _LARGEST_SIZE)
    return next(plain_batches(context.data, size, _PICTURES, _PICTURES, context.seed)).images
