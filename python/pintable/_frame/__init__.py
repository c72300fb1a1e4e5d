# SPDX-License-Identifier: Apache-2.0
"""pandas: a frame becomes a table, a table becomes a frame, changes go back. Needs pandas.

Stands on `_base`, `_values` and `_table`.
"""
