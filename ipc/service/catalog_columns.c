/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Adding columns: all columns of a table that was never published, the donor, become columns of a
 * live one, the target. Buffers, chunk words and column states stay where they are; what changes is
 * whose they are.
 *
 *   donor    BUILDING ------------------------------------------------> DYING ----> FREE
 *            owns an extent and a sync block                            owns nothing
 *   target   LIVE, n columns ---------------------> LIVE, n + m columns ----> ...
 *   journal  ---------- COLUMNS noted -------------------------------------- cleared
 *                       ^                                                    ^
 *                       from here on a crash carries it through              over
 *
 *   1 runs of column records are taken, and the donor's records copied to the places behind the
 *     target's: nobody reads there, xn_columns does not reach them. A crash up to here leaves
 *     numbers that nothing points to, which rebuild finds free, and the donor as it was.
 *   2 the journal is written, with every value that is going to be stored (none depends on what
 *     was there before, so the steps may be taken twice)
 *   3 the donor's extent goes to the head of the target's chain, its sync block is the target's by
 *     the record of the first column copied, its bytes are counted there
 *   4 target.xn_columns := n + m, release. This publishes the columns: readers load it with acquire
 *     and walk runs only as far as it says.
 *   5 donor: moved_to, then DYING. It is freed as any dropped table is, when no slot refers to it.
 *   6 the journal is cleared
 *
 * A reference on the donor (of a child that was forked with it open) covers bytes of the target. So
 * a target is not freed before its donors are: n_donors, a count that rebuild makes from moved_to.
 *
 * Run 0 of a table is as it was created. Later runs have a room that depends on their number alone
 * (pinti_run_room()), so single columns fill a run before the next is taken, and eight runs reach
 * PINTI_TABLE_COLUMNS_MAX. The rest of a last run is taken but empty.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "host/error.h"
#include "ipc/service/catalog_internal.h"

/* What is to be done: everything checked, nothing changed. */
typedef struct addition {
    uint32_t target;
    uint32_t donor;
    pinti_table_rec *target_rec;
    pinti_table_rec *donor_rec;
    uint32_t n_before;
    uint32_t n_added;
} addition;

uint32_t pinti_cat_n_runs(const pinti_table_rec *rec)
{
    const uint32_t n_columns = pinti_load32_relaxed(&rec->xn_columns);
    uint32_t n_runs = 0;
    for (uint64_t n = 0; n < n_columns && n_runs < PINTI_COLUMN_RUNS; n_runs++) {
        n += rec->runs[n_runs].count;
    }
    return n_runs;
}

pinti_range pinti_cat_column_block(const pinti_column_rec *column)
{
    return (pinti_range){.off = column->block_off, .bytes = column->block_bytes};
}

static uint64_t name_of_target(const pinti_cat *cat, uint32_t target)
{
    const uint64_t gen_state = pinti_load64_relaxed(&cat->tables[target].xgen_state);
    return (uint64_t)pinti_gen_of(gen_state) << 32 | (target + 1);
}

/* ---- checks ---------------------------------------------------------------------------------- */

static uint64_t hash_of(const pinti_column_rec *column)
{
    pinti_name name; /* zero padded, at most 255 bytes: terminated */
    return pinti_name_set(&name, (const char *)column->name) ? name.hash : 0;
}

static bool is_same_name(const pinti_column_rec *a, const pinti_column_rec *b)
{
    return a->name_bytes == b->name_bytes && memcmp(a->name, b->name, sizeof(a->name)) == 0;
}

/* No column of the target has a name of the donor's, which differ among themselves. The donor's go
 * into a hash table: it is the smaller one where columns are added one by one. */
static pint_status check_names(pinti_cat *cat, const addition *add, pint_error *err)
{
    char text[100];
    uint32_t room = 16;
    while (room < add->n_added * 2) {
        room *= 2;
    }
    uint32_t *seen = calloc(room, sizeof(*seen)); /* column + 1 of the donor */
    if (seen == NULL) {
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "add columns: the names of %" PRIu32,
                          add->n_added);
    }
    for (uint32_t i = 0; i < add->n_added; i++) {
        uint64_t at = hash_of(pinti_cat_column(cat->catalog, add->donor_rec, i));
        while (seen[at & (room - 1)] != 0) {
            at++;
        }
        seen[at & (room - 1)] = i + 1;
    }
    pint_status status = PINT_OK;
    for (uint32_t i = 0; i < add->n_before && status == PINT_OK; i++) {
        const pinti_column_rec *column = pinti_cat_column(cat->catalog, add->target_rec, i);
        for (uint64_t at = hash_of(column); seen[at & (room - 1)] != 0; at++) {
            const uint32_t other = seen[at & (room - 1)] - 1;
            if (is_same_name(column, pinti_cat_column(cat->catalog, add->donor_rec, other))) {
                status =
                    pinti_fail(err, PINT_E_EXISTS, 0, "add columns: the table has a column '%s'",
                               pinti_printable(text, sizeof(text), (const char *)column->name,
                                               column->name_bytes));
                break;
            }
        }
    }
    free(seen);
    return status;
}

