# SPDX-License-Identifier: Apache-2.0
"""The stubs say what the modules are, and a typed program can use them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import pintable

pytest.importorskip("mypy", reason="mypy is not installed")

# reveal_type() notes are compared: Any would pass every other check.
PROGRAM = """\
import pintable

table = pintable.create({"x": "float64?"}, 10)
column = table["x"]
reveal_type(table.rows)
reveal_type(table.columns)
reveal_type(table[2:4])
reveal_type(pintable.list_tables())
with table.lease(0, ["x"]) as part:
    reveal_type(part)
pintable.open(3)  # the only error
"""

# Strict for the stubs; how modules without a stub are typed inside is not looked at.
CONFIG = """\
[mypy]
strict = True
ignore_missing_imports = True
cache_dir = cache
[mypy-{inside}]
ignore_errors = True
"""


def modules_without_stubs() -> list[str]:
    """The private modules and subpackages; what is inside a subpackage is meant with it."""
    folder = Path(pintable.__file__).parent
    modules = [path for path in folder.glob("_*.py") if not path.with_suffix(".pyi").exists()]
    groups = [path.parent for path in folder.glob("_*/__init__.py")]
    assert groups
    names = {path.stem for path in modules} - {"__init__"}
    return sorted(f"pintable.{name}" for name in names | {path.name for path in groups})


def run_mypy(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """In an empty folder: the installed package is looked at, and no configuration but this."""
    config = tmp_path / "mypy.ini"
    inside = ",".join(f"{name}.*" for name in modules_without_stubs())
    config.write_text(CONFIG.format(inside=inside))
    return subprocess.run(
        [sys.executable, "-P", "-m", *arguments], cwd=tmp_path, capture_output=True, text=True
    )


def test_the_stubs_are_what_the_modules_are(tmp_path: Path) -> None:
    # A module without a stub is its own: only names under TYPE_CHECKING could differ.
    allowed = [re.escape(name) + r"\..*" for name in modules_without_stubs()]
    (tmp_path / "allowed").write_text("\n".join(allowed))
    options = ["--mypy-config-file", "mypy.ini", "--allowlist", "allowed"]
    options += ["--ignore-unused-allowlist", "--concise"]
    done = run_mypy(tmp_path, "mypy.stubtest", "pintable", *options)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_typed_program_is_checked(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    done = run_mypy(tmp_path, "mypy", "program.py")
    found = re.findall(r'Revealed type is "(.*)"', done.stdout)
    names = [re.sub(r"(\w+\.)+", "", name) for name in found]
    assert names == ["int", "list[str]", "Slice", "list[str]", "Part"], done.stdout
    errors = re.findall(r"^(.*): error:", done.stdout, re.MULTILINE)
    line = PROGRAM.splitlines().index("pintable.open(3)  # the only error") + 1
    assert errors == [f"program.py:{line}"], done.stdout + done.stderr


def test_the_package_says_that_it_is_typed() -> None:
    folder = Path(pintable.__file__).parent
    assert (folder / "py.typed").exists() and (folder / "__init__.pyi").exists()
