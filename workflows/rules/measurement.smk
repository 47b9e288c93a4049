rule prepare:
    """Read the raw data into a measurement store."""
    input:
        files=lambda wc: local(CONFIG.problem(wc.problem).inputs("data")),
    output:
        measurement=directory(f"{OUT}/{{problem}}/measurement.zarr"),
    params:
        version=sciinv.__version__,
        data=lambda wc: CONFIG.problem(wc.problem).facts("data"),
        needed=lambda wc: CONFIG.problem(wc.problem).items,
    log:
        f"{OUT}/logs/{{problem}}/prepare.log",
    benchmark:
        f"{OUT}/benchmarks/{{problem}}/prepare.tsv"
    conda:
        "../envs/sciinv.yaml"
    threads: 1
    resources:
        mem_mb=lambda wc, attempt: 4000 * attempt,
        runtime=60,
    script:
        "../scripts/prepare.py"


rule check:
    """Check that measurement, operator and prior belong together, before the first draw."""
    input:
        measurement=rules.prepare.output.measurement,
        files=lambda wc: local(CONFIG.problem(wc.problem).inputs("operator", "prior")),
    output:
        found=f"{OUT}/{{problem}}/check.json",
    params:
        version=sciinv.__version__,
        spec=lambda wc: CONFIG.problem(wc.problem).checked(),
        device=CONFIG.run.device,
        seed=CONFIG.run.seed,
    log:
        f"{OUT}/logs/{{problem}}/check.log",
    benchmark:
        f"{OUT}/benchmarks/{{problem}}/check.tsv"
    conda:
        "../envs/sciinv.yaml"
    threads: 1
    resources:
        mem_mb=lambda wc, attempt: 4000 * attempt,
        runtime=lambda wc: 240 if CONFIG.problem(wc.problem).probes else 30,
        gpu=lambda wc: CONFIG.gpus_to_check(wc.problem),
    script:
        "../scripts/check.py"
