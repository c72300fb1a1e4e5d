# SPDX-License-Identifier: Apache-2.0
"""``python -m pintable``, and the console script ``pintable``: become the packaged program."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from pintable._base.paths import get_program_path


def main() -> NoReturn:
    """Replace this process by the program ``pintable`` with the same arguments.

    Exits with 69 (service unavailable, sysexits.h) when the program is not installed.
    """
    try:
        program = get_program_path()
        os.execv(program, ["pintable", *sys.argv[1:]])
    except OSError as error:
        sys.stderr.write(f"pintable: {error}\n")
        sys.exit(69)


if __name__ == "__main__":
    main()
