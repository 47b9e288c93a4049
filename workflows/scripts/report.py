from sciinv.run.job import guard

with guard(snakemake.log[0]) as say:
    from sciinv.config import Operator
    from sciinv.steps.report import Stores, make_report

    spec = snakemake.params.spec
    stores = Stores(
        snakemake.input.measurement,
        snakemake.input.posterior,
        snakemake.input.summary,
        quantities=snakemake.input.quantities,
        title=spec["title"],
        operator=Operator(**spec["operator"]),
        items=spec["display"].get("items", 1),
        water=spec["display"].get("water"),
        reference=spec["reference"],
    )
    make_report(stores, snakemake.output.report, overwrite=True)
