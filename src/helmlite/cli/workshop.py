"""`helmlite compress`, `helmlite finetune` and `helmlite demo`: commands that train."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from helmlite.job.prepare import CompressSettings


_DEVICE = "Where to train: auto (a GPU where there is one), cpu or cuda."
_TRAIN_ONLY = (
    "Stop before measuring: train on a machine with a GPU, copy the folder, and give the same command without this "
    "option on the machine that is like the box."
)


def register(app: typer.Typer) -> None:
    """Adds this file's commands to the application."""
    app.command("compress")(compress)
    app.command("finetune")(finetune)
    app.command("demo")(demo)
    app.command("explain")(explain)


def compress(
    model: Annotated[str, typer.Argument(help="A .pt, a checkpoint folder, or a name of `helmlite models list`.")],
    data: Annotated[Path, typer.Option(help="The data set: data.yaml, a COCO JSON, or a Pascal VOC folder.")],
    out: Annotated[Path, typer.Option(help="Folder of the run: bundle, report and everything on the way.")],
    recipe: Annotated[str, typer.Option(help="A shipped recipe, or the path of a .toml.")] = "balanced",
    target: Annotated[str, typer.Option(help="What it is to run on.")] = "x86-openvino",
    input_size: Annotated[int | None, typer.Option(help="Side of the square input, pixels.")] = None,
    max_drop: Annotated[float, typer.Option(help="Points of mAP50-95 that may be lost.")] = 1.0,
    max_recall_drop: Annotated[float, typer.Option(help="Points of no_helmet recall that may be lost.")] = 2.0,
    minutes: Annotated[
        float | None, typer.Option(help="How long to train; by default as the recipe says, else 60.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Every random choice follows from it.")] = 0,
    role: Annotated[list[str] | None, typer.Option(help="ROLE=CLASS, for instance no_helmet=bareheaded.")] = None,
    unlabelled: Annotated[
        Path | None, typer.Option(help="Folder of pictures without labels: a teacher teaches on them too.")
    ] = None,
    thresholds: Annotated[
        str, typer.Option(help="How the bundle's thresholds are chosen: f1, recall=0.9, alarms=5 (per 100 pictures).")
    ] = "f1",
    robustness: Annotated[
        bool,
        typer.Option(
            "--robustness", help="Also show both on the test pictures made worse in nine ways, three severities."
        ),
    ] = False,
    export: Annotated[str | None, typer.Option(help="Also write `ultralytics-pt`: opens in stock Ultralytics.")] = None,
    device: Annotated[str, typer.Option(help=_DEVICE)] = "auto",
    train_only: Annotated[bool, typer.Option("--train-only", help=_TRAIN_ONLY)] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would come of it, and train nothing.")] = False,
) -> None:
    """Makes a detector small and fast, and reports what that cost on your own test pictures.

    Goes on where an earlier run of the same command was stopped.  Exit code 0: the gate passed; 3: it failed; 4: these
    pictures cannot decide (bundle and report are written in all three); 2: wrong input.
    """
    import time

    from helmlite.cli.errors import EXIT_GATE_FAILED, EXIT_GATE_UNDECIDED, going_on_later
    from helmlite.data.roles import parse_role_options
    from helmlite.evaluate.pages.terminal import show_report
    from helmlite.evaluate.thresholds import parse_rule
    from helmlite.job.compress import compress as run
    from helmlite.job.compress import train
    from helmlite.job.prepare import CompressSettings

    def tell(line: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)

    if export not in (None, "ultralytics-pt"):
        raise ValueError(f"--export knows ultralytics-pt only; got '{export}'.")
    settings = CompressSettings(
        model,
        data,
        out,
        recipe,
        target,
        input_size,
        max_drop,
        max_recall_drop,
        minutes,
        seed,
        parse_role_options(role or []),
        device=device,
        stock_pt=export is not None,
        unlabelled=unlabelled,
        thresholds=parse_rule(thresholds),
        robustness=robustness,
    )
    if dry_run:
        _print_plan(settings)
        return
    if train_only:
        with going_on_later():
            train(settings, tell)
        print(f"trained: {out}. The same command without --train-only goes on from here.")
        return
    with going_on_later():
        report = run(settings, tell)
    show_report(report)
    print(f"bundle: {out / 'bundle'}\nreport: {out / 'report.html'}")
    if export:
        _write_pt(out, report.result.input_size)
    codes = {"failed": EXIT_GATE_FAILED, "undecided": EXIT_GATE_UNDECIDED}
    raise typer.Exit(codes.get(report.gate.verdict, 0))


def _write_pt(run: Path, input_size: int | None) -> None:
    """The last step that stock Ultralytics can hold, as `compressed.pt`."""
    from helmlite.export.ultralytics_pt import foreign_edit, save_ultralytics_pt
    from helmlite.job.explain import step_detectors

    detector = [item for item in step_detectors(run) if not foreign_edit(item)][-1]
    save_ultralytics_pt(detector, run / "compressed.pt", input_size)
    print(f"for stock Ultralytics (float): {run / 'compressed.pt'}")
    if not detector.architecture.layout.needs_nms:
        print("   there, ask for the branch that ships: model.predict(..., end2end=True)")


