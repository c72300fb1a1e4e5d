# SPDX-License-Identifier: Apache-2.0
"""What a frame has beside its values: labels, index, dtypes, attrs; kept as JSON with the table.

Two places, both UTF-8 JSON. The table's metadata says what the index and the column index were;
each column's metadata says what its label and pandas dtype were. The bytes come from shared memory
and may have been written by anything, so the reading half believes nothing: whatever is not
understood reads as absent, and the frame is then built from names and types alone.

Labels are JSON values where JSON has them (str, int, float, bool, None); anything else is an object
``{"t": kind, ...}``. Nothing here evaluates text or imports a name found in metadata.
"""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from decimal import Decimal
from functools import cache
from typing import Any

from .._base.errors import TypeMismatch

VERSION = 1
_NAME_BYTES = 255  # longest column name the format takes
_ATTRS_DEPTH = 64  # lists and dicts inside each other; pandas copies attrs by recursion

# ---- labels ------------------------------------------------------------------------------------


def _encode_number(label: Any) -> Any:
    if isinstance(label, float) and not math.isfinite(label):
        return {"t": "float", "v": repr(float(label))}
    return label


def _encode_time(label: Any) -> Any:
    """datetime.timedelta and pandas' scalars; None when it is not one of them."""
    import pandas as pd

    if label is pd.NaT:
        return {"t": "NaT"}
    if isinstance(label, pd.Timestamp):
        zone = None if label.tz is None else zone_text(label.tz)
        return {"t": "timestamp", "v": int(label.asm8.view("i8")), "u": label.unit, "z": zone}
    if isinstance(label, pd.Timedelta):
        return {"t": "timedelta", "v": int(label.asm8.view("i8")), "u": label.unit}
    if isinstance(label, pd.Period):
        return {"t": "period", "v": int(label.ordinal), "f": label.freqstr}
    if isinstance(label, pd.Interval):
        return {
            "t": "interval",
            "v": [encode_label(label.left), encode_label(label.right)],
            "c": label.closed,
        }
    if type(label) is datetime.timedelta:
        return {"t": "py-timedelta", "v": [label.days, label.seconds, label.microseconds]}
    if type(label) is datetime.date:
        return {"t": "date", "v": label.isoformat()}
    if type(label) is datetime.time and label.tzinfo is None:
        return {"t": "time", "v": label.isoformat()}
    if type(label) is datetime.datetime and label.tzinfo is None:
        return {"t": "datetime", "v": label.isoformat()}
    return None


def encode_label(label: Hashable) -> Any:
    """The JSON form of a column label, level name or index name.

    Raises
    ------
    TypeMismatch
        The label is of a type that could not be given back as it was.
    """
    import numpy as np
    import pandas as pd

    if label is None or type(label) in (str, bool, int):
        return label
    if type(label) is float:
        return _encode_number(label)
    if label is pd.NA:
        return {"t": "NA"}
    if type(label) is tuple:
        return {"t": "tuple", "v": [encode_label(item) for item in label]}
    if type(label) is bytes:
        return {"t": "bytes", "v": label.hex()}
    if type(label) is complex:
        return {"t": "complex", "v": [repr(label.real), repr(label.imag)]}
    if type(label) is Decimal:
        return {"t": "decimal", "v": str(label)}
    if isinstance(label, np.generic) and label.dtype.kind in "biuf":
        return {"t": "numpy", "d": label.dtype.str, "v": _encode_number(label.item())}
    if isinstance(label, str):  # a subclass, numpy.str_: equal to its text, and hashed like it
        return str.__str__(label)
    encoded = _encode_time(label)
    if encoded is None:
        raise TypeMismatch(f"label {label!r}: a {type(label).__name__} cannot be kept as a label")
    return encoded


def _decode_numpy(found: dict[str, Any]) -> Any:
    import numpy as np

    dtype = np.dtype(str(found["d"]))
    if dtype.kind not in "biuf":
        raise ValueError(found["d"])
    return dtype.type(decode_label(found["v"]))


def _decode_timestamp(found: dict[str, Any]) -> Any:
    import numpy as np
    import pandas as pd

    stamp = pd.Timestamp(np.int64(found["v"]).view(f"M8[{_unit(found['u'])}]"))
    zone = found["z"]
    return stamp if zone is None else stamp.tz_localize("UTC").tz_convert(zone_of(str(zone)))


