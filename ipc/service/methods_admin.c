/* SPDX-License-Identifier: Apache-2.0 */

/* What people ask: stat for all who may join, the rest for the service's own user and root. */

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/error.h"
#include "host/word.h"
#include "ipc/json.h"
#include "ipc/service/broker.h"
#include "ipc/service/dispatch.h"
#include "ipc/service/log.h"
#include "ipc/service/operation.h"
#include "pintable/version.h"

#define STAT_SESSIONS_MAX 200u /* of one answer: what surely fits in a message */

static pint_status check_admin(const pinti_call *call, const char *what, pint_error *err)
{
    if (!call->connection->is_admin) {
        return pinti_fail(err, PINT_E_PERMISSION, 0, "%s: only for uid %u and root", what,
                          (unsigned)call->service->base->uid);
    }
    return PINT_OK;
}

/* ---- stat ---------------------------------------------------------------------------------- */

static uint64_t count_fds(void)
{
    uint64_t n = 0;
    DIR *dir = opendir("/proc/self/fd");
    if (dir == NULL) {
        return 0;
    }
    for (const struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        n += entry->d_name[0] != '.' ? 1 : 0;
    }
    (void)closedir(dir);
    return n - 1; /* dir's own */
}

static uint64_t rss_bytes(void)
{
    char text[128] = "";
    FILE *file = fopen("/proc/self/statm", "re");
    if (file == NULL) {
        return 0;
    }
    const char *line = fgets(text, sizeof(text), file); /* size, resident, … in pages */
    (void)fclose(file);
    const char *resident = line != NULL ? strchr(line, ' ') : NULL;
    return resident == NULL ? 0 : strtoull(resident, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* How pages were got so far. */
static const char *huge_text(const pinti_service *service)
{
    const uint32_t pages = pinti_preparer_pages(service->preparer);
    return (pages & PINTI_PAGES_COLLAPSE) != 0 ? "collapse" : "4k";
}

static bool add_features(const pinti_base *base, cJSON *result)
{
    const pinti_features *features = &base->features;
    cJSON *object = cJSON_AddObjectToObject(result, "features");
    return cJSON_AddBoolToObject(object, "peerpidfd", features->peerpidfd) != NULL &&
           cJSON_AddBoolToObject(object, "pidfd", features->pidfd) != NULL &&
           cJSON_AddBoolToObject(object, "collapse", features->collapse) != NULL &&
           cJSON_AddBoolToObject(object, "populate", features->populate) != NULL &&
           cJSON_AddBoolToObject(object, "noexec_seal", features->noexec_seal) != NULL &&
           cJSON_AddBoolToObject(object, "future_write", features->future_write) != NULL;
}

static uint32_t count_jobs(const pinti_service *service)
{
    const pinti_catalog_header *header = service->catalog;
    const uint32_t n_jobs = pinti_load32_relaxed(&header->xn_jobs); /* own earlier store */
    uint32_t n = 0;
    for (uint32_t i = 0; i < n_jobs && i < PINTI_JOBS_MAX; i++) {
        const uint64_t word = pinti_load64_relaxed(&pinti_cat_jobs(service->catalog)[i].xgen_state);
        n += pinti_state_of(word) == PINTI_LIVE ? 1 : 0;
    }
    return n;
}

static bool add_numbers(const pinti_service *service, cJSON *result)
{
    const pinti_base *base = service->base;
    char pool[40];
    (void)snprintf(pool, sizeof(pool), "%016" PRIx64 "%016" PRIx64, base->segments.pool_id[0],
                   base->segments.pool_id[1]);
    return cJSON_AddStringToObject(result, "service", PINT_VERSION_STRING) != NULL &&
           pinti_json_add_u64(result, "incarnation", service->incarnation) &&
           cJSON_AddStringToObject(result, "pool", pool) != NULL &&
           pinti_json_add_u64(result, "pid", (uint64_t)getpid()) &&
           pinti_json_add_u64(result, "keeper_pid", (uint64_t)base->keeper_pid) &&
           pinti_json_add_u64(result, "preparer_pid",
                              (uint64_t)pinti_preparer_pid(service->preparer)) &&
           pinti_json_add_u64(result, "uptime_s",
                              (pinti_clock_ms() - service->started_ms) / 1000) &&
           cJSON_AddBoolToObject(result, "private", base->options.private_service) != NULL &&
           pinti_json_add_u64(result, "idle_exit_s",
                              base->options.private_service ? base->options.linger_s : 0) &&
           pinti_json_add_u64(result, "budget_bytes", pinti_memory_budget(service->memory)) &&
           pinti_json_add_u64(result, "committed_bytes", pinti_memory_committed(service->memory)) &&
           pinti_json_add_u64(result, "used_bytes", pinti_memory_used(service->memory)) &&
           pinti_json_add_u64(result, "tables", pinti_cat_n_live(service->cat)) &&
           pinti_json_add_u64(result, "kept", pinti_cat_n_kept(service->cat)) &&
           pinti_json_add_u64(result, "jobs", count_jobs(service)) &&
           pinti_json_add_u64(result, "dying", pinti_cat_n_dying(service->cat)) &&
           cJSON_AddStringToObject(result, "huge", huge_text(service)) != NULL &&
           pinti_json_add_u64(result, "connections", service->n_connections) &&
           pinti_json_add_u64(result, "fds", count_fds()) &&
           pinti_json_add_u64(result, "rss_bytes", rss_bytes()) && add_features(base, result);
}

static bool add_session(const pinti_service *service, const pinti_session *session, cJSON *array)
{
    const pinti_session_rec *rec = pinti_session_record(service, session->index);
    const char *state = session->process_ended ? "orphaned" : session->has_left ? "ending" : "live";
    const uint64_t now_ns = pinti_clock_realtime_ns();
    const uint64_t age_ns = now_ns > session->joined_ns ? now_ns - session->joined_ns : 0;
    cJSON *item = cJSON_CreateObject();
    if (!cJSON_AddItemToArray(array, item)) {
        cJSON_Delete(item);
        return false;
    }
    return pinti_json_add_hex64(item, "id", session->id) &&
           pinti_json_add_u64(item, "index", session->index) &&
           pinti_json_add_u64(item, "pid", session->pid > 0 ? (uint64_t)session->pid : 0) &&
           pinti_json_add_u64(item, "uid", session->uid) &&
           cJSON_AddStringToObject(item, "mode", session->read_only ? "ro" : "rw") != NULL &&
           cJSON_AddStringToObject(item, "state", state) != NULL &&
           pinti_json_add_hex64(item, "family", session->family) &&
           cJSON_AddStringToObject(item, "command", rec->command) != NULL &&
           pinti_json_add_u64(item, "age_s", age_ns / 1000000000u) &&
           pinti_json_add_u64(item, "leases", pinti_session_count_leases(service, session)) &&
           pinti_json_add_u64(item, "tables", pinti_session_count_tables(service, session)) &&
           cJSON_AddBoolToObject(item, "connected", session->connection != NULL) != NULL &&
           cJSON_AddBoolToObject(item, "pidfd", session->pidfd >= 0) != NULL;
}

static bool add_device(const pinti_service *service, uint32_t device, cJSON *array)
{
    const pinti_device_rec *rec = &pinti_cat_devices(service->catalog)[device];
    char uuid[33];
    uint32_t n_copies = 0;
    for (size_t i = 0; i < sizeof(rec->uuid); i++) {
        (void)snprintf(uuid + 2 * i, 3, "%02x", rec->uuid[i]);
    }
    for (uint32_t i = 0; i < pinti_cat_n_copies(service->cat); i++) {
        const pinti_copy_rec *copy = &pinti_cat_copies(service->catalog)[i];
        n_copies += copy->device == device &&
                            pinti_state_of(pinti_load64_relaxed(&copy->xgen_state)) != PINTI_FREE
                        ? 1
                        : 0;
    }
    cJSON *item = cJSON_CreateObject();
    if (!cJSON_AddItemToArray(array, item)) {
        cJSON_Delete(item);
        return false;
    }
    return pinti_json_add_u64(item, "device", device) &&
           cJSON_AddStringToObject(item, "uuid", uuid) != NULL &&
           cJSON_AddStringToObject(item, "name", rec->name) != NULL &&
           cJSON_AddBoolToObject(item, "cuda", rec->is_cuda != 0) != NULL &&
           pinti_json_add_u64(item, "copies", n_copies) &&
           pinti_json_add_u64(item, "bytes", pinti_cat_device_bytes(service->cat, device)) &&
           pinti_json_add_u64(item, "budget_bytes",
                              rec->is_cuda != 0 || rec->budget_bytes != 0
                                  ? rec->budget_bytes
                                  : pinti_memory_budget(service->memory)) &&
           pinti_json_add_u64(item, "broker_pid", (uint64_t)pinti_broker_pid(service, device)) &&
           pinti_json_add_u64(item, "brokers_ending", pinti_endings_count(service, device));
}

static bool add_devices(const pinti_service *service, cJSON *result)
{
    cJSON *array = cJSON_AddArrayToObject(result, "devices");
    bool good = array != NULL;
    for (uint32_t i = 0; i < PINTI_DEVICES_MAX && good; i++) {
        good = !pinti_cat_has_device(service->cat, i) || add_device(service, i, array);
    }
    return good;
}

/* Sessions in the order of their indices, from first on; *out_next 0: that was all. */
static bool add_sessions(pinti_service *service, uint32_t first, cJSON *array, uint32_t *out_next)
{
    uint32_t n = 0;
    *out_next = 0;
    for (uint32_t index = first; index < PINTI_SESSIONS_MAX; index++) {
        pinti_session *found = service->by_index[index];
        if (found == NULL) {
            continue;
        }
        if (n++ == STAT_SESSIONS_MAX) {
            *out_next = index;
            return true;
        }
        if (!add_session(service, found, array)) {
            return false;
        }
    }
    return true;
}

pint_status pinti_method_stat(pinti_call *call, pint_error *err)
{
    uint64_t first = 0;
    uint32_t next = 0;
    const pint_status status =
        pinti_json_u64_or(call->params, "first", PINTI_SESSIONS_MAX, 0, &first, err);
    if (status != PINT_OK) {
        return pinti_call_refuse(status);
    }
    cJSON *sessions = cJSON_AddArrayToObject(call->result, "sessions");
    if (sessions == NULL || !add_numbers(call->service, call->result) ||
        !add_devices(call->service, call->result) ||
        !add_sessions(call->service, (uint32_t)first, sessions, &next) ||
        (next != 0 && !pinti_json_add_u64(call->result, "next", next))) {
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "stat");
    }
    return PINT_OK;
}

/* ---- budget, evict, stop ------------------------------------------------------------------- */

pint_status pinti_method_budget(pinti_call *call, pint_error *err)
{
    pinti_memory *memory = call->service->memory;
    uint64_t bytes = 0;
    pint_status status = check_admin(call, "budget", err);
    if (status != PINT_OK) {
        return status;
    }
    status = pinti_json_u64(call->params, "bytes", UINT64_MAX, &bytes, err);
    if (status != PINT_OK) {
        return pinti_call_refuse(status);
    }
    status = pinti_memory_set_budget(memory, bytes, err);
    if (status != PINT_OK) {
        return status;
    }
    const uint64_t used = pinti_memory_used(memory);
    const uint64_t budget = pinti_memory_budget(memory);
    if (pinti_memory_committed(memory) > budget) {
        pinti_operation_trim_to(call->service, budget > used ? budget - used : 0);
    }
    pinti_log("budget set to %" PRIu64 " bytes by uid %u", budget, call->connection->uid);
    if (!pinti_json_add_u64(call->result, "bytes", budget)) {
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "answer");
    }
    return PINT_OK;
}

