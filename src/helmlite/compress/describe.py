"""What each technique is for, which papers it comes from, and its settings: `helmlite techniques`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from helmlite.compress.technique import Technique
from helmlite.compress.techniques import TECHNIQUES

PAPERS: Mapping[str, tuple[str, ...]] = {
    "prune": (
        "Fang 2023, DepGraph, arXiv 2301.12900 (groups)",
        "Molchanov 2019, arXiv 1906.10771 (Taylor)",
        "LeCun 1989, Optimal Brain Damage (obd)",
        "Liu 2017, Network Slimming, arXiv 1708.06519 (bn_scale)",
        "He 2019, FPGM, arXiv 1811.00250 (fpgm)",
        "Lee 2021, LAMP, arXiv 2010.07611 (lamp)",
        "Zhu and Gupta 2017, arXiv 1710.01878 (gradual)",
        "Shen 2022, HALP, arXiv 2110.10811 (latency)",
    ),
    "drop_block": ("Veit 2016, Residual networks behave like ensembles, arXiv 1605.06431",),
    "drop_scale": ("Lin 2017, RetinaNet, arXiv 1708.02002, section 4 (which size belongs to which scale)",),
    "sparsify": (
        "Han 2015, arXiv 1506.02626 (magnitude)",
        "Zhu and Gupta 2017, arXiv 1710.01878 (gradual)",
        "Mishra 2021, arXiv 2104.08378 (2:4)",
    ),
    "slim": ("Liu 2017, Network Slimming, arXiv 1708.06519",),
    "admm": ("Zhang 2018, arXiv 1804.03294", "Zhang 2018, StructADMM, arXiv 1807.11091"),
    "growing": ("Wang 2021, Neural pruning via growing regularization, arXiv 2012.09243",),
    "gates": ("Louizos 2018, L0 regularization, arXiv 1712.01312",),
    "activation": ("Howard 2019, MobileNetV3, arXiv 1905.02244 (Hardswish)",),
    "low_rank": (
        "Jaderberg 2014, arXiv 1405.3866 (spatial)",
        "Kim 2016, arXiv 1511.06530 (Tucker-2)",
        "Lebedev 2015, arXiv 1412.6553 (CP)",
        "Nakajima 2013, JMLR 14 (VBMF)",
    ),
    "separable": ("Howard 2017, MobileNets, arXiv 1704.04861", "Guo 2018, arXiv 1808.05517 (start from dense kernels)"),
    "tie": ("Lin 2017, RetinaNet, arXiv 1708.02002 (one head for all scales)",),
    "cluster": ("Han 2016, Deep Compression, arXiv 1510.00149",),
    "distill": (
        "Hinton 2015, arXiv 1503.02531",
        "Zheng 2022, LD, arXiv 2102.12252 (boxes)",
        "Romero 2015, FitNets, arXiv 1412.6550 (l2)",
        "Shu 2021, CWD, arXiv 2011.13256 (cwd)",
        "Yang 2022, MGD, arXiv 2205.01529 (mgd)",
        "Yang 2022, FGD, arXiv 2111.11837 (fgd)",
        "Cao 2022, PKD, arXiv 2207.02039 (pkd)",
        "Esser 2020, LSQ, arXiv 1902.08153 (step_sizes)",
    ),
    "equalize": ("Nagel 2019, arXiv 1906.04721, section 4.1",),
    "quantize": (
        "Jacob 2018, arXiv 1712.05877",
        "Migacz 2017, 8-bit inference with TensorRT, GTC talk S7310 (entropy)",
        "Nagel 2019, arXiv 1906.04721, section 4.2 (biases)",
        "Nagel 2020, AdaRound, arXiv 2004.10568 (adaround)",
        "Cai 2020, ZeroQ, arXiv 2001.00281 (max_drop: how sensitive a part is)",
    ),
    "weight_only": ("Dettmers 2023, arXiv 2212.09720 (groups)",),
}


@dataclass(frozen=True)
class Described:
    """A technique in words.  settings: name -> default, as a recipe writes it; "required" where there is none"""

    name: str
    purpose: str
    papers: tuple[str, ...]
    settings: Mapping[str, str]


def described(name: str) -> Described:
    """The technique of this name."""
    kind = TECHNIQUES[name]
    purpose = (kind.__doc__ or "").strip().splitlines()[0]
    return Described(name, purpose, PAPERS[name], _settings(kind))


def _settings(kind: Callable[..., Technique]) -> dict[str, str]:
    return {item.name: _as_written(item.default) for item in dataclasses.fields(kind)}  # type: ignore[arg-type]


def _as_written(default: Any) -> str:
    if default is dataclasses.MISSING:
        return "required"
    if default is None:
        return "not set"
    if isinstance(default, bool):
        return str(default).lower()
    return str(list(default)) if isinstance(default, tuple) else str(default)
