"""What kind of errors a model makes: diagnosis.py has all of it as one value.

tide.py           what each of six kinds of error costs;  error_kinds.py: the kind of each single detection
confusion.py      which class is taken for which;  confidence.py: whether a score of 0.8 is right eight times in ten
curves.py         precision, recall and F1 by score;  heights.py: accuracy by a head's height in pixels
"""
