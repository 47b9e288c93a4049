from sciinv.jobs import guard

with guard(snakemake.log[0]) as say:
    from sciinv import pipeline

    size = snakemake.params.size
    pipeline.merge(
        snakemake.input.shards,
        snakemake.output.posterior,
        draws=size["draws"],
        items=size["items"],
        overwrite=True,
    )