static pint_status check_target(const pinti_table_rec *target, const pinti_table_rec *donor,
                                pint_error *err)
{
    const uint64_t gen_state = pinti_load64_relaxed(&target->xgen_state);
    if (pinti_state_of(gen_state) != PINTI_LIVE) {
        return pinti_fail(err, PINT_E_STATE, 0, "add columns: the table is not published");
    }
    if ((gen_state & PINTI_RECORD_FROZEN) != 0) {
        return pinti_fail(err, PINT_E_FROZEN, 0, "add columns: the table is frozen");
    }
    if (target->uid != donor->uid) {
        return pinti_fail(err, PINT_E_PERMISSION, 0,
                          "add columns: the table belongs to uid %" PRIu32
                          ", the columns to uid %" PRIu32,
                          target->uid, donor->uid);
    }
    return PINT_OK;
}

static pint_status check_shape(const addition *add, pint_error *err)
{
    const pinti_table_rec *target = add->target_rec;
    const pinti_table_rec *donor = add->donor_rec;
    if (target->n_rows != donor->n_rows) {
        return pinti_fail(err, PINT_E_INVALID, 0,
                          "add columns: %" PRIu64 " rows to a table of %" PRIu64, donor->n_rows,
                          target->n_rows);
    }
    /* the other two follow from these; a copied record relies on them */
    if (target->chunk_rows != donor->chunk_rows || target->n_chunks != donor->n_chunks ||
        target->row_capacity != donor->row_capacity) {
        return pinti_fail(err, PINT_E_INVALID, 0,
                          "add columns: chunks of %" PRIu64 " rows to a table with chunks of "
                          "%" PRIu64,
                          donor->chunk_rows, target->chunk_rows);
    }
    if (add->n_added > PINTI_TABLE_COLUMNS_MAX - add->n_before) {
        return pinti_fail(err, PINT_E_LIMIT, 0,
                          "add columns: %" PRIu32 " to %" PRIu32 ", the limit is %u", add->n_added,
                          add->n_before, PINTI_TABLE_COLUMNS_MAX);
    }
    return PINT_OK;
}

/* Both records are there, in a state other than FREE. */
static pint_status check(pinti_cat *cat, const addition *add, uint64_t session, pint_error *err)
{
    const uint32_t state = pinti_cat_state(&add->donor_rec->xgen_state);
    if (add->target == add->donor) {
        return pinti_fail(err, PINT_E_INVALID, 0, "add columns: of a table to itself");
    }
    if (add->donor_rec->creator_session != session) {
        return pinti_fail(err, PINT_E_PERMISSION, 0,
                          "add columns: of a table that another session makes");
    }
    if (state == PINTI_DYING || pinti_cat_state(&add->target_rec->xgen_state) == PINTI_DYING) {
        return pinti_fail(err, PINT_E_DROPPED, 0, "add columns: the table was dropped");
    }
    if (state != PINTI_BUILDING) {
        return pinti_fail(err, PINT_E_STATE, 0, "add columns: of a table that is published");
    }
    if (cat->table_info[add->donor].n_copies != 0) {
        return pinti_fail(err, PINT_E_BUSY, 0, "add columns: they have device copies");
    }
    pint_status status = check_target(add->target_rec, add->donor_rec, err);
    if (status == PINT_OK) {
        status = check_shape(add, err);
    }
    return status == PINT_OK ? check_names(cat, add, err) : status;
}

/* ---- step 1 ---------------------------------------------------------------------------------- */

/* Take the runs that n columns need beyond those in use. On error none is taken. */
static pint_status take_runs(pinti_cat *cat, pinti_table_rec *rec, uint32_t n, pint_error *err)
{
    const uint32_t n_used = pinti_cat_n_runs(rec);
    uint64_t room = 0;
    uint32_t run = 0;
    for (; run < n_used; run++) {
        room += rec->runs[run].count;
    }
    for (; room < n && run < PINTI_COLUMN_RUNS; run++) {
        const uint32_t count = pinti_run_room(run);
        uint32_t first = 0;
        if (!pinti_cat_take_number(&cat->free_columns, count, &first)) {
            break;
        }
        rec->runs[run].first = first; /* read by nobody before step 4 */
        rec->runs[run].count = count;
        room += count;
    }
    if (room >= n) {
        return PINT_OK;
    }
    while (run-- > n_used) {
        (void)pinti_ranges_add(&cat->free_columns, rec->runs[run].first, rec->runs[run].count);
    }
    return pinti_fail(err, PINT_E_LIMIT, 0,
                      "add columns: no room for %" PRIu32 " columns, the pool has %u", n,
                      PINTI_COLUMNS_MAX);
}

