"""ttybridge: serial ports served over TCP."""

__version__ = "0.1.0"
