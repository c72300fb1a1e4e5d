/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IPC_SERVICE_OPERATION_H
#define IPC_SERVICE_OPERATION_H

/*
 * Creates that wait for their memory to be prepared, and what is done with memory in idle time. A
 * request whose connection or session ends meanwhile gives its memory back when it is ready.
 */

#include "ipc/service/connection.h"
#include "ipc/service/preparer.h"

struct pinti_operation {
    pinti_operation *next;
    uint64_t token;               /* of its plan */
    pinti_connection *connection; /* NULL: gone */
    uint64_t session;             /* id */
    uint64_t id;                  /* of the request */
    pinti_owner owner;
    pinti_range data, sync;
    bool client_zeroes;      /* the maker's library zeroes the data: it is little, and warm */
    pinti_assembly assembly; /* what is to be made; its bytes stay charged */
};

pint_status pinti_operations_start(pinti_service *service, pint_error *err);
void pinti_operations_stop(pinti_service *service);
/* In a forked keeper: the preparer is not ours. */
void pinti_operations_forget(pinti_service *service);

/*
 * Get memory and make what the connection has assembled; takes the assembly in any case. PINT_OK:
 * made at once, result filled. PINTI_CALL_LATER: the connection is busy and will get its reply.
 */
pint_status pinti_operation_create(pinti_service *service, pinti_connection *connection,
                                   uint64_t id, uint64_t data_bytes, uint64_t sync_bytes,
                                   cJSON *result, pint_error *err);

void pinti_operation_orphan(pinti_operation *operation);
void pinti_operation_ready(pinti_service *service); /* the preparer's descriptor is readable */

/* Memory came back, or a limit sank: put it in order when there is time. */
void pinti_operation_memory_freed(pinti_service *service);
void pinti_operation_trim_to(pinti_service *service, uint64_t keep_bytes);
void pinti_operation_clean_due(pinti_service *service);
void pinti_operation_trim_due(pinti_service *service);

/* methods_table.c, methods_job.c, methods_copy.c: make the record in prepared memory and fill the
 * result. PINTI_CALL_LATER (copies only): the connection now waits for the device's memory.
 * *out_used false: the memory stays the caller's, whether that failed or needed none. */
pint_status pinti_table_finish(pinti_service *service, const pinti_operation *operation,
                               cJSON *result, bool *out_used, pint_error *err);
pint_status pinti_job_finish(pinti_service *service, const pinti_operation *operation,
                             cJSON *result, bool *out_used, pint_error *err);
pint_status pinti_copy_finish(pinti_service *service, const pinti_operation *operation,
                              cJSON *result, bool *out_used, pint_error *err);

#endif
