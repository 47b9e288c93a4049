from sciinv.run.job import guard

with guard(snakemake.log[0]) as say:
    from sciinv.steps.summarize import summarize

    spec, run = snakemake.params.spec, snakemake.config["run"]
    summarize(
        snakemake.input.posterior,
        snakemake.output.summary,
        snakemake.output.quantities,
        display=spec["display"],
        domain=spec["domain"],
        scheduler=run.get("dask"),
        memory=2**20 * run.get("memory_mb", 0) or None,
        check=snakemake.input.check[0] if snakemake.input.check else None,
        overwrite=True,
    )
