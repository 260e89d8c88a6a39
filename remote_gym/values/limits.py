"""No I/O: how much one packed value may hold; the same limits hold on both ends."""

MAX_DEPTH = 32
"""Levels of containers in containers. Real infos have under ten; recursion over 32 is safe in any thread's stack."""
MAX_ITEMS = 1_000_000
"""msgpack items in one message. An empty dict takes 1 byte on the wire and 73 in memory: ~75 MB at most."""
SURVEYED_ITEMS = 4_096
"""Items of one message that the server's loop looks at one by one, in Python: a millisecond. More are walked in C, at
some 10 ns each; what is wrong with those is left to who builds them."""
MAX_BYTES = 256 * 2**20
"""Bytes in one packed value: the info of one environment, what a call returned, a request's options. Room for an
observation of 64 MiB beside as much again, as when an episode ends in SAME_STEP; it travels in several messages."""
UNSCANNED_BYTES = 4096
"""Bytes up to which a message is built without a look at its headers. A header makes msgpack reserve room for the items
it claims, at most one per byte of the message, on each of at most 1,024 levels: 32 MiB here, freed at once."""
MAX_INT_BYTES = 65_536
"""Bytes of one int: 157,000 digits. Arithmetic on ints takes more than linear time."""

# Arrays
MAX_AXES = 64
"""Axes of an array, those of the fields of its dtype included: NumPy's own limit (before NumPy 2: 32)."""
MAX_ITEM_BYTES = 64 * 2**20
"""Of one item of a dtype: a text, or a structure."""
MAX_FIELDS = 1_000
"""Fields of one structured dtype."""
MAX_DTYPE_LEVELS = 8
"""Structured dtypes in structured dtypes."""
MAX_OVERLAP = 4
"""Bytes of all fields of a structured dtype, per byte of its size: NumPy copies field by field, so fields that lie over
each other cost time that the bytes on the wire do not show. A colour that is also four channels needs 2."""

# Hash tables. The hashes of str are secret; those of ints, tuples and others can be chosen by who writes a message.
MAX_KEYS = 1_000
"""Elements of one set, or keys of one dict, unless all are str. Ints that agree in their low bits probe each other's
places: a thousand of them cost half a million probes, one millisecond."""
MAX_COMPARISONS = 65_536
"""Comparisons in one message because of equal hashes, counted per element inside what is compared: 1 ms of ints, 16 ms
of the dearest pair of NumPy scalars. All tuples of -1 and -2 have one hash: a dict with 1,000 positions around
the origin as keys takes some 400 comparisons, one with frozensets of two neighbours some 13,000."""
MAX_HOLLOW_DICTS = 8_192
"""Dicts in one message whose only key is the empty str: 2 bytes on the wire, 184 to 232 in memory."""
