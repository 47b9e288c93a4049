"""What several tests of the steps share."""

from __future__ import annotations

import dataclasses

import pytest

from sciinv.priors.learned import own
from sciinv.steps import train_images as step


@pytest.fixture
def small_training(monkeypatch):
    """Networks, counts and rates of a run of seconds."""
    monkeypatch.setattr(own, "SIZES", ((8, 8, 8, 8),))
    monkeypatch.setattr(own, "ENOUGH", 1)
    planned = own.plan

    def plan(kind, minutes, **more):
        config, lines = planned(kind, minutes, **more)
        return dataclasses.replace(config, minutes=0.0, steps=6, decay=4, nb=1), lines

    monkeypatch.setattr(own, "plan", plan)
    for name, value in {
        "LEVELS": 3,
        "DRAWS": 2,
        "IMAGES": (4, 4),
        "PAIRS": (32, 32),
        "STEPS": (5, 5),
        "TRUTHS": (3, 3),
        "MATCHING": (2, 2),
    }.items():
        monkeypatch.setattr(step, name, value)
