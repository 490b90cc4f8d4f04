"""What chance explains.

intervals.py    four 95 % intervals from one bootstrap;  risks.py: of shares, and of their difference
resampling.py   average precision of thousands of resampled data sets
resolution.py   what pictures can prove, before there is a candidate
"""
