"""Quantities of the fields, derived from every draw: each carries its posterior uncertainty."""
