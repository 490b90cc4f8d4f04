"""The report as one HTML file that opens offline: style, plots and crops are inside, and it asks for nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from helmlite.evaluate import figures
from helmlite.evaluate.fidelity import Fidelity, Parity
from helmlite.evaluate.figures import UNKNOWN
from helmlite.evaluate.gate import GateCheck, interval_in_words, told_in_words
from helmlite.evaluate.measured import Measured
from helmlite.evaluate.pages.evidence import evidence_sections, findings_section
from helmlite.evaluate.pages.gallery import GalleryPart
from helmlite.evaluate.pages.gallery_cards import gallery_sections
from helmlite.evaluate.pages.html import bullet_list, capital, document, how_made, named, pill, section, shown
from helmlite.evaluate.pages.plots import IntervalRow, ScatterPoint, factor_bar, interval_plot, line_chart, scatter_plot
from helmlite.evaluate.report import RunReport, times_in_words, verdict_line


def report_page(report: RunReport, gallery: Sequence[GalleryPart] = (), twin: str = "") -> str:
    """The whole page as text.  Every word that comes from outside is escaped.

    twin: name of the same page in Chinese, in the same folder; empty for none
    """
    sections = [
        _header(report),
        _tiles(report),
        findings_section(report.evidence) if report.evidence is not None else "",
        _notes(report),
        _gate(report),
        _steps(report),
        _speedup(report),
        _classes(report),
        _heads(report, has_crops=bool(gallery)),
        *_evidence(report, gallery),
        _curves(report),
        _files(report),
        _stayed_float(report),
        _provenance(report),
    ]
    return document(f"{report.model}: {verdict_line(report)}", sections, twin)


def _header(report: RunReport) -> str:
    line, _, _ = verdict_line(report).rpartition("; gate: ")
    when = f" · {escape(report.created)}" if report.created else ""
    took = f" · {report.minutes:.0f} minutes" if report.minutes is not None else ""
    return (
        f'<div class="eyebrow">helmlite · <b translate="no">{escape(report.model)}</b> for '
        f'<b translate="no">{escape(report.target)}</b>{when}{took}'
        f"</div><h1>{escape(capital(line))}</h1>{pill(report.gate.verdict, 'gate: ')}"
    )


def _tiles(report: RunReport) -> str:
    before, after, loss = report.baseline, report.result, report.map_loss_points
    interval = report.map_loss_ci95
    between = f"95 % interval: {interval_in_words(interval)}" if interval else "interval unknown"
    heads = report.heads.in_words() if report.heads else "no class has the role no_helmet"
    tiles = [
        (
            "Latency",
            shown(times_in_words(report.measured_speedup, "faster", "slower")),
            f"{figures.milliseconds(before.latency_ms_median)} → {figures.milliseconds(after.latency_ms_median)}",
        ),
        (
            "Files that the target loads",
            shown(times_in_words(report.size_ratio, "smaller", "larger")),
            f"{figures.size(before.size_bytes)} → {figures.size(after.size_bytes)}",
        ),
        (
            "mAP50-95",
            shown(capital(told_in_words(loss, interval))),
            f"{figures.points(before.map)} → {figures.points(after.map)}<br>{between}",
        ),
        (
            "Recall of no_helmet",
            shown(figures.share(after.recall_no_helmet)),
            f"from {figures.share(before.recall_no_helmet)}<br>{escape(heads)}",
        ),
    ]
    inner = "".join(
        f'<div class="tile"><div class="what">{what}</div><div class="big">{big}</div>'
        f'<div class="how">{how}</div></div>'
        for what, big, how in tiles
    )
    return f'<div class="tiles">{inner}</div>'


def _notes(report: RunReport) -> str:
    lines = [*report.notes]
    if report.resolution is not None:
        lines.append(report.resolution.in_words())
    return section("What to bear in mind", bullet_list(lines)) if lines else ""


def _gate(report: RunReport) -> str:
    gate = report.gate
    units = "" if gate.units == gate.pictures else f" in {gate.units} scenes"
    lead = (
        f"Judged on {gate.pictures} pictures{units} of the {gate.split} split, which is not trained on; "
        "thresholds and the precision that ships are chosen on it. "
        f"{gate.resamples} paired draws, seed {gate.seed}. Passed: the upper end of the 95 % interval of the loss is "
        "at most the margin; failed: the lower end is above it; else undecided."
    )
    rows = [row for row in map(_interval_row, gate.checks) if row is not None]
    plotted = f'<div class="plot">{interval_plot(rows)}</div>' if rows else ""
    key = (
        '<p class="key">Dot: the loss. Bar: its 95 % interval. Upright tick: the margin. '
        "A class or a size fails only where its whole bar is beyond its tick.</p>"
        if rows
        else ""
    )
    sentences = "".join(
        f"<li>{pill(check.verdict)} {escape(check.says)}</li>" for check in gate.checks if _worth_saying(check)
    )
    return section("The gate", f'{plotted}{key}<ul class="checks">{sentences}</ul>', lead)


def _interval_row(check: GateCheck) -> IntervalRow | None:
    if check.loss_ci95 is None or check.loss_points is None or check.margin_points is None:
        return None
    low, high = check.loss_ci95
    return IntervalRow(check.name, check.verdict, check.loss_points, low, high, check.margin_points)


def _worth_saying(check: GateCheck) -> bool:
    return check.name in ("mAP50-95", "recall of no_helmet") or check.verdict != "passed"


def _steps(report: RunReport) -> str:
    head = (
        "<tr><th>step</th><th>mAP50-95<br>points</th><th>mAP50<br>points</th><th>no_helmet<br>recall</th><th>MACs</th>"
        "<th>parameters</th><th>files</th><th>latency</th><th>times<br>faster</th></tr>"
    )
    rows = [_row(report.baseline, "baseline", report)]
    rows += [_row(step, "step", report) for step in report.steps]
    rows.append(_row(report.result, "result", report))
    if report.references:
        rows.append('<tr class="part"><td colspan="9">To be held against</td></tr>')
        rows += [_row(item, "reference", report) for item in report.references]
    table = f'<div class="scroll"><table>{head}{"".join(rows)}</table></div>'
    return section("Step by step", table + _tradeoff(report), _reported_on(report))


def _row(item: Measured, kind: str, report: RunReport) -> str:
    conditions = " · ".join(
        part for part in (f"{item.input_size} px" if item.input_size else "", item.runtime, item.precision) if part
    )
    below = "".join(f"<small>{escape(part)}</small>" for part in (conditions, item.note) if part)
    interval = figures.points_between(item.map_ci95)
    packed = f"<small>{figures.size(item.compressed_bytes)} packed</small>" if item.compressed_bytes else ""
    slowest = f"<small>p95 {figures.milliseconds(item.latency_ms_p95)}</small>" if item.latency_ms_p95 else ""
    faster = report.speedup_of(item)
    cells = [
        shown(figures.points(item.map)) + (f"<small>{interval}</small>" if interval else ""),
        shown(figures.points(item.map50)),
        shown(figures.share(item.recall_no_helmet)),
        shown(figures.count(item.macs)),
        shown(figures.count(item.params)),
        shown(figures.size(item.size_bytes)) + packed,
        shown(figures.milliseconds(item.latency_ms_median)) + slowest,
        shown(figures.times(faster)),
    ]
    return f'<tr class="{kind}"><td>{escape(item.name)}{below}</td>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'


def _tradeoff(report: RunReport) -> str:
    rows = [("baseline", report.baseline), *(("step", item) for item in report.steps), ("result", report.result)]
    rows += [("reference", item) for item in report.references]
    points = [
        ScatterPoint(item.name, kind, item.latency_ms_median, 100 * item.map)
        for kind, item in rows
        if item.latency_ms_median is not None and item.map is not None
    ]
    plotted = scatter_plot(points)
    return f'<h3>Accuracy against latency</h3><div class="plot">{plotted}</div>' if plotted else ""


def _reported_on(report: RunReport) -> str:
    used = next((item for item in report.data if item.purpose == "reported"), None)
    text = "Accuracy"
    if used is not None:
        heads = "" if used.bare_heads is None else f", {used.bare_heads} of them bare heads"
        text += f" on the {used.pictures} pictures of {used.source} ({used.split}): {used.boxes} boxes{heads}"
    text += ". Recall with as many false alarms on the tuning pictures in every row."
    conditions = ", ".join(f"{key} {value}" for key, value in report.measured_on.items())
    return f"{text} Latency: {conditions}." if conditions else text


def _speedup(report: RunReport) -> str:
    if not report.speedup_factors:
        return ""
    factors = [(item.name, item.ratio) for item in report.speedup_factors]
    has_notes = any(item.note for item in report.speedup_factors)
    rows = "".join(
        f"<tr><td>{escape(item.name)}</td><td>{figures.times(item.ratio)}</td>"
        f"<td>{figures.milliseconds(item.before_ms)} → {figures.milliseconds(item.after_ms)}</td>"
        + (f'<td class="text">{escape(item.note)}</td></tr>' if has_notes else "</tr>")
        for item in report.speedup_factors
    )
    measured, together = report.measured_speedup, report.factor_product
    apart = ""
    if measured and together:
        apart = f", {abs(measured / together - 1) * 100:.1f} % {'less' if together > measured else 'more'}"
    lead = (
        "Each factor is the ratio of two rows, all timed in turn in one run. Together they make "
        f"{figures.times(together)}. The baseline and the result alone, timed once more: "
        f"{figures.times(measured)}{apart}."
    )
    notes = '<th class="text">measured as</th>' if has_notes else ""
    table = f"<table><tr><th>factor</th><th>times faster</th><th>latency, in this order</th>{notes}</tr>{rows}</table>"
    bar = factor_bar(factors, measured)
    return section(
        "Where the speed comes from", f'<div class="plot">{bar}</div><div class="scroll">{table}</div>', lead
    )


def _classes(report: RunReport) -> str:
    after = {item.name: item for item in report.result.per_class}
    rows = "".join(
        f"<tr><td>{named(item.name)}<small>{escape(item.role or 'no role')}</small></td><td>{item.boxes}</td>"
        f"<td>{item.images}</td><td>{_both(item.ap, after[item.name].ap)}</td>"
        f"<td>{_both(item.ap50, after[item.name].ap50)}</td></tr>"
        for item in report.baseline.per_class
        if item.name in after
    )
    sizes = "".join(
        f"<tr><td>{escape(size)} boxes</td><td></td><td></td><td>{_both(value, report.result.by_size.get(size))}</td>"
        "<td></td></tr>"
        for size, value in report.baseline.by_size.items()
    )
    if not rows and not sizes:
        return ""
    head = "<tr><th>class or size</th><th>boxes</th><th>pictures</th><th>AP50-95, points</th><th>AP50, points</th></tr>"
    lead = "Sizes as in COCO: small below 32², large above 96² pixels of the original picture."
    return section("Each class and size", f'<div class="scroll"><table>{head}{rows}{sizes}</table></div>', lead)


def _both(before: float | None, after: float | None) -> str:
    return f"{shown(figures.points(before))} → {shown(figures.points(after))}"


def _heads(report: RunReport, has_crops: bool) -> str:
    if report.heads is None:
        return section("Bare heads", "<p>No class has the role no_helmet: nothing can be said of bare heads.</p>")
    heads = report.heads
    lead = (
        f"{capital(heads.in_words())}. The baseline finds {heads.found_by_baseline} of {heads.heads} with "
        f"{heads.baseline_false_alarms} false alarms on {heads.pictures} pictures (threshold "
        f"{heads.baseline_threshold:.3f}), the result {heads.found_by_candidate} with {heads.candidate_false_alarms} "
        f"({heads.candidate_threshold:.3f})."
    )
    changed = heads.newly_missed or heads.newly_found
    return section("Bare heads", "<p>Crops were not asked for.</p>" if changed and not has_crops else "", lead)


def _evidence(report: RunReport, gallery: Sequence[GalleryPart]) -> list[str]:
    return gallery_sections(gallery) if report.evidence is None else evidence_sections(report.evidence, gallery)


def _curves(report: RunReport) -> str:
    plots = []
    for curve in report.curves:
        chart = line_chart(curve.x_label, curve.y_label, curve.lines, curve.title)
        if chart:
            plots.append(f'<h3>{escape(curve.title)}</h3><div class="plot">{chart}</div>')
    return section("Training", "".join(plots)) if plots else ""


def _files(report: RunReport) -> str:
    rows = [report.baseline, *report.steps, report.result, *report.references]
    exported = "".join(_parity_row(item.name, item.parity) for item in rows if item.parity is not None)
    copies = "".join(_fidelity_row(item.name, item.fidelity) for item in rows if item.fidelity is not None)
    parts = []
    if exported:
        pictures = next(item.parity.pictures for item in rows if item.parity is not None)
        head = (
            "<tr><th>file</th><th>boxes apart, pixels<br>mean (largest)</th><th>scores apart<br>mean (largest)</th>"
            "<th>boxes above 0.25<br>that match</th></tr>"
        )
        parts.append(
            f'<p class="lead">Each exported file against the same weights in PyTorch, every cell of the head on '
            f"{pictures} tuning pictures.</p>"
            f'<div class="scroll"><table>{head}{exported}</table></div>'
        )
    if copies:
        head = (
            '<tr><th>in lower precision</th><th class="text">copy of</th><th>of its boxes<br>reported again</th>'
            "<th>their overlap<br>mean IoU</th><th>scores apart<br>mean (shift)</th></tr>"
        )
        parts.append(
            '<p class="lead">What precision alone does to the reported pictures, boxes and scores apart.</p>'
            f'<div class="scroll"><table>{head}{copies}</table></div>'
        )
    return section("What the files give", "".join(parts)) if parts else ""


def _parity_row(name: str, parity: Parity) -> str:
    return (
        f"<tr><td>{escape(name)}</td><td>{parity.box_mean_pixels:.4f} ({parity.box_pixels:.3f})</td>"
        f"<td>{parity.score_mean:.6f} ({parity.score:.4f})</td>"
        f"<td>{figures.share(parity.matched)} of {parity.boxes}</td></tr>"
    )


def _fidelity_row(name: str, found: Fidelity) -> str:
    overlap = UNKNOWN if found.box_iou is None else f"{found.box_iou:.3f}"
    scores = UNKNOWN if found.score_error is None else f"{found.score_error:.3f}"
    if found.score_shift is not None:
        scores += f" ({found.score_shift:+.3f})"
    return (
        f'<tr><td>{escape(name)}</td><td class="text">{escape(found.against)}</td>'
        f"<td>{shown(figures.share(found.matched))} of {found.boxes}</td><td>{shown(overlap)}</td>"
        f"<td>{shown(scores)}</td></tr>"
    )


def _stayed_float(report: RunReport) -> str:
    if not report.stayed_float:
        return ""
    parts: dict[str, list[str]] = {}
    for item in report.stayed_float:
        parts.setdefault(item.why, []).append(item.name)
    rows = "".join(
        f'<tr><td class="wrap">{escape(why)}</td><td>{len(names)}</td>'
        f'<td class="text hash wrap" translate="no">{escape(", ".join(names))}</td></tr>'
        for why, names in parts.items()
    )
    head = '<tr><th>why</th><th>number</th><th class="text">parts of the graph</th></tr>'
    return section("What stayed float", f'<div class="scroll"><table>{head}{rows}</table></div>')


def _provenance(report: RunReport) -> str:
    seed = {} if report.seed is None else {"seed": str(report.seed)}
    details = {
        "Seed and versions": {**seed, **report.versions},
        "Latency was measured on": report.measured_on,
        "Hashes": report.hashes,
    }
    return how_made(report.data, report.commands, details)
