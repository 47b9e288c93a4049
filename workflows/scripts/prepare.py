from sciinv.run.job import guard

with guard(snakemake.log[0]) as say:
    from sciinv.config import Data
    from sciinv.steps.prepare import prepare

    data = Data(**snakemake.params.data["data"])
    prepare(data, snakemake.output.measurement, snakemake.params.needed, say)
