"""From a detector to the files that a runtime opens.

pack.py         read this first: a bundle with the files for each runtime and its manifest
onnx.py         the graph; qdq.py: its rounding; decoded.py: boxes and scores inside it; openvino.py: the same as IR
parity.py       a file held against its detector in PyTorch;  layer_times.py: what single layers cost on a runtime
stored_weights.py, tied_norms.py   weights that are stored as integers, and tied ones with norms of their own
ultralytics_pt.py   a float detector as a `.pt` that opens in stock Ultralytics
"""
