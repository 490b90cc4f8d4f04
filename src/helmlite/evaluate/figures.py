"""Numbers as a report shows them.  What is unknown is called unknown, in every table, tile and sentence."""

from __future__ import annotations

UNKNOWN = "unknown"


def points(value: float | None) -> str:
    """An accuracy in [0, 1] as points: 0.6243 -> `62.4`."""
    return UNKNOWN if value is None else f"{100 * value:.1f}"


def points_between(interval: tuple[float, float] | None) -> str:
    """(0.581, 0.664) -> `58.1 to 66.4`; nothing where there is no interval."""
    return "" if interval is None else f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}"


def share(value: float | None) -> str:
    """A share in [0, 1] as per cent: 0.963 -> `96.3 %`."""
    return UNKNOWN if value is None else f"{100 * value:.1f} %"


def milliseconds(value: float | None) -> str:
    """12.24 -> `12.2 ms`, 338.4 -> `338 ms`."""
    if value is None:
        return UNKNOWN
    return f"{value:.0f} ms" if value >= 100 else f"{value:.1f} ms" if value >= 10 else f"{value:.2f} ms"


def size(value: int | None) -> str:
    """Bytes in decimal units: 2_700_000 -> `2.70 MB`."""
    return UNKNOWN if value is None else f"{_scaled(value)}B"


def count(value: int | None) -> str:
    """MACs or parameters: 20_100_000 -> `20.1 M`."""
    return UNKNOWN if value is None else _scaled(value).rstrip()


def times(value: float | None) -> str:
    """A ratio: 11.23 -> `11.2×`."""
    if value is None:
        return UNKNOWN
    return f"{value:.0f}×" if value >= 100 else f"{value:.1f}×" if value >= 10 else f"{value:.2f}×"


def _scaled(value: int) -> str:
    amount, unit = float(value), ""
    for unit in ("", "k", "M", "G", "T"):
        if amount < 999.5 or unit == "T":
            break
        amount /= 1000
    digits = 0 if not unit or amount >= 100 else 1 if amount >= 10 else 2
    return f"{amount:.{digits}f} {unit}"
