"""What a reader finds doubtful is said by convert and prepare, and stands on the page."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from sciinv.cli import app
from sciinv.config import Data, Operator, Prior, Sampler
from sciinv.steps.build import load_prior
from sciinv.steps.check import check
from sciinv.steps.prepare import prepare
from sciinv.steps.report import Stores, make_report
from sciinv.steps.sample import sample_shard
from sciinv.steps.summarize import summarize

TINY = Path(__file__).resolve().parents[2] / "workflows/configs/tiny.py"
DOUBT = "the air is <not> at 0"


def test_warnings_of_a_reader_are_told_and_shown_as_doubts(tmp_path, monkeypatch):
    monkeypatch.setattr("sciinv.store.atomic._flush", lambda path: None)
    own = tmp_path / "own.py"
    own.write_text(
        f"{TINY.read_text()}\nimport json\ndef mine(path):\n"
        f"    return read(size=8, items=1).assign_attrs(warnings=json.dumps([{DOUBT!r}]))\n"
    )
    lines: list[str] = []
    m = prepare(Data(f"{own}:mine", str(TINY)), tmp_path / "m.zarr", say=lines.append)
    assert f"warning: {DOUBT}" in lines
    given = [str(TINY), "--reader", f"{own}:mine", "-o", str(tmp_path / "c.zarr")]
    assert DOUBT in CliRunner().invoke(app, ["convert", *given]).output
    operator = Operator(f"{TINY}:Blur")
    post = sample_shard(
        m, tmp_path / "p.zarr", operator=operator, draws=range(2), items=[0],
        prior=Prior(kind="gaussian", length=2.0),
        sampler=Sampler("daps", {"levels": 3, "kernel": "exact", "micro_batch": 2}),
    )  # fmt: skip
    summary = summarize(post, tmp_path / "s.zarr")
    shown = Stores(m, post, summary, operator=operator, title=r"$\unknown{x}$ and $x_{$ y")
    page = make_report(shown, tmp_path / "report").read_text()
    assert "The data: the air is &lt;not&gt; at 0" in page


def test_a_prior_of_other_pixels_is_a_doubt_of_check_store_and_page(tmp_path, monkeypatch):
    monkeypatch.setattr("sciinv.store.atomic._flush", lambda path: None)
    m = prepare(Data(f"{TINY}:read", options={"size": 8}), tmp_path / "m.zarr")
    operator, prior = Operator(f"{TINY}:Blur"), Prior(kind="gaussian", length=2.0)

    def load(*given):
        model = load_prior(*given)
        model.metadata = {"pixel": {"side": 2.0, "unit": "mm"}}
        return model

    monkeypatch.setattr("sciinv.steps.check.load_prior", load)
    monkeypatch.setattr("sciinv.steps.sample.load_prior", load)
    (told,) = check(m, operator, prior, tmp_path / "c.json")["doubts"]
    assert "size of the operator's pixels is not known" in told  # tiny.py counts in px
    lines: list[str] = []
    post = sample_shard(
        m, tmp_path / "p.zarr", operator=operator, draws=range(2), items=[0], prior=prior,
        sampler=Sampler("daps", {"levels": 3, "kernel": "exact", "micro_batch": 2}),
        say=lines.append,
    )  # fmt: skip
    assert lines == [f"warning: {told}"]
    shown = Stores(m, post, summarize(post, tmp_path / "s.zarr"), operator=operator)
    assert "The prior: The size of the" in make_report(shown, tmp_path / "report").read_text()
