"""Measurement and posterior stores on Zarr v3: written aside, sealed with checksums, renamed."""

from sciinv.store.atomic import SEAL, content_hash, read_seal, write_file, written_aside
from sciinv.store.measurement import open_measurement, write_measurement
from sciinv.store.merge import merge_posteriors
from sciinv.store.ours import check_free, check_new
from sciinv.store.posterior import IMAGE_DIMS, open_posterior, to_dataset, to_tree, write_posterior
from sciinv.store.provenance import provenance
from sciinv.store.statistics import expected_half, reduced_chi2
from sciinv.store.verify import Verification, verify

__all__ = [
    "IMAGE_DIMS",
    "SEAL",
    "Verification",
    "check_free",
    "check_new",
    "content_hash",
    "expected_half",
    "merge_posteriors",
    "open_measurement",
    "open_posterior",
    "provenance",
    "read_seal",
    "reduced_chi2",
    "to_dataset",
    "to_tree",
    "verify",
    "write_file",
    "write_measurement",
    "write_posterior",
    "written_aside",
]
