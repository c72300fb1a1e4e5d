# SPDX-License-Identifier: Apache-2.0
"""A plain multiprocessing.Pool whose workers get the table and lease its chunks by hand.

What is sent to a worker is a handle of some hundred bytes. A lease makes a chunk the worker's own:
it is committed at the end of the block, and if the worker raises or dies in it the old bytes come
back. Nobody does that chunk again here; Table.map() and Table.job() see to that too.
"""

from __future__ import annotations

import multiprocessing as mp

import numpy as np
import pandas as pd
import pintable

N_ROWS = 1_000_000


def discount(table: pintable.Table, chunk: int) -> int:
    """Fill the rows of one chunk of "paid"; how many there are."""
    with table.lease(chunk, ["paid"]) as part:
        price = table["price"].numpy()[part.first : part.first + part.n_rows]
        np.multiply(price, 0.9, out=part["paid"], where=price >= 100)
        return part.n_rows


def main() -> None:
    price = np.arange(N_ROWS) % 200
    frame = pd.DataFrame({"price": price.astype(float), "paid": price.astype(float)})
    table = pintable.from_pandas(frame)
    with mp.get_context("spawn").Pool(4) as pool:
        rows = pool.starmap(discount, [(table, chunk) for chunk in range(table.chunks)])
    result = table.to_pandas()
    print(f"{sum(rows)} rows in {len(rows)} chunks, {result['paid'].sum():.0f} paid")
    table.drop()


if __name__ == "__main__":
    main()
