/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_LAYOUT_H
#define HOST_LAYOUT_H

/*
 * Layout 3 of a pool's shared memory: a file format. docs/format.md is its prose.
 *
 * A pool is a set of memfds, each mapped whole. Little endian, fixed width, no pointers; 0 is the
 * resting value of every field, so that fresh memory is a valid empty pool. Fields that start with
 * x are written while others read, through host/atomic.h only. Who writes what:
 *
 *   catalog   the service alone (sealed against further writable mappings)
 *   sync      writers; the service when it sweeps for the dead
 *   data      writers; never mapped by the service
 *   slot      one session and the service
 *   bell      every session
 *   tether    mapped by one session and its forked children; holds nothing
 *
 * Any change of a size or an offset is another layout: raise PINTI_LAYOUT_VERSION.
 */

#include <stddef.h>

#include "host/atomic.h"

#define PINTI_LAYOUT_VERSION 3u
#define PINTI_MAGIC          0x31454c4241544e50ull /* "PNTABLE1" in memory */
#define PINTI_CACHE_LINE     64
#define PINTI_PAGE_BYTES     4096ull
#define PINTI_SLAB_BYTES     (2ull << 20) /* unit of prefault, recycling and pinning */

#define PINTI_TABLES_MAX        (1u << 16) /* table indices 0 .. 65535 */
#define PINTI_COLUMNS_MAX       (1u << 20) /* column records of all tables */
#define PINTI_TABLE_COLUMNS_MAX (1u << 16)
#define PINTI_JOBS_MAX          (1u << 16)
#define PINTI_USES_MAX          (1u << 22) /* column uses of all jobs */
#define PINTI_EXTENTS_MAX       (1u << 18)
#define PINTI_SESSIONS_MAX      (1u << 14) /* index 0 means nobody */
#define PINTI_DEVICES_MAX       8u         /* places beside the host in a chunk word's mask */
#define PINTI_COPIES_MAX        (1u << 14) /* device copies of all columns */
#define PINTI_COPY_READERS      64u        /* sessions that have one copy open */
#define PINTI_INDEX_SLOTS       (1u << 17) /* open addressing, at most half full */
#define PINTI_SLABS_MAX         (1u << 23)
#define PINTI_CHUNKS_MAX        (1u << 30) /* of one table */
#define PINTI_ROWS_MAX          (1ull << 48)
#define PINTI_CHUNK_ROWS_MIN    512u
#define PINTI_NAME_WORDS        32 /* 256 bytes, zero padded */
#define PINTI_NAME_BYTES_MAX    255u
#define PINTI_COLUMN_RUNS       8
#define PINTI_RUN_COLUMNS_MIN   16u /* room of run 1; see pinti_run_room() */
#define PINTI_INTENTS           8192u
#define PINTI_VIEWS_MAX         (1u << 17) /* columns with writable views that one session notes */
#define PINTI_BELLS             4096u
#define PINTI_FAIL_TEXTS        64u
#define PINTI_FAIL_TEXT_BYTES   200u
#define PINTI_ATTEMPTS_MAX      3u /* deaths or failures after which a chunk is FAILED */

/* ---- catalog ------------------------------------------------------------------------------- */

/* Start of the catalog. Written once before anyone joins, but for the x fields. */
typedef struct pinti_catalog_header {
    uint64_t magic;
    uint32_t layout_version;
    uint32_t signature;  /* pinti_layout_signature(): sizes and offsets as this build has them */
    uint64_t pool_id[2]; /* random; handles carry it */
    uint64_t data_bytes; /* sizes of the segments */
    uint64_t sync_bytes;
    uint64_t bell_bytes;
    uint64_t slot_bytes;
    uint32_t n_slabs; /* data_bytes / PINTI_SLAB_BYTES */
    uint32_t reserved0;
    uint64_t created_ns; /* CLOCK_REALTIME */
    uint64_t reserved1[6];
    /* line 2: written by the service while others read */
    pinti_a32 xindex_seq; /* odd while entries of the name index move; see host/catalog.h */
    pinti_a32 xn_tables;  /* table indices ever used: scans stop here */
    pinti_a32 xn_jobs;
    pinti_a32 xn_sessions; /* highest session index ever used, plus 1 */
    pinti_a64 xbudget_bytes;
    pinti_a64 xcommitted_bytes; /* memory the pool holds: slabs and sync, in use or warm */
    pinti_a64 xused_bytes;      /* of it in tables and jobs */
    pinti_a32 xincarnation;     /* 1 for the first service, one more after each crash */
    pinti_a32 xn_copies;        /* copy indices ever used */
    uint64_t reserved3[2];
    /* service-private persistence: read by the next incarnation */
    uint64_t next_session_id;
    uint64_t next_table_id;
    uint64_t next_job_id;
    uint64_t next_family_id;
    uint64_t next_copy_id; /* also the number a broker knows an allocation by */
    uint64_t reserved4[3];
} pinti_catalog_header;

