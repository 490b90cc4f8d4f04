"""The table of a run's report as Markdown, for a page of results.

python benchmarks/report_table.py docs/results/bikes_helmets-cpu/report.json
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from helmlite.evaluate import figures
from helmlite.evaluate.measured import Measured
from helmlite.evaluate.report import verdict_line
from helmlite.evaluate.report_files import read_report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path, nargs="+")
    for path in parser.parse_args().report:
        report = read_report(path)
        print(f"    {report.commands[0]}\n")
        print("| | mAP50-95 (95 %) | mAP50 | no_helmet recall | file | ms | faster |\n|---|---|---|---|---|---|---|")
        shown = [report.baseline, *report.steps, report.result, *report.references]
        for row in {item.name: item for item in shown}.values():
            print(_row(row))
        factors = " × ".join(f"{item.name} {item.ratio:.2f}" for item in report.speedup_factors)
        print(f"\n{verdict_line(report)}\n")
        if factors:
            print(f"faster by: {factors} = {figures.times(report.factor_product)}")
        if report.minutes is not None:
            print(f"{report.minutes:.0f} minutes in all")
    return 0


def _row(row: Measured) -> str:
    interval = f" ({100 * row.map_ci95[0]:.1f}–{100 * row.map_ci95[1]:.1f})" if row.map_ci95 else ""
    cells = [
        row.name,
        figures.points(row.map) + interval,
        figures.points(row.map50),
        figures.share(row.recall_no_helmet),
        figures.UNKNOWN if row.size_bytes is None else f"{row.size_bytes / 1e6:.1f} MB",
        figures.UNKNOWN if row.latency_ms_median is None else f"{row.latency_ms_median:.1f}",
        figures.UNKNOWN if row.speedup is None else f"{row.speedup:.2f}×",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
