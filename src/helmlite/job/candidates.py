"""The artifacts of a run: exported, opened on the target's runtime, and what each costs."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from helmlite.compress.edits.fold_batchnorm import fold_batchnorm
from helmlite.compress.edits.merge_parallel import merge_parallel_convs
from helmlite.compress.kernels.magnitude_mask import sparsity
from helmlite.compress.recipe import StepResult
from helmlite.detector.detector import Detector, Log
from helmlite.detector.macs import count_macs, count_parameters
from helmlite.export.pack import stored_bits, write_bundle
from helmlite.job.prepare import Prepared
from helmlite.runtime.bundle import Bundle, BundleError, BundlePredictor, has_bf16, read_bundle
from helmlite.runtime.packing import download_size

_CAUSES = {"activation": "activation", "prune": "structure", "quantize": "precision", "weight_only": "precision"}
_PRECISION_NAMES = {"f32": "FP32", "bf16": "BF16", "int8": "INT8", "int8_bf16": "INT8, rest BF16"}


@dataclass(frozen=True)
class Candidate:
    """One model as the target runs it.

    name:     how its row is called;  cause: which factor of the speed-up it adds to the one before it in the chain
    detector: as it was exported
    in_chain: whether it is a stage on the way from the baseline to the result
    copy_of:  the row whose weights it holds in lower precision; "" for none
    download_bytes: of the target's files as `helmlite pack` packs them
    """

    name: str
    cause: str
    detector: Detector
    bundle: Bundle
    predictor: BundlePredictor
    size_bytes: int
    macs: int
    params: int
    precision: str
    input_size: int
    in_chain: bool = True
    note: str = ""
    copy_of: str = ""
    download_bytes: int | None = None


def build_candidates(prepared: Prepared, steps: Sequence[StepResult], log: Log) -> list[Candidate]:
    """The baseline first, then the baseline at the run's input size, then every step, then what needs no training."""
    own_size, size = prepared.detector.architecture.input_size, prepared.input_size
    chain = [_candidate(prepared, f"FP32 at {own_size}", "", prepared.detector, own_size, "baseline", log)]
    if own_size != size:
        name = f"FP32 at {size}"
        chain.append(_candidate(prepared, name, "input size", prepared.detector, size, f"baseline-{size}", log))
    for number, step in enumerate(steps, start=1):
        folder = f"{number}-{step.name}-{step.folder.name.rsplit('-', 1)[-1]}"
        made = _candidate(prepared, f"{number}. {step.name}", cause_of(step.name), step.detector, size, folder, log)
        last_float = next(item.name for item in reversed(chain) if item.precision == "f32")
        chain.append(replace(made, copy_of=last_float if step.name == "quantize" else ""))
    return chain + (bf16_copies(chain, size) if has_bf16_rows(prepared) else [])


def has_bf16_rows(prepared: Prepared) -> bool:
    """Whether the run measures BF16 too: the target wants it, and this machine can."""
    return "bf16" in prepared.target.precisions and has_bf16(prepared.target.runtime)


def finished(candidates: Sequence[Candidate], precisions: Sequence[str]) -> list[Candidate]:
    """The ways of running what the recipe ends with: as it is, and where that is INT8 the float stage before it.

    Of a chain that ends in float no earlier stage may ship: it was not trained yet, or is not as small.
    """
    chain = [item for item in candidates if item.in_chain]
    floats = [item for item in chain[:-1] if item.precision == "f32" and item.cause not in ("", "input size")]
    ways = [chain[-1], *(floats[-1:] if chain[-1].precision == "int8" else [])]
    ways += [item for item in candidates if not item.in_chain and item.copy_of in [way.name for way in ways]]
    return [item for item in ways if item.precision in precisions]


def bf16_copies(chain: Sequence[Candidate], input_size: int) -> list[Candidate]:
    """At the run's input size the first and the last float stage in BF16, and an INT8 end with its float rest in it."""
    first = next(item for item in chain if item.input_size == input_size)
    last = [item for item in chain if item.precision == "f32"][-1]
    found = [replace(in_bf16(first, f"BF16 at {input_size}"), note="needs no training")]
    if last is not first:
        found.append(in_bf16(last, f"{last.name} in BF16"))
    if chain[-1].precision == "int8":
        found.append(in_bf16(chain[-1], f"{chain[-1].name}, rest in BF16"))
    return found


def in_bf16(item: Candidate, name: str) -> Candidate:
    """The same file run in BF16; of a quantized one what stayed float, since the rest is INT8 as before."""
    precision = "int8_bf16" if item.precision == "int8" else "bf16"
    return replace(
        item,
        name=name,
        predictor=BundlePredictor(item.bundle, item.predictor.session.runtime, precision=precision),
        precision=precision,
        cause="precision",
        in_chain=False,
        note="",
        copy_of=item.name,
    )


def kept_bundle(place: Path, log: Log) -> Bundle | None:
    """What an earlier run left at `place`; None where there is nothing, or where it is damaged, which then goes."""
    if not place.exists():
        return None
    try:
        return read_bundle(place)
    except BundleError:
        log(f"{place}: damaged, and made again")
        shutil.rmtree(place)
        return None


def cause_of(technique: str) -> str:
    """Which factor of the speed-up a technique works on; training changes none, so it counts as structure."""
    return _CAUSES.get(technique, "structure")


def precision_name(precision: str) -> str:
    """`f32` -> `FP32`, as tables write it."""
    return _PRECISION_NAMES.get(precision, precision)


def _candidate(
    prepared: Prepared, name: str, cause: str, detector: Detector, input_size: int, folder: str, log: Log
) -> Candidate:
    place = prepared.settings.out / "artifacts" / folder
    runtime = prepared.target.runtime
    precision = "int8" if detector.has_edit("insert_quantizers") else "f32"
    ready = detector if precision == "int8" else merge_parallel_convs(fold_batchnorm(detector))
    bundle = _bundle(place, ready, input_size, name, runtime, precision, log)
    return Candidate(
        name=name,
        cause=cause,
        detector=ready,
        bundle=bundle,
        predictor=BundlePredictor(bundle, runtime),
        size_bytes=bundle.manifest.size_bytes(runtime),
        macs=count_macs(detector.network, input_size),
        params=count_parameters(detector.network),
        precision=precision,
        input_size=input_size,
        note=_note(ready),
        download_bytes=download_size(bundle, runtime),
    )


def _note(detector: Detector) -> str:
    """What masked weights and stored integers bring: bytes, and no speed but what is measured beside it."""
    notes = []
    if detector.has_edit("mask_weights"):
        notes.append(f"{sparsity(detector.network):.0%} of the kernels' weights are zero: a smaller download")
    bits = stored_bits(detector)
    if bits is not None:
        notes.append(f"weights stored in INT{bits}, computed in float: a smaller file, no speed")
    return "; ".join(notes)


def _bundle(
    place: Path, detector: Detector, input_size: int, name: str, runtime: str, precision: str, log: Log
) -> Bundle:
    """The artifact of an earlier run where it is complete and undamaged, else a new one."""
    kept = kept_bundle(place, log)
    if kept is not None:
        return kept
    log(f"export: {name}")
    return write_bundle(
        place, detector, input_size, name=name, runtimes=(runtime,), runtime=runtime, precision=precision
    )
