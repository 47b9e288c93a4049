from sciinv.jobs import guard

with guard(snakemake.log[0]) as say:
    from sciinv import sampling
    from sciinv.config import Operator, Prior, Sampler

    spec = snakemake.params.spec
    sampling.check(
        snakemake.input.measurement,
        Operator(**spec["operator"]),
        Prior(**spec["prior"]),
        snakemake.output.found,
        Sampler(**spec["sampler"]) if "sampler" in spec else None,
        snakemake.params.device,
    )
