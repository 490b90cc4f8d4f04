"""Labelled pictures: one lazy `Dataset`, whatever format it was read from.

dataset.py      read this first: a sample, a data set
load.py         by path, whatever the format: yolo.py, voc.py, coco.py;  roles.py: what class names mean
weights.py      which pictures are to be trained on more often
check.py        what would mislead a run (check_boxes.py, duplicates.py, findings.py);  image_files.py: broken files
look_alikes.py  pictures of one set that look like those of another
convert.py, split.py, preview.py   the other `helmlite data` commands;  labels.py: what formats share
scenes.py       drawn streets for tests and the demo; scene_*.py are what they are drawn from
"""