def _decode_timedelta(found: dict[str, Any]) -> Any:
    import numpy as np
    import pandas as pd

    return pd.Timedelta(np.int64(found["v"]).view(f"m8[{_unit(found['u'])}]"))


def _decode_pandas(found: dict[str, Any]) -> Any:
    import pandas as pd

    kind = found["t"]
    if kind == "NaT":
        return pd.NaT
    if kind == "NA":
        return pd.NA
    if kind == "period":
        return pd.Period(ordinal=int(found["v"]), freq=str(found["f"]))
    left, right = (decode_label(item) for item in found["v"])
    return pd.Interval(left, right, closed=str(found["c"]))


_DECODERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "tuple": lambda found: tuple(decode_label(item) for item in found["v"]),
    "float": lambda found: float(found["v"]),
    "complex": lambda found: complex(*(float(part) for part in found["v"])),
    "bytes": lambda found: bytes.fromhex(found["v"]),
    "decimal": lambda found: Decimal(found["v"]),
    "numpy": _decode_numpy,
    "date": lambda found: datetime.date.fromisoformat(found["v"]),
    "time": lambda found: datetime.time.fromisoformat(found["v"]),
    "datetime": lambda found: datetime.datetime.fromisoformat(found["v"]),
    "py-timedelta": lambda found: datetime.timedelta(*(int(part) for part in found["v"])),
    "timestamp": _decode_timestamp,
    "timedelta": _decode_timedelta,
    "NaT": _decode_pandas,
    "NA": _decode_pandas,
    "period": _decode_pandas,
    "interval": _decode_pandas,
}


def decode_label(found: Any) -> Any:
    """What `encode_label` was given; raises ValueError or the like for anything else."""
    if found is None or isinstance(found, (str, bool, int, float)):
        return found
    if not isinstance(found, dict) or found.get("t") not in _DECODERS:
        raise ValueError("not a label")
    return _DECODERS[found["t"]](found)


def label_or(found: Any, default: Any) -> Any:
    """`decode_label`, with `default` for what is not a label (bytes of others: see the top)."""
    try:
        label = decode_label(found)
        hash(label)
    except Exception:  # whatever a constructor above says to text it does not like
        return default
    return label


def _unit(text: Any) -> str:
    if text not in ("s", "ms", "us", "ns"):
        raise ValueError(text)
    return str(text)


# ---- time zones --------------------------------------------------------------------------------


def zone_text(zone: datetime.tzinfo) -> str:
    """Text of a time zone that `zone_of` makes the same zone of: an IANA name or an offset."""
    if zone is datetime.UTC:
        return "UTC"
    if type(zone) is datetime.timezone:
        seconds = round(zone.utcoffset(None).total_seconds())
        if seconds % 60 == 0:
            sign = "-" if seconds < 0 else "+"
            return f"{sign}{abs(seconds) // 3600:02d}:{abs(seconds) // 60 % 60:02d}"
    return str(getattr(zone, "key", None) or getattr(zone, "zone", None) or zone)


def zone_kind(zone: datetime.tzinfo) -> str:
    """The package a zone object is from: they do not compare equal to each other."""
    return type(zone).__module__.split(".")[0]


def zone_of(text: str, kind: str | None = None) -> datetime.tzinfo:
    """The zone of a name or offset, as an object of the package `kind` if that can be had."""
    import pandas as pd

    if kind == "zoneinfo":
        import zoneinfo

        return zoneinfo.ZoneInfo(text)
    if kind == "pytz":
        try:
            import pytz

            return pytz.timezone(text)
        except ImportError:
            pass
    return pd.DatetimeTZDtype("ns", text).tz


# ---- names of columns --------------------------------------------------------------------------


def is_name(label: Any) -> bool:
    """True when a label can be a column's name as it is."""
    if type(label) is not str or not label:
        return False
    if any(ord(char) < 32 or 127 <= ord(char) < 160 for char in label):
        return False
    try:
        return len(label.encode()) <= _NAME_BYTES
    except UnicodeEncodeError:
        return False


def _name_like(label: Any) -> str:
    text = str(label).encode("utf-8", "replace").decode()
    text = "".join(char if char.isprintable() else "_" for char in text) or "_"
    return text.encode()[: _NAME_BYTES - 15].decode("utf-8", "ignore")


