"""Our choice of channels against torch-pruning's own pruner, at equal multiply-accumulates.

    pip install torch-pruning
    python benchmarks/prune_peers.py --work DIR

Detector, pictures and fine-tuning are those of benchmarks/techniques.py, whose rows `prune-l2-50`, `prune-taylor-50`
(both global), `prune-sensitivity-50` and `prune-uniform-50` must be there.  torch-pruning ranks all groups together by
its group L2 norm (`GroupMagnitudeImportance`, its default normalizer) in four steps, rounds widths to 8 as ours does,
keeps the layers that give the head's maps, and gets BatchNorm statistics measured again as ours.  Each seed is trained
like the rows; its results are kept beside theirs and used again.

torch-pruning stops on helmet-yolo12m with an IndexError, so that the comparison is on `tiny`; and there too, until the
convolution whose channels a block splits in halves is written as two, as torch-pruning's own YOLOv8 example does.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import commit
from technique_results import Measured, Pair, read_rows
from technique_rows import EPOCHS, INPUT_SIZE, Row
from techniques import accuracy_of, kept_baseline, roadside
from torch import Tensor, nn

from helmlite.compress.distill import Distill
from helmlite.compress.technique import Context
from helmlite.detector.batches import plain_batches
from helmlite.detector.batchnorm import reestimate_batchnorm
from helmlite.detector.detector import Detector
from helmlite.detector.families import family_of
from helmlite.detector.fit_state import detector_sha256
from helmlite.detector.macs import count_macs, count_parameters
from helmlite.detector.tiny import ConvUnit, SplitBlock
from helmlite.files import write_whole
from helmlite.runtime.machine import installed_versions, read_machine

_NAME = "torch-pruning-50"
_OURS = {
    "prune-l2-50": "L2, global",
    "prune-sensitivity-50": "L2, sensitivity",
    "prune-uniform-50": "L2, uniform",
    "prune-taylor-50": "Taylor, global",
}
_MACS_RATIO, _STEPS, _MULTIPLE, _IMAGES, _BATCH = 0.5, 4, 8, 128, 8


def main() -> int:
    arguments = _arguments()
    pictures = {split: roadside(split) for split in ("train", "val", "test")}
    baseline = kept_baseline(arguments.results, pictures)
    for seed in range(arguments.seeds):
        place = arguments.results / "peers" / f"{_NAME}-s{seed}.json"
        if not place.is_file():
            place.parent.mkdir(parents=True, exist_ok=True)
            write_whole(place, json.dumps(_made(baseline, seed, pictures, arguments.work / f"{_NAME}-s{seed}")))
    _print(arguments, pictures)
    return 0


def _made(baseline: Detector, seed: int, pictures: Any, work: Path) -> dict[str, Any]:
    context = Context(pictures["train"], baseline, INPUT_SIZE, seed, work, log=print, val=pictures["val"])
    cut = _cut_by_torch_pruning(baseline, context)
    trained = Distill(epochs=EPOCHS, teacher="none").apply(cut, context)
    stated = {"row": _NAME, "seed": seed, "commit": commit(), "baseline": detector_sha256(baseline)}
    found = accuracy_of(cut, work / "before", "before_", pictures) | accuracy_of(trained, work, "", pictures)
    macs, parameters = count_macs(trained.network, INPUT_SIZE), count_parameters(trained.network)
    return stated | found | {"macs": macs, "params": parameters, "machine": read_machine().describe()}


def _cut_by_torch_pruning(baseline: Detector, context: Context) -> Detector:
    """The first of ever smaller networks that has no more than half of the multiply-accumulates."""
    import torch_pruning

    whole = count_macs(baseline.network, INPUT_SIZE)
    for ratio in np.arange(0.1, 0.6, 0.01):
        network = _with_halves_apart(baseline.copy().network).eval()
        for parameter in network.parameters():
            parameter.requires_grad_(True)
        pruner = torch_pruning.pruner.BasePruner(
            network,
            torch.zeros(1, 3, INPUT_SIZE, INPUT_SIZE),
            importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
            global_pruning=True,
            pruning_ratio=float(ratio),
            iterative_steps=_STEPS,
            ignored_layers=_givers_of_maps(network),
            round_to=_MULTIPLE,
        )
        for _ in range(_STEPS):
            pruner.step()
        left = count_macs(network, INPUT_SIZE) / whole
        if left <= _MACS_RATIO:
            print(f"torch-pruning: ratio {ratio:.2f} leaves {left:.1%} of the multiply-accumulates")
            found = replace(baseline, network=network)
            batches = plain_batches(context.data, INPUT_SIZE, _IMAGES, _BATCH, context.seed)
            reestimate_batchnorm(family_of(found), network, batches)
            return found
    raise SystemExit("torch-pruning reached no ratio that leaves half of the multiply-accumulates.")


class _HalvesApart(nn.Module):
    """A SplitBlock that gives the same, the convolution before its split as two."""

    def __init__(self, block: SplitBlock) -> None:
        super().__init__()
        half = block.enter.conv.out_channels // 2
        self.passed = _some_outputs(block.enter, slice(0, half))
        self.worked = _some_outputs(block.enter, slice(half, None))
        self.blocks, self.leave = block.blocks, block.leave

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.passed(x), self.worked(x)]
        for block in self.blocks:
            parts.append(block(parts[-1]))
        made: Tensor = self.leave(torch.cat(parts, 1))
        return made


def _with_halves_apart(network: nn.Module) -> nn.Module:
    for path, module in list(network.named_modules()):
        if isinstance(module, SplitBlock):
            parent, _, name = path.rpartition(".")
            setattr(network.get_submodule(parent), name, _HalvesApart(module))
    return network


def _some_outputs(unit: ConvUnit, chosen: slice) -> ConvUnit:
    made = copy.deepcopy(unit)
    made.conv.weight = nn.Parameter(unit.conv.weight.detach()[chosen].clone())
    made.conv.out_channels = made.norm.num_features = len(made.conv.weight)
    for name, tensor in list(unit.norm.state_dict().items()):
        if tensor.ndim:
            old = getattr(made.norm, name)
            new = tensor[chosen].clone()
            setattr(made.norm, name, nn.Parameter(new) if isinstance(old, nn.Parameter) else new)
    return made


def _givers_of_maps(network: nn.Module) -> list[nn.Module]:
    """The convolutions whose output is one of the network's own."""
    last: dict[int, nn.Module] = {}
    handles = [
        module.register_forward_hook(lambda given, _, output: last.__setitem__(output.data_ptr(), given))
        for module in network.modules()
        if isinstance(module, nn.Conv2d)
    ]
    with torch.no_grad():
        maps = network(torch.zeros(1, 3, INPUT_SIZE, INPUT_SIZE))
    for handle in handles:
        handle.remove()
    return [last[item.data_ptr()] for item in maps]


