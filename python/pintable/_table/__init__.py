# SPDX-License-Identifier: Apache-2.0
"""What users hold: tables, columns, rows, parts under a lease, jobs; the handles they pickle as.

Stands on `_base` and `_values`; what needs pandas or a device is imported when it is first used.
"""