/* States of a table, job or device copy record, in the low byte of xgen_state. */
enum pinti_record_state {
    PINTI_FREE = 0,
    PINTI_BUILDING = 1, /* seen by its creator only */
    PINTI_LIVE = 2,
    PINTI_DYING = 3,  /* dropped; memory returns when no slot refers to the generation */
    PINTI_CLOSING = 4 /* device copies: nothing begins, for the moment it takes to find out whether
                         it can be dropped; then LIVE again, or DYING */
};

#define PINTI_RECORD_FROZEN 0x100u /* flag beside the state */
#define PINTI_RECORD_KEPT   0x200u

/*
 * xgen_state: generation << 32 | flags | state. The generation of an index grows by one at each
 * reuse and is never 0 in use. Published by a release store after the rest of the record.
 */
typedef struct pinti_table_rec {
    pinti_a64 xgen_state;
    pinti_a32 xname_seq;               /* odd while the name changes (rename) */
    pinti_a32 xname_bytes;             /* 1 .. 255 */
    pinti_a64 xname[PINTI_NAME_WORDS]; /* zero padded */
    /* constant from BUILDING to FREE */
    uint64_t id;              /* never reused */
    uint64_t creator_session; /* 64-bit session id */
    uint64_t creator_request; /* makes create idempotent */
    uint64_t family;
    uint32_t uid;
    uint32_t gid;
    uint64_t n_rows;
    uint64_t row_capacity; /* rows the buffers have room for: whole chunks */
    uint64_t chunk_rows;
    uint32_t n_chunks;
    pinti_a32 xn_columns; /* grows, stored last: columns below it are complete (acquire) */
    struct {
        uint32_t first;        /* index of a column record */
        uint32_t count;        /* records of the run */
    } runs[PINTI_COLUMN_RUNS]; /* column records, in schema order: run 0 as created, later ones as
                                  columns are added; one counts only if xn_columns reaches it */
    uint64_t sync_off;         /* pinti_table_sync, then column states, then words */
    uint64_t sync_bytes;
    uint32_t first_extent; /* extent index + 1, 0 for none */
    uint32_t schema_generation;
    pinti_a64 xbytes; /* data + sync, as charged; grows with added columns */
    uint64_t created_ns;
    uint64_t metadata_off;   /* data segment, 64-byte aligned; of no meaning without bytes */
    uint64_t metadata_bytes; /* 0: none */
    uint64_t moved_to; /* DYING, its columns were added to this table: generation << 32 | index + 1;
                          0: not so */
    uint64_t reserved[5];
} pinti_table_rec;

/* One column. Constant while its table is not FREE, but for death. */
typedef struct pinti_column_rec {
    uint64_t name[PINTI_NAME_WORDS]; /* zero padded */
    uint32_t name_bytes;
    uint32_t type;  /* pint_type */
    uint32_t flags; /* PINT_NULLABLE */
    uint32_t unit;
    uint32_t row_bytes; /* of the values buffer; 0 for bits and text */
    uint32_t list_length;
    uint32_t item_type;
    uint32_t birth; /* schema generations */
    uint32_t death; /* 0: alive */
    uint32_t reserved0;
    /* offsets into the data segment, 64-byte aligned; PINTI_NO_BUFFER for none */
    uint64_t validity_off;     /* row_capacity bits */
    uint64_t values_off;       /* row_capacity * row_bytes, or bits, or codes */
    uint64_t offsets_off;      /* (row_capacity + 1) int64: PINT_TEXT */
    uint64_t data_off;         /* text, or text of the categories */
    uint64_t data_bytes;       /* its room */
    uint64_t dict_offsets_off; /* (n_categories + 1) int64 */
    uint64_t n_categories;     /* room */
    /* offsets into the sync segment */
    uint64_t words_off;    /* n_chunks chunk words (host/word.h) */
    uint64_t state_off;    /* pinti_column_state */
    uint64_t zone[8];      /* 63 bytes, zero padded */
    uint64_t metadata_off; /* as in pinti_table_rec */
    uint64_t metadata_bytes;
    pinti_a32 xcopy[PINTI_DEVICES_MAX]; /* by device: copy record index + 1, 0 none */
    uint64_t reserved[2];
    /* first of columns added together: their sync block, which came with them; else 0 */
    uint64_t block_off;
    uint64_t block_bytes;
} pinti_column_rec;

