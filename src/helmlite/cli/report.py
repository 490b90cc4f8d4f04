"""`helmlite report`: the pages of a finished run, comparison or matrix made again from what it left on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_KINDS = ("report", "comparison", "cross-domain")  # names of the JSON, and of the pages beside it


def register(app: typer.Typer) -> None:
    """Adds this file's commands to the application."""
    app.command("report")(report)


def report(
    folder: Annotated[
        Path | None, typer.Argument(help="The --out folder of `helmlite compress`, `compare` or `cross-domain`.")
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option("--page", help="Where to write one page; by default both are written where they were."),
    ] = None,
    language: Annotated[
        str, typer.Option("--language", help="en or zh: of the page that --page names, else of the one that is told.")
    ] = "en",
    no_crops: Annotated[
        bool, typer.Option("--no-crops", help="Leave out the crops of people's heads, to pass the page on.")
    ] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print it as Markdown for a pull request.")] = False,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of report.json.")] = False,
) -> None:
    """Writes the pages of a run or a comparison again, or prints it as Markdown; no figure is computed anew."""
    import json

    from helmlite.evaluate import comparison_files, cross_domain_files, report_files
    from helmlite.evaluate.pages.comparison_page import comparison_page
    from helmlite.evaluate.pages.cross_domain_page import cross_domain_page
    from helmlite.evaluate.pages.gallery import read_gallery
    from helmlite.evaluate.pages.markdown import comparison_markdown, cross_domain_markdown, report_markdown
    from helmlite.evaluate.pages.run_page import report_page
    from helmlite.evaluate.pages.translate import in_chinese
    from helmlite.evaluate.schema import report_schema
    from helmlite.files import claim_file, write_whole

    if schema:
        print(json.dumps(report_schema(), indent=1, ensure_ascii=False))
        return
    if folder is None:
        raise ValueError("helmlite report wants the --out folder of a run or a comparison.")
    if language not in ("en", "zh"):
        raise ValueError(f"--language is en or zh; got '{language}'.")
    if markdown and language != "en":
        raise ValueError("--markdown is in English only; leave --language out.")
    if markdown and page is not None:
        raise ValueError("--markdown prints and --page writes a page; give one of them.")
    kind = next((item for item in _KINDS if (folder / f"{item}.json").is_file()), None)
    if kind is None:
        raise ValueError(
            f"{folder}: none of {', '.join(f'{item}.json' for item in _KINDS)} is there; is it the --out folder of a "
            "finished `helmlite compress`, `helmlite compare` or `helmlite cross-domain`?"
        )
    own = {"en": folder / f"{kind}.html", "zh": folder / f"{kind}.zh-CN.html"}
    for place in () if markdown else (page,) if page else own.values():
        claim_file(place, "--page", _is_our_page)
    gallery = () if no_crops or markdown or kind == "cross-domain" else read_gallery(folder)
    if kind == "report":
        told = report_files.read_report(folder)
        text = report_markdown(told) if markdown else report_page(told, gallery)
        pages = {} if markdown or page else report_files.report_pages(told, gallery)
    elif kind == "cross-domain":
        matrix = cross_domain_files.read_cross_domain(folder)
        text = cross_domain_markdown(matrix) if markdown else cross_domain_page(matrix)
        pages = {} if markdown or page else cross_domain_files.cross_domain_pages(matrix)
    else:
        compared = comparison_files.read_comparison(folder)
        text = comparison_markdown(compared) if markdown else comparison_page(compared, gallery)
        pages = {} if markdown or page else comparison_files.comparison_pages(compared, gallery)
    if markdown:
        print(text, end="")
        return
    if page is not None:
        write_whole(page, in_chinese(text) if language == "zh" else text)
    for name, both in pages.items():
        write_whole(folder / name, both)
    print(f"written to {page or own[language]}")


def _is_our_page(path: Path) -> bool:
    from helmlite.evaluate.pages.html import FOOTER
    from helmlite.evaluate.pages.translate import in_chinese

    with path.open("rb") as file:
        begins = file.read(15).lower() == b"<!doctype html>"
    end = path.read_bytes()[-200:]
    return begins and any(footer.encode() in end for footer in (FOOTER, in_chinese(FOOTER)))
