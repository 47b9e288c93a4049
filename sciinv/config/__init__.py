"""The configuration of a run: typed, and checked before the first job; free of heavy imports."""

from sciinv.config.load import SETTINGS, Config
from sciinv.config.spec import (
    SUFFIXES,
    SUMMARY,
    Data,
    Operator,
    Prior,
    Problem,
    Run,
    Sampler,
    Shards,
    block,
    file_of,
)

__all__ = [
    "SETTINGS",
    "SUFFIXES",
    "SUMMARY",
    "Config",
    "Data",
    "Operator",
    "Prior",
    "Problem",
    "Run",
    "Sampler",
    "Shards",
    "block",
    "file_of",
]
