"""ttybridge: serial ports served over TCP."""

__version__ = "0.1.0"

# What runs, for people and metrics. bridge/build.py writes another one into a program, with a hash
# of the sources: two builds of one version differ in it, and so do the names of their files.
BUILD = f"{__version__} (source)"
