"""Making a detector small.  Read technique.py, then prune.py.

    *.py        what a recipe's step names (prune.py, quantize.py, distill.py, ...) and what a run of steps needs
                (recipe.py, order.py, checkpoint.py, techniques.py, ...)
    channels/   which channels can go together, how much they matter, which of them go
    kernels/    arithmetic on one convolution's kernel: factors, ranks, codebooks, masks
    rounding/   integers: plan, ranges, learned rounding, learned steps
    teaching/   what a student copies, and from whom
    adaptation/ bringing a detector to a new place: BatchNorm statistics, pseudo-labels, a few labels
    edits/      changes of a network's structure that more than one technique makes

The folders hold no technique.  channels, kernels, rounding and teaching do not know of one another.
"""