#define PINTI_NO_BUFFER UINT64_MAX

/* One job. Constant from BUILDING to FREE. use: column index << 2 | PINT_IN, OUT, INOUT less 1 */
typedef struct pinti_job_rec {
    pinti_a64 xgen_state;
    uint32_t name_bytes; /* 0: the unnamed lease set of a column set (host/lease.c) */
    uint32_t table;      /* index */
    uint64_t name[PINTI_NAME_WORDS];
    uint64_t id;
    uint32_t table_generation;
    uint32_t n_chunks;
    uint32_t n_uses;
    uint32_t first_use;    /* index into the uses area; ascending by column */
    uint32_t n_undo;       /* undo buffers */
    uint32_t first_extent; /* extent index + 1: undo buffers, 0 for none */
    uint64_t undo_off;     /* data segment: n_undo * undo_bytes */
    uint64_t undo_bytes;   /* of one buffer, a multiple of 64 */
    uint64_t sync_off;     /* pinti_job_sync */
    uint64_t sync_bytes;
    uint64_t words_off;      /* n_chunks job words (host/word.h), sync segment */
    uint64_t undo_words_off; /* n_undo undo words */
    uint64_t fails_off;      /* PINTI_FAIL_TEXTS of pinti_fail_text */
    uint64_t creator_session;
    uint64_t creator_request;
    uint64_t created_ns;
    uint64_t bytes; /* data + sync, as charged */
    uint32_t uid;
    uint32_t reserved0;
    uint64_t reserved[14];
} pinti_job_rec;

/* A run of data memory that belongs to a table or a job. The allocator is rebuilt from these. */
typedef struct pinti_extent {
    uint64_t off;
    uint64_t bytes;      /* a multiple of PINTI_PAGE_BYTES; 0: the record is unused */
    uint32_t owner;      /* table or job index */
    uint32_t next;       /* extent index + 1 of the owner's next, 0 at the end */
    uint32_t kind;       /* PINTI_EXTENT_TABLE or _JOB */
    uint32_t generation; /* of the owner */
} pinti_extent;

enum pinti_extent_kind { PINTI_EXTENT_TABLE = 1, PINTI_EXTENT_JOB = 2 };

/* A device of the pool, at PINTI_CAT_DEVICES_OFF of the header page. Its index is its place in the
 * masks of chunk words, less one; once used it stays with its UUID for the life of the pool. */
typedef struct pinti_device_rec {
    pinti_a32 xis_there; /* stored last (release) */
    uint32_t is_cuda;
    uint8_t uuid[16];
    char name[32];         /* for people; terminated */
    uint64_t budget_bytes; /* for copies; 0: no limit of its own */
} pinti_device_rec;

/* A device copy of a column. Constant from BUILDING to FREE. */
typedef struct pinti_copy_rec {
    pinti_a64 xgen_state;
    uint64_t id; /* never reused: the generation that handles carry */
    uint32_t table;
    uint32_t table_generation;
    uint32_t column;
    uint32_t device; /* 0 .. PINTI_DEVICES_MAX - 1 */
    uint32_t kind;   /* PINT_COPY_VMM, PINT_COPY_IPC */
    uint32_t n_chunks;
    uint64_t bytes;        /* of the allocation */
    uint64_t values_off;   /* from its start; 256-byte aligned */
    uint64_t values_bytes; /* row_capacity rows */
    uint64_t validity_off; /* PINTI_NO_BUFFER: none */
    uint64_t validity_bytes;
    uint64_t sync_off; /* pinti_copy_sync, then n_chunks pinti_copy_chunk */
    uint64_t sync_bytes;
    uint64_t created_ns;
    uint64_t broker; /* PINT_COPY_IPC: serial of the broker process that owns it */
    uint32_t uid;
    uint32_t reserved0;
    uint8_t ipc[64]; /* PINT_COPY_IPC: the handle */
    uint64_t reserved[9];
} pinti_copy_rec;

