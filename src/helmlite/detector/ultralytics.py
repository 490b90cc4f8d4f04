"""Ultralytics detection checkpoints (YOLO v5u, v8, v9, v10, 11, 12, 26, all sizes, and forks of them).

The network is the checkpoint's own layers under their own names (`model.0.conv`, ...), run up to the last
convolutions of the head; decoding is ours (runtime/decode.py).  v10 and 26 have two head branches: *one-to-one*
(each object once, no NMS) is what ships, what is pruned for, distilled, counted and exported; *one-to-many* is kept
because training needs it.  26 has `reg_max` 1: its box maps hold the distances themselves, without DFL.
"""

from __future__ import annotations

import contextlib
import copy
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from helmlite.data.roles import Class, with_roles
from helmlite.detector.detector import Architecture, Batch, ChannelTie, Detector, TaskLoss, TrainingMaps
from helmlite.detector.ultralytics_layers import adopt_modules, check_layer_list, own_activations, set_adopted
from helmlite.detector.untrusted import Record, open_checkpoint, tensors_of
from helmlite.runtime.decode import HeadLayout

DEFAULT_INPUT_SIZE = 640
_CANNOT_BUILD = (
    KeyError, IndexError, TypeError, ValueError, RuntimeError, AttributeError, AssertionError, SyntaxError, MemoryError,
)  # fmt: skip
DEFAULT_LOSS_GAINS = {"box": 7.5, "cls": 0.5, "dfl": 1.5}


class YoloNetwork(nn.Module):
    """The layers of an Ultralytics model; gives the raw maps of the head branch that ships.

    images (B, 3, H, W) RGB in [0, 1] -> (box_8, class_8, box_16, class_16, box_32, class_32)
    """

    def __init__(self, layers: nn.Sequential) -> None:
        super().__init__()
        self.model = layers

    @property
    def head(self) -> Any:
        return self.model[-1]

    @property
    def is_dual(self) -> bool:
        """Whether the head has a one-to-one branch beside the one-to-many branch."""
        return getattr(self.head, "one2one_cv2", None) is not None

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        features = self.features(images)
        if not self.is_dual:
            return _head_maps(self.head.cv2, self.head.cv3, features)
        if self.training:  # as the family trains it: one-to-one gradients stay out of the backbone
            features = [item.detach() for item in features]
        return _head_maps(self.head.one2one_cv2, self.head.one2one_cv3, features)

    def features(self, images: Tensor) -> list[Tensor]:
        """What the neck hands to the head, one (B, C, h, w) for each scale."""
        outputs: list[Any] = []
        current: Any = images
        layers: Any = self.model[:-1]
        for layer in layers:
            if layer.f != -1:
                sources = [layer.f] if isinstance(layer.f, int) else layer.f
                picked = [current if index == -1 else outputs[index] for index in sources]
                current = picked[0] if isinstance(layer.f, int) else picked
            current = layer(current)
            outputs.append(current)
        return [outputs[index] for index in self.head.f]

    def drop_scale(self, position: int) -> None:
        """Leaves out one of the head's scales, in place, and every layer that nothing reads any more.

        Those layers become an identity and keep their places, since the others name them by number.
        """
        head = self.head
        for name in ("cv2", "cv3", "one2one_cv2", "one2one_cv3"):
            branches = getattr(head, name, None)
            if branches is not None:
                del branches[position]
        left = [index for index in range(head.nl) if index != position]
        head.f, head.stride, head.nl = [head.f[index] for index in left], head.stride[left], len(left)
        for index in sorted(set(range(len(self.model) - 1)) - self._read_layers()):
            skipped: Any = nn.Identity()
            old: Any = self.model[index]
            skipped.f, skipped.i, skipped.type, skipped.np = old.f, old.i, "torch.nn.Identity", 0
            self.model[index] = skipped.train(old.training)

    def _read_layers(self) -> set[int]:
        """Numbers of the layers whose output reaches the head."""
        read: set[int] = set()
        waiting: list[int] = list(self.head.f)
        while waiting:
            index = waiting.pop()
            if index >= 0 and index not in read:
                read.add(index)
                layer: Any = self.model[index]
                sources = [layer.f] if isinstance(layer.f, int) else layer.f
                waiting += [index + source if source < 0 else source for source in sources]
        return read


