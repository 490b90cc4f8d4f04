"""A detector on disk: a folder that describes itself, without pickle.

    architecture.json    family, layer description, classes with roles, head layout, library version, golden sums
    edits.json           every structural change, oldest first
    weights.safetensors  parameters and buffers; a tensor that several modules share is stored once
    provenance.json      where it comes from: inputs' hashes, recipe, seed, versions, metrics

A golden input (a fixed pattern) and the detector's answer to it are checked at load, so that another library version
that changes what a layer does is found before anything is measured.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from helmlite.compress.activation import SwapActivations
from helmlite.compress.drop_block import DropBlocks
from helmlite.compress.drop_scale import DropScaleAt
from helmlite.compress.edits.cluster_weights import ClusterWeights
from helmlite.compress.edits.fold_batchnorm import FoldBatchNorm
from helmlite.compress.edits.keep_channels import KeepChannels
from helmlite.compress.edits.mask_weights import MaskWeights
from helmlite.compress.edits.merge_parallel import MergeParallelConvs
from helmlite.compress.edits.tie_weights import TieWeights
from helmlite.compress.low_rank import Factorize
from helmlite.compress.rounding.insert_quantizers import InsertQuantizers
from helmlite.compress.rounding.round_weights import RoundWeights
from helmlite.compress.separable import SplitDepthwise
from helmlite.data.roles import Class
from helmlite.detector.detector import Architecture, Detector, Edit
from helmlite.detector.families import family_named
from helmlite.files import put_in_place, read_json, write_whole
from helmlite.runtime.decode import HeadLayout

FORMAT = 1
_FILES = ("architecture.json", "edits.json", "weights.safetensors", "provenance.json")
_DAMAGED = "copy the checkpoint again, or where a run made it, remove its folder and give the command again"
_GOLDEN_SIZE = 64
_GOLDEN_TOLERANCE = 1e-3  # relative; other processors sum in another order

EDITS: Mapping[str, Callable[[Mapping[str, Any]], Edit]] = {
    KeepChannels.kind: KeepChannels.from_json,
    DropScaleAt.kind: DropScaleAt.from_json,
    DropBlocks.kind: DropBlocks.from_json,
    MaskWeights.kind: MaskWeights.from_json,
    SwapActivations.kind: SwapActivations.from_json,
    FoldBatchNorm.kind: FoldBatchNorm.from_json,
    MergeParallelConvs.kind: MergeParallelConvs.from_json,
    Factorize.kind: Factorize.from_json,
    SplitDepthwise.kind: SplitDepthwise.from_json,
    InsertQuantizers.kind: InsertQuantizers.from_json,
    RoundWeights.kind: RoundWeights.from_json,
    TieWeights.kind: TieWeights.from_json,
    ClusterWeights.kind: ClusterWeights.from_json,
}


def save_checkpoint(detector: Detector, folder: Path, provenance: Mapping[str, Any]) -> None:
    """Writes the folder at once: it is there complete, or not at all.  An older one of this name is replaced."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
        made = Path(temporary) / folder.name
        made.mkdir()
        _write(made / "architecture.json", _architecture_json(detector))
        _write(made / "edits.json", [{"kind": edit.kind, **edit.to_json()} for edit in detector.edits])
        tensors, shared = _stored_once(detector.network)
        write_whole(made / "weights.safetensors", save(tensors, {"shared": json.dumps(shared)}))
        _write(made / "provenance.json", dict(provenance))
        put_in_place(made, folder, Path(temporary) / "before")


