# SPDX-License-Identifier: Apache-2.0
"""Tables: created, opened, added to, shared out; and the module functions of the same names."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, overload

from .. import _native
from .._base import checks as _checks
from .._base import pool as _pool
from .._base.errors import (
    Dropped,
    Exists,
    Frozen,
    Invalid,
    NotFound,
    OutOfRange,
    PermissionDenied,
    TypeMismatch,
)
from .._base.pool import Address
from .._base.schema import SchemaLike, check_if_exists, schema_specs
from .._base.types import Spec
from . import handle as _handle
from .column import Column, Field
from .part import Leased
from .rows import Cut, Rows, Slice, name_list

if TYPE_CHECKING:
    import pandas as pd

    from .._device.device import Device
    from .job import Job


class Table(Rows):
    """A table of columns in shared memory, open in this process.

    Make one with `from_pandas`, `create` or `open`. Passed to another process it travels as a small
    handle and opens there without a copy. It closes when it is forgotten, by `close()`, or at the
    end of a `with` block; views of its columns stay valid. Closing drops nothing: the table stays
    till `drop()`; without keep, at the longest till the processes that made it have ended.
    `pintable.temporary` drops at the end of a block.

    Threads: any number may use one table.
    """

    __slots__ = ("_devices", "_fields", "_memo", "_native")

    def __init__(self, native: Any) -> None:
        self._native = native
        self._fields: dict[str, Field] = {}
        # Of the pandas bridge: what it has parsed of the metadata, which never change.
        self._memo: dict[Any, Any] = {}
        self._devices: dict[str, Any] = {}  # what is open on a device, by name

    @property
    def _table(self) -> Table:  # type: ignore[override]
        return self

    def _span(self) -> tuple[int, int]:
        return 0, self._native.rows

    # ---- make and open

    @classmethod
    def from_pandas(
        cls,
        df: pd.DataFrame,
        name: str | None = None,
        if_exists: str = "fail",
        keep: bool = False,
        *,
        chunk_rows: int = 0,
        address: Address = None,
    ) -> Table:
        """Copy a frame into a new table, which stays until it is dropped: see the class.

        Parameters
        ----------
        df : pandas.DataFrame
            Values, missing values, index, labels and dtypes are kept; see docs/python-dtypes.md.
        name : str, optional
            None: a random one.
        if_exists : {"fail", "replace", "open"}
            What to do when a table has that name: raise Exists, take the name over in one step, or
            open that table (TypeMismatch if its columns differ).
        keep : bool
            True: the table outlives the processes that made it. False: it goes with the last.
        chunk_rows : int
            Rows of a chunk, a power of two from 512 up; 0: chosen.
        address : path, optional
            Socket of the service; None for the default one.

        Raises
        ------
        TypeMismatch
            A column's values have no place in a table; names column, row and value. Nothing is
            created.
        """
        _checks.need("from_pandas()", "numpy", "pandas")
        from .._frame import from_pandas as _from_pandas

        check_if_exists(if_exists)
        return _from_pandas.from_pandas(df, name, if_exists, keep, chunk_rows, address)

    @classmethod
    def create(
        cls,
        schema: SchemaLike,
        rows: int,
        name: str | None = None,
        if_exists: str = "fail",
        keep: bool = False,
        *,
        chunk_rows: int = 0,
        address: Address = None,
    ) -> Table:
        """Make a table of rows that read as zero, null or empty. It stays until it is dropped.

        Parameters
        ----------
        schema : dict of name to type, or pairs of them
            Types as `pintable._base.types` says: "float64", "int32?", "timestamp[ns]", "category",
            "list[float32, 768]", a numpy dtype. A category column is nullable in any case, and
            starts with nulls: there is no text yet that its rows could have.
        rows : int
            0 to 2**48.

        The others are as in `from_pandas`.

        Raises
        ------
        Exists, Invalid, TypeMismatch, QuotaExceeded, OutOfMemory, PermissionDenied
        """
        check_if_exists(if_exists)
        specs, rows = schema_specs(schema), _checks.count(rows, "rows")

        def reopen() -> Table | None:
            return None if name is None else _open_like(name, specs, rows, address)

        found = reopen() if if_exists == "open" else None
        if found is not None:
            return found
        return publish_new(
            specs, rows, None, None, name, if_exists, keep, chunk_rows=chunk_rows, address=address,
            reopen=reopen,
        )  # fmt: skip

    @classmethod
    def open(cls, name: str, mode: str = "r+", *, address: Address = None) -> Table:
        """Open a published table, to read ("r") or to read and write ("r+").

        Raises NotFound; Frozen for "r+" on a frozen table; PermissionDenied for "r+" in a pool that
        this user may only read.
        """
        _checks.text(name, "a table name")
        if mode not in ("r", "r+"):
            raise Invalid(f'mode must be "r" or "r+", not {mode!r}')
        write = mode == "r+"
        return cls(_pool.join(address, write=write).open(name, write))

    # ---- facts

    @property
    def name(self) -> str:
        """The name it has now."""
        return self._native.name

    @property
    def id(self) -> int:
        """Number of the table, never used again in its pool."""
        return self._native.id

    @property
    def address(self) -> str:
        """Socket of the service its pool was joined at."""
        return self._native.pool.address

    @property
    def chunk_rows(self) -> int:
        """Rows of a chunk; the last one may be short."""
        return self._native.chunk_rows

    @property
    def chunks(self) -> int:
        """Number of chunks."""
        return self._native.chunks

    @property
    def nbytes(self) -> int:
        """Bytes of shared memory it takes."""
        return self._native.nbytes

    @property
    def frozen(self) -> bool:
        """True once `freeze` was called, by anyone."""
        return bool(self._native.frozen)

    @property
    def dropped(self) -> bool:
        """True once it was dropped, by anyone."""
        return bool(self._native.dropped)

    @property
    def writable(self) -> bool:
        """True when opened to write and not frozen."""
        native = self._native
        return bool(native.writable) and not native.frozen

    @property
    def closed(self) -> bool:
        """True after `close`."""
        return bool(self._native.closed)

    # ---- columns

    def _field(self, name: str) -> Field:
        """The open column of a name or text label. NotFound; ValueError when the table is
        closed."""
        field = self._fields.get(name)
        if field is None:
            field = self._find(name)
            if field is None:
                raise NotFound(f"table {self.name!r} has no column {name!r}")
        return field

    def _find(self, name: str) -> Field | None:
        field = self._fields.get(name)
        if field is None:
            try:
                native = self._native.column(name)
            except (NotFound, ValueError):  # ValueError: no name at all (a NUL), or closed
                self._native.rows  # noqa: B018  ValueError when the table is closed
                native = self._labelled(name)
                if native is None:
                    return None
            field = self._fields[name] = Field(native)
        return field

    def _labelled(self, label: str) -> Any:
        """The native column with a text label that cannot be a name, or None."""
        from .._frame import meta as _frame_meta

        if _frame_meta.is_name(label):
            return None
        for i in range(self._native.n_columns):
            column = self._native.column_at(i)
            if _frame_meta.load(column.metadata).get("label") == label:
                return column
        return None

    def _column(self, name: str, first: int, n_rows: int) -> Column:
        return Column(self, self._fields.get(name) or self._field(name), first, n_rows)

    @overload
    def __getitem__(self, key: str) -> Column: ...

    @overload
    def __getitem__(self, key: Cut) -> Slice: ...

    def __getitem__(self, key: str | Cut) -> Column | Slice:
        """Column by name, or a Slice of rows a:b."""
        if isinstance(key, str):
            return Column(self, self._fields.get(key) or self._field(key), 0, self._native.rows)
        return super().__getitem__(key)

    def __setitem__(self, name: str, values: Any) -> None:
        """Store values in a column, or add one of that name and fill it.

        values: an array, Series, list or a single value, as many as rows. A new column gets the
        type of the values. In a column that exists they are stored chunk by chunk under leases with
        undo; others see each chunk whole, the old one or the new one.

        A Series is put into the order of the rows by its index, as `map` does, if the table was
        made from a frame and the Series has an index of its own (not 0, 1, 2, ...). Everything else
        is stored by position.

        Raises TypeMismatch before anything is stored if the column's type does not hold the values;
        Invalid for another number of values, or a Series with other labels than the rows; Busy if
        this thread leases a chunk of the column (store into its Part); Torn, Frozen,
        PermissionDenied.
        """
        from .._values import store as _store

        if not isinstance(name, str):
            raise TypeMismatch(f"a column name must be a str, not {type(name).__name__}")
        if _store.is_pandas(values) and hasattr(values, "iloc"):
            from .._frame import to_pandas as _to_pandas

            values = _to_pandas.in_row_order(self, values, name)
        if self._find(name) is not None:
            self[name]._store_leased(values)
            return
        self._check_writable()
        spec, n_rows, filler = _store.plan(values, name, self.rows)
        if n_rows != self.rows:
            raise Invalid(f"column {name!r}: {n_rows} values for the {self.rows} rows of the table")
        self._add(name, spec, filler)

    def add_column(self, name: str, spec: Any) -> Column:
        """Add a column that reads as zero, null or empty; others see it from their next look on.

        Raises Exists; Frozen; PermissionDenied for another user's table.
        """
        self._check_writable()
        self._add(name, Spec.parse(spec).empty(), None)
        return self[name]

    def _add(self, name: str, spec: Spec, filler: Callable[[Any], None] | None) -> None:
        """Add a column, filled before anyone sees it. Without filler: zero, null or empty."""
        native = self._native
        flags = 0 if filler is None else _native.UNINITIALISED
        columns = native.pool.create(
            _random_name(), [spec.native(name)], native.rows, chunk_rows=native.chunk_rows,
            flags=flags,
        )  # fmt: skip
        try:
            if filler is not None:
                filler(columns.column_at(0))
            native.add_columns(columns)
        finally:
            columns.close()  # also after add_columns took it

    def _check_writable(self) -> None:
        native = self._native
        if native.frozen:
            raise Frozen(f"table {native.name!r} is frozen")
        if not native.writable:
            raise PermissionDenied(f'table {native.name!r} was opened to read: open it with "r+"')

    # ---- devices

    def device(self, device: str | bytes) -> Device:
        """The device copies of its columns on a device. See docs/python-device.md.

        Opened once for a table; closes with the table.

        Parameters
        ----------
        device : str or bytes
            "host" (works everywhere), "cuda:0" (as this process numbers its GPUs), "cuda:" and a
            UUID, "GPU-" and a UUID, or the 16 bytes of a UUID.

        Raises NoDevice, DeviceFailed, Forked (a GPU in a process that was forked from one that used
        it).
        """
        from .._device import device as _device

        return _device.device_of(self, device)

    # ---- share the work

    def lease(
        self,
        chunk: int,
        columns: str | Sequence[str],
        *,
        inout: bool = True,
        timeout: float | None = None,
    ) -> Leased:
        """Context manager: the exclusive right to write one chunk of some columns. Gives a Part.

        Commits at a normal end of the block; an exception gives the chunk back.

        Parameters
        ----------
        chunk : int
        columns : str or list of str
            Those that will be written. The others of the Part can be read.
        inout : bool
            True: the old bytes are saved, and come back after an exception or the death of this
            process. False: every row will be rewritten; if it does not come to that, the chunk is
            torn. At most max(8, 2 x processors) inout chunks of one set of columns are held at
            once.
        timeout : float, optional
            Seconds to wait for another holder; None: no limit; 0: do not wait.

        Raises
        ------
        Busy, Timeout, Torn, Frozen, PermissionDenied
            Busy also, without waiting, for a chunk that this thread holds itself.
        DeviceAhead
            The chunk is newest on a device that this process has not open for the table. Where it
            has, the chunk is brought to the host first.
        TypeMismatch
            A text column.
        """
        chunk = _checks.integer(chunk, "a chunk")
        if not 0 <= chunk < self.chunks:
            raise OutOfRange(f"chunk {chunk}: table {self.name!r} has {self.chunks}")
        return Leased(self, chunk, name_list(columns), inout, timeout)

    def wait(
        self,
        column: str,
        chunk: int = 0,
        version: int | None = None,
        timeout: float | None = None,
    ) -> int:
        """Wait until a chunk's version is another than the one seen (None: than now); gives it.

        timeout: seconds; None: no limit. Raises Timeout.
        """
        return self[column].wait(chunk, version, timeout)

    def job(
        self,
        name: str,
        columns: str | Sequence[str] = (),
        out: str | Sequence[str] = (),
        inout: str | Sequence[str] = (),
    ) -> Job:
        """Create or join a job: a loop over the chunks that any number of processes share.

        ``for part in t.job("clean", columns="x", out="y"): part["y"] = f(part["x"])`` in every
        worker: each chunk takes effect exactly once, whoever dies when.

        Parameters
        ----------
        columns, out, inout : str or list of str
            Columns that are read, wholly rewritten, or read and changed. None of the three: join a
            job that exists.
        """
        from .job import Job

        return Job(self, name, columns, out, inout)

    def map(
        self,
        func: Callable[[Any], Any],
        columns: Any = None,
        out: Any = None,
        inout: Any = None,
        workers: Any = None,
        *,
        as_: str | None = None,
        progress: Any = None,
        start_method: str | None = None,
        name: str | None = None,
    ) -> Table:
        """Run func on every chunk in worker processes and keep its results in columns; gives self.

        Each chunk takes effect exactly once, though workers may die. See docs/python-map.md.

        Parameters
        ----------
        func : callable
            Gets a frame (as_="numpy": a dict of arrays) of a chunk with `columns` and `inout`; for
            a single name given as str, a Series (an array). Returns the values for `out`: an array,
            Series, list or single value; for several a tuple, dict or frame.
        columns : str or list of str, optional
            Read by func; None: all.
        out : str, list of str, or dict of name to type, optional
            Columns for the results; those that do not exist are added first, with the type given or
            that of results on the first 1000 rows.
        inout : str or list of str, optional
            Columns given to func writable; its changes are stored.
        workers : int or concurrent.futures.Executor, optional
            None: one for each processor, at most one a chunk.
        as_ : {"pandas", "numpy"}, optional
            None: "pandas" where it is installed.
        progress : bool or callable, optional
            None: a bar when stderr is a terminal. A callable gets (rows done, rows).
        start_method : {"fork", "forkserver", "spawn"}, optional
        name : str, optional
            Name of the job, to go on with one that was not finished.

        Raises
        ------
        The exception of func for the first rows it failed on, with a note that says which; MapError
        when workers died on the same rows again and again.
        """
        _checks.need("map()", "numpy")
        from .._map import map as _map

        return _map.map_table(
            self, func, columns, out, inout, workers, as_=as_, progress=progress,
            start_method=start_method, name=name,
        )  # fmt: skip

    def writeback(self, df: pd.DataFrame) -> dict[Any, int]:
        """Store what changed in a frame of as many rows; gives rows stored for each column.

        Columns that still share the table's memory are only marked; of the others only chunks that
        differ are written; new ones are added. Raises TypeMismatch before anything is stored.
        """
        _checks.need("writeback()", "numpy", "pandas")
        from .._frame import shared as _shared

        return _shared.writeback(self, df)

    # ---- life

    def freeze(self) -> None:
        """Refuse from now on, for ever and to everyone, to give out arrays, frames and leases to
        write it. Those given out before are not reached: what is written into such an array or
        writable frame is still in the table. Raises Busy while a chunk is leased."""
        self._native.freeze()

    def rename(self, new: str) -> None:
        """Give it another name. Raises Exists."""
        self._native.pool.rename(self._live_name(), _checks.text(new, "a table name"))

    def drop(self) -> None:
        """Take it out of the pool. Whoever has it open, this object too, keeps the data till close.

        Raises Dropped if that has happened already.
        """
        self._native.pool.drop(self._live_name())

    def _live_name(self) -> str:
        native = self._native
        if native.dropped:
            raise Dropped(f"table {native.name!r} was dropped already")
        return native.name

    def close(self) -> None:
        """Give this object up, not the table: later uses raise ValueError, views stay valid."""
        fields, self._fields = self._fields, {}
        for field in fields.values():
            field.forget()
        self._memo.clear()
        devices, self._devices = self._devices, {}
        for device in devices.values():
            device.close()
        self._native.close()

    def __enter__(self) -> Table:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _handle.open_table, _handle.args(self)

    def __repr__(self) -> str:
        if self.closed:
            return "<pintable.Table, closed>"
        native = self._native
        state = "".join(
            f", {word}"
            for word, holds in (("frozen", native.frozen), ("dropped", native.dropped))
            if holds
        )
        return (
            f"<pintable.Table {native.name!r}: {native.rows} rows x {native.n_columns} columns, "
            f"{native.nbytes / 2**20:.1f} MiB{state}>"
        )


# ---- making tables: also used by from_pandas --------------------------------------------------


def _random_name() -> str:
    return "t-" + secrets.token_hex(6)


def _exists(name: str, address: Address) -> bool:
    try:
        _pool.join(address).open(name, False).close()
    except NotFound:
        return False
    return True


def _open_like(
    name: str, specs: Sequence[tuple[str, Spec]], rows: int, address: Address
) -> Table | None:
    """The table of that name if there is one; TypeMismatch if it is not as described."""
    try:
        table = Table.open(name, address=address)
    except NotFound:
        return None
    same = table.rows == rows and table.columns == [column for column, _ in specs]
    if not same or any(not table._field(col).spec.same_shape(spec) for col, spec in specs):
        described = f"{table.rows} rows of {table.schema}"
        table.close()
        raise TypeMismatch(f"table {name!r} exists with other columns or rows: {described}")
    return table


def publish_new(
    specs: Sequence[tuple[str, Spec]],
    rows: int,
    metadata: bytes | None,
    fill: Callable[[Any], None] | None,
    name: str | None,
    if_exists: str,
    keep: bool,
    *,
    chunk_rows: int = 0,
    address: Address = None,
    reopen: Callable[[], Table | None] | None = None,
) -> Table:
    """Create, fill and publish a table; nothing stays behind when any of it fails.

    fill gets the unpublished native table, whose bytes are not initialised: it must write all of
    its buffers. None: zero, null or empty. reopen is asked, when if_exists is "open" and another
    process has published that name meanwhile, for that table.
    """
    if name is not None and not isinstance(name, str):
        raise TypeMismatch(f"a table name must be a str, not {type(name).__name__}")
    if name is not None and if_exists == "fail" and _exists(name, address):
        raise Exists(f"table {name!r} exists already")
    flags = (_native.KEPT if keep else 0) | (0 if fill is None else _native.UNINITIALISED)
    native = _pool.join(address).create(
        _random_name() if name is None else name,
        [spec.native(column) for column, spec in specs], rows,
        chunk_rows=chunk_rows, flags=flags, metadata=metadata,
    )  # fmt: skip
    try:
        if fill is not None:
            fill(native)
        native.publish(if_exists == "replace")
    except BaseException as error:
        native.close()
        if isinstance(error, Exists) and if_exists == "open" and reopen is not None:
            found = reopen()
            if found is not None:
                return found
        raise
    return Table(native)


create = Table.create
from_pandas = Table.from_pandas
open = Table.open