class UltralyticsFamily:
    """What this family knows about itself (see `detector.Family`)."""

    def build(self, architecture: Architecture) -> nn.Module:
        """A fresh network from the architecture's layer description.  Needs the `ultralytics` extra."""
        return _build(architecture.description, len(architecture.classes))

    def task_loss(self, architecture: Architecture, network: nn.Module, epochs: int) -> TaskLoss:
        """Ultralytics' own loss and assigner."""
        return _UltralyticsLoss(architecture, network, epochs)

    def training_maps(self, network: nn.Module, images: Tensor) -> TrainingMaps:
        """Raw maps of both branches and the neck's outputs from one forward pass."""
        assert isinstance(network, YoloNetwork)
        features: dict[int, Tensor] = {}
        handles = [
            network.model[index].register_forward_hook(_keep_output(features, index)) for index in network.head.f
        ]
        try:
            maps = network(images)
        finally:
            for handle in handles:
                handle.remove()
        neck = [features[index] for index in network.head.f]
        extra = _head_maps(network.head.cv2, network.head.cv3, neck) if network.is_dual else ()
        return TrainingMaps(maps, extra, tuple(neck))

    def channel_ties(self, network: nn.Module) -> Sequence[ChannelTie]:
        """None at all but one: `Attention` reshapes to its *input's* width, so heads and input must agree."""
        ties = []
        for path, module in network.named_modules():
            if type(module).__name__ == "Attention":
                ties.append(ChannelTie(f"{path}.qkv.conv", f"{path}.proj.conv"))
        return ties

    def attributes_after(
        self, network: nn.Module, widths: Mapping[str, int], splits: Mapping[str, tuple[int, ...]]
    ) -> dict[tuple[str, str], int | list[int]]:
        """Split sizes and head counts that Ultralytics' layers keep as attributes."""
        values: dict[tuple[str, str], int | list[int]] = {}
        for path, module in network.named_modules():
            kind = type(module).__name__
            if kind == "Attention":
                values[path, "num_heads"] = widths[f"{path}.pe.conv"] // module.head_dim
            elif kind == "AAttn":
                values[path, "num_heads"] = widths[f"{path}.pe.conv"] // module.head_dim
                values[path, "all_head_dim"] = widths[f"{path}.pe.conv"]
            elif kind == "CBLinear" and path in splits:
                values[path, "c2s"] = list(splits[path])
            elif path in splits and isinstance(getattr(module, "c", None), int):
                values[path, "c"] = splits[path][0]
        return values


def load_ultralytics(path: Path, roles: Mapping[str, str] | None = None) -> Detector:
    """The detector in an Ultralytics `.pt`, opened without running any of its code.

    roles: class name -> role, where the usual names do not tell.
    Raises ValueError for anything that is not a detection checkpoint of a known layout.
    """
    checkpoint = open_checkpoint(path)
    model = _model_record(checkpoint, path)
    tensors = _mapped_from_forks(tensors_of(model))
    class_names = _class_names(model, path)
    yaml = copy.deepcopy(vars(model).get("yaml"))
    check_layer_list(yaml, str(path))
    description: dict[str, Any] = {"yaml": yaml, "kernels": {}}
    network = _build(description, len(class_names), where=str(path))
    description["kernels"] = _odd_kernels(network, tensors)
    if description["kernels"]:
        network = _build(description, len(class_names))
    _check_tensors(network, tensors, path)
    adopted = adopt_modules(model, network, str(path))
    description.update({key: values for key, values in adopted.items() if values})
    set_adopted(network, **adopted)
    network.load_state_dict({**network.state_dict(), **tensors})
    arguments = checkpoint.get("train_args") or {}
    architecture = Architecture(
        family="ultralytics",
        description=description,
        classes=with_roles(class_names, roles),
        layout=_layout(network, len(class_names)),
        input_size=_input_size(arguments, path),
        library=_library(),
        notes=_notes(checkpoint, arguments),
    )
    return Detector(architecture, network.eval())


