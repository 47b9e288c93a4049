from sciinv.jobs import guard

with guard(snakemake.log[0]) as say:
    from sciinv import pipeline

    spec = snakemake.params.spec
    pipeline.summarize(
        snakemake.input.posterior,
        snakemake.output.summary,
        snakemake.output.quantities,
        display=spec["display"],
        domain=spec["domain"],
    )
