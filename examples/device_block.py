# SPDX-License-Identifier: Apache-2.0
"""The smallest complete GPU worker: it standardises a column on the device, a CPU process reads it.

usage: device_block.py [DEVICE]      "cuda:0", "host"; without one, the GPU if there is one

On a GPU the arrays are CuPy's or torch's; on "host" the same block works on host memory, with
numpy. Only chunks that are stale on the device are moved, so the second round moves little. The
worker is started by spawn: nothing of a GPU survives fork().
"""

from __future__ import annotations

import importlib
import multiprocessing as mp
import sys

import numpy as np
import pintable

N_ROWS = 1_000_000


def open_device(table: pintable.Table) -> pintable.Device:
    """The one asked for; else the GPU, else "host"."""
    if len(sys.argv) > 1:
        return table.device(sys.argv[1])
    try:
        return table.device("cuda:0")
    except pintable.NoDevice:
        return table.device("host")


def array_on(device: pintable.Device, rows: pintable.DeviceArray):
    """An array on the device copy itself: of numpy on "host"; of CuPy or torch on a GPU."""
    if not device.is_cuda:
        return rows.numpy()
    for name in ("cupy", "torch"):
        try:
            package = importlib.import_module(name)
        except ImportError:
            continue
        return package.from_dlpack(rows)
    raise SystemExit(f"{device.name}: install CuPy or torch to work on it")


def standardise(table: pintable.Table) -> tuple[str, int, int]:
    """The GPU worker. Which device, bytes moved there and back."""
    device = open_device(table)
    column = device["delay"]
    with column.begin(access="rw") as rows:  # waits for writers, brings what is newer on the host
        x = array_on(device, rows)  # no copy
        x -= x.mean()
        x /= x.std()
    column.to_host()  # so that CPU workers find it
    return device.name, *column.moved


def main() -> None:
    delay = np.random.default_rng(1).normal(12.0, 40.0, N_ROWS)
    table = pintable.create({"delay": "float64"}, N_ROWS)
    table["delay"] = delay
    mib = delay.nbytes / 2**20
    with mp.get_context("spawn").Pool(1) as gpu_worker:
        for what in ("at first", "after one chunk has changed"):
            name, there, back = gpu_worker.apply(standardise, (table,))
            print(f"{name}, {what}: {there / 2**20:.2f} of {mib:.2f} MiB to the device, "
                  f"{back / 2**20:.2f} of {mib:.2f} MiB back")  # fmt: skip
            # It just looks: while a writable array lives, each block would bring the whole column.
            result = table["delay"].numpy(writable=False)
            print(f"  on the host: mean {abs(result.mean()):.3f}, deviation {result.std():.3f}")
            with table.lease(0, "delay") as part:
                part["delay"][:] += 1
    table.drop()


if __name__ == "__main__":
    main()
