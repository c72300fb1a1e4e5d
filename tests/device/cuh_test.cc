/* SPDX-License-Identifier: Apache-2.0 */

/* device.cuh as plain C++: what kernels do with columns, on host memory. */

#include <cstdio>
#include <cstring>

#include <pintable/device.cuh>

namespace
{

int n_failed;

void expect(bool holds, const char *text, int line)
{
    if (!holds) {
        std::fprintf(stderr, "cuh_test.cc:%d: not so: %s\n", line, text);
        n_failed++;
    }
}

#define EXPECT(condition_) expect((condition_), #condition_, __LINE__)

uint64_t address_of(const void *at)
{
    return reinterpret_cast<uintptr_t>(at);
}

void values_and_validity()
{
    double x[100];
    uint32_t bitmap[4] = {0, 0, 0, 0};
    for (int i = 0; i < 100; i++) {
        x[i] = i;
    }
    const pintable::values<double> view(address_of(x), address_of(bitmap), 100);
    EXPECT(view.rows() == 100);
    EXPECT(view.is_nullable());
    EXPECT(view[99] == 99);
    EXPECT(!view.is_valid(0));
    view[7] = -1;
    EXPECT(x[7] == -1);
    view.set_valid(0, true);
    view.set_valid(31, true);
    view.set_valid(32, true);
    view.set_valid(99, true);
    EXPECT(bitmap[0] == 0x80000001u && bitmap[1] == 1 && bitmap[2] == 0 && bitmap[3] == 8);
    EXPECT(view.is_valid(99) && view.is_valid(31) && !view.is_valid(98));
    view.set_valid(31, false);
    EXPECT(bitmap[0] == 1 && view.validity().word(0) == 1);
    /* The format counts bits in bytes: the same, on the little-endian machines there are. */
    unsigned char bytes[16];
    std::memcpy(bytes, bitmap, sizeof(bytes));
    EXPECT(bytes[12] == 8);
}

void not_nullable()
{
    int32_t x[2] = {1, 2};
    const pintable::values<const int32_t> view(address_of(x), 0, 2);
    EXPECT(!view.is_nullable());
    EXPECT(view.is_valid(1));
    view.set_valid(1, false);
    EXPECT(view.is_valid(1));
    EXPECT(view.data() == x);
}

void bools()
{
    uint32_t bits[2] = {0, 0};
    uint32_t bitmap[2] = {~0u, ~0u};
    const pintable::bool_values view(address_of(bits), address_of(bitmap), 40);
    view.set(39, true);
    EXPECT(view[39] && !view[38] && bits[1] == 0x80);
    view.set_valid(39, false);
    EXPECT(!view.is_valid(39) && view.is_valid(38) && view.is_nullable() && view.rows() == 40);
}

void types()
{
    static_assert(pintable::is_row_type<double>(PINT_FLOAT64), "");
    static_assert(!pintable::is_row_type<int64_t>(PINT_FLOAT64), "");
    static_assert(!pintable::is_row_type<double>(PINT_INT64), "");
    static_assert(pintable::is_row_type<int64_t>(PINT_TIMESTAMP), "");
    static_assert(!pintable::is_row_type<uint64_t>(PINT_TIMESTAMP), "");
    static_assert(pintable::is_row_type<float>(PINT_FLOAT32), "");
    static_assert(!pintable::is_row_type<float>(PINT_INT32), "");
    static_assert(!pintable::is_row_type<float>(PINT_UINT32), "");
    static_assert(pintable::is_row_type<int32_t>(PINT_DATE32), "");
    static_assert(pintable::is_row_type<uint8_t>(PINT_BOOL8), "");
    static_assert(!pintable::is_row_type<int8_t>(PINT_BOOL8), "");
    static_assert(pintable::is_row_type<uint16_t>(PINT_FLOAT16), "");
    static_assert(!pintable::is_row_type<uint8_t>(PINT_BOOL), "");
    static_assert(!pintable::is_row_type<int32_t>(PINT_DICT_TEXT), "");
}

} /* namespace */

int main()
{
    values_and_validity();
    not_nullable();
    bools();
    types();
    return n_failed == 0 ? 0 : 1;
}