enum pinti_session_state {
    PINTI_SESSION_FREE = 0,
    PINTI_SESSION_LIVE = 1,
    PINTI_SESSION_ORPHANED = 2, /* leases swept; a forked child still maps its pages */
    PINTI_SESSION_ENDING = 3
};

typedef struct pinti_session_rec {
    pinti_a64 xid; /* 64-bit session id, 0: free; stored last (release) */
    pinti_a32 xstate;
    uint32_t uid;
    uint32_t gid;
    int32_t pid;    /* as the service sees it; 0 in a foreign pid namespace */
    uint32_t flags; /* PINTI_SESSION_READONLY */
    uint32_t reserved0;
    uint64_t family;
    uint64_t joined_ns; /* CLOCK_REALTIME */
    char command[32];   /* first 31 bytes of the program's name, for people */
    uint64_t reserved[6];
} pinti_session_rec;

#define PINTI_SESSION_READONLY 1u

/* Slab states (R8). */
enum pinti_slab_state { PINTI_SLAB_ABSENT = 0, PINTI_SLAB_COMMITTED = 1, PINTI_SLAB_PUNCHING = 2 };

/*
 * The catalog's areas, one after another, each page aligned. Sparse: pages exist where records do.
 * Name index: PINTI_INDEX_SLOTS words, hash tag << 32 | table index + 1, 0 empty; see catalog.h.
 */
#define PINTI_CAT_INDEX_OFF    PINTI_PAGE_BYTES
#define PINTI_CAT_SESSIONS_OFF (PINTI_CAT_INDEX_OFF + PINTI_INDEX_SLOTS * 8ull)
#define PINTI_CAT_TABLES_OFF                                                                       \
    (PINTI_CAT_SESSIONS_OFF + PINTI_SESSIONS_MAX * sizeof(pinti_session_rec))
#define PINTI_CAT_JOBS_OFF    (PINTI_CAT_TABLES_OFF + PINTI_TABLES_MAX * sizeof(pinti_table_rec))
#define PINTI_CAT_EXTENTS_OFF (PINTI_CAT_JOBS_OFF + PINTI_JOBS_MAX * sizeof(pinti_job_rec))
#define PINTI_CAT_USES_OFF    (PINTI_CAT_EXTENTS_OFF + PINTI_EXTENTS_MAX * sizeof(pinti_extent))
#define PINTI_CAT_SLABS_OFF   (PINTI_CAT_USES_OFF + PINTI_USES_MAX * 4ull)
#define PINTI_CAT_COLUMNS_OFF (PINTI_CAT_SLABS_OFF + PINTI_SLABS_MAX * 1ull)
#define PINTI_CAT_COPIES_OFF  (PINTI_CAT_COLUMNS_OFF + PINTI_COLUMNS_MAX * sizeof(pinti_column_rec))
#define PINTI_CAT_BYTES       (PINTI_CAT_COPIES_OFF + PINTI_COPIES_MAX * sizeof(pinti_copy_rec))
#define PINTI_CAT_DEVICES_OFF 2048ull /* in the header page */

/* ---- sync ---------------------------------------------------------------------------------- */

/* Start of a table's sync block; then n_columns pinti_column_state, then the chunk words. */
typedef struct pinti_table_sync {
    _Alignas(PINTI_CACHE_LINE) pinti_a64 xrow_count; /* rows appended beyond n_rows (later step) */
    pinti_a64 xtail_lease;                           /* (later step) */
    uint64_t reserved[6];
} pinti_table_sync;

/* Per column: the append-only dictionary (R20); while a table is built, its text; and who may store
 * to it plainly at any time (host/writable_view.h). */
