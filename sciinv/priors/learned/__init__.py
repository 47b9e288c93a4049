"""Learned priors: the network, its file, its training and what is measured of it."""
