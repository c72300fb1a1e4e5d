# SPDX-License-Identifier: Apache-2.0
# PINT_WARNINGS: for every C source of ours. C++ exists in tests only and gets the common part.
set(PINT_WARNINGS
  -Wall
  -Wextra
  -Wshadow
  -Wconversion
  -Wsign-conversion
  -Wvla
  -Wundef
  -Wwrite-strings
  -Wformat=2
  -Wcast-align
  -Wswitch-enum
  -Wpointer-arith
  $<$<COMPILE_LANGUAGE:C>:-Wstrict-prototypes>
  $<$<COMPILE_LANGUAGE:C>:-Wmissing-prototypes>
)