typedef struct pinti_column_state {
    _Alignas(PINTI_CACHE_LINE) pinti_a64 xdict_lease; /* session index of the appender, 0: none */
    pinti_a64 xdict_count; /* categories published; their offsets and text are complete */
    pinti_a64 xtext_rows;  /* PINT_TEXT: rows whose offsets are written (creator only) */
    pinti_a64 xviews;      /* registrations of writable views 32, how many there ever were 32 */
    uint64_t reserved[4];
} pinti_column_state;

typedef struct pinti_job_sync {
    _Alignas(
        PINTI_CACHE_LINE) pinti_a64 xcursor; /* next chunk to try: a hint, words are the truth */
    uint64_t reserved0[7];
    _Alignas(PINTI_CACHE_LINE) pinti_a64 xredone; /* chunks handed out again */
    pinti_a32 xredo_hint; /* chunks in REDO or PENDING again behind the cursor, roughly */
    pinti_a32 xn_fails;   /* entries of the fail texts ever taken */
    uint64_t reserved1[6];
} pinti_job_sync;

/* Start of a copy's sync block: who has it open. A reader slot belongs to the session whose index
 * is in it, from open to close; bit i of a chunk's xreaders is slot i's. */
typedef struct pinti_copy_sync {
    _Alignas(PINTI_CACHE_LINE) pinti_a32 xslots[PINTI_COPY_READERS]; /* session index, 0: free */
} pinti_copy_sync;

/* Per chunk of a copy (R4; host/coherence.h). */
typedef struct pinti_copy_chunk {
    pinti_a64 xcopier;  /* copier word (host/word.h): who changes or copies it there, 0: nobody */
    pinti_a64 xreaders; /* slots that read the chunk on the device */
    pinti_a64 xviews;   /* xviews of the column when the copier began; the copier's own note */
    uint64_t reserved;
} pinti_copy_chunk;

typedef struct pinti_fail_text {
    pinti_a64 xchunk; /* chunk + 1, stored last (release); 0: not there */
    uint64_t session;
    char text[PINTI_FAIL_TEXT_BYTES + 8]; /* terminated */
} pinti_fail_text;

/* ---- slot ---------------------------------------------------------------------------------- */

typedef struct pinti_slot_header {
    /* written by the service */
    _Alignas(PINTI_CACHE_LINE) uint64_t magic;
    uint64_t session_id;
    uint64_t token[2]; /* shown again to take the session up after a service restart */
    uint32_t session_index;
    pinti_a32 xstale; /* not 0: this pool was replaced; nothing may be opened (R3) */
    uint64_t reserved0[2];
    /* written by the session */
    _Alignas(PINTI_CACHE_LINE) pinti_a32 xschema_generation;
    pinti_a32 xn_views; /* view words ever used; grows before the first use */
    uint32_t reserved1[14];
} pinti_slot_header;

#define PINTI_SLOT_MAGIC       0x31544f4c53544e50ull /* "PNTSLOT1" */
#define PINTI_SLOT_INTENTS_OFF PINTI_PAGE_BYTES
#define PINTI_SLOT_TABLES_OFF  (PINTI_SLOT_INTENTS_OFF + PINTI_INTENTS * 8ull)
#define PINTI_SLOT_JOBS_OFF    (PINTI_SLOT_TABLES_OFF + PINTI_TABLES_MAX * 8ull)
#define PINTI_SLOT_PINS_OFF    (PINTI_SLOT_JOBS_OFF + PINTI_JOBS_MAX * 8ull) /* a bit a slab */
#define PINTI_SLOT_COPIES_OFF  (PINTI_SLOT_PINS_OFF + PINTI_SLABS_MAX / 8)
#define PINTI_SLOT_VIEWS_OFF   (PINTI_SLOT_COPIES_OFF + PINTI_COPIES_MAX * 8ull)
#define PINTI_SLOT_BYTES       (4ull << 20)

/* ---- bell ---------------------------------------------------------------------------------- */

/* Table i rings bell i % PINTI_BELLS: bit 0 means somebody sleeps, or did; the rest counts rings
 * (R22, host/wait.h). */
typedef struct pinti_bell {
    _Alignas(PINTI_CACHE_LINE) pinti_a32 xbell;
    uint32_t reserved[15];
} pinti_bell;

