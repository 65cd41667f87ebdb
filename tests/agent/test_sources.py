"""What becomes of source archives, good and bad."""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from agent_world import pack, publish

from trainer.sources import InvalidSource, unpack_source

Change = Callable[[tarfile.TarInfo], None]


def archive(*members: tuple[str, str, Change | None], end: bytes = b"") -> bytes:
    """Return an archive of (name, content, change to the header)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, text, change in members:
            member = tarfile.TarInfo(name)
            member.size = len(text)
            if change:
                change(member)
            tar.addfile(member, io.BytesIO(text.encode()))
    return gzip.compress(buffer.getvalue() + end)


def typed(kind: bytes, link: str = "") -> Change:
    """Make a member something else than a file."""

    def change(member: tarfile.TarInfo) -> None:
        member.type, member.linkname, member.size = kind, link, 0

    return change


def claiming(size: int) -> bytes:
    """Return an archive whose only header claims a size that is not there."""
    member = tarfile.TarInfo("big")
    member.size = size
    return gzip.compress(member.tobuf(tarfile.GNU_FORMAT) + bytes(1024))


def huge_extended_header() -> bytes:
    """Return an archive whose extended header claims gigabytes."""
    member = tarfile.TarInfo("x")
    member.type, member.size = tarfile.XHDTYPE, 3 * 1024**3
    return gzip.compress(member.tobuf(tarfile.GNU_FORMAT) + bytes(1024))


def endless_map(*, said: str) -> bytes:
    """Return an archive with a sparse file whose map goes on for longer than any header may."""
    member = tarfile.TarInfo("x")
    if said == "in front":
        sparse = {"major": "1", "minor": "0", "realsize": "5", "name": "x"}
        member.pax_headers = {f"GNU.sparse.{key}": value for key, value in sparse.items()}
        return gzip.compress(member.tobuf(tarfile.PAX_FORMAT) + b"9999999\n" + b"1\n" * 1024**2)
    member.type = tarfile.GNUTYPE_SPARSE
    head = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    # That another piece of the map follows, and the sum that belongs to it.
    head[482] = 1
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    pieces = 0 if said == "not at all" else 2 * 1024**2 // 512
    return gzip.compress(bytes(head) + (b"00000000001\0" * 42 + b"\1" + bytes(7)) * pieces)


def many_headers() -> bytes:
    """Return an archive of which each header is small enough, and all are too much."""
    said = {"path": "x", "comment": "y" * 900_000}
    header = tarfile.TarInfo.create_pax_global_header(said)
    return gzip.compress(header * 3 + pack_header("a"))


def pack_header(name: str) -> bytes:
    """Return an empty file as it is in an archive."""
    return tarfile.TarInfo(name).tobuf(tarfile.PAX_FORMAT)


def sparse() -> bytes:
    """Return an archive with a file of which the holes are left out."""
    member = tarfile.TarInfo("x")
    member.pax_headers = {"GNU.sparse.map": "0,1", "GNU.sparse.size": "5"}
    return gzip.compress(member.tobuf(tarfile.PAX_FORMAT) + bytes(1024))


def negative_size() -> bytes:
    """Return an archive that would make a sum of sizes shrink."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo("a")
        member.pax_headers = {"size": "-5000000000"}
        tar.addfile(member)
    return gzip.compress(buffer.getvalue())


def test_files_and_folders_are_unpacked_once(tmp_path: Path) -> None:
    def executable(member: tarfile.TarInfo) -> None:
        member.mode = 0o6777
        member.uid = 12345

    data = archive(
        ("./", "", typed(tarfile.DIRTYPE)),
        ("package", "", typed(tarfile.DIRTYPE)),
        ("./package/run.sh", "echo", executable),
        ("deep/er/ü.py", "print()", None),
    )
    digest = publish(tmp_path, data)
    folder = unpack_source(tmp_path, digest, tmp_path / "pod")
    assert folder == tmp_path / "pod" / "source"
    assert (folder / "deep/er/ü.py").read_text() == "print()"
    status = (folder / "package/run.sh").stat()
    assert stat.S_IMODE(status.st_mode) & 0o7111 == 0o111
    assert status.st_uid == os.getuid()

    (folder / "written-by-the-program").touch()
    unpack_source(tmp_path, digest, tmp_path / "pod")
    assert (folder / "written-by-the-program").exists()
    other = publish(tmp_path, pack({"b.py": "2"}))
    assert os.listdir(unpack_source(tmp_path, other, tmp_path / "pod")) == ["b.py"]


