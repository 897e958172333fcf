"""A key as text: `tmx_`, then its name of 8 characters, a secret of 43, and a checksum of 6.

Scanners for leaked secrets find a key by the prefix and the checksum. A mistyped key can be refused
without a look-up. The name is public: lists show it, and it tells keys apart.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
import zlib

_ALPHABET = string.digits + string.ascii_letters
KEY_PREFIX = "tmx_"
_NAME_LENGTH = 8
_SECRET_LENGTH = 43  # 62**43 > 2**256
_CHECKSUM_LENGTH = 6  # 62**6 > 2**32
_FORM = re.compile(
    rf"{KEY_PREFIX}[0-9A-Za-z]{{{_NAME_LENGTH + _SECRET_LENGTH + _CHECKSUM_LENGTH}}}"
)


def new_key() -> str:
    """A key that nobody can guess."""
    random = "".join(secrets.choice(_ALPHABET) for _ in range(_NAME_LENGTH + _SECRET_LENGTH))
    return f"{KEY_PREFIX}{random}{_checksum(KEY_PREFIX + random)}"


def is_well_formed(key: str) -> bool:
    """Whether the text looks like a key and its checksum is right. The key may still be unknown."""
    return bool(_FORM.fullmatch(key)) and key.endswith(_checksum(key[:-_CHECKSUM_LENGTH]))


def name_of(key: str) -> str:
    """The public name of a well-formed key, with the prefix, such as `tmx_4fGh7Kq2`."""
    return key[: len(KEY_PREFIX) + _NAME_LENGTH]


def digest(key: str) -> str:
    """What is stored of a key: its SHA-256 in hex.

    A slow hash protects passwords that people choose, because it makes each guess expensive. Nobody
    can guess a secret of 256 random bits, whatever the hash. A slow hash would only cost time in
    every request, and a flood of wrong keys could then keep the server busy.
    """
    return hashlib.sha256(key.encode()).hexdigest()


def _checksum(text: str) -> str:
    number = zlib.crc32(text.encode())
    letters = []
    for _ in range(_CHECKSUM_LENGTH):
        number, rest = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[rest])
    return "".join(reversed(letters))
