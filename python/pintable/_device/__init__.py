# SPDX-License-Identifier: Apache-2.0
"""Device copies of columns, brackets on them, what is open. Needs no package of arrays.

Stands on `_base`, `_values` and `_table`. Imported when a device is first asked for.
"""
