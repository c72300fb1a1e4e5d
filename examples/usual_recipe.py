# SPDX-License-Identifier: Apache-2.0
"""What the usual recipe gets wrong: a structured array in SharedMemory, a frame rebuilt on top.

Each claim is checked, and what was seen is printed. answer.py does the same task right.
"""

from __future__ import annotations

import multiprocessing as mp
from multiprocessing.shared_memory import SharedMemory

import numpy as np
import pandas as pd


def frame_of(block: SharedMemory, n_rows: int, dtype: np.dtype) -> pd.DataFrame:
    """The recipe's second half: a frame from the records in a block."""
    return pd.DataFrame(np.recarray((n_rows,), dtype=dtype, buf=block.buf))


def worker(name: str, n_rows: int, dtype: np.dtype) -> None:
    """Write into the frame, as one would into shared memory."""
    block = SharedMemory(name=name)
    frame = frame_of(block, n_rows, dtype)
    frame["delay"] = frame["delay"] * 2
    frame.loc[:, "seats"] = 0
    print("worker: its frame after its writes")
    print(frame.to_string(index=False), flush=True)
    del frame
    block.close()


def main() -> None:
    frame = pd.DataFrame({"delay": [1.5, 2.5, 3.5], "seats": [100, 200, 300]})
    frame["tail"] = pd.Series(["N101", None, "N103"], dtype=object)
    records = frame.to_records(index=False, column_dtypes={"tail": "S4"})
    block = SharedMemory(create=True, size=records.nbytes)
    shared = np.recarray(records.shape, dtype=records.dtype, buf=block.buf)
    shared[:] = records

    process = mp.get_context("spawn").Process(
        target=worker, args=(block.name, len(frame), records.dtype)
    )
    process.start()
    process.join()
    assert process.exitcode == 0
    rebuilt = frame_of(block, len(frame), records.dtype)
    print("parent: the frame rebuilt after that")
    print(rebuilt.to_string(index=False))

    assert rebuilt["delay"].tolist() == [1.5, 2.5, 3.5]
    assert rebuilt["seats"].tolist() == [100, 200, 300]
    assert not np.shares_memory(rebuilt["delay"].to_numpy(), shared["delay"])
    print("1. The frame is a copy: what the worker wrote is lost.")

    assert rebuilt["tail"].tolist() == [b"N101", b"None", b"N103"]
    assert rebuilt["tail"].notna().all()
    print("2. The missing value has become text, and all text bytes:", rebuilt["tail"].tolist())

    cities = pd.DataFrame({"city": pd.Series(["Zürich", "Oslo"], dtype=object)})
    try:
        cities.to_records(index=False, column_dtypes={"city": "S8"})
    except UnicodeEncodeError as error:
        print("3. Text that is not ASCII raises:", error)
    else:
        raise AssertionError("text that is not ASCII was taken")

    del shared
    block.close()
    block.unlink()


if __name__ == "__main__":
    main()
