# SPDX-License-Identifier: Apache-2.0
"""A service of the session's own for all tests, and what each test must leave as it was.

PINTABLE_ADDRESS is set before anything joins, so that no test meets a service of the user's.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
from child import PrivateService, private_service

import pintable

# A shell that starts this in the background leaves SIGINT ignored, also for what we start; with a
# handler here they begin with the default.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Socket paths are limited to 107 bytes: not in pytest's own long folders.
_FOLDER = tempfile.mkdtemp(prefix="pt-", dir="/tmp")
os.environ["PINTABLE_ADDRESS"] = _FOLDER
os.environ.pop("PINTABLE_FAMILY", None)


@pytest.fixture(scope="session", autouse=True)
def session_service() -> Iterator[PrivateService]:
    """The service that tests use by default; at the end it must stop when it is told to."""
    service = PrivateService(_FOLDER)
    yield service
    left = pintable.list_tables()
    try:
        service.stop()
    except subprocess.TimeoutExpired:
        service.kill()
        pytest.fail("the service did not stop when told to")
    finally:
        shutil.rmtree(_FOLDER, ignore_errors=True)
    assert left == []


@pytest.fixture
def service() -> Iterator[PrivateService]:
    """A service for one test, which may kill it: pass `address=service.folder`."""
    with private_service() as found:
        yield found


@pytest.fixture(autouse=True)
def no_tables_left(session_service: PrivateService) -> Iterator[None]:
    """A test drops the tables it makes; those of fixtures of a wider scope are there before."""
    before = set(pintable.list_tables())
    yield
    left = set(pintable.list_tables()) - before
    for name in left:
        pintable.drop(name)
    assert not left, f"the test has left tables behind: {sorted(left)}"


class Tables:
    """Makes tables that are dropped and closed when the test is over."""

    def __init__(self) -> None:
        self._made: list[pintable.Table] = []

    def __call__(self, schema: Any = "float64", rows: int = 10, **more: Any) -> pintable.Table:
        """A table of a schema; a type alone makes one column "x" of it."""
        if not hasattr(schema, "items") and not isinstance(schema, list):
            schema = {"x": schema}
        return self.keep(pintable.create(schema, rows, **more))

    def keep(self, table: pintable.Table) -> pintable.Table:
        """Have a table dropped that was made otherwise."""
        self._made.append(pintable.open(table.name, "r", address=table.address))
        return table

    def end(self) -> None:
        made, self._made = self._made, []
        for table in made:
            if not table.dropped:
                pintable.drop(table.name, address=table.address)
            table.close()


@pytest.fixture
def make() -> Iterator[Tables]:
    """`make("int64?", 100)`, `make({"x": "float64"}, 10, name="n")`: a table for this test."""
    tables = Tables()
    yield tables
    tables.end()
