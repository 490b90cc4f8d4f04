"""Opens a PyTorch checkpoint from anywhere without running any of its code.

A `.pt` file is a pickle: opening it the usual way runs whatever it asks for.  Here every class that the file
names must be on the list below, and even those are not built: each becomes an inert `Record` that only keeps its
attributes.  So a checkpoint of another library version, or of a fork whose classes no longer exist, opens as well.
"""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


class UntrustedCheckpointError(ValueError):
    """A checkpoint asks for a class or function that is not on the list."""


class Record:
    """An object of a checkpoint as plain attributes; its class is only a name."""

    record_class = ""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments


# Classes that detection checkpoints are made of.  `ultralytics.nn.modules.<file>.<class>` is listed by class name.
_LAYERS = frozenset(
    """
    A2C2f AAttn ABlock AConv ADown Attention Bottleneck BottleneckCSP C1 C2 C2f C2fCIB C2fPSA C2PSA C3 C3k C3k2 C3f
    C3x CBFuse CBLinear CIB Concat Conv Conv2 ConvTranspose DFL Detect DWConv DWConvTranspose2d ELAN1 Focus GhostConv
    GhostBottleneck C3Ghost LightConv PSA PSABlock RepBottleneck RepConv RepCSP RepNCSPELAN4 RepVGGDW SCDown SPP SPPELAN
    SPPF Silence v10Detect Segment Segment26 Pose Pose26 OBB OBB26 Classify Proto Proto26 RTDETRDecoder ResNetLayer
    ResNetBlock HGStem HGBlock RepC3 AIFI WorldDetect ImagePoolingAttn C2fAttn MaxSigmoidAttnBlock Index TorchVision
    """.split()
)
_TASKS = frozenset(
    """
    DetectionModel YOLOv10DetectionModel SegmentationModel PoseModel OBBModel ClassificationModel RTDETRDetectionModel
    WorldModel BaseModel
    """.split()
)
_TORCH_LAYERS = frozenset(
    """
    activation.SiLU activation.ReLU activation.ReLU6 activation.LeakyReLU activation.Hardswish activation.Sigmoid
    activation.GELU activation.Mish batchnorm.BatchNorm2d container.ModuleList container.Sequential
    container.ModuleDict conv.Conv2d conv.ConvTranspose2d dropout.Dropout linear.Identity linear.Linear
    pooling.AdaptiveAvgPool2d pooling.AvgPool2d pooling.MaxPool2d upsampling.Upsample normalization.LayerNorm
    padding.ZeroPad2d loss.BCEWithLogitsLoss flatten.Flatten
    """.split()
)
_PLAIN_VALUES = frozenset(
    """
    ultralytics.utils.IterableSimpleNamespace ultralytics.yolo.utils.IterableSimpleNamespace types.SimpleNamespace
    pathlib.PosixPath pathlib.WindowsPath pathlib.PurePosixPath pathlib.PureWindowsPath pathlib.Path
    pathlib._local.PosixPath pathlib._local.WindowsPath
    numpy.core.multiarray.scalar numpy._core.multiarray.scalar numpy.dtype numpy.float64 numpy.float32 numpy.int64
    numpy.dtypes.Float64DType numpy.dtypes.Float32DType numpy.dtypes.Int64DType _codecs.encode
    ultralytics.utils.loss.v8DetectionLoss ultralytics.utils.loss.BboxLoss ultralytics.utils.loss.DFLoss
    ultralytics.utils.loss.E2EDetectLoss ultralytics.utils.loss.E2ELoss ultralytics.utils.loss.v10DetectLoss
    ultralytics.utils.tal.TaskAlignedAssigner ultralytics.nn.autobackend.AutoBackend
    """.split()
)


def open_checkpoint(path: Path) -> Any:
    """What the checkpoint holds: dicts, lists, numbers, tensors, and `Record`s in place of objects.

    Raises UntrustedCheckpointError (the class is named) or ValueError for a file that is no PyTorch checkpoint.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file.")
    names = _globals_of(path)
    refused = [name for name in names if not _is_listed(name)]
    if refused:
        raise UntrustedCheckpointError(
            f"{path}: the checkpoint asks for '{refused[0]}', which is not a layer of a known detector; "
            "it was not opened, and none of its code was run."
        )
    records: list[Any] = [(type("Record", (Record,), {"record_class": name}), name) for name in names]
    try:
        with torch.serialization.safe_globals(records):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"{path}: the checkpoint cannot be read ({first_line[:160]}).") from error


def tensors_of(record: Record, prefix: str = "") -> dict[str, Tensor]:
    """Parameters and buffers below a module's record, under the names that `state_dict` would give them."""
    attributes = vars(record)
    found: dict[str, Tensor] = {}
    for kind in ("_parameters", "_buffers"):
        for name, tensor in (attributes.get(kind) or {}).items():
            if isinstance(tensor, Tensor):
                found[prefix + name] = tensor.detach()
    for name, child in (attributes.get("_modules") or {}).items():
        if isinstance(child, Record):
            found.update(tensors_of(child, f"{prefix}{name}."))
    return found


def _globals_of(path: Path) -> list[str]:
    """Names of all classes and functions that the file asks for beyond those that PyTorch always allows."""
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path}: not a PyTorch checkpoint, or the file is truncated ({path.stat().st_size} bytes).")
    try:
        return list(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except (RuntimeError, ValueError, pickle.UnpicklingError, EOFError) as error:
        raise ValueError(f"{path}: the checkpoint cannot be read ({str(error).splitlines()[0][:160]}).") from error


def _is_listed(name: str) -> bool:
    package, _, class_name = name.rpartition(".")
    if package.startswith(("ultralytics.nn.modules.", "ultralytics.nn.extra_modules.")):
        return class_name in _LAYERS
    if package == "ultralytics.nn.tasks":
        return class_name in _TASKS
    if package.startswith("torch.nn.modules."):
        return name.removeprefix("torch.nn.modules.") in _TORCH_LAYERS
    return name in _PLAIN_VALUES