#define PINTI_BELL_BYTES   (PINTI_BELLS * sizeof(pinti_bell))
#define PINTI_TETHER_BYTES PINTI_PAGE_BYTES

/* ---- pinned -------------------------------------------------------------------------------- */

_Static_assert(sizeof(pinti_catalog_header) == 256, "layout 3");
_Static_assert(offsetof(pinti_catalog_header, xindex_seq) == 128, "layout 3: own cache line");
_Static_assert(offsetof(pinti_catalog_header, next_session_id) == 192, "layout 3");
_Static_assert(sizeof(pinti_table_rec) == 512, "layout 3");
_Static_assert(offsetof(pinti_table_rec, xname) == 16, "layout 3: short names in the first line");
_Static_assert(offsetof(pinti_table_rec, id) == 272, "layout 3");
_Static_assert(offsetof(pinti_table_rec, xn_columns) == 340, "layout 3");
_Static_assert(offsetof(pinti_table_rec, xbytes) == 432, "layout 3");
_Static_assert(sizeof(pinti_column_rec) == 512, "layout 3");
_Static_assert(offsetof(pinti_column_rec, validity_off) == 296, "layout 3");
_Static_assert(offsetof(pinti_table_rec, metadata_off) == 448, "layout 3: reserved before");
_Static_assert(offsetof(pinti_column_rec, words_off) == 352, "layout 3");
_Static_assert(offsetof(pinti_column_rec, metadata_off) == 432, "layout 3: reserved before");
_Static_assert(sizeof(pinti_job_rec) == 512, "layout 3");
_Static_assert(offsetof(pinti_job_rec, undo_off) == 304, "layout 3");
_Static_assert(sizeof(pinti_extent) == 32, "layout 3");
_Static_assert(sizeof(pinti_session_rec) == 128, "layout 3");
_Static_assert(sizeof(pinti_table_sync) == 64, "layout 3");
_Static_assert(sizeof(pinti_column_state) == 64, "layout 3");
_Static_assert(offsetof(pinti_column_state, xviews) == 24, "layout 3");
_Static_assert(sizeof(pinti_job_sync) == 128, "layout 3");
_Static_assert(sizeof(pinti_fail_text) == 224, "layout 3");
_Static_assert(sizeof(pinti_slot_header) == 128, "layout 3");
_Static_assert(offsetof(pinti_slot_header, xstale) == 36, "layout 3");
_Static_assert(sizeof(pinti_bell) == 64, "layout 3");
_Static_assert(PINTI_SLOT_VIEWS_OFF + PINTI_VIEWS_MAX * 8ull <= PINTI_SLOT_BYTES, "layout 3");
_Static_assert(sizeof(pinti_device_rec) == 64, "layout 3");
_Static_assert(PINTI_CAT_DEVICES_OFF + PINTI_DEVICES_MAX * sizeof(pinti_device_rec) <=
                   PINTI_PAGE_BYTES,
               "layout 3");
_Static_assert(sizeof(pinti_copy_rec) == 256, "layout 3");
_Static_assert(sizeof(pinti_copy_sync) == 256, "layout 3");
_Static_assert(sizeof(pinti_copy_chunk) == 32, "layout 3");
_Static_assert(offsetof(pinti_column_rec, xcopy) == 448, "layout 3");

/* Identifies sizes and offsets of this build; a process built differently must not join. */
static inline uint32_t pinti_layout_signature(void)
{
    const uint64_t parts[] = {PINTI_LAYOUT_VERSION, PINTI_CAT_BYTES,         PINTI_CAT_COLUMNS_OFF,
                              PINTI_SLOT_BYTES,     PINTI_SLOT_JOBS_OFF,     sizeof(pinti_job_sync),
                              sizeof(void *),       PINTI_SLAB_BYTES,        PINTI_BELL_BYTES,
                              PINTI_SLOT_VIEWS_OFF, sizeof(pinti_copy_chunk)};
    uint64_t h = 0x9e3779b97f4a7c15ull;
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        h = (h ^ parts[i]) * 0xff51afd7ed558ccdull;
        h ^= h >> 33;
    }
    return (uint32_t)h;
}

/* ---- where things are in a mapped catalog -------------------------------------------------- */

