"""The Lévy cases: signals of many chains drawn together are those of one at a time."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sciinv.calibration.benchmark import levy
from sciinv.samplers import DAPS, Particles


def make(prior):
    return DAPS(prior, levels=6, micro_batch=3)


@pytest.mark.parametrize("law", ["Laplace", "Bernoulli–Laplace, 0.1"])
def test_signals_drawn_together_are_those_of_one_at_a_time(law):
    c = levy.cell(law, "deconvolution")
    _, data = c.signals(4)
    together = [x for x, _ in levy._each(c, data, make, 3, seed=5)]
    one = make(c.prior).sample(data[2:3], c.physics, draws=3, seed=7)["image"].values
    # The same random numbers; factors of 64 × 64 matrices in another order: rounding.
    assert np.allclose(together[2], one.reshape(3, 64), rtol=0, atol=1e-9)
    assert not torch.allclose(together[1], together[2])


def test_lanes_that_exchange_are_never_of_two_signals(monkeypatch):
    monkeypatch.setattr(levy, "_together", lambda *a: pytest.fail("mixed signals"))
    c = levy.cell("Gaussian", "identity")
    _, data = c.signals(2)
    found = [x for x, _ in levy._each(c, data, lambda p: Particles(p, levels=1, group=2), 2, 0)]
    assert all(x is not None and x.shape == (2, 64) for x in found)


def test_parts_of_a_cell_add_up_to_the_whole():
    law, kind = "Laplace", "imputation"
    apart = {"law": law, "operator": kind, "distance": 1.0, "floor": 1.0}
    whole = levy.summary([apart, levy.levy_part(law, kind, make, range(4), 3)])
    parts = [levy.levy_part(law, kind, make, k, 3) for k in (range(3), range(3, 4))]
    found = levy.summary([apart, *json.loads(json.dumps(parts))])
    assert found["signals"] == 4
    for name in set(whole) - {"seconds"}:
        # Lanes in other groups: the rounding of their matrix products.
        assert found[name] == pytest.approx(whole[name], abs=1e-9), name


def test_the_rows_go_on_from_what_a_file_has(tmp_path, monkeypatch):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "docs/studies"))
    import benchmark_rows

    done = []

    def part(law, kind, make, signals):
        done.append((law, kind, signals))
        return {"law": law, "operator": kind, "first": signals.start}

    monkeypatch.setattr(levy, "levy_part", part)
    monkeypatch.setattr(
        levy, "levy_distance",
        lambda law, kind, make: {"law": law, "operator": kind, "distance": 1.0, "floor": 1.0},
    )  # fmt: skip
    file = tmp_path / "levy.jsonl"
    benchmark_rows.levy_parts(file, 200)
    assert len(done) == len(set(done)) == 24
    done.clear()
    benchmark_rows.levy_parts(file, 300)
    assert [signals for _, _, signals in done] == [range(200, 300)] * 24
    done.clear()
    lines = file.read_text().splitlines()
    file.write_text("\n".join(lines[:-1]) + "\n")
    benchmark_rows.levy_parts(file, 300)
    assert len(done) == 1
    done.clear()
    benchmark_rows.levy_parts(tmp_path / "one.jsonl", 200, ["Laplace"])
    assert {law for law, _, _ in done} == {"Laplace"}
    assert len(file.read_text().splitlines()) == len(lines)
