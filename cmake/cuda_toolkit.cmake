# SPDX-License-Identifier: Apache-2.0
# An installed CUDA toolkit, or a part of one: only tests and examples make use of it, and what is
# missing is left out. Looked for where CUDAToolkit_ROOT (variable or environment) says, beside the
# compiler of $CUDACXX or the one in PATH, at $CUDA_PATH and in /usr/local/cuda. Headers alone will do
# for the comparison of declarations, and are the newest thing that a package index offers of CUDA 12.
#
# Sets PINT_NVCC, PINT_CUDA_INCLUDE_DIR, PINT_CUDA_STUB (the library that is linked instead of a
# driver) to paths or to ...-NOTFOUND, and PINT_CUDA_VERSION to that of cuda.h (13000), or 0.
set(roots ${CUDAToolkit_ROOT} $ENV{CUDAToolkit_ROOT})
if(DEFINED ENV{CUDACXX})
  find_program(PINT_NVCC NAMES $ENV{CUDACXX})
endif()
find_program(PINT_NVCC nvcc HINTS ${roots} PATHS ENV CUDA_PATH /usr/local/cuda PATH_SUFFIXES bin)
if(PINT_NVCC)
  file(REAL_PATH ${PINT_NVCC} nvcc)
  cmake_path(GET nvcc PARENT_PATH bin)
  cmake_path(GET bin PARENT_PATH root)
  list(APPEND roots ${root})
endif()
find_path(PINT_CUDA_INCLUDE_DIR cudaTypedefs.h
  HINTS ${roots} PATHS ENV CUDA_PATH /usr/local/cuda PATH_SUFFIXES include)
find_file(PINT_CUDA_STUB libcuda.so NO_DEFAULT_PATH
  HINTS ${roots} PATHS ENV CUDA_PATH /usr/local/cuda PATH_SUFFIXES lib64/stubs lib/stubs)

set(PINT_CUDA_VERSION 0)
if(PINT_CUDA_INCLUDE_DIR AND EXISTS ${PINT_CUDA_INCLUDE_DIR}/cuda.h)
  file(STRINGS ${PINT_CUDA_INCLUDE_DIR}/cuda.h line REGEX "^#define CUDA_VERSION +[0-9]+")
  string(REGEX REPLACE "[^0-9]" "" PINT_CUDA_VERSION "${line}")
endif()
