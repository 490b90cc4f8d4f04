"""All techniques by the name that recipes use.  What may follow what: order.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from helmlite.compress.activation import ReplaceActivation
from helmlite.compress.admm import Admm
from helmlite.compress.cluster import Cluster
from helmlite.compress.distill import Distill
from helmlite.compress.drop_block import DropBlock
from helmlite.compress.drop_scale import DropScale
from helmlite.compress.equalize import Equalize
from helmlite.compress.gates import Gates
from helmlite.compress.growing import Growing
from helmlite.compress.low_rank import LowRank
from helmlite.compress.prune import Prune
from helmlite.compress.quantize import Quantize
from helmlite.compress.separable import Separable
from helmlite.compress.slim import Slim
from helmlite.compress.sparsify import Sparsify
from helmlite.compress.technique import Technique
from helmlite.compress.tie import Tie
from helmlite.compress.weight_only import WeightOnly

TECHNIQUES: Mapping[str, Callable[..., Technique]] = {
    technique.name: technique
    for technique in (
        Prune,
        DropScale,
        DropBlock,
        Sparsify,
        Slim,
        Admm,
        Growing,
        Gates,
        ReplaceActivation,
        LowRank,
        Separable,
        Tie,
        Cluster,
        Distill,
        Equalize,
        Quantize,
        WeightOnly,
    )
}
