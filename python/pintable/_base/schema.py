# SPDX-License-Identifier: Apache-2.0
"""What tables are made of, as users say it, checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .errors import Invalid
from .types import Spec

SchemaLike = Mapping[str, Any] | Iterable[tuple[str, Any]]


def check_if_exists(if_exists: str) -> None:
    """Invalid unless it is one of the three words."""
    if if_exists not in ("fail", "replace", "open"):
        raise Invalid(f'if_exists must be "fail", "replace" or "open", not {if_exists!r}')


def schema_specs(schema: SchemaLike) -> list[tuple[str, Spec]]:
    """(name, Spec) of each column of a schema."""
    pairs = schema.items() if isinstance(schema, Mapping) else schema
    if isinstance(pairs, str) or not isinstance(pairs, Iterable):
        raise Invalid(f"a schema is a dict of name to type, not {schema!r}")
    specs = []
    for pair in pairs:
        if not isinstance(pair, tuple) or len(pair) != 2 or not isinstance(pair[0], str):
            raise Invalid(f"a schema has pairs of a name and a type, not {pair!r}")
        specs.append((pair[0], Spec.parse(pair[1]).empty()))
    if not specs:
        raise Invalid("a table needs at least one column")
    return specs
