"""Why heads are missed and invented: causes.py has all of it as one value.

box_facts.py        sharpness, brightness, contrast of each box;  traits.py: small, blurred, dark, crowded, cut off
disagreements.py    the same for heads that only one of two models finds
label_mistakes.py   labels that are probably wrong, as a list to mend
"""
