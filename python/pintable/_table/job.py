# SPDX-License-Identifier: Apache-2.0
"""Jobs: a named loop over the chunks of a table that any number of processes share.

Each chunk takes effect exactly once, whoever dies when. "Effect" is what is stored in the job's out
and inout columns; what else the loop does may happen more than once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import _native as N
from .._base import checks as _checks
from .._base.errors import Again, Invalid, WrongState
from . import fetch as _fetch
from . import handle as _handle
from .part import Part
from .rows import name_list

if TYPE_CHECKING:
    from .table import Table


class Progress(NamedTuple):
    """What a job has come to: counts of chunks, read one by one while others work."""

    n_chunks: int
    n_done: int
    n_failed: int
    n_held: int  # taken by somebody now
    n_redone: int  # times a chunk was handed out again after a death or failure


class Job:
    """A job of a table, created or joined; made by `Table.job`.

    ``for part in job:`` takes chunk after chunk. A part is done when the next one is asked for; one
    that is left by an exception or `break` is handed back, unless its `done()` was called. Chunks
    that failed three times, deaths included, are set aside; see `failed`.

    Pickles as a handle, which joins the job where it arrives. Threads: any number may share one.
    """

    __slots__ = ("__weakref__", "_columns", "_name", "_native", "_table", "_uses")

    def __init__(
        self,
        table: Table,
        name: str,
        columns: str | Sequence[str] = (),
        out: str | Sequence[str] = (),
        inout: str | Sequence[str] = (),
    ) -> None:
        """Create the job, or join the one of that name; see `Table.job`.

        Raises
        ------
        Exists
            A job of that name has other columns.
        NotFound
            No columns are named and there is no such job; or no such column.
        TypeMismatch
            A text column would be written.
        Frozen, PermissionDenied
        """
        _checks.text(name, "the name of a job")
        table._check_writable()
        uses = [(column, N.IN) for column in name_list(columns)]
        uses += [(column, N.OUT) for column in name_list(out)]
        uses += [(column, N.INOUT) for column in name_list(inout)]
        self._set(table, name, uses, table._native.job(name, uses))

    def _set(self, table: Table, name: str, uses: list[tuple[str, int]], native: Any) -> None:
        self._table = table
        self._name = name
        self._uses = uses
        self._columns = [column for column, _ in uses]
        self._native = native

    # ---- facts

    @property
    def name(self) -> str:
        """Name of the job."""
        return self._name

    @property
    def table(self) -> Table:
        """The table whose chunks it hands out."""
        return self._table

    def progress(self) -> Progress:
        """What it has come to. Looks at every chunk: some nanoseconds each."""
        return Progress(*self._native.progress())

    def failed(self) -> list[tuple[range, str]]:
        """Rows of each chunk that was set aside, ascending, and why ("" if that was not kept).

        The first 64 reasons of a job are kept, 200 bytes of each.
        """
        native, size, n_rows = self._native, self._table.chunk_rows, self._table.rows
        return [
            (range(chunk * size, min((chunk + 1) * size, n_rows)), native.failure(chunk) or "")
            for chunk in native.failed()
        ]

    def _failed_chunks(self) -> list[int]:
        return list(self._native.failed())

    def wait(self, timeout: float | None = None) -> None:
        """Wait until every chunk is done or failed. timeout: seconds; raises Timeout."""
        self._native.wait(_checks.timeout(timeout))

    # ---- chunks

    def next(self, timeout: float | None = None) -> Chunk | None:
        """Take the next chunk; None when every one is done or failed.

        Waits while others hold the last ones: they may die and leave them. End the part with
        `done()` or `fail(text)`.

        Parameters
        ----------
        timeout : float, optional
            Seconds; None: no limit.

        Raises
        ------
        Again
            This process holds the only chunks left: finish them first.
        Timeout, Torn, ServiceGone
        DeviceAhead
            A chunk is newest on a device that this process has not open.
        WrongState
            The job was joined without naming its columns.
        """
        if not self._uses:
            raise WrongState(
                f"job {self._name!r} was joined without its columns: name them to take chunks"
            )
        timeout = _checks.timeout(timeout)
        try:
            lease = self._take(timeout)
        except Again:  # held by blocks on a device that are over, but have not given them back yet?
            if not _fetch.settle(self._table._native):
                raise
            lease = self._take(timeout)
        return None if lease is None else Chunk(self, lease)

    def _take(self, timeout: float | None) -> Any:
        if not _fetch.is_possible:
            return self._native.next(timeout)
        table = self._table
        reads = [table._field(column).native for column, use in self._uses if use != N.OUT]
        return _fetch.retrying(reads, range(table.chunks), timeout, self._native.next)

    def __iter__(self) -> Iterator[Chunk]:
        """Chunk after chunk, until all are over or other threads of this process have the last."""
        while True:
            try:
                part = self.next()
            except Again:
                return
            if part is None:
                return
            try:
                yield part
            except BaseException:  # GeneratorExit: an exception or break left the loop
                if part._is_open:
                    part.fail("the loop was left")
                raise
            if part._is_open:
                part.done()

    # ---- the end

    def drop(self) -> None:
        """Forget the job. Holders of its chunks may finish them. Raises NotFound."""
        self._table._native.drop_job(self._name)

    def close(self) -> None:
        """Give this object up; the job stays. Later uses raise ValueError. Twice is allowed."""
        self._native.close()

    def __enter__(self) -> Job:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        packed = _pack_uses(self._table, self._uses)
        return open_job, (self._name, packed, *_handle.args(self._table))

    def __repr__(self) -> str:
        return f"<pintable.Job {self._name!r} of {self._table!r}>"


class Chunk(Part):
    """A chunk of a job, held until `done`, `fail` or `reject`."""

    __slots__ = ("_job", "_lease")

    def __init__(self, job: Job, lease: Any) -> None:
        super().__init__(
            job._table, lease.first, lease.n_rows, chunk=lease.chunk, columns=job._columns,
            writable=[column for column, use in job._uses if use != N.IN],
            finish=_finish,
        )  # fmt: skip
        self._job = job._native
        self._lease = lease

    def reject(self, text: str = "") -> None:
        """The rows cannot be done by anyone: they are set aside as failed; the part ends."""
        self._check_open()
        self._close()
        self._job.reject(self._lease, text)


def _finish(part: Part, text: str | None) -> None:
    # A function, not a method of the part: that would keep it, and its lease, until the next
    # collection of cycles.
    assert isinstance(part, Chunk)
    if text is None:
        part._job.done(part._lease)
    else:
        part._job.fail(part._lease, text)


# ---- handles: the uses are two bits a column, so that a handle stays small -----------------------


def _pack_uses(table: Table, uses: list[tuple[str, int]]) -> bytes:
    if not uses:
        return b""
    numbers = {table._field(column).native.index: use for column, use in uses}
    packed = bytearray(max(numbers) // 4 + 1)
    for index, use in numbers.items():
        packed[index // 4] |= use << index % 4 * 2
    return bytes(packed)


def _unpack_uses(table: Table, packed: bytes) -> list[tuple[str, int]]:
    uses = []
    for index in range(len(packed) * 4):
        use = packed[index // 4] >> index % 4 * 2 & 3
        if use:
            if index >= table._native.n_columns:
                raise Invalid(f"a job's handle names column {index} of {table!r}")
            uses.append((table._native.column_at(index).name, use))
    return uses


def open_job(name: str, packed: bytes, *found: Any) -> Job:
    """The job of a handle: joined, never created. NotFound if it was dropped."""
    table = _handle.open_table(*found)
    job = Job.__new__(Job)
    job._set(table, name, _unpack_uses(table, packed), table._native.job(name, []))
    return job
