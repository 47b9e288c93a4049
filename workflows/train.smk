# A prior of one's own images: snakemake -s workflows/train.smk -c1 --config images=FOLDER hours=1 output=mine.safetensors
# Further options of `sciinv train` go into `options`, e.g. options="--axis axial --crop 96".
from pathlib import Path

for key in ("images", "output"):
    if key not in config:
        raise WorkflowError(f"--config {key}=… is missing: images=FOLDER hours=1 output=FILE.safetensors")

PRIOR = Path(config["output"])


rule prior:
    """Inspect, split, train, fit widths, calibrate; goes on where it was stopped."""
    default_target: True
    input:
        images=config["images"],
    output:
        prior=str(PRIOR),
        card=str(PRIOR.with_suffix(".md")),
    params:
        hours=float(config.get("hours", 1.0)),
        options=config.get("options", ""),
    log:
        f"{PRIOR.with_suffix('')}-training.log",
    conda:
        "envs/sciinv.yaml"
    threads: 1
    resources:
        mem_mb=lambda wc, attempt: 8000 * attempt,
        runtime=lambda wc: int(60 * float(config.get("hours", 1.0)) * 1.5) + 10,
    shell:
        "sciinv train {input.images} --hours {params.hours} --output {output.prior} {params.options} 2> {log}"
