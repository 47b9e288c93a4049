"""The clock of a draw's parts, and what a micro-batch is worth."""

from __future__ import annotations

import time

import pytest

from sciinv.calibration.benchmark.speed import BATCHES, Clock, gains, table


def busy(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_what_a_part_calls_of_another_is_the_others():
    clock = Clock()

    class Network:
        def forward(self) -> None:
            busy(0.03)

    network = Network()
    clock.around(network, "forward", "network")
    start = time.process_time()
    with clock.part("rest"):
        busy(0.02)
        with clock.part("solve"):
            busy(0.01)
            network.forward()
        network.forward()
    whole = time.process_time() - start
    assert set(clock.seconds) == {"rest", "solve", "network"}
    # each is at least what was burnt in it, and nothing is counted twice (a timer's tick is 1 ms)
    assert clock.seconds["network"] >= 0.06
    assert clock.seconds["solve"] >= 0.01
    assert clock.seconds["rest"] >= 0.02
    assert sum(clock.seconds.values()) == pytest.approx(whole, abs=2e-3)


def row(**more):
    price = {f"batch {b}": 0.8 / b + 0.2 for b in BATCHES}
    network = {f"network, batch {b}": 0.1 / b + 0.1 for b in BATCHES}
    found = {"problem": "disc", "nfe": 50.0, "all": 4.0, "network": 1.0, "width": 0.5, "solve": 2.0}
    return found | {"rest": 0.5, "peak MB": 900.0} | price | network | more


def test_the_gain_of_a_micro_batch_is_what_one_lane_costs_in_it():
    whole, network = gains(row(), 4)
    assert whole == pytest.approx(1.0 / 0.4)
    assert network == pytest.approx(0.2 / 0.125)


def test_the_table_has_a_cell_for_every_column():
    head, line, *rows = table([row(), row(problem="head")]).splitlines()[2:]
    assert {part.count("|") for part in (head, line, *rows)} == {head.count("|")}
    assert "| disc | 50 | 4.00 | 25% | 12% | 50% | 12% |" in rows[0]
