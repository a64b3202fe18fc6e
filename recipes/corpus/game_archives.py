"""Archives of single games that hold recordings, opened without running anything of the game."""

from __future__ import annotations

from pathlib import Path

from hear_audiomamba.errors import DataError

_COUNT_AT, _ENTRY, _NAME = 13, 21, 12


def unpack_queen(archive: Path, folder: Path) -> int:
    """Write the spoken lines of "Flight of the Amazon Queen" as MP3 files.

    Args:
        archive: `queen.1c`. Its table begins at byte 15, after the number of entries (16 bits, big-endian, at
            byte 13). An entry has 12 bytes of name, one of the bundle, and offset and size, 32 bits each.
        folder: where to; made if need be. `020001P2.SB` becomes `020001P2.mp3`.

    Returns:
        How many files were written.

    Raises:
        DataError: the file is no such archive, or its table points outside it.

    Source: the table as ScummVM's engine reads it (engines/queen/resource.cpp).
    """
    data = archive.read_bytes()
    if data[:4] != b"QTBL" or len(data) < _COUNT_AT + 2:
        raise DataError(f"{archive.name}: not an archive of Flight of the Amazon Queen")
    count = int.from_bytes(data[_COUNT_AT : _COUNT_AT + 2], "big")
    first = _COUNT_AT + 2
    folder.mkdir(parents=True, exist_ok=True)
    written = 0
    for at in range(first, first + count * _ENTRY, _ENTRY):
        entry = data[at : at + _ENTRY]
        name = entry[:_NAME].split(b"\0")[0].decode("ascii", "replace")
        offset, size = (int.from_bytes(entry[i : i + 4], "big") for i in (_NAME + 1, _NAME + 5))
        if len(entry) < _ENTRY or offset + size > len(data):
            raise DataError(f"{archive.name}: the entry {name!r} lies outside the archive")
        stem, _, kind = name.rpartition(".")
        if kind.upper() == "SB" and stem.isalnum():
            (folder / f"{stem}.mp3").write_bytes(data[offset : offset + size])
            written += 1
    return written
