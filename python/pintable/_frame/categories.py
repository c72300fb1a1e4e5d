# SPDX-License-Identifier: Apache-2.0
"""Categories of a pandas categorical as the text of a dictionary column, and back.

A dictionary holds text only. Categories of another type are kept as their text, and their dtype in
the column's metadata; what would not come back exactly is refused when it is put in.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from .._base.errors import TypeMismatch
from . import meta

ROOM_ENTRIES = 1024  # least number of categories that a new dictionary has room for
ROOM_TEXT_BYTES = 32  # room for the text of each category not yet there, on average


def _int_texts(index: pd.Index) -> list[str]:
    return [str(item) for item in index.to_numpy().tolist()]


def _ticks_texts(index: pd.Index) -> list[str]:
    return [str(item) for item in np.asarray(index.asi8).tolist()]


def _texts_of(index: pd.Index) -> tuple[list[str], str | None] | None:
    """Texts, and how they were made (None for text itself); None when there is no such way."""
    dtype = index.dtype
    if isinstance(dtype, (pd.StringDtype, np.dtype)) and dtype.kind in "OUT":
        items = index.tolist()
        if all(isinstance(item, str) for item in items):
            return [str.__str__(item) for item in items], None
        if all(type(item) is datetime.date for item in items):
            return [item.isoformat() for item in items], "date"
        return None
    if isinstance(dtype, pd.DatetimeTZDtype) or dtype.kind in "mM":
        return _ticks_texts(index), "ticks"
    if not isinstance(dtype, np.dtype):
        return None
    if dtype.kind in "iu":
        return _int_texts(index), "int"
    if dtype.kind == "f" and dtype.itemsize <= 8:
        return [repr(item) for item in index.to_numpy().tolist()], "float"
    if dtype.kind == "b":
        return [str(item) for item in index.to_numpy().tolist()], "bool"
    return None


def encode(index: pd.Index, where: str) -> tuple[list[str], dict[str, Any]]:
    """Texts of categories, and what of them goes into the column's metadata.

    Parameters
    ----------
    where : str
        Begins the message of an error: the column and its dtype.

    Raises
    ------
    TypeMismatch
        The categories would not come back as they are.
    """
    found = _texts_of(index)
    if found is None:
        raise TypeMismatch(
            f"{where}: categories of {index.dtype} (the first is {index[0]!r}) cannot be kept as "
            f"text and given back; convert them, such as with .cat.rename_categories(str)"
        )
    texts, how = found
    kept: dict[str, Any] = {"of": meta.categories_dtype(index)}
    if how is not None:
        kept["categories"] = str(index.dtype)
        kept["how"] = how
    back = decode(texts, kept)
    if back.dtype != index.dtype or not back.equals(index):
        raise TypeMismatch(
            f"{where}: its categories of {index.dtype} do not come back from their text exactly; "
            f"convert them, such as with .cat.rename_categories(str)"
        )
    return texts, kept


def _from_ticks(texts: Sequence[str], found: dict[str, Any]) -> pd.Index:
    ticks = np.array([int(text) for text in texts], dtype="i8")
    if found["dtype"] == "zoned":
        dtype = pd.DatetimeTZDtype(found["unit"], meta.zone_of(found["zone"], found["tz"]))
        return (
            pd.DatetimeIndex(ticks.view(f"M8[{dtype.unit}]"))
            .tz_localize("UTC")
            .tz_convert(dtype.tz)
        )
    dtype = np.dtype(found["dtype"])
    if dtype.kind not in "mM" or np.datetime_data(dtype)[0] not in ("s", "ms", "us", "ns"):
        raise ValueError(found["dtype"])
    return pd.Index(ticks.view(dtype))


def _numbers(texts: Sequence[str], found: dict[str, Any], kinds: str, make: Callable) -> pd.Index:
    dtype = np.dtype(found["dtype"])
    if dtype.kind not in kinds:
        raise ValueError(found["dtype"])
    return pd.Index(np.array([make(text) for text in texts], dtype=dtype), dtype=dtype)


def _decode(texts: Sequence[str], found: dict[str, Any], how: Any) -> pd.Index:
    if how == "ticks":
        return _from_ticks(texts, found)
    if how == "int":
        return _numbers(texts, found, "iu", int)
    if how == "float":
        return _numbers(texts, found, "f", float)
    if how == "bool":
        return _numbers(texts, found, "b", {"True": True, "False": False}.__getitem__)
    if how == "date":
        return pd.Index([datetime.date.fromisoformat(text) for text in texts], dtype=object)
    return pd.Index(list(texts), dtype=_text_dtype(found))


def _text_dtype(found: Any) -> Any:
    """The dtype of text categories; None (pandas chooses) when nothing is known of them."""
    kind = found.get("dtype") if isinstance(found, dict) else None
    if kind == "object":
        return object
    if kind in ("str", "string"):
        return meta.string_dtype(kind == "str", found.get("storage") != "python")
    return None


def decode(texts: Sequence[str], kept: dict[str, Any]) -> pd.Index:
    """The categories of a dictionary's texts, by the metadata that `encode` gave.

    Texts that are not of the dtype in the metadata, or not written as `encode` does ("01" for a
    number: a process added it), give an index of text. So categories differ where texts do.
    """
    try:
        of, how = kept["of"], kept.get("how")
        index = _decode(texts, of, how)
        if how is not None and (_texts_of(index) or ([], None))[0] != list(texts):
            raise ValueError(how)
        if index.hasnans:
            raise ValueError("a category is missing")
        return meta.with_freq(index, of.get("freq"))
    except Exception:  # the metadata may be anyone's; see _frame_meta
        return pd.Index(list(texts))


def is_of_dtype(text: str, kept: dict[str, Any]) -> bool:
    """May a text be added to a dictionary with this metadata, whose categories are no text?"""
    how = kept.get("how")
    if how is None:
        return True
    try:
        index = _decode([text], kept["of"], how)
        return not index.hasnans and _texts_of(index) == ([text], how)
    except Exception:  # as in `decode`
        return False


def text_of(value: Any, kept: dict[str, Any]) -> str:
    """The text that stands for one category value in a column with this metadata."""
    texts, _ = encode(pd.Index([value]), f"category {value!r}")
    return texts[0]


def buffers(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Offsets (n + 1 of int64) and bytes of texts, as put_categories takes them."""
    parts = [text.encode() for text in texts]
    offsets = np.zeros(len(parts) + 1, dtype="i8")
    np.cumsum([len(part) for part in parts], out=offsets[1:])
    return offsets, np.frombuffer(b"".join(parts), dtype="u1")


def room(n: int, n_bytes: int, code_bytes: int) -> tuple[int, int]:
    """Categories and bytes of text to make room for, so that processes can add some later."""
    entries = min(max(2 * n, ROOM_ENTRIES), (1 << (8 * code_bytes - 1)) - 1)
    entries = max(entries, n, 1)
    return entries, max(2 * n_bytes, n_bytes + (entries - n) * ROOM_TEXT_BYTES, 1)
