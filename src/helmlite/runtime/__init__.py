"""Everything that runs at the edge, without PyTorch.

bundle.py       read this first: a folder that is opened and detects;  manifest.py: what it says of itself
session.py      one network in one runtime;  preprocess.py, decode.py: what comes before and after it
detect.py       pictures, folders, videos and cameras (sources.py) to boxes, drawn (draw.py) and written (output.py)
bench.py        times in turn;  throughput.py, memory.py, energy.py: what else a network takes
doctor.py, machine.py   what this machine can do;  profile.py: times of single layers
packing.py, constants.py   a bundle as a small download;  bare_onnx.py, yolox.py: files that are not ours
agreement.py    where two models disagree on a picture
"""
