"""A recipe is a list of techniques; running one writes a checkpoint after each, so that nothing is done twice.

    name = "fast"
    purpose = "ten times faster on an x86 box"
    input_size = 416
    minutes = 60             # of training, where the command line does not say how long

    [[step]]
    technique = "prune"
    macs_ratio = 0.4

    [[step]]
    technique = "distill"
    share = 1.0          # of the minutes that the command line gives

A step's checkpoint is keyed by everything that went into it: the detector, the teacher, the pictures that it looks at,
the seed and all steps before.  A changed last step reruns only itself.  Which checkpoints are those of the latest run
is written beside them (`step_folders`), since those of other settings stay there.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace
from importlib import resources
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import helmlite
from helmlite.compress.checkpoint import is_checkpoint, load_checkpoint, read_provenance, save_checkpoint
from helmlite.compress.order import check_order
from helmlite.compress.separable import Separable
from helmlite.compress.technique import ChoosesOnVal, Context, Technique, WithOutside
from helmlite.compress.techniques import TECHNIQUES
from helmlite.compress.unused_settings import check_used
from helmlite.data.labels import read_text
from helmlite.detector.detector import Detector
from helmlite.detector.fit_state import detector_sha256, seconds_trained
from helmlite.files import read_json, write_whole

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_STEP_HEADER = re.compile(r"\s*\[\[\s*step\s*\]\]")
_ORDER_FILE = "order.json"
_KEYS = frozenset({"name", "purpose", "input_size", "minutes", "step"})
_MAY_BE_INFINITE = ((Separable, "max_error"),)  # any error goes
_ROUNDING = 1e-9  # of a sum of shares
_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    tuple[float, ...]: "a list of numbers",
    tuple[str, ...]: "a list of texts, none of them empty",
}
DEFAULT_MINUTES = 60.0  # of training, where neither the command nor the recipe says how long


@dataclass(frozen=True)
class Recipe:
    """Techniques in order.

    input_size: side of the square input in pixels; None keeps the detector's own
    minutes:    what the steps with a `share` have shared out among them
    """

    name: str
    purpose: str
    steps: tuple[Technique, ...]
    input_size: int | None = None
    minutes: float = DEFAULT_MINUTES

    def to_json(self) -> dict[str, Any]:
        """The recipe as plain data, for provenance."""
        steps = [{"technique": step.name, **asdict(step)} for step in self.steps]  # type: ignore[call-overload]
        return {"name": self.name, "purpose": self.purpose, "input_size": self.input_size, "steps": steps}


@dataclass(frozen=True)
class StepResult:
    """A detector after one step.

    seconds: what the step took when it was made; resumed: whether it was there already
    had_clock: whether it could measure the target when it was made
    """

    name: str
    detector: Detector
    folder: Path
    seconds: float
    resumed: bool
    had_clock: bool = True


def recipe_names() -> tuple[str, ...]:
    """Names of the recipes that come with helmlite."""
    folder = resources.files("helmlite") / "recipes"
    return tuple(sorted(item.name.removesuffix(".toml") for item in folder.iterdir() if item.name.endswith(".toml")))


def load_recipe(name_or_path: str, minutes: float | None = None) -> Recipe:
    """A shipped recipe by name, or one from a TOML file.

    minutes: shared out among the steps that state a `share` of it; None takes the recipe's own, else an hour
    Raises ValueError, naming file and line, for anything that is not a recipe; TechniqueOrderError for a wrong order.
    """
    path = Path(name_or_path)
    if path.suffix == ".toml":
        if not path.is_file():
            raise ValueError(f"{path}: no such recipe file.")
        text, where = read_text(path), str(path)
    elif name_or_path in recipe_names():
        where = f"{name_or_path}.toml"
        text = (resources.files("helmlite") / "recipes" / where).read_text(encoding="utf-8")
    else:
        raise ValueError(
            f"Unknown recipe '{name_or_path}'. Known: {', '.join(recipe_names())}; or the path of a .toml."
        )
    return parse_recipe(text, where, minutes)


def parse_recipe(text: str, where: str, minutes: float | None = None) -> Recipe:
    """The recipe that a TOML text states; `where` names it in messages."""
    try:
        stated = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{where}: not readable as TOML: {error}.") from error
    unknown = sorted(set(stated) - _KEYS)
    if unknown or not stated.get("step"):
        problem = f"unknown key '{unknown[0]}'" if unknown else "no [[step]]"
        raise ValueError(
            f"{where}: {problem}; a recipe has name, purpose, input_size, minutes and a [[step]] for each technique."
        )
    if not isinstance(stated["step"], list) or not all(isinstance(item, dict) for item in stated["step"]):
        raise ValueError(f"{where}: each technique is a [[step]] of its own.")
    lines = [number for number, line in enumerate(text.splitlines(), start=1) if _STEP_HEADER.match(line)]
    places = [f"{where}:{line}" for line in lines]
    if len(places) != len(stated["step"]):  # written in another way that TOML allows
        places = [f"{where}, step {number}" for number in range(1, len(stated["step"]) + 1)]
    own_minutes = stated.get("minutes", DEFAULT_MINUTES)
    if not _is_of(own_minutes, float) or not 0 < own_minutes < math.inf:
        raise ValueError(f"{where}: minutes must be a number above 0; got {own_minutes!r}.")
    minutes = float(own_minutes) if minutes is None else minutes
    steps = tuple(_step(item, place, minutes) for item, place in zip(stated["step"], places, strict=True))
    check_order(step.name for step in steps)
    shares = sum(item.get("share", 0) for item in stated["step"])
    if shares > 1 + _ROUNDING:
        raise ValueError(
            f"{where}: the shares of its steps add up to {round(shares, 9)}; together they may be at most 1."
        )
    size = stated.get("input_size")
    if size is not None and (not isinstance(size, int) or size < 32 or size % 32):
        raise ValueError(f"{where}: input_size must be a multiple of 32; got {size}.")
    return Recipe(str(stated.get("name", Path(where).stem)), str(stated.get("purpose", "")), steps, size, minutes)


def run_recipe(detector: Detector, steps: Sequence[Technique], context: Context, folder: Path) -> list[StepResult]:
    """The detector after every step, oldest first.  Steps whose checkpoint is in `folder` are not done again."""
    key = _starting_key(detector, context)
    keys = []
    for step in steps:
        key = hashlib.sha256(f"{key} {_said(step, context)} {helmlite.__version__}".encode()).hexdigest()
        keys.append(key)
    places = [folder / f"{number}-{step.name}-{keys[number - 1][:12]}" for number, step in enumerate(steps, start=1)]
    results: list[StepResult] = []
    for step, place, key in zip(steps, places, keys, strict=True):
        results.append(_one_step(step, results[-1].detector if results else detector, context, place, key))
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / _ORDER_FILE, json.dumps([place.name for place in places]))
    return results


def step_folders(folder: Path) -> list[Path]:
    """The checkpoints of the latest run that was finished in a folder of steps, in order.

    Raises ValueError where none was, or where the list of them is damaged.
    """
    path = folder / _ORDER_FILE
    if not path.is_file():
        raise ValueError(f"{folder}: no run of all steps was finished there; give the command again, and it goes on.")
    names = read_json(path, list)
    strange = [name for name in names if not isinstance(name, str) or Path(name).name != name]
    if strange:
        raise ValueError(
            f"{path}: damaged ({strange[0]!r} is no folder beside it); remove it and give the command again."
        )
    return [folder / name for name in names]


def step_provenance(place: Path) -> dict[str, Any]:
    """Where a step's checkpoint comes from: `technique`, `settings`, `seconds` at least.

    Raises ValueError where it does not say so.
    """
    about = read_provenance(place)
    for name, kind in (("technique", str), ("settings", dict), ("seconds", (int, float))):
        if not isinstance(about.get(name), kind):
            raise ValueError(
                f"{place / 'provenance.json'}: damaged (it states no {name}); remove the folder {place.name} and give "
                "the command again."
            )
    return about


def _said(step: Technique, context: Context) -> str:
    """All that a step is made of: its settings, the content of what they point to, and the pictures it chooses by."""
    parts = [repr(step), step.outside_sha256() if isinstance(step, WithOutside) else ""]
    if isinstance(step, ChoosesOnVal) and step.uses_val and context.val is not None:
        parts.append(f"val {context.val.sha256()}")
    return " ".join(part for part in parts if part)


def _one_step(step: Technique, detector: Detector, context: Context, place: Path, key: str) -> StepResult:
    if is_checkpoint(place):
        context.log(f"{step.name}: already done, taken from {place.name}")
        about = step_provenance(place)
        had_clock = bool(about.get("had_clock", True))
        return StepResult(step.name, load_checkpoint(place), place, float(about["seconds"]), True, had_clock)
    started = time.monotonic()
    workspace = place.with_name(f"{place.name}.work")
    made = step.apply(detector, replace(context, workspace=workspace)).trained_for(context.input_size)
    seconds = max(time.monotonic() - started, seconds_trained(workspace))  # of a training that was taken up again
    about = {"technique": step.name, "settings": asdict(step), "key": key, "seed": context.seed}  # type: ignore[call-overload]
    about |= {"seconds": round(seconds, 1), "input_size": context.input_size, "helmlite": helmlite.__version__}
    about |= {"had_clock": context.layer_clock is not None}
    save_checkpoint(made, place, about)
    return StepResult(step.name, made, place, seconds, False, context.layer_clock is not None)


def _starting_key(detector: Detector, context: Context) -> str:
    digest = hashlib.sha256(context.data.sha256().encode())
    digest.update(f"{context.seed} {context.input_size} {context.channel_multiple}".encode())
    digest.update(repr([(item.name, item.role) for item in detector.classes]).encode())
    for name, tensor in detector.network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    if detector.edits:  # some change what is computed and no tensor
        digest.update(json.dumps([(edit.kind, edit.to_json()) for edit in detector.edits]).encode())
    original = context.original
    if original is not detector:
        digest.update(detector_sha256(original).encode())
    return digest.hexdigest()


def _step(stated: Mapping[str, Any], where: str, minutes: float) -> Technique:
    settings = dict(stated)
    name = settings.pop("technique", None)
    if not isinstance(name, str):
        problem = "this step names no technique" if name is None else f"technique must be a text; got {name!r}"
        raise ValueError(f"{where}: {problem}; known are {', '.join(TECHNIQUES)}.")
    if name not in TECHNIQUES:
        raise ValueError(f"{where}: unknown technique '{name}'; known are {', '.join(TECHNIQUES)}.")
    kind = TECHNIQUES[name]
    if "share" in settings:
        _check_share(settings, kind, f"{where}: {name}")
        settings["minutes"] = float(settings.pop("share")) * minutes
    _check_settings(settings, kind, f"{where}: {name}")
    plain = {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}
    try:
        step = kind(**plain)
        check_used(step, settings)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from error
    return step


def _check_share(settings: Mapping[str, Any], kind: Callable[..., Technique], where: str) -> None:
    share = settings["share"]
    if not _is_of(share, float) or not 0 < share <= 1:
        raise ValueError(f"{where}: share is a part of the minutes, above 0 and at most 1; got {share!r}.")
    if "minutes" not in [item.name for item in fields(kind)]:  # type: ignore[arg-type]
        raise ValueError(f"{where} does not train and takes no share; leave out share.")
    if "minutes" in settings:
        raise ValueError(f"{where}: give share or minutes, not both.")


def _check_settings(settings: Mapping[str, Any], kind: Callable[..., Technique], where: str) -> None:
    """Raises ValueError for a setting that the technique has not, lacks, or that is of another type or not finite."""
    types = get_type_hints(kind)
    known = fields(kind)  # type: ignore[arg-type]
    names = [item.name for item in known]
    unknown = sorted(set(settings) - set(names))
    if unknown:
        raise ValueError(f"{where} has no setting '{unknown[0]}'; it has {', '.join(names)}.")
    missing = [item.name for item in known if item.default is MISSING and item.name not in settings]
    if missing:
        raise ValueError(f"{where} needs {missing[0]}.")
    for key, value in settings.items():
        if not _is_of(value, types[key]):
            raise ValueError(f"{where}: {key} must be {_in_words(types[key])}; got {value!r}.")
        if not _is_finite(value) and (kind, key) not in _MAY_BE_INFINITE:
            raise ValueError(f"{where}: {key} must be finite; got {value!r}.")


def _is_finite(value: object) -> bool:
    """Whether neither a value nor one in a list is inf or nan."""
    values = value if isinstance(value, list) else [value]
    return all(math.isfinite(item) for item in values if isinstance(item, float))


def _is_of(value: object, wanted: Any) -> bool:
    """Whether a TOML value may stand for a setting of this type: an int for a float, a list for a tuple."""
    choices = get_args(wanted) if get_origin(wanted) in (Union, UnionType) else (wanted,)
    return any(_is_one(value, choice) for choice in choices)


def _is_one(value: object, wanted: Any) -> bool:
    kind = get_origin(wanted) or wanted
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind is tuple:
        each, _ = get_args(wanted)  # tuple[float, ...]
        return isinstance(value, list) and all(_is_one(item, each) and item != "" for item in value)
    return isinstance(value, kind)


def _in_words(wanted: Any) -> str:
    choices = get_args(wanted) if get_origin(wanted) in (Union, UnionType) else (wanted,)
    return " or ".join(_WORDS[choice] for choice in choices if choice is not type(None))
