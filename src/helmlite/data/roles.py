"""Roles say what a class means, whatever it is called: gates and reports speak of roles, never of names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

ROLES = ("helmet", "no_helmet", "rider", "two_wheeler", "plate", "person")

# Usual names in public helmet sets, lower case, without spaces, dashes and underscores.
_USUAL_NAMES = {
    "helmet": {
        "helmet", "withhelmet", "helmetted", "helmeted", "hashelmet", "wearinghelmet", "helmeton", "goodhelmet",
        "facewithgoodhelmet", "hardhat", "safetyhelmet", "hat", "wearhelmet", "戴头盔", "头盔", "佩戴头盔",
        "已戴头盔", "安全帽", "戴安全帽", "withehelmet",
    },
    "no_helmet": {
        "nohelmet", "withouthelmet", "nonhelmet", "nothelmet", "unhelmeted", "head", "barehead", "nohardhat",
        "facewithnohelmet", "withouthelmets", "helmetless", "nohat", "未戴头盔", "没戴头盔", "无头盔",
        "未佩戴头盔", "不戴头盔", "未戴安全帽",
    },
    "rider": {"rider", "motorcyclist", "driver", "cyclist", "骑手", "骑车人", "驾驶员", "骑行者"},
    "two_wheeler": {
        "twowheeler", "motorcycle", "motorbike", "bike", "ebike", "electricbike", "bicycle", "scooter",
        "电动车", "摩托车", "电动自行车", "两轮车", "自行车",
    },
    "plate": {"plate", "numberplate", "licenseplate", "licenceplate", "车牌"},
    "person": {"person", "pedestrian", "people", "行人", "人"},
}  # fmt: skip


@dataclass(frozen=True)
class Class:
    """One class of a data set or detector: its name in any language, and its role where it has one."""

    name: str
    role: str | None = None

    def __post_init__(self) -> None:
        if self.role is not None and self.role not in ROLES:
            raise ValueError(f"Unknown role '{self.role}'. The roles are {', '.join(ROLES)}.")


def guess_role(name: str) -> str | None:
    """The role that a class name usually has, or None.

    >>> guess_role("With Helmet"), guess_role("未戴头盔"), guess_role("dog")
    ('helmet', 'no_helmet', None)
    """
    plain = "".join(letter for letter in name.lower() if letter not in " -_")
    return next((role for role, names in _USUAL_NAMES.items() if plain in names), None)


def with_roles(names: Sequence[str], given: Mapping[str, str] | None = None) -> tuple[Class, ...]:
    """Classes for these names.  `given` maps a class name to its role and wins over the guess.

    Raises ValueError where `given` names a class that is not among `names`.
    """
    given = given or {}
    for name in given:
        if name not in names:
            raise ValueError(f"No class is called '{name}'. The classes are {', '.join(names)}.")
    return with_given_roles([Class(name, guess_role(name)) for name in names], given)


def parse_role_options(options: Sequence[str]) -> dict[str, str]:
    """`["no_helmet=未戴头盔"]` -> `{"未戴头盔": "no_helmet"}`, as `with_roles` takes it.

    Raises ValueError for an option without `=` or with an unknown role.
    """
    given: dict[str, str] = {}
    for option in options:
        role, separator, name = option.partition("=")
        if not separator or not name:
            raise ValueError(f"--role wants ROLE=CLASS, for instance no_helmet=bareheaded; got '{option}'.")
        given[name] = Class(name, role).role or ""
    return given


def labels_of_role(classes: Sequence[Class], role: str) -> tuple[int, ...]:
    """Indices of all classes with this role: bare drivers and bare passengers are bare heads alike."""
    return tuple(index for index, item in enumerate(classes) if item.role == role)


def with_given_roles(classes: Sequence[Class], given: Mapping[str, str]) -> tuple[Class, ...]:
    """Classes with the roles that the user gave them; a role that was given is taken from every class that guessed it.

    given: class name -> role; names that are not among `classes` are left to those who know of other classes
    """
    taken = {given[item.name] for item in classes if item.name in given}
    return tuple(
        replace(item, role=given[item.name])
        if item.name in given
        else replace(item, role=None if item.role in taken else item.role)
        for item in classes
    )


def check_given_roles(given: Mapping[str, str], of_data: Sequence[Class], of_model: Sequence[Class]) -> None:
    """Raises ValueError where a role was given to a class that neither the data nor the model has."""
    known = {item.name for item in (*of_data, *of_model)}
    for name, role in given.items():
        if name not in known:
            raise ValueError(
                f"--role {role}={name}: no class is called '{name}'. The data has "
                f"{', '.join(item.name for item in of_data)}; the model has "
                f"{', '.join(item.name for item in of_model)}."
            )
