"""No I/O: how much one packed value may hold; the same limits hold on both ends."""

MAX_DEPTH = 32
"""Levels of containers in containers. Real infos have under ten; recursion over 32 is safe in any thread's stack."""
MAX_ITEMS = 1_000_000
"""msgpack items in one message. An empty dict takes 1 byte on the wire and 73 in memory: ~75 MB at most."""
MAX_BYTES = 64 * 2**20
"""Bytes in one packed value: the message limit of both ends."""
UNSCANNED_BYTES = 4096
"""Bytes up to which a message is built without a look at its headers. A header makes msgpack reserve room for the items
it claims, at most one per byte of the message, on each of at most 1,024 levels: 32 MiB here, freed at once."""
