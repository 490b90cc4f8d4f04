"""`helmlite cross-domain`: the matrix *trained on* x *tested on* over several data sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from helmlite.data.dataset import Dataset
    from helmlite.evaluate.cross_domain import CrossDomain, TrainedModel
    from helmlite.models.opened import OpenedModel
    from helmlite.models.wanted import WantedModel

_TRAINED_ON = "trained_on"


def register(app: typer.Typer) -> None:
    """Adds this file's commands to the application."""
    app.command("cross-domain")(cross_domain_models)


def cross_domain_models(
    models: Annotated[
        list[str],
        typer.Argument(
            help="One or more, as `helmlite compare` takes them, each with the sets that it was trained on: "
            "best.pt,trained_on=bikes_helmets+hardhat. A checkpoint of `helmlite finetune`, and a bundle, know it."
        ),
    ],
    data: Annotated[
        list[str],
        typer.Option(help="A data set, once for each: data.yaml, a COCO JSON, or a folder; PATH,name=NAME renames it."),
    ],
    split: Annotated[str, typer.Option(help="Pictures that are reported, of every set.")] = "test",
    runtime: Annotated[
        str | None, typer.Option(help="pytorch, onnxruntime or openvino, for every model that does not name its own.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of the runtime; by default every core.")] = None,
    role: Annotated[list[str] | None, typer.Option(help="ROLE=CLASS, for instance no_helmet=bareheaded.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many pictures of each set.")] = None,
    seed: Annotated[int, typer.Option(help="Of the resampling.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for the page, its JSON and its Markdown.")] = None,
) -> None:
    """What models lose on streets that they were not trained on, against the best that was trained there."""
    from helmlite.cli.compare import claim_result_folder
    from helmlite.evaluate.cross_domain_files import (
        CHINESE_PAGE_NAME,
        JSON_NAME,
        MARKDOWN_NAME,
        PAGE_NAME,
        write_cross_domain,
    )
    from helmlite.evaluate.pages.terminal import show_cross_domain

    if out is not None:
        paths = [_parse(text, None)[0].model for text in models]
        claim_result_folder(out, paths, {CHINESE_PAGE_NAME, JSON_NAME, MARKDOWN_NAME, PAGE_NAME})
    found = measured_matrix(models, data, split, runtime, threads, role or [], limit, seed)
    show_cross_domain(found)
    if out is not None:
        print(f"written to {write_cross_domain(found, out)}")


def measured_matrix(
    models: Sequence[str],
    data: Sequence[str],
    split: str = "test",
    runtime: str | None = None,
    threads: int | None = None,
    role: Sequence[str] = (),
    limit: int | None = None,
    seed: int = 0,
) -> CrossDomain:
    """The matrix of models and data sets as they are typed.  Raises ValueError, OSError or ImportError."""
    from helmlite.cli.compare import typed_command
    from helmlite.cli.evaluate import ShownProgress
    from helmlite.data.roles import check_given_roles, parse_role_options, with_given_roles
    from helmlite.evaluate.cross_domain import LookedAt, cross_domain
    from helmlite.models.look import look
    from helmlite.models.opened import versions_of
    from helmlite.models.wanted import named
    from helmlite.runtime.machine import now

    parsed = [_parse(text, runtime) for text in models]
    wanted = named([item for item, _ in parsed])
    sets = _named_sets(data)
    roles = parse_role_options(role)
    loaded = {item.name: _load(item.path, split, roles, limit) for item in sets}
    opened = {item.name: item.open(threads) for item in wanted}
    for model in opened.values():
        check_given_roles(roles, [item for parts in loaded.values() for item in parts[0].classes], model.classes)
    opened = {name: replace(model, classes=with_given_roles(model.classes, roles)) for name, model in opened.items()}
    rows = _rows(wanted, [home for _, home in parsed], opened, sets, roles)
    looked, remarks = list[LookedAt](), list[str]()
    for item in sets:
        pictures, contenders, said = look(opened, loaded[item.name], seed=seed, shown=ShownProgress)
        looked.append(LookedAt(item.name, pictures[0], pictures[-1], tuple(contenders)))
        remarks += [f"{item.name}: {line}" for line in said if line not in _lines_of(opened)]
        remarks += _own_pictures(item.name, loaded[item.name][0], opened)
    found = cross_domain(rows, looked, seed)
    return replace(
        found,
        remarks=(*found.remarks, *_lines_of(opened), *remarks),
        commands=(typed_command(),),
        versions=versions_of(opened),
        created=now(),
    )


@dataclass(frozen=True)
class WantedSet:
    """A data set as the user named it."""

    path: Path
    name: str


