"""The steps of the pipeline: each takes stores and leaves a store."""
