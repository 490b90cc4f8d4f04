from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Adds this file's commands to the application."""
