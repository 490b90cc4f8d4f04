"""How good, how fast, how large, and what of that is proven: for any image -> Detections callable, without PyTorch.

accuracy.py     mAP of predictions;  errors.py: single heads, lost and won;  thresholds.py: from which score on
gate.py         read this for the verdict;  resampling.py, intervals.py: its intervals;  influence.py: on which pictures
resolution.py   what pictures can prove, before there is a candidate
diagnosis.py    what kind of errors: tide.py, confusion.py, confidence.py (calibration), curves.py, heights.py
causes.py       why heads are missed and invented: error_kinds.py, traits.py (of box_facts.py), risks.py
disagreements.py   the same for heads that only one of two finds;  label_mistakes.py: labels that are probably wrong
fidelity.py     a copy against its original;  cost.py: bytes and factors of a speed-up
robustness.py   accuracy in nine bad conditions (`conditions/`);  extra_loss.py: does compression break there first?
                robustness_plot.py: both drawn
report.py       all of it as one value;  report_files.py, page.py, markdown.py, terminal.py: written, drawn, shown
comparison.py   several models on the same pictures;  comparison_files.py, comparison_page.py: written, drawn
schema.py       the JSON of both as a JSON Schema;  pictures.py: a row for each picture
gallery.py, plots.py, html.py, figures.py, plain.py   crops, plots, parts of a page, numbers in words, values as JSON
"""
