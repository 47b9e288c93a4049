from sciinv.run.job import guard

with guard(snakemake.log[0]) as say:
    from sciinv.config import Data
    from sciinv.steps.prepare import prepare

    data = Data(**snakemake.params.data["data"])
    needed = snakemake.params.needed
    prepare(data, snakemake.output.measurement, needed, say, overwrite=True)