def names_for(labels: Sequence[Any], taken: Iterable[str] = ()) -> list[str]:
    """One name for each label, all different: the label itself where it can be one.

    A text label keeps its name however many others look like it, so ``1`` and ``"1"`` give ``1_2``
    and ``1``.
    """
    used = set(taken)
    names: list[str | None] = []
    for label in labels:
        mine = is_name(label) and label not in used
        names.append(label if mine else None)
        if mine:
            used.add(label)
    for i, label in enumerate(labels):
        if names[i] is None:
            base = name = _name_like(label)
            n = 1
            while name in used:
                n += 1
                name = f"{base}_{n}"
            used.add(name)
            names[i] = name
    return names  # type: ignore[return-value]


# ---- reading and writing bytes -----------------------------------------------------------------


def dump(found: dict[str, Any]) -> bytes:
    """Bytes of a metadata object; lone surrogates in labels are kept as escapes."""
    return json.dumps(found, ensure_ascii=True, separators=(",", ":")).encode()


def load(raw: bytes | None) -> dict[str, Any]:
    """The metadata object in bytes from shared memory; empty when they are anything else."""
    if not raw:
        return {}
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def keep_attrs(attrs: dict[Any, Any]) -> dict[str, Any]:
    """The items of ``df.attrs`` that JSON gives back as they are, nested 64 levels deep at most;
    the others are left out."""
    kept = {}
    for key, value in attrs.items():
        try:
            same = type(key) is str and _same(json.loads(json.dumps(value, allow_nan=False)), value)
            same = same and is_shallow(value)  # after that: it does not contain itself
        except (TypeError, ValueError, RecursionError):
            same = False
        if same:
            kept[key] = value
    return kept


def is_shallow(value: Any) -> bool:
    """True when lists and dicts lie in each other as deep as attrs may, or less."""
    containers = [value] if isinstance(value, (list, dict)) else []
    for _ in range(_ATTRS_DEPTH):
        containers = [
            item
            for outer in containers
            for item in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(item, (list, dict))
        ]
    return not containers


def _same(left: Any, right: Any) -> bool:
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(_same(left[k], right[k]) for k in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(_same, left, right))
    return left == right


# ---- the column index --------------------------------------------------------------------------


def _level_dtype(index: Any) -> dict[str, Any]:
    """What of a one-level index its labels do not say."""
    import pandas as pd

    if isinstance(index, pd.CategoricalIndex):
        return {
            "dtype": "category",
            "categories": [encode_label(item) for item in index.categories],
            "of": categories_dtype(index.categories),
            "ordered": bool(index.ordered),
        }
    dtype = index.dtype
    if isinstance(dtype, pd.DatetimeTZDtype):
        return {"dtype": "zoned", "unit": dtype.unit, "zone": zone_text(dtype.tz),
                "tz": zone_kind(dtype.tz)}  # fmt: skip
    if isinstance(dtype, pd.StringDtype):
        return {"dtype": "str" if is_nan(dtype.na_value) else "string", "storage": dtype.storage}
    return {"dtype": str(dtype)}


def categories_dtype(index: Any) -> dict[str, Any]:
    """`_level_dtype` of an index of categories, with its frequency."""
    freq = getattr(index, "freqstr", None)
    return {**_level_dtype(index), **({"freq": freq} if isinstance(freq, str) else {})}


def is_nan(value: Any) -> bool:
    """True for a float NaN only; pd.NA and NaT are something else."""
    return isinstance(value, float) and value != value


def encode_columns(columns: Any) -> dict[str, Any]:
    """The column index of a frame without its labels, which the columns themselves keep."""
    import pandas as pd

    names = [encode_label(name) for name in columns.names]
    if isinstance(columns, pd.MultiIndex):
        levels = [_level_dtype(columns.get_level_values(i)) for i in range(columns.nlevels)]
        return {"names": names, "levels": levels}
    found = {"names": names, **_level_dtype(columns)}
    if isinstance(columns, pd.RangeIndex):
        found["range"] = [columns.start, columns.stop, columns.step]
    elif isinstance(columns, (pd.DatetimeIndex, pd.TimedeltaIndex)) and columns.freq is not None:
        found["freq"] = columns.freqstr
    return found