def test_an_unpacking_that_was_cut_off_is_done_again(tmp_path: Path) -> None:
    digest = publish(tmp_path, pack({"a.py": "1"}))
    for name in ("source", "source.new"):
        (tmp_path / "pod" / name).mkdir(parents=True)
        (tmp_path / "pod" / name / "torn").touch()
    assert os.listdir(unpack_source(tmp_path, digest, tmp_path / "pod")) == ["a.py"]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        pytest.param(archive(("../out", "x", None)), "leaves its folder", id="parent"),
        pytest.param(archive(("a/../../out", "x", None)), "leaves its folder", id="inner-parent"),
        pytest.param(archive(("/tmp/out", "x", None)), "leaves its folder", id="absolute"),
        pytest.param(
            archive(("l", "", typed(tarfile.SYMTYPE, "/etc/passwd"))), "replace links", id="symlink"
        ),
        pytest.param(
            archive(("l", "", typed(tarfile.SYMTYPE, "..")), ("l/x", "x", None)),
            "replace links",
            id="through-symlink",
        ),
        pytest.param(
            archive(("a", "x", None), ("l", "", typed(tarfile.LNKTYPE, "a"))),
            "replace links",
            id="hardlink",
        ),
        pytest.param(
            archive(("d", "", typed(tarfile.CHRTYPE))), "neither a file nor a folder", id="device"
        ),
        pytest.param(
            archive(("d", "", typed(tarfile.FIFOTYPE))), "neither a file nor a folder", id="pipe"
        ),
        pytest.param(archive(("a", "x", None), ("a/b", "x", None)), "cannot be made", id="clash"),
        pytest.param(archive(("n" * 300, "x", None)), "cannot be made", id="long-name"),
        pytest.param(claiming(5 * 1024**3), "unpacks to more than", id="bomb-by-declared-size"),
        pytest.param(claiming(5000), "no gzip-compressed tar", id="cut-off-inside"),
        pytest.param(huge_extended_header(), "no gzip-compressed tar", id="huge-header"),
        pytest.param(negative_size(), "no gzip-compressed tar", id="negative-size"),
        pytest.param(many_headers(), "headers go on for ever", id="headers-without-end"),
        pytest.param(endless_map(said="in front"), "headers go on for ever", id="map-in-front"),
        pytest.param(endless_map(said="in pieces"), "headers go on for ever", id="map-in-pieces"),
        pytest.param(endless_map(said="not at all"), "no gzip-compressed tar", id="map-cut-off"),
        pytest.param(sparse(), "pack it without --sparse", id="sparse"),
        pytest.param(b"PK\3\4 not at all", "no gzip-compressed tar", id="zip"),
        pytest.param(gzip.compress(b"x" * 2000), "no gzip-compressed tar", id="gzip-of-noise"),
        pytest.param(pack({"a": "1" * 5000})[:60], "no gzip-compressed tar", id="gzip-cut-off"),
        pytest.param(b"", "no gzip-compressed tar", id="empty"),
    ],
)
def test_a_bad_archive_is_refused_and_writes_nothing_outside(
    tmp_path: Path, data: bytes, says: str
) -> None:
    digest = publish(tmp_path / "storage", data)
    with pytest.raises(InvalidSource, match=says):
        unpack_source(tmp_path / "storage", digest, tmp_path / "pod")
    assert set(os.listdir(tmp_path)) == {"storage", "pod"}
    assert set(os.listdir(tmp_path / "pod")) <= {"source.new"}


def test_limits_on_real_content(tmp_path: Path) -> None:
    digest = publish(tmp_path, pack(dict.fromkeys("abc", "x" * 100)))
    pod = tmp_path / "pod"
    with pytest.raises(InvalidSource, match="more than 299 bytes"):
        unpack_source(tmp_path, digest, pod, most_bytes=299)
    with pytest.raises(InvalidSource, match="more than 2 files"):
        unpack_source(tmp_path, digest, pod, most_files=2)
    unpack_source(tmp_path, digest, pod, most_bytes=300, most_files=3)


def test_what_headers_say_of_all_files_is_not_kept(tmp_path: Path) -> None:
    """Each is small enough, and they need not end."""
    said = (tarfile.TarInfo.create_pax_global_header({f"k{n}": "v" * 900_000}) for n in range(100))
    data = gzip.compress(b"".join(header + pack_header("a") for header in said) + bytes(1024))
    digest = publish(tmp_path, data)
    del data
    tracemalloc.start()
    unpack_source(tmp_path, digest, tmp_path / "pod")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 20_000_000


@pytest.mark.parametrize("text", [b"\xff", b"x" * 17_000_000])
def test_what_the_program_wrote_over_the_marker_is_none(tmp_path: Path, text: bytes) -> None:
    digest = publish(tmp_path, pack({"a.py": "1"}))
    folder = unpack_source(tmp_path, digest, tmp_path / "pod")
    (folder / "b.py").touch()
    (tmp_path / "pod" / "source.digest").write_bytes(text)
    assert os.listdir(unpack_source(tmp_path, digest, tmp_path / "pod")) == ["a.py"]


def test_a_pipe_in_place_of_the_archive_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "sources").mkdir()
    os.mkfifo(tmp_path / "sources" / "abc.tar.gz")
    with pytest.raises(InvalidSource, match="is no regular file; delete it"):
        unpack_source(tmp_path, "abc", tmp_path / "pod")


def test_missing_and_damaged_archives_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidSource, match=r"sources/abc\.tar\.gz is missing"):
        unpack_source(tmp_path, "abc", tmp_path / "pod")
    digest = publish(tmp_path, pack({"a.py": "1"}))
    path = tmp_path / "sources" / f"{digest}.tar.gz"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(InvalidSource, match="is damaged"):
        unpack_source(tmp_path, digest, tmp_path / "pod")
