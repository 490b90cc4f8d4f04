"""Faults of a candidate, found in what it and its baseline detected in the same pictures, and named in words.

faults.py     read this first: all families at once, as one value
pairs.py      heads and boxes of both, side by side;  chance.py: what keeps chance from being called a fault
dead.py       a class that is no longer reported;  blind.py: heads that are too low or too high to be seen
moved.py      boxes that lie beside those of the baseline;  scores.py: scores that are all lower or all higher
colours.py    red and blue taken for each other
leaks.py      tested pictures that a model has learned from
words.py      every finding as a sentence
"""
