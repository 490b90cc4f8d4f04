"""Commands for the machine that the detector runs on: detect, bench, doctor.  None of them needs PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from helmlite.files import claim_file, holds_json, keep_out_of, write_whole

if TYPE_CHECKING:
    from helmlite.data.roles import Class
    from helmlite.detections import Image
    from helmlite.runtime.bundle import BundlePredictor

_Runtime = Annotated[
    str | None, typer.Option("--runtime", help="onnxruntime or openvino; by default the bundle's own choice.")
]
_Threads = Annotated[int | None, typer.Option("--threads", min=1, help="By default every core that may be used.")]
_Precision = Annotated[
    str | None,
    typer.Option(
        "--precision",
        help="f32, bf16, int8, int8_bf16 (what stayed float in BF16) or default; by default the bundle's own.",
    ),
]
_Layout = Annotated[
    str | None,
    typer.Option(
        "--layout",
        help="Of a bare .onnx file: helmlite, ultralytics, end2end, yolox, yolox-decoded.",
    ),
]
_Classes = Annotated[
    str | None, typer.Option("--classes", help="Of a bare .onnx file: its classes in order, as in helmet,no_helmet.")
]
_Roles = Annotated[
    list[str] | None, typer.Option("--role", help="Of a bare .onnx file: ROLE=CLASS, where the name does not say it.")
]
_InputSize = Annotated[
    int | None, typer.Option("--input-size", min=32, help="Of a bare .onnx file that leaves its input size free.")
]


def register(app: typer.Typer) -> None:
    """Adds this file's commands to the application."""
    app.command()(detect)
    app.command()(bench)
    app.command()(doctor)


def detect(
    source: Annotated[str, typer.Argument(help="A picture, a folder of pictures, a video, a camera (0) or a stream.")],
    model: Annotated[Path, typer.Option("--model", help="A bundle's folder, or an .onnx file.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for annotated pictures or video; 'detections' unless --json is given."),
    ] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="File for JSON lines, one object a frame.")] = None,
    versus: Annotated[
        Path | None, typer.Option("--versus", help="A second bundle or .onnx file, drawn beside the first.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Stop after so many frames.")] = None,
    show_scores: Annotated[bool, typer.Option("--show-scores", help="Write the score beside each class.")] = False,
    min_score: Annotated[
        float | None, typer.Option("--min-score", min=0, max=1, help="Instead of the bundle's own thresholds.")
    ] = None,
    runtime: _Runtime = None,
    threads: _Threads = None,
    precision: _Precision = None,
    layout: _Layout = None,
    classes: _Classes = None,
    role: _Roles = None,
    input_size: _InputSize = None,
) -> None:
    """Find helmets and bare heads in pictures, a video or a camera, and draw them."""
    from contextlib import nullcontext

    from rich.console import Console

    from helmlite.cli.edge_print import print_remarks, print_summary, progress
    from helmlite.cli.errors import EXIT_INTERRUPTED
    from helmlite.runtime.detect import detect as run
    from helmlite.runtime.output import JsonLines, open_output
    from helmlite.runtime.sources import open_source

    console = Console()
    opened = open_source(source)
    folder = out or (None if json_path else Path("detections"))
    for place, option, kind in ((folder, "--out", "folder"), (json_path, "--json", "file")):
        if place is not None:
            keep_out_of([model, *([versus] if versus else [])], place, option, kind)
    bare = _BareOptions(layout, classes, tuple(role or ()), input_size)
    models = _open_models([model, *([versus] if versus else [])], runtime, precision, threads, bare)
    predictors = [predictor.in_real_use(min_score) for predictor in models]
    print_remarks(console, predictors)
    output = open_output(folder, opened) if folder else None
    total = min((count for count in (opened.count, limit) if count), default=None)
    with JsonLines.open(json_path, opened) if json_path else nullcontext() as lines, progress(total) as on_frame:
        other = predictors[1] if versus else None
        summary = run(opened, predictors[0], other, output, lines, limit, show_scores, on_frame)
    print_summary(console, summary, [str(path) for path in (folder, json_path) if path])
    if summary.interrupted and opened.kind != "camera":  # a camera has no other end
        raise typer.Exit(EXIT_INTERRUPTED)


