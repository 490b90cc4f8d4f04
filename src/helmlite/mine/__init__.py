"""What is most worth labelling, and what a person's corrections of it teach: for any detectors, without PyTorch.

mine.py        read this first: detectors look through pictures or a video, the best pictures stay
reasons.py     why a picture is worth a look;  flicker.py: what only a video shows;  seen.py: what a detector reports
choose.py      the best of each reason, none twice
mined_set.py   the pre-labelled set on the disk;  cvat.py, label_studio.py: for two tools that people label with
corrected.py   what comes back from a person;  outcomes.py: what that person decided;  corners.py: boxes as drawn
take_back.py   the set to train on, with weights
"""
