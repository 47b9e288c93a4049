"""The benchmark: samplers on problems whose posterior is known."""