def bench(
    bundle: Annotated[Path, typer.Argument(help="A bundle's folder, or an .onnx file.")],
    baseline: Annotated[
        Path | None, typer.Option("--baseline", help="A second bundle or .onnx file to compare with.")
    ] = None,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Interleaved rounds at least.")] = 50,
    warmup: Annotated[int, typer.Option("--warmup", min=0, help="Unmeasured rounds before them.")] = 5,
    seconds: Annotated[float, typer.Option("--seconds", min=0, help="Measure at least so long.")] = 3.0,
    pictures: Annotated[
        str | None, typer.Option("--pictures", help="Picture or folder to time with; by default a drawn one.")
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Also p99, memory, pictures a second by threads, and energy where told.")
    ] = False,
    json_path: Annotated[Path | None, typer.Option("--json", help="File for the figures.")] = None,
    runtime: _Runtime = None,
    threads: _Threads = None,
    precision: _Precision = None,
    baseline_runtime: Annotated[
        str | None, typer.Option("--baseline-runtime", help="By default the same as the bundle's.")
    ] = None,
    baseline_precision: Annotated[
        str | None, typer.Option("--baseline-precision", help="By default the baseline's own; f32 for an .onnx file.")
    ] = None,
    layout: _Layout = None,
    classes: _Classes = None,
    role: _Roles = None,
    input_size: _InputSize = None,
) -> None:
    """Time a bundle, alone or against a baseline: interleaved, the network alone and from picture to boxes."""
    import json

    from rich.console import Console

    from helmlite.cli.edge_print import print_bench, print_remarks
    from helmlite.runtime.bench import bench_report, measure_costs, time_predictors

    if baseline is None and (baseline_runtime or baseline_precision):
        raise ValueError("--baseline-runtime and --baseline-precision are for a second model; give --baseline.")
    read = [bundle, *([baseline] if baseline else [])]
    claim_file(json_path, "--json", holds_json("device", "models", "times_as_fast"), read)
    console = Console()
    images, pictured = _bench_pictures(pictures)
    bare = _BareOptions(layout, classes, tuple(role or ()), input_size)
    opened = _open_models(
        read,
        runtime,
        precision,
        threads,
        bare,
        baseline_runtime,
        baseline_precision,
    )
    print_remarks(console, opened)
    names = [opened[0].name, *(_baseline_name(opened[0], item) for item in opened[1:])]
    predictors = dict(zip(names, opened))
    with console.status(f"Timing {' against '.join(names)}"):
        timings = time_predictors(predictors, images, rounds, warmup, seconds)
    report = bench_report(predictors, timings, pictured)
    if full:
        for name, predictor in predictors.items():
            with console.status(f"What else {name} takes"):
                report["models"][name] |= measure_costs(predictor, images[0])
    print_bench(console, report)
    if json_path is not None:
        write_whole(json_path, json.dumps(report, ensure_ascii=False, indent=2) + "\n")


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
    seconds: Annotated[float, typer.Option("--seconds", min=0.1, help="How long to load the processor.")] = 4.0,
) -> None:
    """Say what this machine can do, whether its speed is steady, and which precision would be tried first."""
    import json

    from rich.console import Console

    from helmlite.cli.edge_print import print_diagnosis
    from helmlite.runtime.doctor import diagnose

    diagnosis = diagnose(seconds)
    if as_json:
        print(json.dumps(diagnosis.to_json(), ensure_ascii=False, indent=2))
    else:
        print_diagnosis(Console(), diagnosis)


@dataclass(frozen=True)
class _BareOptions:
    """What the user says of bare .onnx files."""

    layout: str | None
    classes: str | None
    roles: tuple[str, ...]
    input_size: int | None

    def are_given(self) -> bool:
        return bool(self.layout or self.classes or self.roles or self.input_size)

    def class_list(self, otherwise: Sequence[Class]) -> Sequence[Class]:
        """The declared classes with their roles, or those of the other model where none are declared."""
        from helmlite.data.roles import parse_role_options, with_roles

        if self.classes is None:
            return otherwise
        names = [name.strip() for name in self.classes.split(",") if name.strip()]
        return with_roles(names, parse_role_options(self.roles))


def _open_models(
    paths: Sequence[Path],
    runtime: str | None,
    precision: str | None,
    threads: int | None,
    bare: _BareOptions,
    second_runtime: str | None = None,
    second_precision: str | None = None,
) -> list[BundlePredictor]:
    """One or two models, the second in the first one's runtime unless it has its own.

    Raises ValueError where options for bare files are given and there is none.
    """
    from helmlite.runtime.bundle import open_predictor

    if bare.are_given() and not any(path.suffix.lower() == ".onnx" for path in paths):
        raise ValueError(
            "--layout, --classes, --role and --input-size are for a bare .onnx file; a bundle says all of this itself."
        )
    if bare.roles and bare.classes is None:
        raise ValueError("--role is for the classes that --classes names; give --classes, too.")
    opened: list[BundlePredictor] = []
    for path in paths:
        wanted_runtime, wanted_precision = runtime, precision
        if opened:
            wanted_runtime, wanted_precision = second_runtime or opened[0].session.runtime, second_precision
        if path.suffix.lower() == ".onnx":
            classes = bare.class_list(opened[0].classes if opened else ())
            opened.append(
                open_predictor(
                    path, wanted_runtime, threads, None, wanted_precision, classes, bare.layout, bare.input_size
                )
            )
        else:
            opened.append(open_predictor(path, wanted_runtime, threads, precision=wanted_precision))
    return opened


def _baseline_name(first: BundlePredictor, baseline: BundlePredictor) -> str:
    return baseline.name if baseline.name != first.name else f"{baseline.name} (baseline)"


def _bench_pictures(given: str | None) -> tuple[list[Image], str]:
    """At most 32 pictures to time with, and what they are, in words."""
    from helmlite.runtime.bench import drawn_picture
    from helmlite.runtime.sources import open_source

    if given is None:
        return [drawn_picture()], "one drawn picture of 1280 x 720"
    problems: list[str] = []
    images = []
    for frame in open_source(given).frames(problems.append):
        images.append(frame.image)
        if len(images) == 32:
            break
    if not images:
        raise ValueError(f"No picture of {given} could be read. {' '.join(problems)}")
    return images, f"{given} ({len(images)} picture{'s' if len(images) > 1 else ''})"
