"""The guide to testing a detector, in English and Chinese: both are equal, and true of the commands that they name."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

from helmlite.cli import app

_ROOT = Path(__file__).parents[1]
_ENGLISH, _CHINESE = _ROOT / "docs" / "evaluation.md", _ROOT / "docs" / "evaluation.zh-CN.md"
_GUIDES = pytest.mark.parametrize("guide", [_ENGLISH, _CHINESE], ids=lambda path: path.name)
_ELIDED = "…"
_USAGE_ERROR: Any = typer.BadParameter.__mro__[1]  # of click, which newer releases of typer carry inside themselves


@pytest.fixture(scope="module", name="root")
def _root() -> TyperGroup:
    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)
    return root


def _code(text: str) -> list[str]:
    """Lines of code, indented or fenced, without their remarks.

    >>> _code("Run\\n\\n    helmlite eval a  # one\\n\\n```\\npython b.py\\n```\\n- and\\n  go on")
    ['helmlite eval a', 'python b.py']
    """
    lines, is_fenced = [], False
    for line in text.splitlines():
        if line.startswith("```"):
            is_fenced = not is_fenced
        elif is_fenced or line.startswith("    "):
            lines.append(re.sub(r"\s+# .*", "", line).strip())
    return [line for line in lines if line]


def _inline(text: str) -> list[str]:
    """What stands between backticks in the running text."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.S))


def _command_lines(text: str) -> Iterator[str]:
    """Every `helmlite ...` of a text, in its code and between its backticks."""
    for line in (*_code(text), *_inline(text)):
        yield from (part.strip() for part in line.split("&&") if re.match(r"\s*helmlite\b", part))


def _options(command: Any) -> set[str]:
    return {name for item in command.params if item.param_type_name == "option" for name in item.opts}


def _every_command(root: TyperGroup) -> Iterator[Any]:
    for item in root.commands.values():
        yield from _every_command(item) if isinstance(item, TyperGroup) else (item,)


def _wrong(root: TyperGroup, line: str) -> str:
    """Why `helmlite` would not take this line, empty where it would; only the options where parts of it are left out.

    A line without arguments names the command and is not to be typed.
    """
    words = shlex.split(line)[1:]
    command: Any = root
    while isinstance(command, TyperGroup):
        if not words or words[0] not in command.commands:
            return f"no command: {line}"
        command = command.commands[words.pop(0)]
    unknown = [word for word in words if word.startswith("--") and word not in _options(command)]
    if unknown:
        return f"no option {unknown[0]}: {line}"
    if not words or _ELIDED in words:
        return ""
    try:
        command.make_context(command.name, words)
    except _USAGE_ERROR as error:
        return f"{error.format_message()}: {line}"
    return ""


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("helmlite compare a b --data d", ""),
        ("helmlite data check d", ""),
        ("helmlite compress", ""),
        ("helmlite compress … --dry-run", ""),
        ("helmlite compare a b --date d", "no option --date"),
        ("helmlite compress … --date", "no option --date"),
        ("helmlite judge a", "no command"),
        ("helmlite data judge", "no command"),
        ("helmlite adapt a --unlabelled b", "Missing option '--out'"),
        ("helmlite mine-back", ""),
        ("helmlite report a b", "unexpected extra argument"),
        ("helmlite adapt a --out b --labelled many", "many"),
    ],
)
def test_a_wrong_line_is_seen(root: TyperGroup, line: str, expected: str) -> None:
    found = _wrong(root, line)
    assert expected in found and bool(expected) == bool(found)


@_GUIDES
def test_every_command_line_is_one_that_helmlite_takes(root: TyperGroup, guide: Path) -> None:
    lines = list(_command_lines(guide.read_text(encoding="utf-8")))
    assert len(lines) > 10
    assert [wrong for line in lines if (wrong := _wrong(root, line))] == []


@_GUIDES
def test_every_option_in_the_text_is_one_of_some_command(root: TyperGroup, guide: Path) -> None:
    known = set[str]().union(*(_options(item) for item in _every_command(root)))
    named = {part.split()[0] for part in _inline(guide.read_text(encoding="utf-8")) if part.startswith("--")}
    assert "--max-drop" in named
    assert named - known == set()


@_GUIDES
def test_every_link_and_every_named_file_is_there(guide: Path) -> None:
    text = guide.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if "://" not in link]
    files = re.findall(r"\b(?:benchmarks|tests)/[\w/]+(?:\.py)?", text)
    assert len(links) > 3 and len(files) > 3
    assert [link for link in links if not (guide.parent / link).exists()] == []
    assert [file for file in files if not (_ROOT / file).exists()] == []


@_GUIDES
def test_every_option_of_a_benchmark_is_one_of_its_own(guide: Path) -> None:
    common = (_ROOT / "benchmarks" / "common.py").read_text(encoding="utf-8")
    lines = [line.split() for line in _code(guide.read_text(encoding="utf-8")) if line.startswith("python ")]
    assert len(lines) >= 2
    for _, script, *words in lines:
        known = common + (_ROOT / script).read_text(encoding="utf-8")
        assert [word for word in words if word.startswith("--") and f'"{word}"' not in known] == []


def test_both_guides_have_the_same_commands() -> None:
    english, chinese = (_code(path.read_text(encoding="utf-8")) for path in (_ENGLISH, _CHINESE))
    assert chinese == english


def test_both_guides_have_the_same_headings_and_table_rows_with_the_same_numbers() -> None:
    english, chinese = (path.read_text(encoding="utf-8").splitlines() for path in (_ENGLISH, _CHINESE))
    levels = [[line.split()[0] for line in lines if re.match("#+ ", line)] for lines in (english, chinese)]
    assert levels[1] == levels[0] and len(levels[0]) > 6
    rows = [[line for line in lines if line.startswith("|")] for lines in (english, chinese)]
    assert len(rows[1]) == len(rows[0]) > 30
    for ours, theirs in zip(*rows, strict=True):
        assert _numbers(theirs) == _numbers(ours), theirs
        assert theirs.count("|") == ours.count("|"), theirs


def _numbers(text: str) -> Counter[str]:
    """Numbers with their sign, in any order, since the two languages order them otherwise."""
    return Counter(re.findall(r"[+−]?\d+(?:\.\d+)?", text))


@pytest.mark.parametrize("readme", ["README.md", "README.zh-CN.md"])
def test_the_readmes_lead_to_the_guides(readme: str) -> None:
    text = (_ROOT / readme).read_text(encoding="utf-8")
    for page in (_ENGLISH.name, _CHINESE.name, "python.md", "gate.md"):
        assert f"](docs/{page})" in text
