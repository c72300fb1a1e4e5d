/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Many arrays into the buffers of a new table, at the speed of memory.
 *
 * One thread cannot use all of it, so a few take pieces in turn. Little helps beside that: the
 * target is not read soon by this process, so much of it goes past the caches, where plain stores
 * would first read each line that they are about to replace.
 *
 * Helper threads live for one batch. They touch no Python object; the calling thread, which holds
 * the views of all buffers, gives the interpreter's lock up meanwhile.
 */

#include "native.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

#if defined(__x86_64__)
#    include <emmintrin.h>
#endif

#define LINE_BYTES   64u
#define AHEAD_BYTES  1024u      /* of the source, fetched before their turn */
#define PIECE_BYTES  (1u << 20) /* what a thread takes at a time; whole lines */
#define BLOCK_ROWS   4096u      /* of strided arrays: their lines stay in a cache meanwhile */
#define GATHER_BYTES 4096u      /* of a strided array, put together before they are stored */
#define PAST_BYTES   ((size_t)16 << 20) /* a call that copies more goes past the caches */
#define THREAD_BYTES ((size_t)4 << 20)  /* starting a thread pays from here on */
#define BATCH_PIECES 512u               /* between looks for signals */
#define THREADS_MAX  4u
#define STACK_BYTES  (256u << 10)

struct copy {
    char *to;
    const char *from;
    size_t n_bytes;
    size_t first_piece; /* of a plain copy */
    size_t item_bytes;  /* of a strided one, and what follows too */
    size_t n_rows;
    Py_ssize_t stride;
};

/* Plain copies stand from the front of `all` on, strided ones from its back. */
struct copies {
    Py_buffer *views; /* may refer to themselves, so they stay where they were made */
    struct copy *all;
    size_t n;
    size_t n_views;
    size_t n_plain;
    size_t n_strided;
    size_t n_plain_pieces;
    size_t n_pieces; /* and with them the blocks of rows of the strided ones */
    size_t n_bytes;
    int past_caches;
};

/* ---- one piece ------------------------------------------------------------------------------- */

#if defined(__x86_64__)

/* Stores that go past the caches are not ordered as others are: the fence puts them before what
 * this thread does next, so that joining it, or publishing, covers them as it does plain stores. */
static void copy_past(char *to, const char *from, size_t n_bytes)
{
    const size_t head = (LINE_BYTES - ((uintptr_t)to & (LINE_BYTES - 1))) & (LINE_BYTES - 1);
    if (n_bytes < head + LINE_BYTES) {
        memcpy(to, from, n_bytes);
        return;
    }
    memcpy(to, from, head);
    size_t at = head;
    for (; n_bytes - at >= LINE_BYTES; at += LINE_BYTES) {
        __builtin_prefetch(from + at + AHEAD_BYTES);
        const __m128i *source = (const __m128i *)(const void *)(from + at);
        __m128i *target = (__m128i *)(void *)(to + at);
        const __m128i a = _mm_loadu_si128(source);
        const __m128i b = _mm_loadu_si128(source + 1);
        const __m128i c = _mm_loadu_si128(source + 2);
        const __m128i d = _mm_loadu_si128(source + 3);
        _mm_stream_si128(target, a);
        _mm_stream_si128(target + 1, b);
        _mm_stream_si128(target + 2, c);
        _mm_stream_si128(target + 3, d);
    }
    memcpy(to + at, from + at, n_bytes - at);
    _mm_sfence();
}

#else

static void copy_past(char *to, const char *from, size_t n_bytes)
{
    memcpy(to, from, n_bytes);
}

#endif

static void copy_bytes(const struct copies *copies, char *to, const char *from, size_t n_bytes)
{
    if (copies->past_caches) {
        copy_past(to, from, n_bytes);
    } else {
        memcpy(to, from, n_bytes);
    }
}

static void copy_plain(const struct copies *copies, const struct copy *copy, size_t piece)
{
    const size_t first = (piece - copy->first_piece) * PIECE_BYTES;
    const size_t left = copy->n_bytes - first;
    copy_bytes(copies, copy->to + first, copy->from + first,
               left < PIECE_BYTES ? left : PIECE_BYTES);
}

#define GATHER(type)                                                                               \
    for (size_t i = 0; i < n; i++) {                                                               \
        memcpy(to + i * sizeof(type), from + (Py_ssize_t)i * stride, sizeof(type));                \
    }

