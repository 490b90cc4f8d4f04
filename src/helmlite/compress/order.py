"""What may follow what: the one table.

A step that needs something which an earlier step has settled comes first.  Three things are settled for good:

    widths     by low rank, separable and tied layers and by masks: channels can no longer be cut
    codebooks  by clustering: a weight that is folded, masked or split again has other values than its codebook
    integers   by quantization: only training may come after it (which then is quantization-aware training)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from helmlite.compress.technique import TechniqueOrderError
from helmlite.detector.detector import Detector

# edit kind -> the technique that makes it, for detectors whose history is known by their edits only
TECHNIQUE_OF_EDIT: Mapping[str, str] = {
    "keep_channels": "prune",
    "replace_activation": "activation",
    "drop_block": "drop_block",
    "drop_scale": "drop_scale",
    "factorize": "low_rank",
    "split_depthwise": "separable",
    "tie_weights": "tie",
    "mask_weights": "sparsify",
    "cluster_weights": "cluster",
    "insert_quantizers": "quantize",
    "round_weights": "weight_only",
    "fold_batchnorm": "fold_batchnorm",
}

_CUTTING = ("prune", "slim", "admm", "growing", "gates")
_DROPPING = ("drop_block", "drop_scale")
_REBUILDING = ("separable", "low_rank")
_LAST = ("cluster", "quantize", "weight_only")

# earlier -> those that cannot come after it
CANNOT_FOLLOW: Mapping[str, frozenset[str]] = {
    **dict.fromkeys(_REBUILDING, frozenset(_CUTTING)),
    "tie": frozenset((*_CUTTING, *_DROPPING, *_REBUILDING, "tie", "weight_only")),
    "sparsify": frozenset((*_CUTTING, *_DROPPING, *_REBUILDING, "tie", "sparsify", "equalize")),
    **dict.fromkeys(
        _LAST, frozenset((*_CUTTING, *_DROPPING, *_REBUILDING, *_LAST, "tie", "sparsify", "activation", "equalize"))
    ),
    "fold_batchnorm": frozenset((*_CUTTING, "tie")),
    "equalize": frozenset((*_CUTTING, "tie", "activation")),  # it folds BatchNorm and stands on the activation
}


def check_follows(name: str, detector: Detector) -> None:
    """Raises TechniqueOrderError where `detector` has been through something that must come after `name`."""
    for edit in reversed(detector.edits):  # the last one is what the user knows by name
        _check_pair(TECHNIQUE_OF_EDIT.get(edit.kind, edit.kind), name)


def check_order(names: Iterable[str]) -> None:
    """Raises TechniqueOrderError, naming both steps and the right order, before any work is done."""
    steps = list(names)
    for index, later in enumerate(steps):
        for earlier in steps[:index]:
            _check_pair(earlier, later)


def _check_pair(earlier: str, later: str) -> None:
    if later in CANNOT_FOLLOW.get(earlier, ()):
        if earlier == later:
            raise TechniqueOrderError(f"{later} cannot follow {earlier}: it is done once.")
        if earlier in CANNOT_FOLLOW.get(later, ()):
            raise TechniqueOrderError(
                f"{later} cannot follow {earlier}, nor {earlier} {later}: {_why_not_both(later, earlier)} "
                "Leave one of them out."
            )
        raise TechniqueOrderError(f"{later} cannot follow {earlier}: put {later} before {earlier}.")


def _why_not_both(*names: str) -> str:
    if "tie" in names:
        return "files cannot hold the integers of a weight that several layers share."
    return "both settle for good which values the weights have."
