"""What a file holds: told by its first bytes, and by its name only where they don't tell."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from enum import Enum
from pathlib import PurePath

import zstandard

HEAD_BYTES = 4_096  # of a file, looked at to tell its format


class Form(Enum):
    """How rows are laid out."""

    LINES = "JSON Lines"
    PARQUET = "Parquet"
    ARROW_FILE = "Arrow IPC file"
    ARROW_STREAM = "Arrow IPC stream"


class Compression(Enum):
    """What is wrapped around text. (Parquet and Arrow compress inside.)"""

    NONE = ""
    GZIP = "gzip"
    ZSTD = "zstd"


@dataclass(frozen=True, slots=True)
class Format:
    """A form and what is wrapped around it."""

    form: Form
    compression: Compression = Compression.NONE


TEXT_SUFFIXES = (".json", ".jsonl", ".ndjson", ".txt")
_FORM_OF_SUFFIX = {
    **dict.fromkeys(TEXT_SUFFIXES, Form.LINES),
    ".parquet": Form.PARQUET,
    ".arrow": Form.ARROW_FILE,
    ".feather": Form.ARROW_FILE,
    ".ipc": Form.ARROW_FILE,
    ".arrows": Form.ARROW_STREAM,
}
_COMPRESSION_OF_SUFFIX = {
    ".gz": Compression.GZIP,
    ".gzip": Compression.GZIP,
    ".zst": Compression.ZSTD,
    ".zstd": Compression.ZSTD,
}
KNOWN = (
    "JSON Lines (.json .jsonl .ndjson .txt; plain, .gz or .zst), Parquet, "
    "Arrow IPC (.arrow .feather .ipc .arrows)"
)

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_ARROW_CONTINUATION = b"\xff\xff\xff\xff"
_UNREADABLE = {
    b"PK\x03\x04": "a zip archive",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x04\x22\x4d\x18": "lz4",
    b"Obj\x01": "Avro",
    b"ORC": "ORC",
    b"SQLite format 3\x00": "an SQLite database",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
}


def _form_of_head(head: bytes) -> Form | None:
    if head.startswith(b"PAR1"):
        return Form.PARQUET
    if head.startswith(b"ARROW1\x00\x00"):
        return Form.ARROW_FILE
    if head.startswith(_ARROW_CONTINUATION) and len(head) >= 8:
        return Form.ARROW_STREAM if struct.unpack_from("<i", head, 4)[0] >= 0 else None
    if head.removeprefix(BYTE_ORDER_MARK).lstrip(b" \t\r\n").startswith(b"{"):
        return Form.LINES
    return None


def _compression_of_head(head: bytes) -> Compression:
    if head.startswith(_GZIP):
        return Compression.GZIP
    skippable = len(head) >= 4 and 0x50 <= head[0] <= 0x5F and head[1:4] == b"\x2a\x4d\x18"
    return Compression.ZSTD if head.startswith(_ZSTD) or skippable else Compression.NONE


def _unwrapped(head: bytes, compression: Compression) -> bytes:
    """The first bytes of what is compressed, as far as `head` tells."""
    try:
        if compression is Compression.GZIP:
            return zlib.decompressobj(wbits=31).decompress(head, HEAD_BYTES)
        with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(head)) as reader:
            return reader.read(HEAD_BYTES)
    except (zlib.error, zstandard.ZstdError):
        return b""


def unreadable(head: bytes) -> str:
    """A name for a format that Segue knows by its first bytes but can't read, or ""."""
    return next((name for magic, name in _UNREADABLE.items() if head.startswith(magic)), "")


def detect(head: bytes, name: str) -> Format | None:
    """The format of a file called `name` that begins with `head` (HEAD_BYTES are enough); None = unknown."""
    path = PurePath(name)
    suffix = path.suffix.lower()
    named_compression = _COMPRESSION_OF_SUFFIX.get(suffix, Compression.NONE)
    inner_suffix = PurePath(path.stem).suffix.lower() if named_compression is not Compression.NONE else suffix

    form = _form_of_head(head)
    if form is not None:
        return Format(form)
    compression = _compression_of_head(head)
    if compression is not Compression.NONE:
        inner = _unwrapped(head, compression)
        form = None if unreadable(inner) else _form_of_head(inner) or _FORM_OF_SUFFIX.get(inner_suffix)
        return Format(form, compression) if form is Form.LINES else None
    if unreadable(head):
        return None
    form = _FORM_OF_SUFFIX.get(inner_suffix)
    if form is None or (form is not Form.LINES and named_compression is not Compression.NONE):
        return None
    return Format(form, named_compression)
