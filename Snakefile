# From raw measurements to images with uncertainty: prepare, check, sample, merge, summarize, report.
# The configuration comes from --configfile, or from the workflow that includes this one as a module.
from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

import sciinv
from sciinv.config import SUFFIXES, Config
from sciinv.errors import SciinvError

min_version("9.0")

if not config:

    configfile: "workflows/configs/main.yaml"


try:
    CONFIG = Config.of_mapping(config)
except SciinvError as error:
    raise WorkflowError(f"{type(error).__name__}: {error}")

OUT = CONFIG.folder


wildcard_constraints:
    problem="|".join(CONFIG.problems),
    item=r"\d+-\d+",
    draw=r"\d+-\d+",


localrules:
    all,


rule all:
    default_target: True
    input:
        expand(f"{OUT}/{{problem}}/report", problem=CONFIG.problems),
        f"{OUT}/report.html",
        [f"{OUT}/{p.name}/{file}" for p in CONFIG.problems.values() for file in p.exports],


include: "workflows/rules/measurement.smk"
include: "workflows/rules/posterior.smk"
include: "workflows/rules/results.smk"
