from sciinv.jobs import guard

with guard(snakemake.log[0]) as say:
    from sciinv import reporting
    from sciinv.config import Operator

    spec = snakemake.params.spec
    stores = reporting.Stores(
        snakemake.input.measurement,
        snakemake.input.posterior,
        snakemake.input.summary,
        quantities=snakemake.input.quantities,
        title=spec["title"],
        operator=Operator(**spec["operator"]),
        items=spec["display"].get("items", 1),
        reference=spec["reference"],
    )
    reporting.make_report(stores, snakemake.output.report, overwrite=True)
