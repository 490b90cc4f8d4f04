"""Any model that somebody has, opened, and compared on labelled pictures: what a notebook and the command line share.

opened.py      a bundle, an `.onnx` of anybody, a detector of PyTorch, ready to detect
wanted.py      models as a user types them
look.py        what they find, in the classes that they share, and how fast they are;  leaks.py: did they learn from it?
compared.py    read this first: several models on the same pictures, from paths to a page
matrix.py      models trained in one place and tested in others
"""
