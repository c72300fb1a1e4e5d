/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_ATOMIC_H
#define HOST_ATOMIC_H

/*
 * The only atomic operations used on shared memory. The name says the order; the call site says
 * the partner. "seq" is sequential consistency, used where a store must be ordered before a later
 * load of another variable (slot against record, word against bell).
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "64-bit atomics must be lock-free");
_Static_assert(ATOMIC_INT_LOCK_FREE == 2, "32-bit atomics must be lock-free");
_Static_assert(sizeof(_Atomic uint64_t) == 8, "shared words are 8 bytes");
_Static_assert(sizeof(_Atomic uint32_t) == 4, "shared words are 4 bytes");

typedef _Atomic uint64_t pinti_a64;
typedef _Atomic uint32_t pinti_a32;
typedef _Atomic uint8_t pinti_a8;

#define PINTI_DEFINE_ATOMICS(bits, type)                                                           \
    static inline type pinti_load##bits##_relaxed(const _Atomic type *p)                           \
    {                                                                                              \
        return atomic_load_explicit(p, memory_order_relaxed);                                      \
    }                                                                                              \
    static inline type pinti_load##bits##_acquire(const _Atomic type *p)                           \
    {                                                                                              \
        return atomic_load_explicit(p, memory_order_acquire);                                      \
    }                                                                                              \
    static inline type pinti_load##bits##_seq(const _Atomic type *p)                               \
    {                                                                                              \
        return atomic_load_explicit(p, memory_order_seq_cst);                                      \
    }                                                                                              \
    static inline void pinti_store##bits##_relaxed(_Atomic type *p, type v)                        \
    {                                                                                              \
        atomic_store_explicit(p, v, memory_order_relaxed);                                         \
    }                                                                                              \
    static inline void pinti_store##bits##_release(_Atomic type *p, type v)                        \
    {                                                                                              \
        atomic_store_explicit(p, v, memory_order_release);                                         \
    }                                                                                              \
    static inline void pinti_store##bits##_seq(_Atomic type *p, type v)                            \
    {                                                                                              \
        atomic_store_explicit(p, v, memory_order_seq_cst);                                         \
    }                                                                                              \
    static inline type pinti_exchange##bits##_seq(_Atomic type *p, type v)                         \
    {                                                                                              \
        return atomic_exchange_explicit(p, v, memory_order_seq_cst);                               \
    }                                                                                              \
    static inline type pinti_add##bits##_relaxed(_Atomic type *p, type v)                          \
    {                                                                                              \
        return atomic_fetch_add_explicit(p, v, memory_order_relaxed);                              \
    }                                                                                              \
    static inline type pinti_add##bits##_seq(_Atomic type *p, type v)                              \
    {                                                                                              \
        return atomic_fetch_add_explicit(p, v, memory_order_seq_cst);                              \
    }                                                                                              \
    static inline type pinti_and##bits##_release(_Atomic type *p, type v)                          \
    {                                                                                              \
        return atomic_fetch_and_explicit(p, v, memory_order_release);                              \
    }                                                                                              \
    static inline type pinti_or##bits##_release(_Atomic type *p, type v)                           \
    {                                                                                              \
        return atomic_fetch_or_explicit(p, v, memory_order_release);                               \
    }                                                                                              \
    /* seq_cst on success, acquire on failure; *expected is updated on failure */                  \
    static inline bool pinti_cas##bits##_seq(_Atomic type *p, type *expected, type v)              \
    {                                                                                              \
        return atomic_compare_exchange_strong_explicit(p, expected, v, memory_order_seq_cst,       \
                                                       memory_order_acquire);                      \
    }

PINTI_DEFINE_ATOMICS(64, uint64_t)
PINTI_DEFINE_ATOMICS(32, uint32_t)
PINTI_DEFINE_ATOMICS(8, uint8_t)

#endif