static void gather(char *to, const char *from, Py_ssize_t stride, size_t n, size_t item_bytes)
{
    switch (item_bytes) {
    case 1:
        GATHER(uint8_t);
        break;
    case 2:
        GATHER(uint16_t);
        break;
    case 4:
        GATHER(uint32_t);
        break;
    default:
        GATHER(uint64_t);
        break;
    }
}

/* Arrays with strides are mostly columns of one array whose rows lie together: block by block, a
 * line of it is read from memory once and not once for each column. */
static void copy_block(const struct copies *copies, size_t block)
{
    char together[GATHER_BYTES];
    const size_t first = block * BLOCK_ROWS;
    for (size_t i = copies->n - copies->n_strided; i < copies->n; i++) {
        const struct copy *copy = &copies->all[i];
        const size_t stop = first + BLOCK_ROWS < copy->n_rows ? first + BLOCK_ROWS : copy->n_rows;
        const size_t step = GATHER_BYTES / copy->item_bytes;
        for (size_t row = first; row < stop; row += step) {
            const size_t n = stop - row < step ? stop - row : step;
            const char *from = copy->from + (Py_ssize_t)row * copy->stride;
            gather(together, from, copy->stride, n, copy->item_bytes);
            copy_bytes(copies, copy->to + row * copy->item_bytes, together, n * copy->item_bytes);
        }
    }
}

static void copy_piece(const struct copies *copies, size_t piece)
{
    if (piece >= copies->n_plain_pieces) {
        copy_block(copies, piece - copies->n_plain_pieces);
        return;
    }
    size_t low = 0; /* the last plain copy that begins at the piece or before it */
    size_t high = copies->n_plain;
    while (high - low > 1) {
        const size_t middle = low + (high - low) / 2;
        if (copies->all[middle].first_piece <= piece) {
            low = middle;
        } else {
            high = middle;
        }
    }
    copy_plain(copies, &copies->all[low], piece);
}

/* ---- threads --------------------------------------------------------------------------------- */

struct batch {
    const struct copies *copies;
    size_t stop;
    _Atomic size_t xnext; /* piece that nobody has taken; relaxed: start and join order the rest */
};

static void *take_pieces(void *context)
{
    struct batch *batch = context;
    for (;;) {
        const size_t piece = atomic_fetch_add_explicit(&batch->xnext, 1, memory_order_relaxed);
        if (piece >= batch->stop) {
            return NULL;
        }
        copy_piece(batch->copies, piece);
    }
}

/* Beside the calling one. As many as start: the work is done with fewer too. */
static unsigned start_helpers(struct batch *batch, unsigned n_wanted, pthread_t *out_helpers)
{
    pthread_attr_t attributes;
    sigset_t all;
    sigset_t before;
    unsigned n = 0;
    if (n_wanted == 0 || pthread_attr_init(&attributes) != 0) {
        return 0;
    }
    (void)pthread_attr_setstacksize(&attributes, STACK_BYTES);
    sigfillset(&all); /* signals go to threads that expect them */
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    while (n < n_wanted && pthread_create(&out_helpers[n], &attributes, take_pieces, batch) == 0) {
        n++;
    }
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)pthread_attr_destroy(&attributes);
    return n;
}

static unsigned helpers_for(size_t n_bytes)
{
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    if (sched_getaffinity(0, sizeof(cpus), &cpus) != 0) {
        return 0;
    }
    const size_t n_cpus = (size_t)CPU_COUNT(&cpus);
    size_t n = n_cpus < THREADS_MAX ? n_cpus : THREADS_MAX;
    if (n > n_bytes / THREAD_BYTES) {
        n = n_bytes / THREAD_BYTES;
    }
    return n > 1 ? (unsigned)n - 1 : 0;
}

static int run(const struct copies *copies)
{
    const unsigned n_wanted = helpers_for(copies->n_bytes);
    for (size_t first = 0; first < copies->n_pieces; first += BATCH_PIECES) {
        const size_t left = copies->n_pieces - first;
        struct batch batch = {
            .copies = copies,
            .stop = first + (left < BATCH_PIECES ? left : BATCH_PIECES),
            .xnext = first,
        };
        pthread_t helpers[THREADS_MAX];
        PyThreadState *thread = PyEval_SaveThread();
        const unsigned n = start_helpers(&batch, n_wanted, helpers);
        (void)take_pieces(&batch);
        for (unsigned i = 0; i < n; i++) {
            (void)pthread_join(helpers[i], NULL);
        }
        PyEval_RestoreThread(thread);
        if (PyErr_CheckSignals() != 0) {
            return -1;
        }
    }
    return 0;
}