static void copy_columns(pinti_cat *cat, const addition *add)
{
    const pinti_table_rec *donor = add->donor_rec;
    for (uint32_t i = 0; i < add->n_added; i++) {
        pinti_column_rec *to =
            pinti_cat_column_place(cat->catalog, add->target_rec, add->n_before + i);
        *to = *pinti_cat_column(cat->catalog, donor, i);
        to->birth = add->target_rec->schema_generation + 1;
        to->block_off = i == 0 ? donor->sync_off : 0;
        to->block_bytes = i == 0 ? donor->sync_bytes : 0;
    }
}

/* ---- steps 3 to 5 ---------------------------------------------------------------------------- */

/* Every store is of a value from the journal or of 0, so that it may be made again. */
static void move(pinti_cat *cat, uint32_t target, const struct pinti_journal_columns *note)
{
    pinti_table_rec *to = &cat->tables[target];
    pinti_table_rec *from = &cat->tables[note->donor];
    const uint64_t gen_state = pinti_load64_relaxed(&to->xgen_state);
    if (note->extent != 0) {
        pinti_extent *extent = &cat->extents[note->extent - 1];
        extent->next = note->next_extent;
        extent->owner = target;
        extent->generation = pinti_gen_of(gen_state);
        to->first_extent = note->extent;
    }
    to->schema_generation = note->schema_generation;
    pinti_store64_relaxed(&to->xbytes, note->bytes);
    from->first_extent = 0;
    from->sync_off = 0;
    from->sync_bytes = 0;
    pinti_store64_relaxed(&from->xbytes, 0);
    from->moved_to = name_of_target(cat, target);
    PINTI_CRASHPOINT(SERVICE_ADD_HALF);
    /* release: runs and records come before; pairs with the acquire in pinti_cat_column() and in
     * host/column_block.c */
    pinti_store32_release(&to->xn_columns, note->n_columns);
    PINTI_CRASHPOINT(SERVICE_ADD_SEEN);
}

void pinti_cat_finish_columns(pinti_cat *cat, uint32_t target, const pinti_journal *journal)
{
    const struct pinti_journal_columns *note = &journal->columns;
    /* The donor may be FREE by now only if the journal was cleared, so it is there. */
    if (pinti_cat_has_table(cat, note->donor, note->donor_generation) &&
        note->extent <= PINTI_EXTENTS_MAX) {
        move(cat, target, note);
        pinti_cat_set_state(&cat->tables[note->donor].xgen_state, PINTI_DYING);
    }
}

pint_status pinti_cat_add_columns(pinti_cat *cat, uint32_t target, uint32_t target_generation,
                                  uint32_t donor, uint32_t donor_generation, uint64_t session,
                                  pint_error *err)
{
    if (!pinti_cat_has_table(cat, target, target_generation) ||
        !pinti_cat_has_table(cat, donor, donor_generation)) {
        return pinti_fail(err, PINT_E_NOT_FOUND, 0,
                          "add columns: table %" PRIu32 ", generation %" PRIu32 " to %" PRIu32
                          ", generation %" PRIu32 ": no such table",
                          donor, donor_generation, target, target_generation);
    }
    const addition add = {
        .target = target,
        .donor = donor,
        .target_rec = &cat->tables[target],
        .donor_rec = &cat->tables[donor],
        .n_before = pinti_load32_relaxed(&cat->tables[target].xn_columns),
        .n_added = pinti_load32_relaxed(&cat->tables[donor].xn_columns),
    };
    if (add.donor_rec->moved_to == name_of_target(cat, target) &&
        add.donor_rec->creator_session == session) {
        return PINT_OK; /* asked again */
    }
    pint_status status = check(cat, &add, session, err);
    if (status != PINT_OK) {
        return status;
    }
    status = take_runs(cat, add.target_rec, add.n_before + add.n_added, err);
    if (status != PINT_OK) {
        return status;
    }
    copy_columns(cat, &add);
    PINTI_CRASHPOINT(SERVICE_ADD_COPIED);
    const uint64_t donor_bytes = pinti_load64_relaxed(&add.donor_rec->xbytes);
    pinti_journal *journal = pinti_cat_journal(cat);
    journal->columns = (struct pinti_journal_columns){
        .donor = donor,
        .donor_generation = donor_generation,
        .extent = add.donor_rec->first_extent,
        .next_extent = add.target_rec->first_extent,
        .n_columns = add.n_before + add.n_added,
        .schema_generation = add.target_rec->schema_generation + 1,
        .bytes = pinti_load64_relaxed(&add.target_rec->xbytes) + donor_bytes,
    };
    pinti_cat_journal_begin(cat, PINTI_JOURNAL_COLUMNS, target);
    PINTI_CRASHPOINT(SERVICE_ADD_NOTED);
    move(cat, target, &journal->columns);
    pinti_cat_table_kill(cat, donor); /* its jobs too */
    pinti_cat_journal_end(cat);
    /* The same uid owns both, but somebody else may be charged for one of them. */
    pinti_memory_charge(cat->memory, donor_bytes, cat->table_info[donor].uid,
                        cat->table_info[target].uid);
    cat->table_info[target].n_donors++;
    PINTI_CRASHPOINT(SERVICE_ADDED);
    return PINT_OK;
}
