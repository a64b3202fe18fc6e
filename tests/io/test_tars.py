"""Tar archives are indexed as they are, or refused: no unpacking, no endless header, no false content."""

from __future__ import annotations

import io
import tarfile

import pytest

from hear_audiomamba.errors import DataError
from hear_audiomamba.io.tars import tar_members


def make(path, members, mode="w", **options):
    with tarfile.open(path, mode, **options) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_where_the_index_says(tmp_path, kind):
    long = "a/" * 40 + "b" * 90 if kind == tarfile.USTAR_FORMAT else "é" * 150
    wanted = [("one.wav", b"1" * 700), ("empty.wav", b""), (long, b"2" * 512), ("../../up.wav", b"3")]
    path = make(tmp_path / "a.tar", wanted, format=kind)
    assert [(m.name, m.read()) for m in tar_members(path)] == wanted


def test_links_folders_and_devices_are_no_members(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for kind, name in (
            (tarfile.SYMTYPE, "s"), (tarfile.LNKTYPE, "l"), (tarfile.DIRTYPE, "d"), (tarfile.FIFOTYPE, "f"),
            (tarfile.CHRTYPE, "c"),
        ):  # fmt: skip
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
    assert list(tar_members(path)) == []


def test_a_compressed_tar_is_refused_whose_offsets_would_lie(tmp_path):
    path = make(tmp_path / "a.tar", [("a.wav", b"x" * 100)], "w:gz")
    with pytest.raises(DataError, match=r"a\.tar: not a readable uncompressed tar"):
        list(tar_members(path))


@pytest.mark.parametrize("keep", [300, 700, 1024 + 600])
def test_a_cut_archive_is_named_behind_what_is_there(tmp_path, keep):
    path = make(tmp_path / "a.tar", [("one.wav", b"1" * 512), ("two.wav", b"2" * 512)])
    path.write_bytes(path.read_bytes()[:keep])
    found = []
    with pytest.raises(DataError, match="not a readable uncompressed tar"):
        for member in tar_members(path):
            found.append(member.read())
    assert found == [b"1" * 512][: keep > 1024]


def test_sizes_that_lead_back_or_beyond_end(tmp_path):
    path = make(tmp_path / "a.tar", [("one.wav", b"1" * 512)])
    raw = bytearray(path.read_bytes())
    for size in (-512, -1024, 1 << 40):
        raw[124:136] = tarfile.itn(size, 12, tarfile.GNU_FORMAT)
        raw[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(raw[:512]))[0]
        path.write_bytes(raw)
        with pytest.raises(DataError, match="not a readable uncompressed tar"):
            list(tar_members(path))


def test_a_header_of_a_gigabyte_is_not_read(tmp_path):
    path = tmp_path / "a.tar"
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 30
    with open(path, "wb") as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        file.truncate(1 << 31)
    with pytest.raises(DataError, match="a header says that it is 1073741824 bytes long"):
        list(tar_members(path))


def test_many_headers_before_a_member_do_not_overflow_the_stack(tmp_path):
    path = tmp_path / "a.tar"
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2
    path.write_bytes((info.tobuf(tarfile.GNU_FORMAT) + b"a".ljust(512, b"\0")) * 5000)
    with pytest.raises(DataError, match="not a readable uncompressed tar"):
        list(tar_members(path))


def test_a_member_with_holes_is_refused(tmp_path):
    path = tmp_path / "a.tar"
    info = tarfile.TarInfo("holes.wav")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9999"}
    content = b"1\n0\n100\n".ljust(512, b"\0") + b"x" * 100
    info.size = len(content)
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(info, io.BytesIO(content))
    with pytest.raises(DataError, match="with holes"):
        list(tar_members(path))