def new_ultralytics(
    name: str, classes: Sequence[Class], seed: int = 0, input_size: int = 640, scale: str | None = None
) -> Detector:
    """A detector with random weights from one of Ultralytics' own layer lists, for instance `yolo11n`."""
    with _quiet_ultralytics():
        from ultralytics.nn.tasks import yaml_model_load

        yaml = dict(yaml_model_load(f"{name}.yaml"))
    yaml.update({"nc": len(classes)} | ({"scale": scale} if scale else {}))
    yaml.pop("yaml_file", None)
    description = {"yaml": yaml, "kernels": {}}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = _build(description, len(classes), keep_rng=False)
    layout = _layout(network, len(classes))
    architecture = Architecture("ultralytics", description, tuple(classes), layout, input_size, _library())
    return Detector(architecture, network.eval())


def as_ultralytics_model(detector: Detector) -> nn.Module:
    """A plain Ultralytics `DetectionModel` with this detector's layers: what a stock `.pt` holds."""
    description, classes = detector.architecture.description, detector.classes
    with _quiet_ultralytics():
        from ultralytics.nn.tasks import DetectionModel

        model = DetectionModel(copy.deepcopy(dict(description["yaml"])), ch=3, nc=len(classes), verbose=False)
    network = detector.copy().network
    assert isinstance(network, YoloNetwork)
    model.model = network.model
    model.names = {index: item.name for index, item in enumerate(classes)}
    model.stride = network.head.stride
    model.args = {"imgsz": detector.architecture.input_size, "task": "detect", **DEFAULT_LOSS_GAINS}
    model.task = "detect"
    if network.is_dual:
        model.end2end = True  # Ultralytics 8.4 would otherwise answer from the one-to-many branch
    return model.eval()


