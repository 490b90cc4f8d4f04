"""A detector is a value: an architecture, weights, and the structural edits made to it so far.

detector.py     read this first: Detector, Edit, Architecture
families.py     the families behind one interface: tiny.py (tiny_loss.py) and ultralytics.py (ultralytics_layers.py)
untrusted.py    checkpoints that may lie;  zoo.py: public ones by name
fit.py          the one training loop, on a device.py: objective.py (what for), fit_state.py (after a kill), ema.py
loader.py       its batches: augment.py, repeat_factors.py;  batches.py: plain ones;  batchnorm.py: statistics anew
trace.py, macs.py   what the graph is, and what it costs
"""
