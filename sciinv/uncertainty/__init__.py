"""Maps of a posterior from its draws: mean, standard deviation, quantiles, Monte-Carlo errors."""

from sciinv.uncertainty.draws import Posterior, as_dataset, is_complex, kept, magnitude
from sciinv.uncertainty.maps import MEMORY, Transform, open_summary, summarize, write_summary
from sciinv.uncertainty.workers import CONNECT, workers

__all__ = [
    "CONNECT",
    "MEMORY",
    "Posterior",
    "Transform",
    "as_dataset",
    "is_complex",
    "kept",
    "magnitude",
    "open_summary",
    "summarize",
    "workers",
    "write_summary",
]
