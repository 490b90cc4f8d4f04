"""How fast every artifact is: all in turn, which gives the factors, and the baseline and the result alone.

The factors must multiply to the whole.  Where another program took the processor from one of the two measurements they
do not, and both are made again.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from helmlite.detections import Image
from helmlite.detector.detector import Log
from helmlite.evaluate.cost import Factor
from helmlite.evaluate.gate import FAILED, PASSED, UNDECIDED, GateVerdict
from helmlite.job.candidates import Candidate
from helmlite.runtime.bench import PredictorTiming, ratio, time_predictors

ROUNDS, WARMUP, TIMED_PICTURES = 40, 5, 8
AGREEMENT = 1.1  # the larger of the two by the smaller
ATTEMPTS = 3

Timings = Mapping[str, PredictorTiming]
_RANK = {PASSED: 0, UNDECIDED: 1, FAILED: 2}


@dataclass(frozen=True)
class Speed:
    """What was measured.

    timings: of all artifacts in turn, by name;  result: the one that was chosen by them
    whole:   how many times faster than the baseline the result is, the two timed alone
    """

    timings: Timings
    result: Candidate
    whole: float

    def apart(self, baseline: Candidate) -> float:
        """How far the factors' product is from the whole: the larger by the smaller, 1 where they are equal."""
        in_turn = self.timings[baseline.name].network.median_ms / self.timings[self.result.name].network.median_ms
        return math.exp(abs(math.log(in_turn / self.whole)))


def measure_speed(
    candidates: Sequence[Candidate], pictures: Sequence[Image], choose: Callable[[Timings], Candidate], log: Log
) -> Speed:
    """All artifacts in turn, then the first, the baseline, and the chosen one alone.

    Up to three times, until the two ways agree within 10 %; else the time when they were closest.
    choose: the result, by the timings
    """
    baseline, measured = candidates[0], []
    for attempt in range(ATTEMPTS):
        log("speed: all artifacts in turn" if not attempt else "speed: the machine is not calm, so all of it again")
        timings = time_predictors({item.name: item.predictor for item in candidates}, pictures, ROUNDS, WARMUP)
        result = choose(timings)
        log("speed: the baseline and the result alone, once more")
        pair = {item.name: item.predictor for item in (baseline, result)}
        alone = time_predictors(pair, pictures, ROUNDS, WARMUP)
        whole = ratio(alone[baseline.name].network, alone[result.name].network).value
        measured.append(Speed(timings, result, whole))
        if measured[-1].apart(baseline) <= AGREEMENT:
            break
    return min(measured, key=lambda speed: speed.apart(baseline))


def fastest(ways: Sequence[Candidate], verdicts: Mapping[str, GateVerdict], timings: Timings) -> Candidate:
    """The fastest way of running the finished detector that passes the gate; else the fastest with the best verdict."""
    return min(ways, key=lambda item: (_RANK[verdicts[item.name].verdict], timings[item.name].network.median_ms))


def speedup_factors(chain: Sequence[tuple[str, str]], timings: Timings) -> tuple[Factor, ...]:
    """The speed-up of a chain of artifacts, split by what made it.

    chain: (artifact, cause) in order, the first one's cause unused.  Causes that come twice (two prunings) are joined:
    their ratios multiply, so that all factors together are exactly last against first in this one interleaved run.

    >>> # baseline 100 ms -> smaller input 50 ms -> pruned 20 ms -> quantized 10 ms: factors 2.0, 2.5, 2.0
    """
    ratios: dict[str, float] = {}
    for (before, _), (after, cause) in itertools.pairwise(chain):
        step = timings[before].network.median_ms / timings[after].network.median_ms
        ratios[cause] = ratios.get(cause, 1.0) * step
    start = timings[chain[0][0]].network.median_ms
    factors = []
    for cause, times in ratios.items():
        factors.append(Factor(cause, start, start / times))
        start /= times
    return tuple(factors)
