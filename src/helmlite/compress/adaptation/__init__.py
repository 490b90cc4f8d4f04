"""Bringing a detector to a new place: what costs no label, and what a few of them are good for.

norm_statistics.py   BatchNorm statistics measured again on pictures of the place: no label, no training
target_pictures.py   which pictures are labelled, which are not, and what of the old place is shown again
pseudo_labels.py     what a teacher is sure enough of to be taken for a label
target_training.py   training on all of them, with the one training loop
"""
