from sciinv.run.job import guard, probed, progress_lines

with guard(snakemake.log[0]) as say:
    from sciinv.config import Operator, Prior, Sampler, block
    from sciinv.steps.sample import sample_shard

    spec = snakemake.params.spec
    shards = snakemake.params.shard["shards"]
    sample_shard(
        snakemake.input.measurement,
        snakemake.output.posterior,
        operator=Operator(**spec["operator"]),
        prior=Prior(**spec["prior"]),
        sampler=Sampler(**spec["sampler"]),
        draws=block(snakemake.wildcards.draw),
        items=block(snakemake.wildcards.item),
        seed=snakemake.params.seed,
        device=snakemake.params.device,
        shard=(shards["draws"], shards["items"]),
        found=probed(snakemake.input.found),
        progress=progress_lines(say),
        say=say,
        overwrite=True,
    )
