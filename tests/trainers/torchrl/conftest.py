"""TorchRL deprecates classes that its own collectors are made of, and says so as they are imported."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", ".*WeightUpdaterBase is deprecated", DeprecationWarning)
    import torchrl.collectors  # noqa: F401
