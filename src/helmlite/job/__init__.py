"""The whole run, from input that is checked to a report: what `helmlite compress` and `helmlite demo` do.

compress.py     read this first: recipe, artifacts, accuracy, gate, speed, bundle, report
prepare.py      everything that can be wrong with the input (check_steps.py), before any work;  target.py: the device
candidates.py   the files of a run as the target runs them; peers.py: what needs no training, to be held against
measure.py      accuracy of all of them, speed.py: their speed; teachers_gain.py, curves.py: what training did
adapt.py        `helmlite adapt`: a detector brought to a new place
plan.py         `--dry-run`;  show.py, stand_ins.py: `recipe show`;  explain.py: `explain`;  demo.py: `demo`
"""
