"""`helmlite report`: the page of a finished run, comparison or matrix made again from what it left on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_KINDS = ("report", "comparison", "cross-domain")  # names of the JSON, and of the page beside it


def register(app: typer.Typer) -> None:
    """Adds this file's commands to the application."""
    app.command("report")(report)


def report(
    folder: Annotated[
        Path | None, typer.Argument(help="The --out folder of `helmlite compress`, `compare` or `cross-domain`.")
    ] = None,
    page: Annotated[Path | None, typer.Option("--page", help="Where to write it; by default where it was.")] = None,
    no_crops: Annotated[
        bool, typer.Option("--no-crops", help="Leave out the crops of people's heads, to pass the page on.")
    ] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print it as Markdown for a pull request.")] = False,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of report.json.")] = False,
) -> None:
    """Writes the page of a run or a comparison again, or prints it as Markdown; no figure is computed anew."""
    import json

    from helmlite.evaluate import comparison_files, cross_domain_files, report_files
    from helmlite.evaluate.pages.comparison_page import comparison_page
    from helmlite.evaluate.pages.cross_domain_page import cross_domain_page
    from helmlite.evaluate.pages.gallery import read_gallery
    from helmlite.evaluate.pages.markdown import comparison_markdown, cross_domain_markdown, report_markdown
    from helmlite.evaluate.pages.run_page import report_page
    from helmlite.evaluate.schema import report_schema
    from helmlite.files import claim_file, write_whole

    if schema:
        print(json.dumps(report_schema(), indent=1, ensure_ascii=False))
        return
    if folder is None:
        raise ValueError("helmlite report wants the --out folder of a run or a comparison.")
    kind = next((item for item in _KINDS if (folder / f"{item}.json").is_file()), None)
    if kind is None:
        raise ValueError(
            f"{folder}: none of {', '.join(f'{item}.json' for item in _KINDS)} is there; is it the --out folder of a "
            "finished `helmlite compress`, `helmlite compare` or `helmlite cross-domain`?"
        )
    place = page or folder / f"{kind}.html"
    if not markdown:
        claim_file(place, "--page", _is_our_page)
    gallery = () if no_crops or markdown or kind == "cross-domain" else read_gallery(folder)
    if kind == "report":
        told = report_files.read_report(folder)
        text = report_markdown(told) if markdown else report_page(told, gallery)
    elif kind == "cross-domain":
        matrix = cross_domain_files.read_cross_domain(folder)
        text = cross_domain_markdown(matrix) if markdown else cross_domain_page(matrix)
    else:
        compared = comparison_files.read_comparison(folder)
        text = comparison_markdown(compared) if markdown else comparison_page(compared, gallery)
    if markdown:
        print(text, end="")
        return
    write_whole(place, text)
    print(f"written to {place}")


def _is_our_page(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(15).lower() == b"<!doctype html>" and b"Written by helmlite." in path.read_bytes()[-200:]
