/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What a broker is told, in order and without waiting. It reads nothing while it works, for as long
 * as it may take; meanwhile hundreds of copies may be dropped, whose memory it is to free. What its
 * socket has no room for is told when it has.
 */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "ipc/service/broker.h"
#include "ipc/service/log.h"
#include "ipc/wire.h"

static int send_free(const pinti_broker *broker, uint64_t id)
{
    char text[64];
    const int n = snprintf(text, sizeof(text), "{\"free\":%" PRIu64 "}", id);
    return pinti_wire_send(broker->fd, text, (size_t)n, NULL, 0, true);
}

/* The request comes after what is to be freed: that may be what it needs. */
static int send_all(pinti_broker *broker)
{
    uint32_t n = 0;
    int rc = 0;
    while (n < broker->n_frees && (rc = send_free(broker, broker->frees[n])) == 0) {
        n++;
    }
    broker->n_frees -= n;
    if (n > 0 && broker->n_frees > 0) {
        memmove(broker->frees, broker->frees + n, broker->n_frees * sizeof(*broker->frees));
    }
    if (rc == 0 && broker->request_bytes > 0) {
        rc = pinti_wire_send(broker->fd, broker->request, broker->request_bytes, NULL, 0, true);
        broker->request_bytes = rc == 0 ? 0 : broker->request_bytes;
    }
    return rc;
}

int pinti_broker_flush(pinti_service *service, pinti_broker *broker)
{
    const int rc = send_all(broker);
    const bool wants_room = rc == PINTI_WIRE_WOULD_BLOCK;
    if (wants_room != broker->wants_room) {
        pinti_service_unwatch(service, broker->fd);
        if (!pinti_service_watch(service, broker->fd, wants_room ? EPOLLIN | EPOLLOUT : EPOLLIN,
                                 &broker->source)) {
            return PINTI_WIRE_MALFORMED; /* it cannot be listened to any more */
        }
        broker->wants_room = wants_room;
    }
    return wants_room ? 0 : rc;
}

bool pinti_broker_queue_free(pinti_broker *broker, uint64_t id)
{
    if (broker->n_frees == broker->frees_room) {
        const uint32_t room = broker->frees_room == 0 ? 64 : broker->frees_room * 2;
        uint64_t *grown = realloc(broker->frees, room * sizeof(*grown));
        if (grown == NULL) {
            return false;
        }
        broker->frees = grown;
        broker->frees_room = room;
    }
    broker->frees[broker->n_frees++] = id;
    return true;
}

void pinti_broker_outbox_clear(pinti_broker *broker)
{
    free(broker->frees);
    broker->frees = NULL;
    broker->n_frees = 0;
    broker->frees_room = 0;
    broker->request_bytes = 0;
    broker->wants_room = false;
}
