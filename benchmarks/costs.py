"""What each technique costs to apply, in time and memory, without any training.

    python benchmarks/costs.py helmet-yolo12m --data DATA.yaml --input-size 416 --pictures 300

Every line is a process of its own, so that its peak memory is its own: reading the detector and the pictures is in the
memory and not in the time.  NNCF quantizes the OpenVINO file with its defaults from the same pictures.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from common import commit, data_options

from helmlite.compress.channels.channel_groups import build_channel_groups
from helmlite.compress.cluster import Cluster
from helmlite.compress.edits.fold_batchnorm import fold_batchnorm
from helmlite.compress.edits.merge_parallel import merge_parallel_convs
from helmlite.compress.load import load_detector
from helmlite.compress.low_rank import LowRank
from helmlite.compress.quantize import Quantize
from helmlite.compress.separable import Separable
from helmlite.compress.technique import Context, Technique
from helmlite.data.dataset import Dataset
from helmlite.data.load import load_dataset, match_classes
from helmlite.detector.detector import Detector
from helmlite.detector.families import family_of
from helmlite.export.pack import write_bundle
from helmlite.job.prepare import steps_for_this_machine
from helmlite.runtime.machine import installed_versions, read_machine
from helmlite.runtime.preprocess import network_input

# Without a clock on the target: the arithmetic on the kernels, and BatchNorm statistics measured again.
TECHNIQUES: Mapping[str, Technique] = {
    "low_rank, svd, energy 0.9": LowRank(method="svd"),
    "low_rank, spatial, energy 0.9": LowRank(method="spatial"),
    "low_rank, tucker, energy 0.9": LowRank(method="tucker"),
    "low_rank, cp, energy 0.9": LowRank(method="cp"),
    "low_rank, auto, energy 0.9": LowRank(),
    "low_rank, auto, vbmf": LowRank(ranks="vbmf"),
    "separable, MACs 0.7": Separable(macs_ratio=0.7),
    "cluster, 4 bits": Cluster(bits=4),
}
GROUPS, OURS, NNCF = "channel groups", "quantize", "NNCF's quantize"


def main() -> int:
    arguments = _arguments()
    if arguments.one:
        _print_one(arguments)
        return 0
    print(f"{arguments.model}, {arguments.pictures} pictures at {arguments.input_size}, commit {commit()}")
    print(f"{read_machine().describe()}, {installed_versions(('torch', 'openvino', 'nncf'))}\n")
    print("| | seconds | of the processor | peak memory |\n|---|---|---|---|", flush=True)
    for name in (GROUPS, *TECHNIQUES, OURS, NNCF):
        for _ in range(arguments.repeat if name in (OURS, NNCF) else 1):
            command = [sys.executable, *sys.argv, "--one", name]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"{name}: {done.stderr[-2000:]}")
            found = json.loads(done.stdout.splitlines()[-1])
            cells = f"{found['seconds']:.1f} | {found['cpu_seconds']:.1f} | {found['gib']:.2f} GiB"
            print(f"| {name} | {cells} |", flush=True)
    return 0


def _print_one(arguments: argparse.Namespace) -> None:
    detector = load_detector(arguments.model)
    pictures = match_classes(load_dataset(arguments.data, "train"), detector.classes)
    order = np.random.default_rng(arguments.seed).permutation(len(pictures))[: arguments.pictures].tolist()
    with tempfile.TemporaryDirectory() as folder:
        work = _work(arguments.one, detector, pictures.subset(order), arguments, Path(folder))
        started, cpu = time.monotonic(), time.process_time()
        work()
        found = {"seconds": time.monotonic() - started, "cpu_seconds": time.process_time() - cpu}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print("\n" + json.dumps(found | {"gib": peak}))


def _work(
    name: str, detector: Detector, pictures: Dataset, arguments: argparse.Namespace, folder: Path
) -> Callable[[], Any]:
    size = arguments.input_size
    if name == GROUPS:
        return lambda: build_channel_groups(family_of(detector), detector.network)
    if name == NNCF:
        import nncf
        import openvino

        plain = merge_parallel_convs(fold_batchnorm(detector))
        whole = write_bundle(folder / "float", plain, size, runtimes=("openvino",), runtime="openvino")
        model: Any = openvino.Core().read_model(str(whole.model_path("openvino")))
        planes = [network_input(pictures[index].read_image(), size)[0] for index in range(len(pictures))]
        return lambda: nncf.quantize(model, nncf.Dataset(planes), subset_size=len(planes))
    technique = Quantize(pictures=len(pictures)) if name == OURS else TECHNIQUES[name]
    (technique,) = steps_for_this_machine([technique])
    context = Context(pictures, detector, size, arguments.seed, folder, log=lambda line: None)
    return lambda: technique.apply(detector, context)


def _arguments() -> argparse.Namespace:
    parser = data_options(__doc__)
    parser.add_argument("model")
    parser.add_argument("--pictures", type=int, default=300)
    parser.add_argument("--repeat", type=int, default=1, help="of the two quantizations, for their spread")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--one", default="", help="only this, in this process, as JSON")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
