rule sample:
    """Draw a block of draws of a block of items; one thread, so that bits do not depend on it."""
    input:
        measurement=rules.prepare.output.measurement,
        found=rules.check.output.found,
        files=lambda wc: local(CONFIG.problem(wc.problem).inputs("operator", "prior")),
    output:
        posterior=directory(f"{OUT}/{{problem}}/shards/items-{{item}}-draws-{{draw}}.zarr"),
    params:
        version=sciinv.__version__,
        spec=lambda wc: CONFIG.problem(wc.problem).facts("operator", "prior", "sampler"),
        seed=CONFIG.run.seed,
        device=CONFIG.run.device,
        shard=lambda wc: CONFIG.problem(wc.problem).facts("shards"),
    log:
        f"{OUT}/logs/{{problem}}/sample/items-{{item}}-draws-{{draw}}.log",
    benchmark:
        f"{OUT}/benchmarks/{{problem}}/sample/items-{{item}}-draws-{{draw}}.tsv"
    conda:
        "../envs/sciinv.yaml"
    threads: 1
    resources:
        mem_mb=lambda wc, attempt: 4000 * attempt,
        runtime=lambda wc, attempt: 240 * attempt,
        gpu=CONFIG.run.gpus,
    script:
        "../scripts/sample.py"


rule merge:
    """Make one posterior store of the shards; their files are linked, not copied."""
    input:
        shards=lambda wc: [
            f"{OUT}/{wc.problem}/shards/items-{i}-draws-{d}.zarr"
            for i, d in CONFIG.problem(wc.problem).blocks()
        ],
    output:
        posterior=directory(f"{OUT}/{{problem}}/posterior.zarr"),
    params:
        version=sciinv.__version__,
        size=lambda wc: CONFIG.problem(wc.problem).facts("draws", "items"),
    log:
        f"{OUT}/logs/{{problem}}/merge.log",
    benchmark:
        f"{OUT}/benchmarks/{{problem}}/merge.tsv"
    conda:
        "../envs/sciinv.yaml"
    threads: 1
    resources:
        mem_mb=lambda wc, attempt: 2000 * attempt,
        runtime=60,
    script:
        "../scripts/merge.py"


rule check_prior:
    """Say whether the prior knows the object, of the first item of problems that ask for it."""
    wildcard_constraints:
        # no other problem has this rule: there the file is one made by hand
        problem="|".join(p for p in CONFIG.problems if CONFIG.problem(p).check_prior) or "(?!)",
    input:
        measurement=rules.prepare.output.measurement,
        settings=rules.check.output.found,
        posterior=rules.merge.output.posterior,
        files=lambda wc: local(CONFIG.problem(wc.problem).inputs("operator", "prior")),
    output:
        found=f"{OUT}/{{problem}}/check-prior.json",
    params:
        version=sciinv.__version__,
        spec=lambda wc: CONFIG.problem(wc.problem).facts(
            "operator", "prior", "sampler", "check_prior"
        ),
        seed=CONFIG.run.seed,
    log:
        f"{OUT}/logs/{{problem}}/check_prior.log",
    benchmark:
        f"{OUT}/benchmarks/{{problem}}/check_prior.tsv"
    conda:
        "../envs/sciinv.yaml"
    threads: 1
    resources:
        mem_mb=lambda wc, attempt: 4000 * attempt,
        runtime=lambda wc, attempt: 480 * attempt,
    script:
        "../scripts/check_prior.py"
