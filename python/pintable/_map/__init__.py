# SPDX-License-Identifier: Apache-2.0
"""`Table.map`: a function over all chunks of a table, in processes or an executor.

Stands on all other groups. Imported at the first map.
"""
