# SPDX-License-Identifier: Apache-2.0
"""What all other groups stand on, and no table is known in: errors, types, pools, paths."""
