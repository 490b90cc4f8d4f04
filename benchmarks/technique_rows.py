"""The rows of benchmarks/techniques.py: which techniques, how strong, from which control.

Every row that trains has EPOCHS epochs in all, those inside a technique included.  A row alone is fine-tuned without a
teacher, so that what is measured is the technique; the rows of "Distillation" differ only in their losses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

INPUT_SIZE = 320
EPOCHS = 10
BASELINE_EPOCHS = 60
LARGE_TEACHER, TEACHER_EPOCHS = "helmet-yolo12m", 6  # fine-tuned on the same pictures, for the rows that name it
ALARMS_PER_100 = 20  # false alarms of no_helmet for every 100 pictures of val, at which recall on test is given

GROUPS = {
    "baseline": "The baseline",
    "prune": "Channel pruning: what is cut",
    "optimise": "Channel pruning: learned",
    "depth": "Depth",
    "sparse": "Zeros: unstructured and N:M",
    "rank": "Low rank",
    "share": "Parameter sharing",
    "activation": "Activation",
    "ptq": "Quantization after training",
    "qat": "Quantization-aware training",
    "distil": "Distillation",
    "combined": "Combined",
}


@dataclass(frozen=True)
class Row:
    """One row.  recipe: its steps as TOML, "" for none;  cost: a training step against a plain one, for the plan."""

    name: str
    group: str
    recipe: str
    seeds: int = 1
    cost: float = 1.0


def _steps(*steps: Mapping[str, Any]) -> str:
    lines = []
    for step in steps:
        lines.append("[[step]]")
        lines += [f"{key} = {_toml(value)}" for key, value in step.items()]
    return "\n".join(lines)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return f'"{value}"' if isinstance(value, str) else f"{value}"


def _healed(epochs: int = EPOCHS, teacher: str = "none", **settings: Any) -> dict[str, Any]:
    return {"technique": "distill", "epochs": epochs, "teacher": teacher, **settings}


def _prune(macs_ratio: float, **settings: Any) -> dict[str, Any]:
    return {"technique": "prune", "macs_ratio": macs_ratio, **settings}


_HALF = _prune(0.5, importance="taylor")
_IMPORTANCES = (
    "l1", "l2", "l1_filter", "l2_filter", "bn_scale", "fpgm", "taylor", "obd", "lamp", "random",
)  # fmt: skip
_FEATURE_LOSSES = ("l2", "cwd", "mgd", "fgd", "pkd")
_NO_HEAD_LOSSES: dict[str, Any] = {"classes": 0.0, "boxes": 0.0}

ROWS: tuple[Row, ...] = (
    Row("baseline", "baseline", ""),
    Row("longer", "baseline", _steps(_healed()), seeds=3),
    *(Row(f"prune-{name}-50", "prune", _steps(_prune(0.5, importance=name), _healed())) for name in _IMPORTANCES),
    Row("prune-taylor-30", "prune", _steps(_prune(0.3, importance="taylor"), _healed())),
    Row("prune-l2-30", "prune", _steps(_prune(0.3, importance="l2"), _healed())),
    Row("prune-uniform-50", "prune", _steps(_prune(0.5, importance="l2", ranking="uniform"), _healed()), seeds=3),
    Row("prune-uniform-30", "prune", _steps(_prune(0.3, importance="l2", ranking="uniform"), _healed())),
    Row("prune-sensitivity-50", "prune", _steps(_prune(0.5, importance="l2", ranking="sensitivity"), _healed()), 3),
    Row("prune-sensitivity-30", "prune", _steps(_prune(0.3, importance="l2", ranking="sensitivity"), _healed())),
    Row("prune-one-shot-50", "prune", _steps(_prune(0.5, importance="taylor", schedule="one_shot"), _healed())),
    Row(
        "prune-gradual-50",
        "prune",
        _steps(_prune(0.5, importance="taylor", schedule="gradual", epochs=4, teacher="none"), _healed(6)),
    ),
    *(
        Row(
            f"{name}-{share}",
            "optimise",
            _steps({"technique": name, "macs_ratio": share / 100, "epochs": 5, "teacher": "none"}, _healed(5)),
            cost=1.2,
        )
        for name in ("slim", "admm", "growing", "gates")
        for share in (50, 30)
    ),
    Row("drop-block-1", "depth", _steps({"technique": "drop_block", "count": 1}, _healed())),
    Row("drop-block-2", "depth", _steps({"technique": "drop_block", "count": 2}, _healed())),
    Row("drop-scale", "depth", _steps({"technique": "drop_scale"}, _healed())),
    Row("sparse-50", "sparse", _steps({"technique": "sparsify", "sparsity": 0.5}, _healed())),
    Row("sparse-80", "sparse", _steps({"technique": "sparsify", "sparsity": 0.8}, _healed())),
    Row(
        "sparse-80-gradual",
        "sparse",
        _steps({"technique": "sparsify", "sparsity": 0.8, "schedule": "gradual", "epochs": EPOCHS}),
    ),
    Row("sparse-2-4", "sparse", _steps({"technique": "sparsify", "pattern": "2:4"}, _healed())),
    *(
        Row(
            f"rank-{method}-{share}",
            "rank",
            _steps(
                {"technique": "low_rank", "method": method, "ranks": "budget", "macs_ratio": share / 100}, _healed()
            ),
        )
        for method, shares in {"svd": (80, 70), "spatial": (80, 65), "tucker": (80, 65), "cp": (80, 65)}.items()
        for share in shares  # SVD leaves 69 % at least
    ),
    Row("rank-auto-energy-90", "rank", _steps({"technique": "low_rank", "energy": 0.90}, _healed())),
    Row("rank-auto-energy-85", "rank", _steps({"technique": "low_rank", "energy": 0.85}, _healed())),
    Row("rank-auto-vbmf", "rank", _steps({"technique": "low_rank", "ranks": "vbmf"}, _healed())),
    Row("separable-80", "share", _steps({"technique": "separable", "macs_ratio": 0.8}, _healed())),
    Row("separable-70", "share", _steps({"technique": "separable", "macs_ratio": 0.7}, _healed())),
    Row("cluster-5", "share", _steps({"technique": "cluster", "bits": 5}, _healed())),
    Row("cluster-3", "share", _steps({"technique": "cluster", "bits": 3}, _healed())),
    Row("tie-head", "share", _steps({"technique": "tie", "what": "head"}, _healed())),
    Row("tie-all", "share", _steps({"technique": "tie", "what": "all"}, _healed())),
    *(
        Row(f"activation-{to}", "activation", _steps({"technique": "activation", "to": to}, _healed()))
        for to in ("relu", "relu6", "hardswish")
    ),
    *(
        Row(f"int8-{ranges}", "ptq", _steps({"technique": "quantize", "ranges": ranges}))
        for ranges in ("min_max", "percentile", "mse", "entropy")
    ),
    Row("int8-uncorrected", "ptq", _steps({"technique": "quantize", "correct_biases": False})),
    Row("int8-before-activation", "ptq", _steps({"technique": "quantize", "before_activation": True})),
    Row("int8-per-tensor", "ptq", _steps({"technique": "quantize", "weight_axis": "tensor"})),
    Row("int8-adaround", "ptq", _steps({"technique": "quantize", "rounding": "adaround"})),
    Row("w4", "ptq", _steps({"technique": "quantize", "weight_bits": 4})),
    Row("w4-mse", "ptq", _steps({"technique": "quantize", "weight_bits": 4, "weight_ranges": "mse"})),
    Row("w4-adaround", "ptq", _steps({"technique": "quantize", "weight_bits": 4, "rounding": "adaround"})),
    Row("w4-mixed", "ptq", _steps({"technique": "quantize", "weight_bits": 4, "max_drop": 0.01})),
    Row("w4-tensor", "ptq", _steps({"technique": "quantize", "weight_bits": 4, "weight_axis": "tensor"})),
    Row(
        "w4-tensor-adaround",
        "ptq",
        _steps({"technique": "quantize", "weight_bits": 4, "weight_axis": "tensor", "rounding": "adaround"}),
    ),
    Row("w3", "ptq", _steps({"technique": "quantize", "weight_bits": 3})),
    Row("w3-adaround", "ptq", _steps({"technique": "quantize", "weight_bits": 3, "rounding": "adaround"})),
    Row("w3-mixed", "ptq", _steps({"technique": "quantize", "weight_bits": 3, "max_drop": 0.01})),
    Row("weights-int8", "ptq", _steps({"technique": "weight_only", "bits": 8})),
    Row("weights-int4", "ptq", _steps({"technique": "weight_only", "bits": 4})),
    Row("relu-int8", "ptq", _steps({"technique": "activation", "to": "relu"}, _healed(), {"technique": "quantize"})),
    Row("relu6-int8", "ptq", _steps({"technique": "activation", "to": "relu6"}, _healed(), {"technique": "quantize"})),
    Row(
        "hardswish-int8",
        "ptq",
        _steps({"technique": "activation", "to": "hardswish"}, _healed(), {"technique": "quantize"}),
    ),
    Row("qat-int8", "qat", _steps({"technique": "quantize"}, _healed(teacher="original")), cost=2.0),
    Row("qat-w4", "qat", _steps({"technique": "quantize", "weight_bits": 4}, _healed(teacher="original")), cost=2.0),
    Row(
        "qat-w4-steps",
        "qat",
        _steps({"technique": "quantize", "weight_bits": 4}, _healed(teacher="original", step_sizes=True)),
        cost=2.0,
    ),
    Row(
        "qat-w4-tensor-steps",
        "qat",
        _steps(
            {"technique": "quantize", "weight_bits": 4, "weight_axis": "tensor"},
            _healed(teacher="original", step_sizes=True),
        ),
        cost=2.0,
    ),
    Row(
        "qat-w3-steps",
        "qat",
        _steps({"technique": "quantize", "weight_bits": 3}, _healed(teacher="original", step_sizes=True)),
        cost=2.0,
    ),
    Row("no-teacher", "distil", _steps(_HALF, _healed()), seeds=3),
    Row("no-teacher-repeat", "distil", _steps(_HALF, _healed(repeat_threshold=1.0))),
    Row("kd-all", "distil", _steps(_HALF, _healed(teacher="original")), cost=1.4),
    Row("kd-classes", "distil", _steps(_HALF, _healed(teacher="original", boxes=0.0, features=0.0)), cost=1.4),
    Row("kd-boxes", "distil", _steps(_HALF, _healed(teacher="original", classes=0.0, features=0.0)), seeds=3, cost=1.4),
    Row("kd-large-all", "distil", _steps(_HALF, _healed(teacher=LARGE_TEACHER)), cost=4.0),
    Row(
        "kd-large-boxes",
        "distil",
        _steps(_HALF, _healed(teacher=LARGE_TEACHER, classes=0.0, features=0.0)),
        cost=4.0,
    ),
    *(
        Row(
            f"kd-{loss}",
            "distil",
            _steps(_HALF, _healed(teacher="original", feature_loss=loss, **_NO_HEAD_LOSSES)),
            cost=1.5,
        )
        for loss in _FEATURE_LOSSES
    ),
    Row(
        "prune-relu-kd-int8",
        "combined",
        _steps(
            _HALF, {"technique": "activation", "to": "relu"}, _healed(teacher="original"), {"technique": "quantize"}
        ),
        seeds=3,
        cost=1.4,
    ),
    Row(
        "sensitivity-relu-kd-int8",
        "combined",
        _steps(
            _prune(0.5, importance="l2", ranking="sensitivity"),
            {"technique": "activation", "to": "relu"},
            _healed(teacher="original"),
            {"technique": "quantize"},
        ),
        cost=1.4,
    ),
    Row(
        "prune-rank-kd-int8",
        "combined",
        _steps(
            _prune(0.6, importance="taylor"),
            {"technique": "low_rank", "ranks": "budget", "macs_ratio": 0.8},
            {"technique": "activation", "to": "relu"},
            _healed(teacher="original"),
            {"technique": "quantize"},
        ),
        cost=1.4,
    ),
    Row(
        "prune-kd-cluster",
        "combined",
        _steps(_HALF, _healed(5, teacher="original"), {"technique": "cluster", "bits": 4}, _healed(5, "original")),
        cost=1.4,
    ),
)

# row -> the row that it is compared with; all others are compared with the baseline
CONTROLS: Mapping[str, str] = {
    **{row.name: "prune-uniform-50" for row in ROWS if row.group in ("prune", "optimise") and row.name.endswith("-50")},
    **{row.name: "prune-uniform-30" for row in ROWS if row.group in ("prune", "optimise") and row.name.endswith("-30")},
    **{row.name: "no-teacher" for row in ROWS if row.group == "distil"},
    **{row.name: "longer" for row in ROWS if row.group in ("depth", "sparse", "rank", "share", "activation")},
    "w4-adaround": "w4", "w4-mse": "w4", "w4-mixed": "w4", "qat-w4": "w4", "qat-w4-steps": "w4",
    "w3-adaround": "w3", "w3-mixed": "w3", "qat-w3-steps": "w3",
    "w4-tensor-adaround": "w4-tensor", "qat-w4-tensor-steps": "w4-tensor",
    "sensitivity-relu-kd-int8": "prune-relu-kd-int8", "prune-rank-kd-int8": "prune-relu-kd-int8",
}  # fmt: skip
