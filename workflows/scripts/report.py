from sciinv.jobs import guard

with guard(snakemake.log[0]) as say:
    from sciinv import pipeline
    from sciinv.config import Operator

    spec = snakemake.params.spec
    pipeline.make_report(
        snakemake.input.measurement,
        snakemake.input.posterior,
        snakemake.input.summary,
        snakemake.output.report,
        title=spec["title"],
        operator=Operator(**spec["operator"]),
        display=spec["display"],
        domain=spec["domain"],
        reference=spec["reference"],
    )