/* ---- what is to be copied -------------------------------------------------------------------- */

static void copies_end(struct copies *copies)
{
    for (size_t i = 0; i < copies->n_views; i++) {
        PyBuffer_Release(&copies->views[i]);
    }
    PyMem_Free(copies->views);
    PyMem_Free(copies->all);
}

/* Both views of a pair, held from here on. -1: raised */
static int open_pair(struct copies *copies, PyObject *pair)
{
    PyObject *target;
    PyObject *source;
    if (!PyTuple_Check(pair)) {
        PyErr_SetString(PyExc_TypeError, "copy: pairs (target, source) are needed");
        return -1;
    }
    if (!PyArg_ParseTuple(pair, "OO:copy", &target, &source) ||
        PyObject_GetBuffer(target, &copies->views[copies->n_views], PyBUF_CONTIG) != 0) {
        return -1;
    }
    copies->n_views++;
    if (PyObject_GetBuffer(source, &copies->views[copies->n_views], PyBUF_STRIDED_RO) != 0) {
        return -1;
    }
    copies->n_views++;
    return 0;
}

static int is_small(Py_ssize_t item_bytes)
{
    return item_bytes == 1 || item_bytes == 2 || item_bytes == 4 || item_bytes == 8;
}

/* Note a copy between two views. -1: raised */
static int add_copy(struct copies *copies, const Py_buffer *target, const Py_buffer *source)
{
    struct copy copy = {.to = target->buf, .from = source->buf, .n_bytes = (size_t)target->len};
    if (target->len != source->len) {
        PyErr_SetString(PyExc_ValueError, "copy: target and source have different lengths");
        return -1;
    }
    copies->n_bytes += copy.n_bytes;
    if (PyBuffer_IsContiguous(source, 'C')) {
        copy.first_piece = copies->n_plain_pieces;
        copies->n_plain_pieces += copy.n_bytes / PIECE_BYTES + (copy.n_bytes % PIECE_BYTES != 0);
        copies->all[copies->n_plain++] = copy;
        return 0;
    }
    if (source->ndim != 1 || !is_small(source->itemsize)) {
        PyErr_SetString(PyExc_ValueError,
                        "copy: a source with strides has one dimension, and items of 1, 2, 4 or 8 "
                        "bytes");
        return -1;
    }
    copy.item_bytes = (size_t)source->itemsize;
    copy.n_rows = (size_t)source->shape[0];
    copy.stride = source->strides[0];
    copies->n_strided++;
    copies->all[copies->n - copies->n_strided] = copy;
    return 0;
}

static int open_all(struct copies *copies, PyObject *pairs)
{
    copies->views = PyMem_Calloc(2 * copies->n + 1, sizeof(copies->views[0]));
    copies->all = PyMem_Calloc(copies->n + 1, sizeof(copies->all[0]));
    if (copies->views == NULL || copies->all == NULL) {
        (void)PyErr_NoMemory();
        return -1;
    }
    size_t n_blocks = 0;
    for (size_t i = 0; i < copies->n; i++) {
        if (open_pair(copies, PyTuple_GetItem(pairs, (Py_ssize_t)i)) != 0 ||
            add_copy(copies, &copies->views[2 * i], &copies->views[2 * i + 1]) != 0) {
            return -1;
        }
    }
    for (size_t i = copies->n - copies->n_strided; i < copies->n; i++) {
        const size_t n_rows = copies->all[i].n_rows;
        const size_t n = n_rows / BLOCK_ROWS + (n_rows % BLOCK_ROWS != 0);
        n_blocks = n > n_blocks ? n : n_blocks;
    }
    copies->n_pieces = copies->n_plain_pieces + n_blocks;
    copies->past_caches = copies->n_bytes > PAST_BYTES;
    return 0;
}

PyObject *native_copy(PyObject *module, PyObject *pairs)
{
    (void)module;
    PyObject *sequence = PySequence_Tuple(pairs); /* one that nobody changes */
    if (sequence == NULL) {
        return NULL;
    }
    struct copies copies = {.n = (size_t)PyTuple_Size(sequence)};
    int result = open_all(&copies, sequence);
    if (result == 0) {
        result = run(&copies);
    }
    copies_end(&copies);
    Py_DECREF(sequence);
    if (result != 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}
