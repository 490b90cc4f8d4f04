"""Models as a user types them: `MODEL,setting=value,...`, each with a name that tells it apart."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from helmlite.models.opened import OpenedModel, open_model

_SAYS_NOTHING = ("bundle", "model.onnx", "weights", "best.pt", "last.pt", "best.onnx", "/", "..")


@dataclass(frozen=True)
class WantedModel:
    """A model as the user named it, with the settings that are its own."""

    model: str
    name: str = ""
    runtime: str | None = None
    precision: str | None = None
    input_size: int | None = None
    layout: str | None = None
    classes: tuple[str, ...] = ()

    def open(self, threads: int | None) -> OpenedModel:
        """The model, ready to detect.  Raises ValueError, OSError or ImportError, as `open_model` does."""
        return open_model(self.model, self.runtime, threads, self.precision, self.input_size, self.classes, self.layout)


SETTINGS = frozenset(item.name for item in fields(WantedModel)) - {"model"}


def parse_model(text: str, runtime: str | None = None) -> WantedModel:
    """`MODEL[,setting=value...]`; a comma that no known setting follows belongs to the path.

    runtime: where the model does not name its own
    Raises ValueError for a value that does not suit its setting.

    >>> parse_model("best.onnx,layout=ultralytics,classes=helmet+no_helmet").classes
    ('helmet', 'no_helmet')
    """
    model, given = split_settings(text, SETTINGS)
    return wanted_model(text, model, given, runtime)


def split_settings(text: str, known: Collection[str]) -> tuple[str, dict[str, str]]:
    """What stands before the settings, and these by name; a comma that no known setting follows belongs to the path.

    Raises ValueError for a setting that is given twice or has no value.

    >>> split_settings("odd,name.onnx,name=small", {"name"})
    ('odd,name.onnx', {'name': 'small'})
    """
    rest, given = text, dict[str, str]()
    while "," in rest:
        before, _, last = rest.rpartition(",")
        key, separator, value = last.partition("=")
        if not separator or key not in known:
            break
        if key in given or not value:
            raise ValueError(f"{text}: '{key}' {'is given twice' if key in given else 'has no value'}.")
        rest, given[key] = before, value
    return rest, given


def wanted_model(text: str, model: str, given: Mapping[str, str], runtime: str | None = None) -> WantedModel:
    """The model with its settings as they were typed.  text: all of it, for messages

    Raises ValueError for a value that does not suit its setting.
    """
    size = given.get("input_size")
    if size is not None and not size.isdigit():
        raise ValueError(f"{text}: input_size is a number of pixels; got '{size}'.")
    return WantedModel(
        model=model,
        name=given.get("name", ""),
        runtime=given.get("runtime", runtime),
        precision=given.get("precision"),
        input_size=None if size is None else int(size),
        layout=given.get("layout"),
        classes=tuple(name.strip() for name in given.get("classes", "").split("+") if name.strip()),
    )


def typed_again(program: str, words: Sequence[str]) -> str:
    """The command that was typed.  Of absolute paths only the last parts, since a page may be shown to others.

    program: what stands before the words, for instance `helmlite`;  words: as the shell gave them

    >>> typed_again("helmlite", ["eval", "/alice/runs/small/best.pt", "--data=/alice/bikes/data.yaml"])
    'helmlite eval small/best.pt --data=bikes/data.yaml'
    """
    return f"{program} {shlex.join(_last_parts(word) for word in words)}"


def _last_parts(word: str) -> str:
    option, separator, value = word.partition("=") if word.startswith("-") else ("", "", word)
    short = "/".join(Path(value).parts[1:][-2:]) if value.startswith("/") else value
    return f"{option}{separator}{short}"


def named(models: Sequence[WantedModel]) -> list[WantedModel]:
    """Each with a name of its own: the one it was given, else as little of its path and settings as tells it apart.

    Raises ValueError where two are the same model with the same settings, or were given one name.
    """
    short = [item.name or _own_name(Path(item.model)) for item in models]
    longer = [item.name or "/".join(Path(item.model).parts[-2:]) for item in models]
    settings = [
        " ".join(str(value) for value in (item.input_size, item.runtime, item.precision) if value) for item in models
    ]
    options = (
        short,
        longer,
        *([f"{name} {more}".strip() for name, more in zip(names, settings)] for names in (short, longer)),
    )
    for names in options:
        if len(set(names)) == len(names):
            return [replace(item, name=name) for item, name in zip(models, names)]
    raise ValueError(
        f"Give each model a name of its own, MODEL,name=...; these cannot be told apart: {', '.join(short)}."
    )


def _own_name(path: Path) -> str:
    """The last part of a path that says more than what kind of thing it is: `runs/small/bundle` -> `small`."""
    parts = [part for part in path.parts if part not in _SAYS_NOTHING]
    return parts[-1] if parts else str(path)
