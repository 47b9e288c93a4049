from sciinv.run.job import guard

with guard(snakemake.log[0]) as say:
    from sciinv.steps.export import export

    of = "quantities" if snakemake.wildcards.format == "csv" else "summary"
    export(
        snakemake.input[of],
        snakemake.wildcards.format,
        snakemake.output.file,
        measurement=snakemake.input.measurement,
        overwrite=True,
    )
