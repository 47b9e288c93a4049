"""The run: the job around a step, the launch of Snakemake, the examination of the machine."""