class _UltralyticsLoss:
    """Ultralytics' detection loss over our raw maps."""

    def __init__(self, architecture: Architecture, network: nn.Module, epochs: int) -> None:
        assert isinstance(network, YoloNetwork)
        with _quiet_ultralytics():
            from ultralytics.utils.loss import E2ELoss, v8DetectionLoss

        gains = SimpleNamespace(**DEFAULT_LOSS_GAINS, epochs=max(epochs, 1))
        proxy = SimpleNamespace(
            parameters=network.parameters, args=gains, model=network.model, class_weights=None, modules=network.modules
        )
        self._is_dual = network.is_dual
        self._reg_max = architecture.layout.reg_max
        self._loss: Any = E2ELoss(proxy) if self._is_dual else v8DetectionLoss(proxy)

    def __call__(self, maps: TrainingMaps, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        labels = {
            "batch_idx": batch.targets[:, 0],
            "cls": batch.targets[:, 1],
            "bboxes": batch.targets[:, 2:],
        }
        predictions = self._as_predictions(maps.maps)
        if self._is_dual:
            predictions = {"one2many": self._as_predictions(maps.extra), "one2one": predictions}
        parts, items = self._loss(predictions, labels)
        # Ultralytics gives the sum over the batch; ours is the mean, so that a part batch weighs as it should.
        return parts.sum() / batch.images.shape[0], {name: float(value) for name, value in items.items()}

    def epoch_ended(self) -> None:
        """Moves weight from the one-to-many to the one-to-one loss, as the family's schedule says."""
        if self._is_dual:
            self._loss.update()

    def _as_predictions(self, maps: Sequence[Tensor]) -> dict[str, Any]:
        boxes, classes = list(maps[0::2]), list(maps[1::2])
        return {
            "boxes": torch.cat([item.flatten(2) for item in boxes], dim=2).float(),
            "scores": torch.cat([item.flatten(2) for item in classes], dim=2).float(),
            "feats": classes,  # only their heights and widths are read
        }


def _head_maps(box_branches: Any, class_branches: Any, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
    maps: list[Tensor] = []
    for box_branch, class_branch, feature in zip(box_branches, class_branches, features):
        maps += [box_branch(feature), class_branch(feature)]
    return tuple(maps)


def _keep_output(kept: dict[int, Tensor], index: int) -> Any:
    def hook(module: nn.Module, arguments: Any, output: Tensor) -> None:
        kept[index] = output

    return hook


def _build(
    description: Mapping[str, Any], class_count: int, keep_rng: bool = True, where: str = "architecture"
) -> YoloNetwork:
    """The network of a description, with random weights.  Raises ValueError where its layers do not fit together."""
    check_layer_list(description["yaml"], where)
    with _quiet_ultralytics(), contextlib.ExitStack() as stack:
        from ultralytics.nn.modules import Conv
        from ultralytics.nn.tasks import DetectionModel

        if keep_rng:
            stack.enter_context(torch.random.fork_rng())
        stack.callback(setattr, Conv, "default_act", Conv.default_act)  # a list with an `activation` changes it for all
        yaml = copy.deepcopy(dict(description["yaml"]))
        try:
            model = DetectionModel(yaml, ch=3, nc=class_count, verbose=False)
        except _CANNOT_BUILD as error:
            why = str(error).strip().splitlines() or [type(error).__name__]
            raise ValueError(f"{where}: no network can be built from the layer list ({why[0][:120]}).") from error
    network = YoloNetwork(model.model)
    for module in list(network.modules()):
        if hasattr(module, "inplace"):
            module.inplace = False  # type: ignore[assignment]  # would hide the convolution's own output
    own_activations(network)  # operators are named by the path of their module
    for path, size in description["kernels"].items():
        _set_kernel(network, path, size)
    set_adopted(network, description.get("activations", {}), description.get("eps", {}))
    for name, parameter in network.named_parameters():
        if ".dfl." in f".{name}":
            parameter.requires_grad_(False)  # a constant ramp
    return network


def _set_kernel(network: nn.Module, path: str, size: int) -> None:
    conv = network.get_submodule(path)
    assert isinstance(conv, nn.Conv2d)
    conv.kernel_size, conv.padding = (size, size), (size // 2, size // 2)
    conv.weight = nn.Parameter(torch.zeros(*conv.weight.shape[:2], size, size))


def _odd_kernels(network: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Convolutions whose kernel in the checkpoint is not the one that today's layers have (path -> side)."""
    odd = {}
    for name, expected in network.state_dict().items():
        found = tensors.get(name)
        if found is not None and found.ndim == 4 and found.shape != expected.shape:
            square = found.shape[2] == found.shape[3] and found.shape[2] % 2 == 1
            if found.shape[:2] == expected.shape[:2] and square:
                odd[name.removesuffix(".weight")] = int(found.shape[2])
    return odd


def _mapped_from_forks(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under the names and layouts of stock Ultralytics.

    YOLOv12's original repository has `qk` and `v` where Ultralytics has `qkv`.  In `qk`, the first half of the
    channels is q and the second k, heads one after another inside each half; in `qkv` each head's q, k and v
    follow one another.  With 3 heads of d channels:

        qk = [q1 q2 q3 k1 k2 k3],  v = [v1 v2 v3]   ->   qkv = [q1 k1 v1 q2 k2 v2 q3 k3 v3]
    """
    mapped = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    attentions = [name.removesuffix(".qk.conv.weight") for name in tensors if name.endswith(".qk.conv.weight")]
    for attention in attentions:
        width = mapped[f"{attention}.v.conv.weight"].shape[0]
        order = _interleaved_heads(width, head_size=32)  # YOLOv12 has heads of 32 channels in every size
        for part in ("conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"):
            joined = torch.cat([mapped.pop(f"{attention}.qk.{part}"), mapped.pop(f"{attention}.v.{part}")])
            mapped[f"{attention}.qkv.{part}"] = joined[order]
        mapped[f"{attention}.qkv.bn.num_batches_tracked"] = mapped.pop(f"{attention}.qk.bn.num_batches_tracked")
        mapped.pop(f"{attention}.v.bn.num_batches_tracked")
    return mapped


def _interleaved_heads(width: int, head_size: int) -> Tensor:
    """Index that turns [q of all heads, k of all heads, v of all heads] into q, k, v head by head.

    >>> _interleaved_heads(4, head_size=2).tolist()
    [0, 1, 4, 5, 8, 9, 2, 3, 6, 7, 10, 11]
    """
    return torch.arange(3 * width).view(3, width // head_size, head_size).permute(1, 0, 2).flatten()


def _check_tensors(network: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raises ValueError unless they are the network's."""
    expected = network.state_dict()
    missing = [name for name in expected if name not in tensors and ".dfl." not in name]
    unknown = [name for name in tensors if name not in expected]
    if missing or unknown:
        name = (missing or unknown)[0]
        raise ValueError(
            f"{path}: the checkpoint's layers do not fit its own layer description: '{name}' is "
            f"{'missing' if missing else 'not expected'}. It may come from a fork that helmlite does not know."
        )
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise ValueError(
                f"{path}: '{name}' has shape {tuple(tensor.shape)}, the layer description says "
                f"{tuple(expected[name].shape)}. A pruned model is opened from its helmlite checkpoint folder instead."
            )


def _model_record(checkpoint: Any, path: Path) -> Record:
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("ema") or checkpoint.get("model"), Record):
        raise ValueError(f"{path}: no Ultralytics model in this checkpoint (expected a 'model' or 'ema' entry).")
    model: Record = checkpoint.get("ema") or checkpoint["model"]
    task = model.record_class.rpartition(".")[2]
    head = _head_class(model)
    if task not in ("DetectionModel", "YOLOv10DetectionModel") or head not in ("Detect", "v10Detect"):
        raise ValueError(
            f"{path}: a {task} with a {head} head; helmlite compresses detectors (boxes and classes) only."
        )
    return model


def _class_names(model: Record, path: Path) -> list[str]:
    names = vars(model).get("names")
    if isinstance(names, Mapping):
        names = [names[index] for index in sorted(names, key=str if any(isinstance(i, str) for i in names) else None)]
    if not isinstance(names, (list, tuple)) or not names:
        raise ValueError(f"{path}: the checkpoint names no classes.")
    return [str(name) for name in names]


def _input_size(arguments: Any, path: Path) -> int:
    """The side that it was trained at, as its training arguments say; 640 where they say nothing.

    Rounded up to a multiple of 32, as Ultralytics does when it trains.
    """
    found = arguments.get("imgsz", DEFAULT_INPUT_SIZE) if isinstance(arguments, Mapping) else DEFAULT_INPUT_SIZE
    size = found[0] if isinstance(found, (list, tuple)) and len(set(found)) == 1 else found
    if isinstance(size, bool) or not isinstance(size, (int, float)) or size != int(size) or not 32 <= size <= 8192:
        raise ValueError(f"{path}: the checkpoint was trained at {found} pixels; helmlite runs square pictures only.")
    return math.ceil(size / 32) * 32


def _head_class(model: Record) -> str:
    layers = vars(model).get("_modules", {}).get("model")
    children = list((vars(layers).get("_modules") or {}).values()) if isinstance(layers, Record) else []
    return children[-1].record_class.rpartition(".")[2] if children else "missing"


def _layout(network: YoloNetwork, class_count: int) -> HeadLayout:
    head = network.head
    strides = tuple(int(stride) for stride in head.stride.tolist())
    return HeadLayout(strides, int(head.reg_max), class_count, needs_nms=not network.is_dual)


def _notes(checkpoint: Mapping[str, Any], arguments: Any) -> dict[str, str]:
    notes = {}
    if checkpoint.get("license"):
        notes["checkpoint_licence"] = str(checkpoint["license"])
    if checkpoint.get("version"):
        notes["trained_with"] = f"ultralytics {checkpoint['version']}"
    if isinstance(arguments, dict) and arguments.get("data"):
        notes["training_data"] = str(arguments["data"])
    return notes


def _library() -> str:
    with _quiet_ultralytics():
        import ultralytics

    return f"ultralytics {ultralytics.__version__}"


@contextlib.contextmanager
def _quiet_ultralytics() -> Iterator[None]:
    """Importing and building without Ultralytics' messages, and without its look for updates on the network."""
    os.environ.setdefault("YOLO_OFFLINE", "true")
    os.environ.setdefault("YOLO_VERBOSE", "false")
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    try:
        from ultralytics.utils import LOGGER
    except ImportError as error:
        raise ImportError(
            'Ultralytics checkpoints need the package ultralytics (AGPL-3.0): pip install "helmlite[ultralytics]".'
        ) from error
    level = LOGGER.level
    LOGGER.setLevel("ERROR")
    try:
        yield
    finally:
        LOGGER.setLevel(level)
