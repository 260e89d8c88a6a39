"""Both sides: shared memory without a name, so that nothing can be left behind.

On Linux a block is a sealed `memfd`, handed over as a file descriptor; it vanishes with its last user, whoever was
killed. Elsewhere it is `multiprocessing.shared_memory`, whose name the creator unlinks. Pages are allocated when the
block is made: memory that the machine refuses is an error then, and not a SIGBUS at the first touch.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import sys
from types import TracebackType

HAS_MEMFD = sys.platform == "linux" and hasattr(os, "memfd_create")

# fcntl's numbers from <linux/fcntl.h>; the module has them by name only since Python 3.x on some builds.
_F_ADD_SEALS, _F_SEAL_SHRINK, _F_SEAL_GROW = 1033, 0x2, 0x4


class SharedBlock:
    """A block of shared memory, mapped into this process.

    Attributes:
        descriptor: What the other side needs to attach: a file descriptor (Linux).
        size: Bytes.
    """

    def __init__(self, descriptor: int, size: int) -> None:
        """Map `size` bytes behind `descriptor`, which this object owns from now on."""
        self.descriptor = descriptor
        self.size = size
        try:
            self.buffer: mmap.mmap | None = mmap.mmap(descriptor, size)
        except BaseException:
            os.close(descriptor)
            raise

    @classmethod
    def create(cls, size: int) -> SharedBlock:
        """Allocate `size` bytes of zeros.

        Raises:
            MemoryError: The machine, a resource limit or a full file system refused the memory.
        """
        size = max(size, mmap.PAGESIZE)
        if size > (available := _available_bytes()):
            raise MemoryError(f"{size} bytes of shared memory were refused: the machine has only {available} left")
        descriptor = -1
        try:
            descriptor = _anonymous_file()
            # ftruncate would succeed on a full file system and the first touch would be a SIGBUS.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(descriptor, 0, size)
            else:
                os.ftruncate(descriptor, size)
            if HAS_MEMFD:  # a worker must not be able to truncate it under the server
                fcntl.fcntl(descriptor, _F_ADD_SEALS, _F_SEAL_SHRINK | _F_SEAL_GROW)
            owned, descriptor = descriptor, -1  # from here on the constructor closes it
            return cls(owned, size)
        except OSError as error:
            if descriptor >= 0:
                os.close(descriptor)
            raise MemoryError(f"{size} bytes of shared memory were refused: {error.strerror or error}") from error

    def write(self, data: bytes) -> None:
        """Put `data` at its beginning."""
        assert self.buffer is not None
        self.buffer[: len(data)] = data

    def close(self) -> None:
        """Close the descriptor and let go of the mapping, which ends with the last array that looks into it.

        It is never unmapped explicitly: NumPy does not lock the buffer under its arrays, so they would dangle.
        """
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
        self.buffer = None

    def __enter__(self) -> SharedBlock:
        """Return self."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close."""
        self.close()


def _available_bytes() -> int:
    """Return what the machine can still give; without this look, allocating would go on until something is killed."""
    try:
        with open("/proc/meminfo", "rb") as file:
            return 1024 * next(int(line.split()[1]) for line in file if line.startswith(b"MemAvailable:"))
    except (OSError, StopIteration):  # not Linux
        return sys.maxsize


def _anonymous_file() -> int:
    if HAS_MEMFD:
        return os.memfd_create("remote_gym", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    import tempfile

    descriptor, path = tempfile.mkstemp(prefix="remote_gym-")
    os.unlink(path)  # the open descriptor is all that is needed
    return descriptor
