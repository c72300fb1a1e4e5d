# SPDX-License-Identifier: Apache-2.0
"""A torch Dataset over a table, in a module that DataLoader workers can import."""

from __future__ import annotations

import pintable
import torch
from torch.utils.data import Dataset


class Rows(Dataset):
    """The values of column "x", one by one."""

    def __init__(self, table: pintable.Table) -> None:
        self._table = table

    def __len__(self) -> int:
        return self._table.rows

    def __getitem__(self, row: int) -> torch.Tensor:
        return torch.tensor(self._table["x"].numpy()[row])
