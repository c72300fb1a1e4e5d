# SPDX-License-Identifier: Apache-2.0
"""The exceptions: their kinds, what they carry, and that they travel."""

from __future__ import annotations

import pickle
import warnings

import pintable
import pytest
from pintable import _native
from pintable._base import errors as _errors
from pintable._base.errors import Error

KINDS = {
    pintable.Invalid: ValueError, pintable.OutOfRange: ValueError, pintable.NotFound: LookupError,
    pintable.PermissionDenied: PermissionError, pintable.TypeMismatch: TypeError,
    pintable.Timeout: TimeoutError, pintable.Unsupported: NotImplementedError,
    pintable.QuotaExceeded: pintable.OutOfMemory, pintable.OutOfMemory: MemoryError,
    pintable.ServiceGone: ConnectionError, pintable.NoService: pintable.ServiceGone,
    pintable.VersionMismatch: pintable.ServiceGone, pintable.ProtocolError: pintable.ServiceGone,
    pintable.StalePool: pintable.ServiceGone, pintable.SystemFailed: OSError,
}  # fmt: skip
ALL = sorted(_errors.by_status().values(), key=lambda cls: cls.__name__)


@pytest.mark.parametrize("cls", ALL)
def test_each_class(cls):
    error = cls("what happened", cls.status, 12)
    assert isinstance(error, pintable.Error) and isinstance(error, KINDS.get(cls, Exception))
    assert str(error) == "what happened" and error.args == ("what happened",)
    assert error.status == cls.status != 0 and error.errno == 12
    assert error.name == _native.status_name(cls.status).removeprefix("PINT_")
    assert getattr(pintable, cls.__name__) is cls
    bare = cls("x")
    assert (bare.status, bare.errno, bare.name) == (cls.status, 0, cls.name)
    assert str(cls()) == ""


def test_every_status_of_the_library_has_a_class():
    known = set(_errors.by_status())
    unnamed = _native.status_name(-9999)
    for number in range(-100, 3):
        if _native.status_name(number) != unnamed and number not in (0, 1):  # OK, FINISHED
            assert number in known, _native.status_name(number)


@pytest.mark.parametrize("cls", [*ALL, pintable.MapError, pintable.Error])
def test_they_travel(cls):
    error = cls("what", -7, 3)
    error.rows = range(3)
    error.add_note("a note")
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is cls and str(back) == "what" and back.rows == range(3)
    assert (back.status, back.name, back.errno) == (-7, "E_BUSY", 3)
    assert back.__notes__ == ["a note"]


def test_a_status_without_a_class():
    error = Error("new", -17, 0)
    assert (error.status, error.name) == (-17, "unknown status")


def test_they_carry_the_message_of_the_library(make):
    t = make({"x": "int64"}, 10, name="carry")
    with pytest.raises(pintable.NotFound) as caught:
        pintable.open("nothere")
    assert "nothere" in str(caught.value)
    assert (caught.value.status, caught.value.name) == (-3, "E_NOT_FOUND")
    with pytest.raises(pintable.Exists) as caught:
        t.rename("carry2")
        pintable.create({"x": "int8"}, 1, "carry2")
    assert "carry2" in str(caught.value)


def test_copy_warning_is_a_user_warning():
    assert issubclass(pintable.CopyWarning, UserWarning)
    with warnings.catch_warnings():
        warnings.simplefilter("error", pintable.CopyWarning)


def test_names_of_the_module():
    assert set(pintable.__all__) <= set(dir(pintable))
    for name in pintable.__all__:
        assert getattr(pintable, name) is not None
    with pytest.raises(AttributeError, match="nothing_like_it"):
        pintable.nothing_like_it
    assert pintable.__version__ == _native.version
