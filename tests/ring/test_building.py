"""How the native library is built."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools import native


def test_built_without_a_compiler_of_the_machine_it_loads_with_an_older_c_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CC", raising=False)
    target = tmp_path / "ring.so"
    native.build(target)
    needed = {int(minor) for minor in re.findall(rb"GLIBC_2\.(\d+)", target.read_bytes())}
    assert needed
    assert max(needed) <= 17


def test_cc_names_another_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CC", "/bin/sh -e")
    assert native.compiler() == ["/bin/sh", "-e"]
    monkeypatch.setenv("CC", "a-compiler-that-is-not-there")
    assert native.compiler() is None
    with pytest.raises(FileNotFoundError, match="set CC"):
        native.build(tmp_path / "ring.so")
