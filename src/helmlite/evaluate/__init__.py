"""How good, how fast, how large, and what of that is proven: for any image -> Detections callable, without PyTorch.

accuracy.py     mAP of predictions;  errors.py: single heads, lost and won;  thresholds.py: from which score on
gate.py         read this for the verdict;  resampling.py, intervals.py: its intervals;  influence.py: on which pictures
resolution.py   what pictures can prove, before there is a candidate
fidelity.py     a copy against its original;  robustness.py: bad weather;  cost.py: bytes and factors of a speed-up
report.py       all of it as one value;  report_files.py, page.py, terminal.py: written, drawn, shown
gallery.py, plots.py, figures.py, plain.py   crops, plots, numbers in words, values as JSON
"""