/* Nobody can be killed across pid namespaces: the kernel forbids it, and numbers mean nothing. */
static pint_status fail_to_evict(const pinti_service *service, const pinti_session *session,
                                 pint_error *err)
{
    char text[64];
    const char *command = pinti_session_record(service, session->index)->command;
    if (session->pid > 0) {
        return pinti_fail(err, PINT_E_UNSUPPORTED, 0,
                          "evict: there is no descriptor of process %d that could be trusted: kill "
                          "it by its number",
                          (int)session->pid);
    }
    return pinti_fail(err, PINT_E_UNSUPPORTED, 0,
                      "evict: the process ('%s') is in another pid namespace, which this service "
                      "cannot reach: stop its container, or kill it in there",
                      pinti_printable(text, sizeof(text), command, strlen(command)));
}

pint_status pinti_method_evict(pinti_call *call, pint_error *err)
{
    uint64_t id = 0;
    pint_status status = check_admin(call, "evict", err);
    if (status != PINT_OK) {
        return status;
    }
    status = pinti_json_hex64(call->params, "session", &id, err);
    if (status != PINT_OK) {
        return pinti_call_refuse(status);
    }
    const pinti_session *session = pinti_session_by_id(call->service, id);
    if (session == NULL) {
        return pinti_fail(err, PINT_E_NOT_FOUND, 0, "evict: no session %016" PRIx64, id);
    }
    if (session->leases_ended) {
        return PINT_OK;
    }
    if (session->pidfd < 0 || session->pidfd_is_foreign) {
        return fail_to_evict(call->service, session, err);
    }
    if (pinti_pidfd_kill(session->pidfd, SIGKILL) != 0 && errno != ESRCH) {
        if (session->pid <= 0) {
            return fail_to_evict(call->service, session, err);
        }
        return pinti_fail(err, errno == EPERM ? PINT_E_PERMISSION : PINT_E_SYSTEM, errno,
                          "evict: killing process %d", (int)session->pid);
    }
    pinti_log("session %016" PRIx64 " (pid %d) evicted by uid %u", id, (int)session->pid,
              call->connection->uid);
    call->connection->waits_for_end_of = id;
    call->connection->waiting_id = call->id;
    return PINTI_CALL_LATER;
}

