"""The commands of the command line, by theme; each module has `register(app)`."""