def _print(arguments: argparse.Namespace, pictures: Any) -> None:
    print(f"\ntest of roadside, {len(pictures['test'])} pictures, data {pictures['test'].sha256()[:12]}")
    print(f"commit {commit()}, {installed_versions(('torch', 'torch-pruning'))}, {EPOCHS} epochs at {INPUT_SIZE}\n")
    peer = Measured(
        Row(_NAME, "prune", "torch-pruning"),
        [json.loads(path.read_text()) for path in sorted((arguments.results / "peers").glob(f"{_NAME}-s*.json"))],
    )
    ours, _ = read_rows(arguments.results)
    if missing := [name for name in _OURS if name not in ours]:
        raise SystemExit(f"Not there yet, of benchmarks/techniques.py: {', '.join(missing)}.")
    print("| chosen by | seeds | MACs | before training: mAP50-95 | against it (95 %) | after | against it (95 %) |")
    print("|---|---|---|---|---|---|---|")
    rows = [("torch-pruning, L2, global", peer), *((f"helmlite, {how}", ours[name]) for name, how in _OURS.items())]
    for label, row in rows:
        cells = [label, f"{len(row.seeds)}", f"{row.first['macs'] / 1e6:.0f} M"]
        for prefix in ("before_", ""):
            pair = None if row is peer else Pair.of(row, peer, prefix)
            cells.append(f"{row.over_seeds(prefix)[0]:.1f}")
            cells.append(
                "–" if pair is None else f"{pair.difference}, {pair.seeds} seed{'s' if pair.seeds > 1 else ''}"
            )
        print(f"| {' | '.join(cells)} |")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("peers-work"))
    parser.add_argument("--results", type=Path, default=Path(__file__).parents[1] / "docs" / "results" / "techniques")
    parser.add_argument("--seeds", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
