from sciinv.jobs import guard

with guard(snakemake.log[0]) as say:
    from sciinv import pipeline
    from sciinv.config import Data

    data = Data(**snakemake.params.data["data"])
    pipeline.prepare(data, snakemake.output.measurement, snakemake.params.needed, say, overwrite=True)
