"""How good, how fast, how large, and what of that is proven: for any image -> Detections callable, without PyTorch.

accuracy.py     mAP of predictions;  errors.py: single heads, lost and won;  thresholds.py: from which score on
statistics/     what chance explains: intervals, resampled pictures, what a number of pictures can prove
gate.py         read this for the verdict;  influence.py: on which pictures it hangs
diagnosis/      what kind of errors, in which sizes, at which scores
robustness.py   accuracy in nine bad conditions (`conditions/`);  extra_loss.py: does compression break there first?
findings/       planted faults by name, compared with a baseline; tested pictures that were learned from
causes/         why heads are missed and invented, by one model or by only one of two; labels that are probably wrong
fidelity.py     a copy against its original;  cost.py: bytes and factors of a speed-up
comparison.py   several models on the same pictures, each a row of measured.py;  report.py: a run as one value
cross_domain.py several models on several sets: what is lost away from home
pages/          all of them as HTML, Markdown and in a terminal;  figures.py: numbers in words
report_files.py, comparison_files.py, cross_domain_files.py   all written and read;  schema.py: their JSON Schema
pictures.py     a row for each picture;  plain.py: values as JSON
"""
