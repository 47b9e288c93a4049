from sciinv.run.job import guard, probed, progress_lines

with guard(snakemake.log[0]) as say:
    from sciinv.config import Operator, Prior, Sampler
    from sciinv.steps.check_prior import check_prior

    spec = snakemake.params.spec
    found = check_prior(
        snakemake.input.measurement,
        snakemake.output.found,
        operator=Operator(**spec["operator"]),
        prior=Prior(**spec["prior"]),
        sampler=Sampler(**spec["sampler"]),
        draws=spec["check_prior"],
        seed=snakemake.params.seed,
        posterior=snakemake.input.posterior,
        found=probed(snakemake.input.settings),
        progress=progress_lines(say),
        overwrite=True,
    )
    say(found["sentence"])