void pinti_admin_leases_ended(pinti_service *service, uint64_t session_id)
{
    for (uint32_t i = 0; i < service->n_connections;) {
        pinti_connection *connection = service->connections[i];
        if (connection->waits_for_end_of != session_id) {
            i++;
            continue;
        }
        connection->waits_for_end_of = 0;
        pinti_connection_resume(service, connection);
        pinti_connection_reply(service, connection, connection->waiting_id, cJSON_CreateObject(),
                               false);
        i += connection->closed ? 0 : 1; /* another one took its place */
    }
}

pint_status pinti_method_stop(pinti_call *call, pint_error *err)
{
    bool force = false;
    pint_status status = check_admin(call, "stop", err);
    if (status != PINT_OK) {
        return status;
    }
    status = pinti_json_bool_or(call->params, "force", false, &force, err);
    if (status != PINT_OK) {
        return pinti_call_refuse(status);
    }
    const uint32_t others = call->service->n_sessions - (call->connection->session != NULL ? 1 : 0);
    if (others > 0 && !force) {
        return pinti_fail(err, PINT_E_STATE, 0, "stop: %u other sessions are joined", others);
    }
    pinti_log("stopped by uid %u", call->connection->uid);
    pinti_service_stop(call->service, PINTI_EXIT_OK); /* after this batch, so after the reply */
    return PINT_OK;
}
