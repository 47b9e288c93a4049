from sciinv.jobs import guard

with guard(snakemake.log[0]) as say:
    from sciinv import reporting
    from sciinv.config import Operator

    columns = ("measurement", "posterior", "summary", "quantities")
    problems = []
    for spec, *stores in zip(
        snakemake.params.specs, *(snakemake.input[name] for name in columns), strict=True
    ):
        problems.append(
            reporting.Stores(
                *stores,
                title=spec["title"],
                operator=Operator(**spec["operator"]),
                items=spec["display"].get("items", 1),
                reference=spec["reference"],
            )
        )
    reporting.make_overview(problems, snakemake.output.page, snakemake.params.title)
