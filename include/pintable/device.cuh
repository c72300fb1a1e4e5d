/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PINTABLE_DEVICE_CUH
#define PINTABLE_DEVICE_CUH

/*
 * Columns inside kernels: typed values, validity, number of rows. C++17; compiled by nvcc it works
 * on both sides, elsewhere it is plain C++ ("host" devices, tests).
 *
 *     __global__ void halve(pintable::values<double> x)
 *     {
 *         for (uint64_t row = pintable::first_row(); row < x.rows(); row += pintable::row_step()) {
 *             if (x.is_valid(row)) { x[row] /= 2; }
 *         }
 *     }
 *     halve<<<grid, 256, 0, stream>>>(pintable::values<double>(copy, n_rows));
 *
 * A view is a few words, passed by value. It keeps nothing alive: it is good while the pint_copy is
 * open, and its rows may be followed between pint_device_begin() and pint_device_end() only.
 * An address is the device's: on the host, views of CUDA copies are made and passed on, not read.
 */

#include <stdint.h>

#include <pintable/device.h>

#if defined(__CUDACC__)
#    define PINT_HOST_DEVICE __host__ __device__
#else
#    define PINT_HOST_DEVICE
#endif

namespace pintable
{

/** One bit a row, least significant bit first: validity, and the values of PINT_BOOL. @since 0.1 */
class bits
{
  public:
    PINT_HOST_DEVICE explicit bits(uint64_t address = 0)
        : words_(reinterpret_cast<uint32_t *>(static_cast<uintptr_t>(address)))
    {
    }

    PINT_HOST_DEVICE bool is_there() const
    {
        return words_ != nullptr;
    }

    PINT_HOST_DEVICE bool operator[](uint64_t row) const
    {
        return (words_[row / 32] >> (row % 32) & 1u) != 0;
    }

    /* 32 rows share a word: threads of a kernel may set different rows at the same time (an atomic
     * operation on device memory). On the host, one thread at a time. */
    PINT_HOST_DEVICE void set(uint64_t row, bool value) const
    {
        uint32_t *const word = words_ + row / 32;
        const uint32_t bit = uint32_t{1} << (row % 32);
#if defined(__CUDA_ARCH__)
        if (value) {
            atomicOr(word, bit);
        } else {
            atomicAnd(word, ~bit);
        }
#else
        *word = value ? *word | bit : *word & ~bit;
#endif
    }

    /* The bits of rows 32 * i to 32 * i + 31. Those beyond the last row mean nothing. */
    PINT_HOST_DEVICE uint32_t word(uint64_t i) const
    {
        return words_[i];
    }

  private:
    uint32_t *words_; /* the bitmap begins at a multiple of 256 bytes and ends in whole words */
};

/** Values of a column of fixed width; T is the type of a row, const T for one only read. @since 0.1
 */
template <class T> class values
{
  public:
    /* A column that was opened on a device; n_rows as of pint_table_rows(). */
    values(const pint_copy *copy, uint64_t n_rows)
        : values(pint_copy_values(copy), pint_copy_validity(copy), n_rows)
    {
    }

    /* From addresses: of another process's handle, or on the host. validity 0: every row is valid.
     */
    PINT_HOST_DEVICE values(uint64_t address, uint64_t validity, uint64_t n_rows)
        : values_(reinterpret_cast<T *>(static_cast<uintptr_t>(address))), validity_(validity),
          n_rows_(n_rows)
    {
    }

    PINT_HOST_DEVICE uint64_t rows() const
    {
        return n_rows_;
    }

    PINT_HOST_DEVICE T &operator[](uint64_t row) const
    {
        return values_[row];
    }

    PINT_HOST_DEVICE T *data() const
    {
        return values_;
    }

    PINT_HOST_DEVICE bool is_nullable() const
    {
        return validity_.is_there();
    }

    PINT_HOST_DEVICE bool is_valid(uint64_t row) const
    {
        return !validity_.is_there() || validity_[row];
    }

    /* The bitmap; is_there() says whether the column has one. */
    PINT_HOST_DEVICE bits validity() const
    {
        return validity_;
    }

    /* Nothing happens in a column that is not nullable. */
    PINT_HOST_DEVICE void set_valid(uint64_t row, bool valid) const
    {
        if (validity_.is_there()) {
            validity_.set(row, valid);
        }
    }

  private:
    T *values_;
    bits validity_;
    uint64_t n_rows_;
};

/** Values of a PINT_BOOL column: one bit a row. @since 0.1 */
class bool_values
{
  public:
    bool_values(const pint_copy *copy, uint64_t n_rows)
        : bool_values(pint_copy_values(copy), pint_copy_validity(copy), n_rows)
    {
    }

    PINT_HOST_DEVICE bool_values(uint64_t address, uint64_t validity, uint64_t n_rows)
        : values_(address), validity_(validity), n_rows_(n_rows)
    {
    }

    PINT_HOST_DEVICE uint64_t rows() const
    {
        return n_rows_;
    }

    PINT_HOST_DEVICE bool operator[](uint64_t row) const
    {
        return values_[row];
    }

    PINT_HOST_DEVICE void set(uint64_t row, bool value) const
    {
        values_.set(row, value);
    }

    PINT_HOST_DEVICE bool is_nullable() const
    {
        return validity_.is_there();
    }

    PINT_HOST_DEVICE bool is_valid(uint64_t row) const
    {
        return !validity_.is_there() || validity_[row];
    }

    PINT_HOST_DEVICE void set_valid(uint64_t row, bool valid) const
    {
        if (validity_.is_there()) {
            validity_.set(row, valid);
        }
    }

  private:
    bits values_;
    bits validity_;
    uint64_t n_rows_;
};

/**
 * Whether T is the C++ type of a row of this column type: double for PINT_FLOAT64, int64_t for
 * PINT_TIMESTAMP, uint8_t for PINT_BOOL8. PINT_FLOAT16 is uint16_t, its bits; types whose rows have
 * no fixed C++ type are none. For a check before a view is made.
 * @since 0.1
 */
template <class T> constexpr bool is_row_type(pint_type type)
{
    const bool is_real = T(1) / T(2) != T(0);
    const bool is_signed = T(-1) < T(0);
    switch (type) {
    case PINT_BOOL8:
    case PINT_UINT8:
        return sizeof(T) == 1 && !is_signed;
    case PINT_INT8:
        return sizeof(T) == 1 && is_signed;
    case PINT_UINT16:
    case PINT_FLOAT16:
        return sizeof(T) == 2 && !is_signed;
    case PINT_INT16:
        return sizeof(T) == 2 && is_signed;
    case PINT_UINT32:
        return sizeof(T) == 4 && !is_signed;
    case PINT_INT32:
    case PINT_DATE32:
        return sizeof(T) == 4 && is_signed && !is_real;
    case PINT_UINT64:
        return sizeof(T) == 8 && !is_signed;
    case PINT_INT64:
    case PINT_TIMESTAMP:
        return sizeof(T) == 8 && is_signed && !is_real;
    case PINT_FLOAT32:
        return sizeof(T) == 4 && is_real;
    case PINT_FLOAT64:
        return sizeof(T) == 8 && is_real;
    default:
        return false;
    }
}

#if defined(__CUDACC__)
/** Where this thread begins, and how far the next row of its is, in a grid of any size. @since 0.1
 */
__device__ inline uint64_t first_row()
{
    return uint64_t{blockIdx.x} * blockDim.x + threadIdx.x;
}

__device__ inline uint64_t row_step()
{
    return uint64_t{gridDim.x} * blockDim.x;
}
#endif

} /* namespace pintable */

#endif