static inline pinti_a64 *pinti_cat_index(void *catalog)
{
    return (pinti_a64 *)(void *)((char *)catalog + PINTI_CAT_INDEX_OFF);
}

static inline pinti_session_rec *pinti_cat_sessions(void *catalog)
{
    return (pinti_session_rec *)(void *)((char *)catalog + PINTI_CAT_SESSIONS_OFF);
}

static inline pinti_table_rec *pinti_cat_tables(void *catalog)
{
    return (pinti_table_rec *)(void *)((char *)catalog + PINTI_CAT_TABLES_OFF);
}

static inline pinti_job_rec *pinti_cat_jobs(void *catalog)
{
    return (pinti_job_rec *)(void *)((char *)catalog + PINTI_CAT_JOBS_OFF);
}

static inline pinti_extent *pinti_cat_extents(void *catalog)
{
    return (pinti_extent *)(void *)((char *)catalog + PINTI_CAT_EXTENTS_OFF);
}

static inline uint32_t *pinti_cat_uses(void *catalog)
{
    return (uint32_t *)(void *)((char *)catalog + PINTI_CAT_USES_OFF);
}

static inline pinti_a8 *pinti_cat_slabs(void *catalog)
{
    return (pinti_a8 *)(void *)((char *)catalog + PINTI_CAT_SLABS_OFF);
}

static inline pinti_column_rec *pinti_cat_columns(void *catalog)
{
    return (pinti_column_rec *)(void *)((char *)catalog + PINTI_CAT_COLUMNS_OFF);
}

/* Records of run 1, 2, ... of a table's columns: 16, 64, ... 65536, whatever is added, so that
 * single columns fill a run before the next is taken. */
static inline uint32_t pinti_run_room(uint32_t run)
{
    return PINTI_RUN_COLUMNS_MIN / 4 << 2 * run;
}

/* Where the record of a column is, by its position in the schema, also of one that is only being
 * added. NULL: it cannot be. */
static inline pinti_column_rec *pinti_cat_column_place(void *catalog, const pinti_table_rec *table,
                                                       uint32_t column)
{
    for (uint32_t run = 0; run < PINTI_COLUMN_RUNS; run++) {
        const uint32_t first = table->runs[run].first;
        const uint32_t count = table->runs[run].count;
        if (column < count) {
            return first < PINTI_COLUMNS_MAX && column < PINTI_COLUMNS_MAX - first
                       ? &pinti_cat_columns(catalog)[first + column]
                       : NULL;
        }
        column -= count;
    }
    return NULL;
}

/* Record of a column, or NULL: there is none, or it cannot be. The one way to walk a table's
 * columns. */
static inline pinti_column_rec *pinti_cat_column(void *catalog, const pinti_table_rec *table,
                                                 uint32_t column)
{
    /* acquire: pairs with the release store that added the column; run and record are complete */
    return column < pinti_load32_acquire(&table->xn_columns)
               ? pinti_cat_column_place(catalog, table, column)
               : NULL;
}

static inline pinti_device_rec *pinti_cat_devices(void *catalog)
{
    return (pinti_device_rec *)(void *)((char *)catalog + PINTI_CAT_DEVICES_OFF);
}

static inline pinti_copy_rec *pinti_cat_copies(void *catalog)
{
    return (pinti_copy_rec *)(void *)((char *)catalog + PINTI_CAT_COPIES_OFF);
}

static inline pinti_a64 *pinti_slot_copies(void *slot)
{
    return (pinti_a64 *)(void *)((char *)slot + PINTI_SLOT_COPIES_OFF);
}

static inline pinti_a64 *pinti_slot_views(void *slot)
{
    return (pinti_a64 *)(void *)((char *)slot + PINTI_SLOT_VIEWS_OFF);
}

static inline pinti_a64 *pinti_slot_intents(void *slot)
{
    return (pinti_a64 *)(void *)((char *)slot + PINTI_SLOT_INTENTS_OFF);
}

static inline pinti_a64 *pinti_slot_tables(void *slot)
{
    return (pinti_a64 *)(void *)((char *)slot + PINTI_SLOT_TABLES_OFF);
}

static inline pinti_a64 *pinti_slot_jobs(void *slot)
{
    return (pinti_a64 *)(void *)((char *)slot + PINTI_SLOT_JOBS_OFF);
}

#endif
