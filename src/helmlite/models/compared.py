"""Several models on the same labelled pictures, from paths to a comparison and its page.

>>> found = compare_models(["best.pt", "run/bundle"], Path("data.yaml"))  # doctest: +SKIP
>>> found.comparison.differences[0].says  # doctest: +SKIP
('mAP50-95: no difference shown (95 % interval: between a gain of 0.61 and a loss of 1.13).', ...)
>>> found.write(Path("versus"))  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from helmlite.data.dataset import Dataset
from helmlite.data.load import load_dataset
from helmlite.data.roles import check_given_roles, with_given_roles
from helmlite.evaluate.accuracy import Predictions
from helmlite.evaluate.causes.label_mistakes import MISTAKES_NAME, write_label_mistakes
from helmlite.evaluate.comparison import Comparison, compare
from helmlite.evaluate.comparison_files import write_comparison
from helmlite.evaluate.pages.gallery import cut_gallery
from helmlite.evaluate.pictures import pictures_csv
from helmlite.evaluate.thresholds import BEST_F1, ThresholdRule
from helmlite.models.leaks import said_of_pictures
from helmlite.models.look import Shown, check_classes_shared, check_timed, look, silent, timed, tuning_split
from helmlite.models.opened import versions_of
from helmlite.models.wanted import WantedModel, named, parse_model
from helmlite.runtime.machine import now


@dataclass(frozen=True)
class Compared:
    """A comparison with what it was made of.

    pictures: the reported ones, with the classes that all models know
    reported: what each model of `comparison.models` found in them, in its order
    """

    comparison: Comparison
    pictures: Dataset
    reported: tuple[Predictions, ...]

    def write(self, folder: Path) -> Path:
        """Page, JSON, Markdown, tables of pictures and of doubtful labels; gives the page's path.  Raises OSError."""
        folder.mkdir(parents=True, exist_ok=True)
        models = self.comparison.models
        named_results = zip(models, self.reported, strict=True)
        table = pictures_csv(
            {item.measured.name: (found, item.thresholds) for item, found in named_results}, self.pictures
        )
        write_label_mistakes(self.comparison.label_mistakes, folder / MISTAKES_NAME)
        return write_comparison(
            self.comparison, folder, table, cut_gallery(self.comparison, self.reported, self.pictures)
        )


def compare_models(
    models: Sequence[str | WantedModel],
    data: Path,
    split: str = "test",
    tune_split: str | None = None,
    runtime: str | None = None,
    threads: int | None = None,
    roles: Mapping[str, str] | None = None,
    rule: ThresholdRule = BEST_F1,
    time_rounds: int = 0,
    robustness: bool = False,
    limit: int | None = None,
    seed: int = 0,
    command: str = "",
    shown: Shown = silent,
) -> Compared:
    """The first model against all others on the same pictures: accuracy, errors, causes, thresholds, speed.

    models:      paths, or `path,setting=value` as `helmlite compare` takes them
    split:       reported;  tune_split: thresholds are chosen on it, by default val where there is one
    runtime, threads: for every model that does not name its own
    roles:       class name -> role, where the usual names do not tell
    time_rounds: of timing, all artifacts in turn; 0 for none
    robustness:  whether the reported pictures are also made worse, in nine ways at three severities
    limit:       only the first so many pictures of each split
    command:     what made it, for the page

    Raises ValueError, OSError or ImportError, in one line, for what cannot be opened or does not fit.
    """
    wanted = named([parse_model(item, runtime) if isinstance(item, str) else item for item in models])
    given = dict(roles or {})
    loaded = [load_dataset(data, name) for name in (split, tune_split or tuning_split(data, split))]
    loaded = [replace(item, classes=with_given_roles(item.classes, given)) for item in loaded]
    whole = loaded[0]
    if limit is not None:
        loaded = [item.subset(list(range(min(limit, len(item))))) for item in loaded]
    opened = {item.name: item.open(threads) for item in wanted}
    for model in opened.values():
        check_given_roles(given, loaded[0].classes, model.classes)
    opened = {name: replace(model, classes=with_given_roles(model.classes, given)) for name, model in opened.items()}
    check_classes_shared(whole.classes, opened)
    if time_rounds:
        check_timed(opened)
    pictures, contenders, remarks = look(opened, loaded, robustness, seed, shown)
    conditions: dict[str, str] = {}
    if time_rounds:
        contenders, conditions = timed(contenders, opened, pictures[0], time_rounds)
    found = compare(contenders, pictures[0], pictures[-1], rule, seed)
    seen = {item.measured.name: item.reported for item in contenders}
    said = said_of_pictures(data, whole, pictures[0], seen, opened, seed, shown)
    comparison = replace(
        found,
        leaks=said.leaks,
        own_pictures=said.own_pictures,
        remarks=(*found.remarks, *said.remarks, *remarks),
        commands=(command,) if command else (),
        versions=versions_of(opened),
        measured_on=conditions,
        created=now(),
    )
    return Compared(comparison, pictures[0], tuple(item.reported for item in contenders))
