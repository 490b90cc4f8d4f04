"""A finished page in another language: every text that a catalogue of templates knows is replaced, all else stays.

Pages are written once, in English.  A template has named holes:

    "{n_lost} of {n_heads} bare heads newly missed" -> "{n_heads} 个未戴头盔的头部中，新漏检 {n_lost} 个"

A hole whose name begins with `n_` takes a figure as `figures.py` writes it (a number, with its unit or without, or
"unknown").  One that begins with `name_` takes a name from outside, of a model, a class or a set, and leaves it as it
is: a model may be called `small`.  Any other takes any text, which is looked up in its turn.  Sentences and lists that
stand one after another in one text are taken apart where each part is known.  Of several ways to read a text the one
counts that leaves the fewest letters in English; of equal ones the template with the most text of its own.

A page is split at its tags, which is sound because pages escape every < and > of what they show, in attributes too.
Translated are texts between tags, `<title>` and `aria-label`; left alone are `<style>`, `<pre>`, and every element
with translate="no" and what is in it: names from outside stand there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from html import escape, unescape
from typing import NamedTuple

from helmlite.evaluate.figures import UNKNOWN
from helmlite.evaluate.pages.chinese import CHINESE

_TAG = re.compile(r"(<[^>]+>)")
_TAG_NAME = re.compile(r"<(/?)([a-z][\w-]*)", re.IGNORECASE)
_LABEL = re.compile(r'(?<= aria-label=")[^"]*')
_HOLE = re.compile(r"\{(\w+)\}")
_FIGURE = rf"[+\-−]?\d+(?:[.,]\d+)*(?:e[+-]?\d+)?(?: ?(?:%|×|ms|px|[kMGT]?B|[kMGT])(?!\w))?|{UNKNOWN}"
_NAME = r"(?:(?!\. |; |: ).)+?"  # no sentence ends in a name
_FOR_A_NAME = frozenset({"the baseline"})  # what we say where a model has no name
_IS_FIGURE = re.compile(_FIGURE)
_PER_CENT = re.compile(r"(?<=\d) %")  # in Chinese without a blank
_ENGLISH = re.compile(r"[A-Za-z]{2,}")
_WORD = re.compile(r"[^\s()（）,，;；:：。、/·→«»“”'\"]+")
_WIDE = "\u2e80-\u9fff\uff00-\uffef"  # Chinese letters and marks, beside which a blank looks like a hole
_WIDE_BLANKS = re.compile(rf"(?<=[{_WIDE}])\0 (?=\0?[{_WIDE}])|(?<=[{_WIDE}]) \0(?=[{_WIDE}])")  # \0: a hole's end
_VOID = frozenset({"meta", "img", "br", "hr", "link", "input"})
_LEFT_ALONE = frozenset({"style", "pre", "script"})
_SEPARATORS = (  # between texts that stand one after another, and how the translation writes them
    (". ", ""),
    ("; ", "；"),
    (" · ", " · "),
    (", ", "、"),
    (" × ", " × "),
)
_TECHNICAL = frozenset(  # what is called the same in every language
    (
        "mAP mAP50 mAP75 mAP50-95 AP AP50 AP50-95 F1 IoU TIDE COCO ECE MACs DFL NMS BF16 FP32 INT8 INT4 JPEG px ms "
        "MB kB GB CPU GPU VNNI OpenVINO PyTorch ONNX Runtime NNCF torch numpy nncf ultralytics sha256 p95 p99 seed "
        "helmlite test val train helmet no_helmet rider two_wheeler Cls Loc Both Dupe Bkg Miss Bolya softmax BatchNorm"
    ).split()
)


class Translated(NamedTuple):
    """What became of a text.

    left:     the pieces of it that no template knew and that have English words, names among them
    is_known: whether anything was known of it, or nothing in it needs translating
    """

    text: str
    left: tuple[str, ...]
    is_known: bool


@dataclass(frozen=True)
class _Template:
    """A template with holes.  pieces: its own text and names of holes, in turn"""

    pieces: tuple[str, ...]
    translation: str

    @cached_property
    def needed(self) -> str:
        """The longest part of its own text: what lacks it need not be tried."""
        return max(self.pieces[::2], key=len)

    @cached_property
    def own_letters(self) -> int:
        return sum(map(len, self.pieces[::2]))

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        parts = [
            f"(?P<{piece}>{_held_by(piece)})" if number % 2 else re.escape(piece)
            for number, piece in enumerate(self.pieces)
        ]
        return re.compile("".join(parts))

    def holes_of(self, text: str) -> dict[str, str] | None:
        """What fills the holes; None where the text is not of this template."""
        match = self._pattern.fullmatch(text) if self.needed in text else None
        return None if match is None else match.groupdict()


@dataclass
class Catalogue:
    """Templates, ready to translate.  templates: English -> the other language, both with the same holes

    Raises ValueError where a translation has other holes than its template.
    """

    templates: Mapping[str, str]
    _exact: dict[str, str] = field(init=False, default_factory=dict)
    _patterns: list[_Template] = field(init=False, default_factory=list)
    _known: dict[str, Translated] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        for english, translation in self.templates.items():
            if sorted(_HOLE.findall(english)) != sorted(set(_HOLE.findall(translation))):
                raise ValueError(f"'{english}' and '{translation}' have different holes.")
            if _HOLE.search(english):
                self._patterns.append(_Template(tuple(_HOLE.split(english)), translation))
            else:
                self._exact[english] = translation
        self._patterns.sort(key=lambda item: -item.own_letters)

    def translate(self, text: str) -> Translated:
        """The text in the other language.

        >>> Catalogue({"{n_lost} points lost": "损失 {n_lost} 个百分点"}).translate("0.3 points lost").text
        '损失 0.3 个百分点'
        """
        if text not in self._known:
            self._known[text] = self._translated(text)
        return self._known[text]

    def _translated(self, text: str) -> Translated:
        if text in self._exact:
            return Translated(self._exact[text], (), True)
        if _IS_FIGURE.fullmatch(text) or not _ENGLISH.search(text):
            return Translated(_PER_CENT.sub("%", text), (), True)
        best: Translated | None = None
        for found in self._readings(text):
            if best is None or _letters(found) < _letters(best):
                best = found
            if not best.left:
                break
        if best is None and all(map(_is_technical, _WORD.findall(text))):
            return Translated(text, (), True)
        return best or Translated(text, (text,), False)

    def _readings(self, text: str) -> Iterator[Translated]:
        """Every way in which something of the text is known."""
        for template in self._patterns:
            if (holes := template.holes_of(text)) is not None:
                yield self._filled(template.translation, holes)
        if text.endswith(".") and not text.endswith("..") and (found := self.translate(text[:-1])).is_known:
            yield found._replace(text=f"{found.text}。")
        if text[:1].isupper() and (found := self._lower(text)).is_known:
            yield found
        yield from self._apart(text)

    def _apart(self, text: str) -> Iterator[Translated]:
        """The first way to take the text apart so that something of each part is known."""
        for separator, between in _SEPARATORS:
            for match in re.finditer(re.escape(separator), text):
                head = text[: match.start()] + separator.strip() * (separator == ". ")
                if separator == ". " and not _ENGLISH.search(head):  # `1. prune`
                    continue
                first = self.translate(head)
                if first.is_known and (second := self.translate(text[match.end() :])).is_known:
                    yield Translated(f"{first.text}{between}{second.text}", first.left + second.left, True)
                    return

    def _lower(self, text: str) -> Translated:
        lower = text[0].lower() + text[1:]
        if lower in self._exact:
            return Translated(self._exact[lower], (), True)
        for template in self._patterns:
            if (holes := template.holes_of(lower)) is not None:
                return self._filled(template.translation, holes)
        return Translated(text, (text,), False)

    def _filled(self, translation: str, holes: Mapping[str, str]) -> Translated:
        fills = {name: self.translate(text) for name, text in holes.items()}
        left = tuple(piece for found in fills.values() for piece in found.left)
        texts = {name: holes[name] if _is_of_name(name, holes[name]) else found.text for name, found in fills.items()}
        text = _HOLE.sub(lambda match: f"\0{texts[match.group(1)]}\0", translation)
        return Translated(_WIDE_BLANKS.sub("", text).replace("\0", ""), left, True)


@cache
def _chinese() -> Catalogue:
    return Catalogue(CHINESE)


def in_chinese(page: str) -> str:
    """The page in Chinese; what no template knows stays as it is."""
    translated = _rewritten(page, lambda text: _chinese().translate(text).text)
    return translated.replace('<html lang="en">', '<html lang="zh-CN">', 1)


def untranslated(page: str, names: Collection[str] = ()) -> list[str]:
    """The pieces of a page's texts that stay English in Chinese, each once, in their order.

    names: from outside (of models, classes, files), which stay as they are in every language
    """
    left: dict[str, None] = {}

    def collect(text: str) -> str:
        left.update(dict.fromkeys(_chinese().translate(text).left))
        return text

    _rewritten(page, collect)
    return [text for text in left if text not in names]


def _rewritten(page: str, rewrite: Callable[[str], str]) -> str:
    """The page with every text that a reader sees or hears rewritten.  rewrite: takes and gives it unescaped"""
    parts = _TAG.split(page)
    open_elements: list[bool] = []  # whether each is left alone, together with what is in it
    for number, part in enumerate(parts):
        if number % 2:
            parts[number] = _tag(part, open_elements, rewrite)
        elif part.strip() and not (open_elements and open_elements[-1]):
            parts[number] = _inside_blanks(part, rewrite)
    return "".join(parts)


def _tag(tag: str, open_elements: list[bool], rewrite: Callable[[str], str]) -> str:
    """The tag with its label rewritten.  open_elements: is kept current"""
    named = _TAG_NAME.match(tag)
    if named is None:  # doctype
        return tag
    closes, name = named.groups()
    if closes:
        open_elements.pop()
        return tag
    is_left_alone = bool(open_elements and open_elements[-1]) or name in _LEFT_ALONE or ' translate="no"' in tag
    if name not in _VOID and not tag.endswith("/>"):
        open_elements.append(is_left_alone)
    return tag if is_left_alone else _LABEL.sub(lambda match: _inside_blanks(match.group(), rewrite), tag)


def _inside_blanks(text: str, rewrite: Callable[[str], str]) -> str:
    """Blanks around a text stand between elements, and stay."""
    inner = text.strip()
    start = text[: len(text) - len(text.lstrip())]
    return f"{start}{escape(rewrite(unescape(inner)))}{text[len(text.rstrip()) :]}"


def _letters(found: Translated) -> int:
    return sum(map(len, found.left))


def _held_by(hole: str) -> str:
    """What a hole takes, as a regular expression."""
    if hole.startswith("n_"):
        return _FIGURE
    return _NAME if hole.startswith("name_") else ".+?"


def _is_of_name(hole: str, text: str) -> bool:
    """Whether the text comes from outside, so that it is no word of ours even where it looks like one."""
    return hole.startswith("name_") and text not in _FOR_A_NAME


def _is_technical(word: str) -> bool:
    """A term of the field, an identifier, a hash, or something without English in it."""
    word = word.strip(".")
    return word in _TECHNICAL or not _ENGLISH.search(word) or "_" in word or bool(re.fullmatch(r"[0-9a-f]{8,}", word))
