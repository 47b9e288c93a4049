"""Priors made of other people's networks, through a description beside their weights."""
