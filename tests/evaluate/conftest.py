"""Data sets in memory as fixtures: written_data.py makes them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from helmlite.data.dataset import Dataset, Sample, dataset_of
from helmlite.detections import Detections
from helmlite.evaluate.accuracy import Predictions
from written_data import CLASSES, make_found, make_predictions, make_random, make_sample


@pytest.fixture
def random_set() -> Callable[..., tuple[Dataset, Predictions]]:
    return make_random


@pytest.fixture
def sample() -> Callable[..., Sample]:
    return make_sample


@pytest.fixture
def found() -> Callable[..., Detections]:
    return make_found


@pytest.fixture
def predictions() -> Callable[..., Predictions]:
    return make_predictions


@pytest.fixture
def dataset() -> Callable[..., Dataset]:
    def build(*samples: Sample, split: str = "val") -> Dataset:
        return dataset_of(list(samples), CLASSES, split)

    return build
