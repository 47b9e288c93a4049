import csv

from sciinv import uncertainty

summary = uncertainty.open_summary(snakemake.input.summary)
with open(snakemake.output.table, "w", newline="") as file:
    table = csv.writer(file)
    table.writerow(["item", "row", "column", "mean", "sd"])
    for item in range(summary.sizes["item"]):
        mean, sd = (summary[name][item, 0].values for name in ("mean", "sd"))
        row, column = divmod(int(mean.argmax()), mean.shape[1])
        table.writerow([item, row, column, mean[row, column], sd[row, column]])
