"""The page: one HTML file with every image in it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

import sciinv
from sciinv import plots, uncertainty
from sciinv.errors import ConfigError
from sciinv.report import parts
from sciinv.report.findings import Finding, Trust, assess
from sciinv.report.markup import counted, part, table_of
from sciinv.report.origin import cost
from sciinv.report.parts import Problem
from sciinv.store.atomic import write_file


def write_report(
    problems: Problem | Iterable[Problem],
    path: str | os.PathLike[str],
    *,
    title: str = "Images with uncertainty",
    lead: str = "Reconstructions from raw measurements, and how far each can be trusted.",
) -> Path:
    """Write one self-contained HTML file: no other file, no network, no script.

    Args:
        problems: One section each.
        path: The file to make; written aside and renamed.
        title: Heading of the page.
        lead: One sentence below it.

    Returns:
        The path.

    Raises:
        ConfigError: No problem, an item that is not there, or an image of another shape.
        StoreError: A posterior that is not whole, or a disk that is full or read-only.
    """
    chosen = [problems] if isinstance(problems, Problem) else list(problems)
    if not chosen:
        raise ConfigError(
            "There is nothing to report",
            expected="at least one problem",
            got="none",
            remedy="sample a posterior first",
        )
    sections, links = [], []
    for i, problem in enumerate(chosen):
        html, judged = _section(problem, f"problem-{i + 1}")
        sections.append(html)
        links.append(
            f'<a href="#problem-{i + 1}">{escape(problem.title)}<span>{_verdict(judged)}</span></a>'
        )
    template = Template((files("sciinv.report") / "template.html").read_text(encoding="utf-8"))
    page = template.substitute(
        title=escape(title),
        lead=escape(lead),
        version=escape(sciinv.__version__),
        contents=f'<nav aria-label="Problems">{"".join(links)}</nav>' if len(links) > 1 else "",
        problems="\n".join(sections),
    )
    write_file(path, page.encode())
    return Path(path)


def _section(problem: Problem, anchor: str) -> tuple[str, Trust]:
    dataset = uncertainty.as_dataset(problem.posterior)
    if not 0 <= problem.item < dataset.sizes["item"]:
        raise ConfigError(
            "The posterior has no such item",
            where=problem.title,
            expected=f"0 … {dataset.sizes['item'] - 1}",
            got=problem.item,
            remedy="choose an item that was sampled",
        )
    one = dataset.isel(item=[problem.item])
    if problem.summary is None:
        summary = uncertainty.summarize(one)
    else:
        summary = problem.summary.isel(item=[problem.item])
    summary = summary.isel(item=0, channel=problem.channel).load()
    stats = one.drop_vars("image").isel(item=0)
    mean = summary["mean"]
    classical = {k: plots.plane(k, v, mean) for k, v in problem.classical.items()}
    truth = None if problem.truth is None else plots.plane("truth", problem.truth, mean)
    judged = assess(summary, stats, classical, problem.components, truth)
    told = tuple(Finding(text, warning=True) for text in problem.doubts)
    judged = replace(judged, findings=(*told, *judged.findings))
    colours = plots.colour_map(problem.operator or dataset.attrs.get("operator"))
    limits = plots.shared_limits([mean, *summary["quantiles"]])
    pieces = [
        f'<section class="problem" id="{anchor}">',
        f"<h2>{escape(problem.title)}</h2>",
        f'<p><span class="{_badge(judged)}">{_verdict(judged)}</span></p>',
        parts.numbers(problem, judged),
        part("What was measured", table_of(problem.measurement)) if problem.measurement else "",
        part("The reconstruction", parts.maps(problem, summary, classical, colours, limits)),
        part("Single draws", parts.draws(problem, one, colours, limits)),
        part("Where to trust it", parts.words_and_figures(problem, judged, stats)),
        part("All items", parts.items(dataset)) if dataset.sizes["item"] > 1 else "",
        part("What it cost", table_of(cost(dataset, problem))),
        "</section>",
    ]
    return "\n".join(p for p in pieces if p), judged


def _badge(judged: Trust) -> str:
    return "badge doubt" if judged.warnings else "badge"


def _verdict(judged: Trust) -> str:
    count = len(judged.warnings)
    if count == 0:
        return "No reason for doubt found"
    return f"{counted(count, 'reason')} for doubt"
