# SPDX-License-Identifier: Apache-2.0
"""Values in columns: from and to Python objects and numpy arrays, their types, their nulls.

Stands on `_base`. Works on native columns; `cast` and `view` need numpy, nothing else does.
"""
