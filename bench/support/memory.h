/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BENCH_SUPPORT_MEMORY_H
#define BENCH_SUPPORT_MEMORY_H

/* Memory to compare with: the same kind of pages as the pool's, made without the library. */

#include "bench/support/bench.h"

#define BENCH_PAGES_4K "4k"
#define BENCH_PAGES_2M "2M collapse"

/* How the memory around an address of this process is mapped: BENCH_PAGES_2M when at least half of
 * its mapping's touched bytes are, else BENCH_PAGES_4K. */
const char *bench_pages_of(const void *address);

/* A new memfd, sized. */
int bench_memfd(uint64_t bytes);

/* Map bytes of a file shared, at a 2 MiB-aligned address. */
void *bench_map(int fd, uint64_t bytes);

/* Shared memory of a memfd of its own, warm, with such pages. */
void *bench_shared(uint64_t bytes, const char *pages);

/* Private anonymous memory, warm, with such pages; NULL: as the system gives them. */
void *bench_private(uint64_t bytes, const char *pages);

void bench_unmap(void *at, uint64_t bytes);

/* Take so much memory from the kernel, write to it and give it back: what is allocated next has
 * been used on this machine. In a virtual machine free memory may not be there: never given by the
 * host, or taken back by it (free page reporting), and then the host's faults are what is measured.
 */
void bench_use_machine_memory(uint64_t bytes);

/* Bytes that may be used now without getting into trouble. */
uint64_t bench_memory_available(void);

/* wanted, or the greatest power-of-two fraction of it of which `times` fit into what is available;
 * says so when it is less. */
uint64_t bench_scaled(const char *bench, uint64_t wanted, unsigned times);

#endif