def _typed_index(labels: Sequence[Any], found: Any, name: Any = None) -> Any:
    """An index of labels with the dtype that `_level_dtype` found; plain if they do not go in."""
    import pandas as pd

    try:
        index = pd.Index(labels, dtype=_dtype_of(found), name=name, tupleize_cols=False)
        # Some dtypes take in whatever can be made text or a number.
        if all(map(is_same_label, index, labels)):
            return index
    except Exception:  # the labels are of later columns, or the metadata are not ours
        pass
    return pd.Index(labels, dtype=object, name=name, tupleize_cols=False)


def is_same_label(left: Any, right: Any) -> bool:
    """Equal, and of one type: 1 is not True. A NaN is the same as another."""
    if left is right:
        return True
    both_text = isinstance(left, str) and isinstance(right, str)
    if type(left) is not type(right) and not both_text:
        return False
    return bool(left == right) or bool(left != left and right != right)


def _dtype_of(found: dict[str, Any]) -> Any:
    import pandas as pd

    kind = found["dtype"]
    if kind == "category":
        labels = [decode_label(item) for item in found["categories"]]
        of = found["of"]
        categories = _with_freq(_typed_index(labels, of), of.get("freq"))
        return pd.CategoricalDtype(categories, bool(found["ordered"]))
    if kind == "zoned":
        return pd.DatetimeTZDtype(_unit(found["unit"]), zone_of(found["zone"], found["tz"]))
    if kind in ("str", "string"):
        return string_dtype(kind == "str", found.get("storage") != "python")
    if not isinstance(kind, str) or len(kind) > 100:
        raise ValueError("not a dtype")
    return pd.api.types.pandas_dtype(kind)


def string_dtype(is_nan_missing: bool, is_arrow: bool) -> Any:
    """pandas' string dtype with NaN or NA for missing, backed by Arrow where that is present."""
    import pandas as pd

    storage = "python"
    if is_arrow and has_pyarrow():
        storage = "pyarrow"
    if not is_nan_missing:
        return pd.StringDtype(storage)
    try:
        return pd.StringDtype(storage, na_value=float("nan"))
    except TypeError:  # pandas 2.2 and before: such a dtype exists for Arrow only, by another name
        return pd.StringDtype("pyarrow_numpy" if storage == "pyarrow" else "python")


@cache
def has_pyarrow() -> bool:
    """True when pyarrow can be imported; asked once, since a failed import is slow."""
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        return False
    return True


def decode_columns(found: Any, labels: list[Any], is_whole: bool) -> Any:
    """The column index for `labels`; `is_whole` when they are all the columns of the table."""
    import pandas as pd

    if not isinstance(found, dict):
        return pd.Index(labels, tupleize_cols=False) if labels else pd.RangeIndex(0)
    names = found.get("names")
    names = [label_or(name, None) for name in names] if isinstance(names, list) else [None]
    levels = found.get("levels")
    if isinstance(levels, list) and levels and len(levels) == len(names):
        return _decode_levels(levels, names, labels)
    name = names[0] if names else None
    try:
        if is_whole and "range" in found:
            bounds = range(*(int(part) for part in found["range"]))
            if len(bounds) == len(labels) and list(bounds) == labels:
                return pd.RangeIndex(bounds.start, bounds.stop, bounds.step, name=name)
    except (TypeError, ValueError, OverflowError):
        pass
    index = _typed_index(labels, found, name)
    return _with_freq(index, found.get("freq"))


def _with_freq(index: Any, freq: Any) -> Any:
    """The same index with its frequency, if it is still true of it."""
    import pandas as pd

    if isinstance(freq, str) and isinstance(index, (pd.DatetimeIndex, pd.TimedeltaIndex)):
        try:
            return type(index)(index, freq=freq)
        except (ValueError, TypeError):
            pass
    return index


with_freq = _with_freq


def _decode_levels(levels: list[Any], names: list[Any], labels: list[Any]) -> Any:
    import pandas as pd

    n = len(levels)
    rows = [
        label if isinstance(label, tuple) and len(label) == n else (label,) + ("",) * (n - 1)
        for label in labels
    ]
    arrays = [_typed_index([row[i] for row in rows], levels[i]) for i in range(n)]
    return pd.MultiIndex.from_arrays(arrays, names=names)