def check_free(folder: Path, provenance: Mapping[str, Any]) -> None:
    """Raises ValueError where something is at `folder` that saving there would destroy: anything but a checkpoint with
    this very provenance."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if is_checkpoint(folder) and (folder / "provenance.json").is_file():
        known = read_provenance(folder)
        different = [name for name, value in provenance.items() if known.get(name) != value]
        if not different:
            return
        raise ValueError(f"{folder}: holds a checkpoint made otherwise (other {different[0]}); choose a new folder.")
    raise ValueError(f"{folder}: exists and is not a checkpoint of this command; choose a new folder.")


def load_checkpoint(folder: Path) -> Detector:
    """The detector in a checkpoint folder.  Raises ValueError where it is incomplete, altered or not reproduced."""
    missing = [name for name in _FILES if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"{folder}: not a helmlite checkpoint; missing {', '.join(missing)}.")
    stated = read_json(folder / "architecture.json", dict, _DAMAGED)
    if stated.get("format") != FORMAT:
        raise ValueError(f"{folder}: checkpoint format {stated.get('format')}, this helmlite reads {FORMAT}.")
    try:
        architecture = _architecture(stated)
        network = family_named(architecture.family).build(architecture)
        edits = tuple(_edit(item, folder) for item in read_json(folder / "edits.json", list, _DAMAGED))
        for edit in edits:
            edit.redo(network)
        golden = [float(value) for value in stated["golden"]]
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"{folder}: the checkpoint was altered ({type(error).__name__}: {error}).") from error
    _load_weights(network, folder / "weights.safetensors")
    detector = Detector(architecture, network.eval(), edits)
    _check_golden(detector, golden, folder)
    return detector


def read_provenance(folder: Path) -> dict[str, Any]:
    """Where a checkpoint comes from.  Raises ValueError where its file is damaged, OSError where it is missing."""
    return read_json(folder / "provenance.json", dict, _DAMAGED)


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder looks like a checkpoint."""
    return (folder / "architecture.json").is_file()


def golden_answer(network: nn.Module) -> list[float]:
    """Mean absolute value of each raw map for a fixed pattern: changes with weights, layers and their order."""
    ramp = torch.linspace(0, 1, 3 * _GOLDEN_SIZE * _GOLDEN_SIZE).view(1, 3, _GOLDEN_SIZE, _GOLDEN_SIZE)
    pattern = (torch.sin(ramp * 997) + 1) / 2
    was_training = network.training
    network.eval()
    with torch.inference_mode():
        answer = [float(item.double().abs().mean()) for item in network(pattern)]
    network.train(was_training)
    return answer


def _check_golden(detector: Detector, stated: list[float], folder: Path) -> None:
    found = golden_answer(detector.network)
    if len(found) != len(stated):
        raise ValueError(f"{folder}: the checkpoint was altered ({len(stated)} golden sums for {len(found)} maps).")
    worst = max(abs(a - b) / max(abs(b), 1e-6) for a, b in zip(found, stated))
    if not worst <= _GOLDEN_TOLERANCE:  # not a number counts as different
        raise ValueError(
            f"{folder}: the rebuilt network answers differently than when it was saved (by {worst:.1%}); it was made "
            f"with {detector.architecture.library}. Install that version, or report it."
        )


def _architecture_json(detector: Detector) -> dict[str, Any]:
    architecture = detector.architecture
    return {
        "format": FORMAT,
        "family": architecture.family,
        "description": architecture.description,
        "classes": [asdict(item) for item in architecture.classes],
        "layout": architecture.layout.to_json(),
        "input_size": architecture.input_size,
        "library": architecture.library,
        "notes": dict(architecture.notes),
        "golden": golden_answer(detector.network),
    }


def _architecture(stated: Mapping[str, Any]) -> Architecture:
    return Architecture(
        family=stated["family"],
        description=stated["description"],
        classes=tuple(Class(**item) for item in stated["classes"]),
        layout=HeadLayout.from_json(stated["layout"]),
        input_size=stated["input_size"],
        library=stated["library"],
        notes=stated["notes"],
    )


def _edit(stated: Mapping[str, Any], folder: Path) -> Edit:
    kind = stated["kind"]
    if kind not in EDITS:
        raise ValueError(f"{folder}: unknown edit '{kind}'; this checkpoint was made by a newer helmlite.")
    return EDITS[kind]({name: value for name, value in stated.items() if name != "kind"})


def _stored_once(network: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by name, and name -> name of the tensor that it is shared with."""
    first: dict[tuple[int, tuple[int, ...]], str] = {}
    tensors: dict[str, Tensor] = {}
    shared: dict[str, str] = {}
    for name, tensor in network.state_dict(keep_vars=True).items():
        key = (tensor.data_ptr(), tuple(tensor.shape))
        if tensor.numel() and key in first:
            shared[name] = first[key]
        else:
            first[key] = name
            tensors[name] = tensor.detach().clone().contiguous()
    return tensors, shared


def _load_weights(network: nn.Module, path: Path) -> None:
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: the weights cannot be read ({error}).") from error
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        shared = json.loads((file.metadata() or {}).get("shared", "{}"))
    tensors.update({name: tensors[source] for name, source in shared.items()})
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(f"{path}: the weights do not fit the architecture ({str(error).splitlines()[-1]}).") from error


def _write(path: Path, content: Any) -> None:
    write_whole(path, json.dumps(content, ensure_ascii=False, indent=1))