def _print_plan(settings: CompressSettings) -> None:
    from rich.console import Console
    from rich.table import Table

    from helmlite.job.plan import plan

    found = plan(settings, lambda line: print(line, flush=True))
    table = Table("step", "MACs, G", "parameters", "bytes", "ms here", "times faster")
    for row in found.steps:
        cells = [f"{row.macs / 1e9:.2f}", f"{row.params:,}", f"{row.size_bytes:,}", f"{row.latency_ms:.1f}"]
        table.add_row(row.name, *cells, f"{row.speedup:.1f}")
    Console(width=120).print(table)
    print(f"training: {found.training} on {found.train_pictures} pictures")
    print(f"what these test pictures can prove: {found.resolution.in_words()}")


def finetune(
    model: Annotated[str, typer.Argument(help="A .pt, a checkpoint folder, or a name of `helmlite models list`.")],
    data: Annotated[Path, typer.Option(help="The data set: data.yaml, a COCO JSON, or a Pascal VOC folder.")],
    out: Annotated[Path, typer.Option(help="Checkpoint folder to write.")],
    minutes: Annotated[float | None, typer.Option(help="How long to train.")] = None,
    epochs: Annotated[int | None, typer.Option(help="How many epochs to train.")] = None,
    input_size: Annotated[int | None, typer.Option(help="Side of the square input, pixels.")] = None,
    seed: Annotated[int, typer.Option(help="Every random choice follows from it.")] = 0,
    role: Annotated[list[str] | None, typer.Option(help="ROLE=CLASS, for instance no_helmet=bareheaded.")] = None,
    device: Annotated[str, typer.Option(help=_DEVICE)] = "auto",
) -> None:
    """Trains a detector further on your pictures, without a teacher and without changing its structure.

    Goes on where an earlier run of the same command was stopped.
    """
    from dataclasses import replace

    import helmlite
    from helmlite.cli.errors import going_on_later
    from helmlite.compress.checkpoint import check_free, save_checkpoint
    from helmlite.compress.distill import Distill
    from helmlite.compress.load import load_detector
    from helmlite.compress.technique import Context
    from helmlite.data.load import check_labelled, load_dataset, match_classes, readable
    from helmlite.data.roles import check_given_roles, parse_role_options, with_given_roles
    from helmlite.detector.fit_state import detector_sha256
    from helmlite.job.prepare import lock_folder
    from helmlite.runtime.preprocess import check_input_size

    if minutes is None and epochs is None:
        raise ValueError("finetune needs --minutes or --epochs.")
    roles = parse_role_options(role or [])
    detector = load_detector(model)
    pictures, problems = readable(load_dataset(data, "train"))
    for problem in problems:
        print(f"skipped: {problem}")
    check_given_roles(roles, pictures.classes, detector.classes)
    detector = detector.with_classes(with_given_roles(detector.classes, roles))
    pictures = replace(pictures, classes=with_given_roles(pictures.classes, roles))
    pictures = match_classes(pictures, detector.classes)
    check_labelled(pictures, "to train on")
    size = check_input_size(detector.architecture.input_size if input_size is None else input_size)
    about: dict[str, Any] = {"technique": "finetune", "model": model, "model_sha256": detector_sha256(detector)}
    about |= {"data_sha256": pictures.sha256(), "seed": seed, "minutes": minutes, "epochs": epochs}
    about |= {"input_size": size, "helmlite": helmlite.__version__}
    check_free(out, about)
    workspace = out.with_name(f"{out.name}.work")
    lock_folder(workspace)
    context = Context(pictures, detector, size, seed, workspace, device=device)
    with going_on_later():
        trained = Distill(minutes=minutes, epochs=epochs, teacher="none").apply(detector, context)
    save_checkpoint(trained.trained_for(size), out, about)
    print(f"trained on {len(pictures)} pictures at {size} px: {out}")


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the drawn pictures, the bundle and the report.")] = Path(
        "demo-out"
    ),
    minutes: Annotated[float, typer.Option(help="How long to train.")] = 6.0,
    seed: Annotated[int, typer.Option(help="Every random choice follows from it.")] = 0,
) -> None:
    """Compresses helmlite's own small detector on streets that helmlite draws: the whole way in a few minutes."""
    import time

    from helmlite.cli.errors import going_on_later
    from helmlite.evaluate.pages.terminal import show_report
    from helmlite.job.demo import DRAWN, NEXT
    from helmlite.job.demo import demo as run

    with going_on_later():
        report = run(out, minutes, seed, lambda line: print(f"{time.strftime('%H:%M:%S')} {line}", flush=True))
    show_report(report)
    print(f"bundle: {out / 'run' / 'bundle'}\nreport: {out / 'run' / 'report.html'}\n\n{DRAWN}\n{NEXT}")


def explain(run: Annotated[Path, typer.Argument(help="The --out folder of a finished `helmlite compress`.")]) -> None:
    """Retells a run step by step: what each did, how long it took, and what it changed."""
    from helmlite.job.explain import explain as retold

    print("\n".join(retold(run)))
