"""Server process, no I/O: whom a certificate names: its first common name, else the first URI among its other names.

Read here for both carriers, so that one certificate is one name: `ssl` gives a list of all names, gRPC gives texts that
end at the first NUL, which would make ``alice`` of a certificate for ``alice``, NUL, ``.example``. A certificate that
comes here was verified, so it is well-formed DER (X.690) of the form of RFC 5280, 4.1; one that is not is refused.
"""

from __future__ import annotations

from collections.abc import Iterator

from remote_gym.der import SUBJECT, certificate_fields, elements

_EXTENSIONS, _URI = 0xA3, 0x86
_COMMON_NAME, _OTHER_NAMES = bytes.fromhex("550403"), bytes.fromhex("551d11")  # 2.5.4.3, 2.5.29.17

_ENCODINGS = {0x0C: "utf-8", 0x13: "ascii", 0x14: "latin-1", 0x16: "ascii", 0x1C: "utf-32-be", 0x1E: "utf-16-be"}
"""Of the kinds of text that a common name may be."""


def certificate_name(der: bytes) -> str | None:
    """Return whom a certificate names; None: nobody.

    Raises:
        ValueError: It cannot be read.
    """
    try:
        fields = certificate_fields(der)
        names = (*_common_names(fields[SUBJECT][1]), *_uris(fields))
        return next((name for name in names if name), None)
    except IndexError:
        raise ValueError("it ends too early") from None


def _common_names(subject: bytes) -> Iterator[str]:
    for _, pairs in elements(subject):
        for _, pair in elements(pairs):
            (_, kind), (encoding, value), *_ = elements(pair)
            if kind == _COMMON_NAME:
                yield value.decode(_ENCODINGS.get(encoding, "ascii"))


def _uris(fields: list[tuple[int, bytes]]) -> Iterator[str]:
    for tag, wrapped in fields:
        if tag != _EXTENSIONS:
            continue
        for _, extensions in elements(wrapped):
            for _, extension in elements(extensions):
                (_, kind), *_, (_, value) = elements(extension)
                if kind == _OTHER_NAMES:
                    for _, names in elements(value):
                        yield from (name.decode("ascii") for tag, name in elements(names) if tag == _URI)
