from sciinv.run.job import guard

with guard(snakemake.log[0]) as say:
    from sciinv.steps.merge import merge

    size = snakemake.params.size
    merge(
        snakemake.input.shards,
        snakemake.output.posterior,
        draws=size["draws"],
        items=size["items"],
        overwrite=True,
    )
