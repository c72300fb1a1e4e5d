/* SPDX-License-Identifier: Apache-2.0 */

/* What keeper and service share: the table of held descriptors and the guard against crash loops.
 */

#include "ipc/service/base.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ipc/service/log.h"

static void close_fd(int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd);
        *fd = -1;
    }
}

void pinti_base_init(pinti_base *base)
{
    memset(base, 0, sizeof(*base));
    pinti_segments_init(&base->segments);
    base->options.lock_fd = -1;
    base->options.ready_fd = -1;
    base->listen_fd = -1;
    base->lock_fd = -1;
    base->link_fd = -1;
    base->life_fd = -1;
    base->service_pidfd = -1;
}

static void close_entry(pinti_held *entry)
{
    close_fd(&entry->slot_fd);
    close_fd(&entry->tether_fd);
    close_fd(&entry->pidfd);
}

static void close_kept(pinti_kept *entry)
{
    for (int i = 0; i < PINTI_KEPT_FDS; i++) {
        close_fd(&entry->fds[i]);
    }
}

void pinti_base_done(pinti_base *base)
{
    for (uint32_t i = 0; i < base->n_kept; i++) {
        close_kept(&base->kept[i]);
    }
    free(base->kept);
    base->kept = NULL;
    base->n_kept = 0;
    base->kept_room = 0;
    for (uint32_t i = 0; i < base->n_held; i++) {
        close_entry(&base->held[i]);
    }
    free(base->held);
    base->held = NULL;
    base->n_held = 0;
    base->held_room = 0;
    if (base->life != NULL) {
        (void)munmap(base->life, PINTI_TETHER_BYTES);
        base->life = NULL;
    }
    close_fd(&base->listen_fd);
    close_fd(&base->lock_fd);
    close_fd(&base->link_fd);
    close_fd(&base->life_fd);
    close_fd(&base->service_pidfd);
    close_fd(&base->options.ready_fd);
    pinti_segments_done(&base->segments);
    pinti_log_close();
}

bool pinti_base_may_restart(pinti_base *base)
{
    const uint32_t max = base->options.restarts_max;
    const uint64_t now_ms = pinti_clock_ms();
    const uint32_t at = base->n_restarts % PINTI_RESTARTS_ROOM;
    base->restart_ms[at] = now_ms;
    base->n_restarts++;
    if (base->n_restarts <= max) {
        return true;
    }
    const uint32_t before = (base->n_restarts - 1 - max) % PINTI_RESTARTS_ROOM;
    return now_ms - base->restart_ms[before] > PINTI_RESTART_WINDOW_MS;
}

bool pinti_base_hold(pinti_base *base, const pinti_held *entry)
{
    for (uint32_t i = 0; i < base->n_held; i++) {
        if (base->held[i].id == entry->id) {
            close_entry(&base->held[i]);
            base->held[i] = *entry;
            return true;
        }
    }
    if (base->n_held == base->held_room) {
        const uint32_t room = base->held_room == 0 ? 16 : base->held_room * 2;
        pinti_held *grown = realloc(base->held, room * sizeof(*grown));
        if (grown == NULL) {
            return false;
        }
        base->held = grown;
        base->held_room = room;
    }
    base->held[base->n_held++] = *entry;
    return true;
}

void pinti_base_forget(pinti_base *base, uint64_t id)
{
    for (uint32_t i = 0; i < base->n_held; i++) {
        if (base->held[i].id == id) {
            close_entry(&base->held[i]);
            base->held[i] = base->held[--base->n_held];
            return;
        }
    }
}

bool pinti_base_keep(pinti_base *base, const pinti_kept *entry)
{
    if (base->n_kept == base->kept_room) {
        const uint32_t room = base->kept_room == 0 ? 16 : base->kept_room * 2;
        pinti_kept *grown = realloc(base->kept, room * sizeof(*grown));
        if (grown == NULL) {
            return false;
        }
        base->kept = grown;
        base->kept_room = room;
    }
    base->kept[base->n_kept++] = *entry;
    return true;
}

void pinti_base_forget_kept(pinti_base *base, uint32_t kind, uint64_t id)
{
    for (uint32_t i = 0; i < base->n_kept; i++) {
        if (base->kept[i].kind == kind && base->kept[i].id == id) {
            close_kept(&base->kept[i]);
            base->kept[i] = base->kept[--base->n_kept];
            return;
        }
    }
}
