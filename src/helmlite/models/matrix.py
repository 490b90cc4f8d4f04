"""The matrix *trained on* x *tested on* over several data sets, from paths as a user types them.

>>> found = cross_domain_models(["best.pt,trained_on=home"], ["home/data.yaml", "other/data.yaml"])  # doctest: +SKIP
>>> found.cell("best.pt", "other").says  # doctest: +SKIP
('mAP50-95: no model was trained on other, so that what it loses there is unknown.',)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from helmlite.data.dataset import Dataset
from helmlite.data.load import load_dataset, splits_of
from helmlite.data.roles import check_given_roles, with_given_roles
from helmlite.evaluate.cross_domain import CrossDomain, LookedAt, TrainedModel, cross_domain
from helmlite.evaluate.findings.words import in_words
from helmlite.models.leaks import LEARNED, hashes_of, own_pictures, readable_part
from helmlite.models.look import Shown, check_classes_shared, look, silent, tuning_split
from helmlite.models.opened import OpenedModel, versions_of
from helmlite.models.wanted import SETTINGS, WantedModel, named, split_settings, wanted_model
from helmlite.runtime.machine import now

_TRAINED_ON = "trained_on"


@dataclass(frozen=True)
class TrainedOn:
    """A model as the user named it.  homes: names of the sets it was trained on; None where the user does not say"""

    model: WantedModel
    homes: tuple[str, ...] | None = None


@dataclass(frozen=True)
class WantedSet:
    """A data set as the user named it."""

    path: Path
    name: str


def cross_domain_models(
    models: Sequence[str],
    data: Sequence[str | Path],
    split: str = "test",
    runtime: str | None = None,
    threads: int | None = None,
    roles: Mapping[str, str] | None = None,
    limit: int | None = None,
    seed: int = 0,
    command: str = "",
    shown: Shown = silent,
) -> CrossDomain:
    """Every model on every data set, each held against the best that was trained there.

    models:  `path,setting=value` as `helmlite compare` takes them, and `trained_on=NAME+NAME` of the sets; a bundle
             and a checkpoint of `helmlite finetune` know it themselves
    data:    paths, or `path,name=NAME`; a set without a name is called as its folder
    split:   reported of every set; thresholds are chosen on val where there is one
    runtime, threads: for every model that does not name its own
    roles:   class name -> role, where the usual names do not tell
    limit:   only the first so many pictures of each split
    command: what made it, for the page

    Raises ValueError, OSError or ImportError, in one line, for what cannot be opened or does not fit.
    """
    parsed = [parse_trained_on(text, runtime) for text in models]
    wanted = named([item.model for item in parsed])
    sets = named_sets(data)
    given = dict(roles or {})
    whole = {item.name: _load(item.path, split, given) for item in sets}
    opened = {item.name: item.open(threads) for item in wanted}
    for model in opened.values():
        check_given_roles(given, [item for parts in whole.values() for item in parts[0].classes], model.classes)
    opened = {name: replace(model, classes=with_given_roles(model.classes, given)) for name, model in opened.items()}
    for name, parts in whole.items():
        check_classes_shared(parts[0].classes, opened, name)
    rows = _rows(wanted, [item.homes for item in parsed], opened, sets, given)
    looked, remarks = list[LookedAt](), list[str]()
    for item in sets:
        parts = [_first(part, limit) for part in whole[item.name]]
        pictures, contenders, said = look(opened, parts, seed=seed, shown=shown)
        looked.append(LookedAt(item.name, pictures[0], pictures[-1], tuple(contenders)))
        remarks += [f"{item.name}: {line}" for line in said if line not in _lines_of(opened)]
        found = {contender.measured.name: contender.reported for contender in contenders}
        remarks += [f"{item.name}: {in_words(own)}" for own in own_pictures(whole[item.name][0], found, opened)]
    matrix = cross_domain(rows, looked, seed)
    return replace(
        matrix,
        remarks=(*matrix.remarks, *_lines_of(opened), *remarks),
        commands=(command,) if command else (),
        versions=versions_of(opened),
        created=now(),
    )


def parse_trained_on(text: str, runtime: str | None = None) -> TrainedOn:
    """`MODEL[,setting=value...]` with one setting more than `compare` knows.

    runtime: where the model does not name its own
    Raises ValueError for a value that does not suit its setting.

    >>> parse_trained_on("best.pt,trained_on=bikes_helmets+hardhat").homes
    ('bikes_helmets', 'hardhat')
    """
    model, given = split_settings(text, {*SETTINGS, _TRAINED_ON})
    homes = given.pop(_TRAINED_ON, None)
    names = None if homes is None else tuple(part.strip() for part in homes.split("+") if part.strip())
    return TrainedOn(wanted_model(text, model, given, runtime), names)


def named_sets(data: Sequence[str | Path]) -> list[WantedSet]:
    """Each set under the name it was given, else as much of its folder's path as tells it apart.

    Raises ValueError where there is none, or where two are the same or were given one name.

    >>> [item.name for item in named_sets(["a/hardhat/data.yaml", "b/data.yaml,name=home"])]
    ['hardhat', 'home']
    """
    if not data:
        raise ValueError("cross-domain wants at least one --data.")
    parsed = [split_settings(str(text), {"name"}) for text in data]
    places = [Path(path) if Path(path).is_dir() else Path(path).parent for path, _ in parsed]
    for length in (1, 2):
        names = [
            given.get("name") or "/".join(place.resolve().parts[-length:]) for place, (_, given) in zip(places, parsed)
        ]
        if len(set(names)) == len(names):
            return [WantedSet(Path(path), name) for (path, _), name in zip(parsed, names)]
    raise ValueError(f"Give each data set a name of its own, PATH,name=NAME; these cannot be told apart: {names}.")


def _load(path: Path, split: str, roles: Mapping[str, str]) -> list[Dataset]:
    """The reported and the tuning pictures."""
    parts = [load_dataset(path, name) for name in (split, tuning_split(path, split))]
    return [replace(item, classes=with_given_roles(item.classes, roles)) for item in parts]


def _first(pictures: Dataset, limit: int | None) -> Dataset:
    return pictures if limit is None else pictures.subset(list(range(min(limit, len(pictures)))))


def _rows(
    wanted: Sequence[WantedModel],
    given: Sequence[tuple[str, ...] | None],
    opened: Mapping[str, OpenedModel],
    sets: Sequence[WantedSet],
    roles: Mapping[str, str],
) -> list[TrainedModel]:
    rows = []
    learned: dict[str, Dataset | None] = {}
    for item, homes in zip(wanted, given, strict=True):
        model = opened[item.name]
        known_from = "as given" if homes is not None else ""
        if homes is None and LEARNED in model.made_with:
            learned = learned or {one.name: _learned(one.path, roles) for one in sets}
            homes = _recorded_homes(model, learned)
            known_from = "its own record" if homes is not None else ""
        rows.append(TrainedModel(item.name, homes, known_from, model.input_size, model.runtime, model.precision))
    return rows


def _recorded_homes(model: OpenedModel, learned: Mapping[str, Dataset | None]) -> tuple[str, ...] | None:
    """The sets whose train split has the hash that the model's record states; None where it states none of them."""
    stated = model.made_with[LEARNED]
    homes = [name for name, part in learned.items() if part is not None and stated in hashes_of(part, model.classes)]
    return tuple(homes) or None


def _learned(path: Path, roles: Mapping[str, str]) -> Dataset | None:
    """The readable pictures of the train split, as a run hashes them; None where there is no such split."""
    if LEARNED not in splits_of(path):
        return None
    train = load_dataset(path, LEARNED)
    return readable_part(replace(train, classes=with_given_roles(train.classes, roles)))


def _lines_of(opened: Mapping[str, OpenedModel]) -> list[str]:
    """What `look` repeats for every set, said once."""
    return [f"{name}: {line}" for name, model in opened.items() for line in model.remarks]