def _parse(text: str, runtime: str | None) -> tuple[WantedModel, tuple[str, ...] | None]:
    """`MODEL[,setting=value...]` with one setting more than `compare` knows; None where it is not given."""
    from helmlite.models.wanted import SETTINGS, split_settings, wanted_model

    model, given = split_settings(text, {*SETTINGS, _TRAINED_ON})
    homes = given.pop(_TRAINED_ON, None)
    names = None if homes is None else tuple(part.strip() for part in homes.split("+") if part.strip())
    return wanted_model(text, model, given, runtime), names


def _named_sets(data: Sequence[str]) -> list[WantedSet]:
    """Each set under the name it was given, else as much of its path as tells it apart.

    Raises ValueError where two are the same or were given one name.
    """
    from helmlite.models.wanted import split_settings

    if not data:
        raise ValueError("cross-domain wants at least one --data.")
    parsed = [split_settings(text, {"name"}) for text in data]
    places = [Path(path).parent if Path(path).suffix else Path(path) for path, _ in parsed]
    for length in (1, 2):
        names = [
            given.get("name") or "/".join(place.resolve().parts[-length:]) for place, (_, given) in zip(places, parsed)
        ]
        if len(set(names)) == len(names):
            return [WantedSet(Path(path), name) for (path, _), name in zip(parsed, names)]
    raise ValueError(f"Give each data set a name of its own, PATH,name=NAME; these cannot be told apart: {names}.")


def _load(path: Path, split: str, roles: Mapping[str, str], limit: int | None) -> list[Dataset]:
    """The reported and the tuning pictures."""
    from helmlite.data.load import load_dataset
    from helmlite.data.roles import with_given_roles
    from helmlite.models.look import tuning_split

    parts = [load_dataset(path, name) for name in (split, tuning_split(path, split))]
    parts = [replace(item, classes=with_given_roles(item.classes, roles)) for item in parts]
    return parts if limit is None else [item.subset(list(range(min(limit, len(item))))) for item in parts]


def _rows(
    wanted: Sequence[WantedModel],
    given: Sequence[tuple[str, ...] | None],
    opened: Mapping[str, OpenedModel],
    sets: Sequence[WantedSet],
    roles: Mapping[str, str],
) -> list[TrainedModel]:
    from helmlite.evaluate.cross_domain import TrainedModel

    rows = []
    for item, homes in zip(wanted, given, strict=True):
        model = opened[item.name]
        known_from = "as given" if homes is not None else ""
        if homes is None:
            homes = _recorded_homes(model, sets, roles)
            known_from = "its own record" if homes is not None else ""
        rows.append(TrainedModel(item.name, homes, known_from, model.input_size, model.runtime, model.precision))
    return rows


def _recorded_homes(opened: OpenedModel, sets: Sequence[WantedSet], roles: Mapping[str, str]) -> tuple[str, ...] | None:
    """The sets whose train split has the hash that the model's record states; None where it states none of them.

    A run hashes the pictures in the data's own classes, `finetune` in the detector's: either will do.
    """
    stated = opened.made_with.get("train")
    if stated is None:
        return None
    return tuple(item.name for item in sets if stated in _train_hashes(item.path, opened, roles)) or None


def _train_hashes(path: Path, opened: OpenedModel, roles: Mapping[str, str]) -> set[str]:
    """Hashes of the set's train split in its own classes and in the model's; none where it has no such split."""
    from helmlite.data.load import class_mapping, load_dataset, match_classes, splits_of
    from helmlite.data.roles import with_given_roles

    if "train" not in splits_of(path):
        return set()
    train = load_dataset(path, "train")
    train = replace(train, classes=with_given_roles(train.classes, roles))
    if not class_mapping(train.classes, opened.classes):
        return {train.sha256()}
    return {train.sha256(), match_classes(train, opened.classes).sha256()}


def _own_pictures(name: str, tested: Dataset, opened: Mapping[str, OpenedModel]) -> list[str]:
    """A sentence for each model that was made with the very pictures of this set that are reported."""
    from helmlite.evaluate.findings.leaks import find_own_pictures
    from helmlite.evaluate.findings.words import in_words

    made_with = {model: item.made_with for model, item in opened.items()}
    if not any(made_with.values()):
        return []
    return [f"{name}: {in_words(item)}" for item in find_own_pictures(tested.sha256(), made_with)]


def _lines_of(opened: Mapping[str, OpenedModel]) -> list[str]:
    """What `look` repeats for every set, said once."""
    return [f"{name}: {line}" for name, model in opened.items() for line in model.remarks]
