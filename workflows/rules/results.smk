import os.path


rule summarize:
    """Mean, standard deviation, quantiles and the field's quantities, out of core."""
    input:
        posterior=rules.merge.output.posterior,
        check=lambda wc: [f"{OUT}/{wc.problem}/{c}" for c in CONFIG.problem(wc.problem).prior_checks],
    output:
        summary=directory(f"{OUT}/{{problem}}/summary.zarr"),
        quantities=f"{OUT}/{{problem}}/quantities.json",
    params:
        version=sciinv.__version__,
        spec=lambda wc: CONFIG.problem(wc.problem).summary(),
    log:
        f"{OUT}/logs/{{problem}}/summarize.log",
    benchmark:
        f"{OUT}/benchmarks/{{problem}}/summarize.tsv"
    conda:
        "../envs/sciinv.yaml"
    threads: 1
    resources:
        mem_mb=lambda wc, attempt: 4000 * attempt,
        runtime=60,
    script:
        "../scripts/summarize.py"


rule report:
    """The figures and the page of one problem."""
    input:
        measurement=rules.prepare.output.measurement,
        posterior=rules.merge.output.posterior,
        summary=rules.summarize.output.summary,
        quantities=rules.summarize.output.quantities,
        files=lambda wc: local(CONFIG.problem(wc.problem).inputs("operator", "reference")),
        # Made by hand, where they are there: a new one makes a new page.
        checks=lambda wc: [
            f"{OUT}/{wc.problem}/{check}"
            for check in ("check-prior.json", "calibration/calibration.json")
            if check in CONFIG.problem(wc.problem).prior_checks
            or os.path.isfile(f"{OUT}/{wc.problem}/{check}")
        ],
    output:
        report=report(
            directory(f"{OUT}/{{problem}}/report"),
            htmlindex="index.html",
            caption="../report/problem.rst",
            category="Reports",
            labels={"problem": "{problem}"},
        ),
    params:
        version=sciinv.__version__,
        spec=lambda wc: CONFIG.problem(wc.problem).facts(
            "title", "operator", "display", "reference"
        ),
    log:
        f"{OUT}/logs/{{problem}}/report.log",
    benchmark:
        f"{OUT}/benchmarks/{{problem}}/report.tsv"
    conda:
        "../envs/sciinv.yaml"
    threads: 1
    resources:
        mem_mb=lambda wc, attempt: 4000 * attempt,
        runtime=60,
    script:
        "../scripts/report.py"


rule export:
    """Mean and standard deviation, or the quantities, as a file of the field."""
    input:
        measurement=rules.prepare.output.measurement,
        summary=rules.summarize.output.summary,
        quantities=rules.summarize.output.quantities,
    output:
        file=f"{OUT}/{{problem}}/export/{{format}}.{{suffix}}",
    wildcard_constraints:
        format="|".join(SUFFIXES),
        suffix="|".join(SUFFIXES.values()),
    params:
        version=sciinv.__version__,
    log:
        f"{OUT}/logs/{{problem}}/export-{{format}}-{{suffix}}.log",
    benchmark:
        f"{OUT}/benchmarks/{{problem}}/export-{{format}}-{{suffix}}.tsv"
    conda:
        "../envs/sciinv.yaml"
    threads: 1
    resources:
        mem_mb=lambda wc, attempt: 4000 * attempt,
        runtime=60,
    script:
        "../scripts/export.py"


rule overview:
    """One page on all problems of the run."""
    input:
        measurement=expand(f"{OUT}/{{problem}}/measurement.zarr", problem=CONFIG.problems),
        posterior=expand(f"{OUT}/{{problem}}/posterior.zarr", problem=CONFIG.problems),
        summary=expand(f"{OUT}/{{problem}}/summary.zarr", problem=CONFIG.problems),
        quantities=expand(f"{OUT}/{{problem}}/quantities.json", problem=CONFIG.problems),
        files=local(
            [f for p in CONFIG.problems.values() for f in p.inputs("operator", "reference")]
        ),
    output:
        page=f"{OUT}/report.html",
    params:
        version=sciinv.__version__,
        title=f"Images with uncertainty: {CONFIG.run.name}",
        specs=[
            p.facts("title", "operator", "display", "reference")
            for p in CONFIG.problems.values()
        ],
    log:
        f"{OUT}/logs/overview.log",
    benchmark:
        f"{OUT}/benchmarks/overview.tsv"
    conda:
        "../envs/sciinv.yaml"
    threads: 1
    resources:
        mem_mb=lambda wc, attempt: 4000 * attempt,
        runtime=60,
    script:
        "../scripts/overview.py"
