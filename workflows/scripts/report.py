from sciinv.jobs import guard

with guard(snakemake.log[0]) as say:
    from sciinv import reporting
    from sciinv.config import Operator

    spec = snakemake.params.spec
    reporting.make_report(
        snakemake.input.measurement,
        snakemake.input.posterior,
        snakemake.input.summary,
        snakemake.output.report,
        quantities=snakemake.input.quantities,
        title=spec["title"],
        operator=Operator(**spec["operator"]),
        items=spec["display"].get("items", 1),
        reference=spec["reference"],
    )
