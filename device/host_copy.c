/* SPDX-License-Identifier: Apache-2.0 */

/* See host_copy.h. */

#include "device/host_copy.h"

#include <string.h>

#if defined(__SSE2__) && !defined(__SANITIZE_THREAD__) /* which does not see such stores */

#    include <emmintrin.h>

#    define LINE_BYTES  64u
#    define AHEAD_BYTES 1024u /* of the source, fetched before their turn */

/* The fence puts stores that go past the caches, which are not ordered as others are, before what
 * this thread does next. */
static void copy_past_caches(char *to, const char *from, uint64_t bytes)
{
    const uint64_t head = -(uintptr_t)to & (LINE_BYTES - 1);
    if (bytes < head + LINE_BYTES) {
        memcpy(to, from, bytes);
        return;
    }
    memcpy(to, from, head);
    uint64_t at = head;
    for (; bytes - at >= LINE_BYTES; at += LINE_BYTES) {
        const __m128i *source = (const __m128i *)(const void *)(from + at);
        __m128i *target = (__m128i *)(void *)(to + at);
        __builtin_prefetch(from + at + AHEAD_BYTES); /* no fault past the end */
        const __m128i a = _mm_loadu_si128(source);
        const __m128i b = _mm_loadu_si128(source + 1);
        const __m128i c = _mm_loadu_si128(source + 2);
        const __m128i d = _mm_loadu_si128(source + 3);
        _mm_stream_si128(target, a);
        _mm_stream_si128(target + 1, b);
        _mm_stream_si128(target + 2, c);
        _mm_stream_si128(target + 3, d);
    }
    _mm_sfence();
    memcpy(to + at, from + at, bytes - at);
}

#else

static void copy_past_caches(char *to, const char *from, uint64_t bytes)
{
    memcpy(to, from, bytes);
}

#endif

void pinti_host_copy(void *to, const void *from, uint64_t bytes, bool is_past_caches)
{
    if (is_past_caches) {
        copy_past_caches(to, from, bytes);
    } else {
        memcpy(to, from, bytes);
    }
}
