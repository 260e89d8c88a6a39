"""Warnings that say nothing of what is tested."""

import pytest

WARNINGS = [
    pytest.mark.filterwarnings(f"ignore:{text}")
    for text in (
        ".* is set to None:UserWarning",  # Minari's, of each of author, algorithm, ... that is not given
        "env_spec is None:UserWarning",  # likewise
        "Implicitly cleaning up:ResourceWarning",  # a DataCollector's temporary folders
        ".*Casting input x to numpy array:UserWarning",  # Gymnasium's, of a scalar in a DataCollector
    )
]
