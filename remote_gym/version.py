"""No I/O: the version, where whoever needs it loads nothing else."""

__version__ = "1.0.0.dev0"
