from sciinv.run.job import guard

with guard(snakemake.log[0]) as say:
    from sciinv.config import Operator
    from sciinv.steps.report import Stores, make_overview

    columns = ("measurement", "posterior", "summary", "quantities")
    problems = []
    for spec, *stores in zip(
        snakemake.params.specs, *(snakemake.input[name] for name in columns), strict=True
    ):
        problems.append(
            Stores(
                *stores,
                title=spec["title"],
                operator=Operator(**spec["operator"]),
                items=spec["display"].get("items", 1),
                water=spec["display"].get("water"),
                reference=spec["reference"],
            )
        )
    make_overview(problems, snakemake.output.page, snakemake.params.title)
