"""For users to test with: is a remote environment what the local one is? Public names of the package only.

`check_vector_env` and `check_env` raise a `ConformanceError` that names the `Rule` which is broken;
`compare_vector_env` and `compare_env` go on and return a `Record` of all rules. `toys` has environments of every space
and every type of info, to be served as
``remote_gym.testing.toys:create_environment``.
"""

from remote_gym.testing.comparison import Difference, difference
from remote_gym.testing.env_check import check_env, compare_env
from remote_gym.testing.rules import ConformanceError, Record, Rule
from remote_gym.testing.toys import OwnResults
from remote_gym.testing.vector_check import check_vector_env, compare_vector_env

__all__ = [
    "ConformanceError",
    "Difference",
    "OwnResults",
    "Record",
    "Rule",
    "check_env",
    "check_vector_env",
    "compare_env",
    "compare_vector_env",
    "difference",
]
