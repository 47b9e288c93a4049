from sciinv.run.job import guard

with guard(snakemake.log[0]) as say:
    from sciinv.config import Operator, Prior, Sampler
    from sciinv.steps.check import check

    spec = snakemake.params.spec
    check(
        snakemake.input.measurement,
        Operator(**spec["operator"]),
        Prior(**spec["prior"]),
        snakemake.output.found,
        Sampler(**spec["sampler"]) if "sampler" in spec else None,
        snakemake.params.device,
        snakemake.params.seed,
    )
