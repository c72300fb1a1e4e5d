/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/service/copy_raw.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/word.h"
#include "tests/support/ct.h"

static uint64_t sync_bytes_of(const copy_client *client)
{
    return ((const pinti_catalog_header *)client->catalog)->sync_bytes;
}

bool copy_join(copy_client *client, const char *address)
{
    memset(client, 0, sizeof(*client));
    if (!raw_join(&client->session, address, "rw", "")) {
        return false;
    }
    client->catalog = mmap(NULL, PINTI_CAT_BYTES, PROT_READ, MAP_SHARED, client->session.fds[0], 0);
    if (client->catalog == MAP_FAILED) {
        return false;
    }
    client->sync = mmap(NULL, sync_bytes_of(client), PROT_READ | PROT_WRITE, MAP_SHARED,
                        client->session.fds[1], 0);
    return client->sync != MAP_FAILED;
}

static void unmap(copy_client *client)
{
    (void)munmap(client->sync, sync_bytes_of(client));
    (void)munmap(client->catalog, PINTI_CAT_BYTES);
}

void copy_die(copy_client *client)
{
    unmap(client);
    raw_close(&client->session);
}

bool copy_leave(copy_client *client)
{
    unmap(client);
    return raw_leave(&client->session);
}

int copy_device(copy_client *client, const char *uuid, bool is_cuda)
{
    cJSON *answer = raw_call(client->session.fd, "device.open",
                             "{\"uuid\":\"%s\",\"cuda\":%s,\"name\":\"a device\"}", uuid,
                             is_cuda ? "true" : "false");
    const int device = raw_code_of(answer) == 0 ? (int)raw_number(answer, "device") : -1;
    cJSON_Delete(answer);
    return device;
}

bool copy_table(copy_client *client, const char *name, uint64_t rows, uint32_t *out_table,
                uint32_t *out_generation)
{
    uint64_t table = 0;
    uint64_t generation = 0;
    const bool good = raw_make_table(&client->session, name, rows, true, &table, &generation) == 0;
    *out_table = (uint32_t)table;
    *out_generation = (uint32_t)generation;
    return good;
}

bool copy_send_open(copy_client *client, uint32_t table, uint32_t generation, int device,
                    uint32_t kind, bool create)
{
    char text[512];
    (void)snprintf(
        text, sizeof(text),
        "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"copy.open\",\"params\":{\"table\":%" PRIu32
        ",\"generation\":%" PRIu32 ",\"column\":0,\"device\":%d,\"kind\":%" PRIu32
        ",\"create\":%s}}",
        table, generation, device, kind, create ? "true" : "false");
    return raw_send(client->session.fd, text);
}

raw_copy copy_receive(copy_client *client)
{
    int fds[RAW_FDS_MAX];
    unsigned n_fds = 0;
    cJSON *answer = raw_receive(client->session.fd, fds, &n_fds);
    raw_copy copy = {.code = raw_code_of(answer), .fd = n_fds > 0 ? fds[0] : -1};
    const cJSON *result = cJSON_GetObjectItemCaseSensitive(answer, "result");
    if (copy.code == 0) {
        copy.copy = (uint32_t)raw_number(answer, "copy");
        copy.generation = (uint32_t)raw_number(answer, "generation");
        copy.kind = raw_number(answer, "kind");
        copy.created = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(result, "created")) != 0;
    }
    EXPECT_LE(n_fds, 1u);
    cJSON_Delete(answer);
    return copy;
}

raw_copy copy_open(copy_client *client, uint32_t table, uint32_t generation, int device,
                   uint32_t kind, bool create)
{
    if (!copy_send_open(client, table, generation, device, kind, create)) {
        return (raw_copy){.code = 1, .fd = -1};
    }
    return copy_receive(client);
}

int copy_drop(copy_client *client, const raw_copy *copy, bool force)
{
    return raw_code(client->session.fd, "copy.drop",
                    "{\"copy\":%" PRIu32 ",\"generation\":%" PRIu32 ",\"force\":%s}", copy->copy,
                    copy->generation, force ? "true" : "false");
}

void copy_refer(copy_client *client, const raw_copy *copy)
{
    pinti_store64_seq(&pinti_slot_copies(client->session.slot)[copy->copy],
                      (uint64_t)copy->generation << 32 | 1u);
}

void copy_unrefer(copy_client *client, const raw_copy *copy)
{
    pinti_store64_seq(&pinti_slot_copies(client->session.slot)[copy->copy], 0);
}

pinti_copy_rec *copy_record(const copy_client *client, uint32_t copy)
{
    return &pinti_cat_copies(client->catalog)[copy];
}

uint32_t copy_state(const copy_client *client, uint32_t copy)
{
    return pinti_state_of(pinti_load64_acquire(&copy_record(client, copy)->xgen_state));
}

static pinti_column_rec *column_of(const copy_client *client, uint32_t table)
{
    return pinti_cat_column(client->catalog, &pinti_cat_tables(client->catalog)[table], 0);
}

uint32_t copy_named(const copy_client *client, uint32_t table, int device)
{
    return pinti_load32_acquire(&column_of(client, table)->xcopy[device]);
}

pinti_a64 *copy_words(const copy_client *client, uint32_t table)
{
    return (pinti_a64 *)(void *)(client->sync + column_of(client, table)->words_off);
}

pinti_copy_sync *copy_sync(const copy_client *client, uint32_t copy)
{
    return (pinti_copy_sync *)(void *)(client->sync + copy_record(client, copy)->sync_off);
}

pinti_copy_chunk *copy_chunks(const copy_client *client, uint32_t copy)
{
    return (pinti_copy_chunk *)(void *)(copy_sync(client, copy) + 1);
}

uint64_t copy_stat(const char *address, int device, const char *key)
{
    const int fd = raw_connect(address);
    cJSON *answer = raw_call(fd, "stat", "{}");
    const cJSON *devices = cJSON_GetObjectItemCaseSensitive(
        cJSON_GetObjectItemCaseSensitive(answer, "result"), "devices");
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(cJSON_GetArrayItem(devices, device), key);
    const uint64_t value = cJSON_IsNumber(item) ? (uint64_t)item->valuedouble : UINT64_MAX;
    cJSON_Delete(answer);
    (void)close(fd);
    return value;
}

/* ---- the fake broker --------------------------------------------------------------------------
 */

const char *const *fake_broker_env(void)
{
    static char program[512];
    static char folder[512];
    static const char *env[3];
    (void)snprintf(program, sizeof(program), "PINTABLE_BROKER=%s", FAKE_BROKER_PROGRAM);
    (void)snprintf(folder, sizeof(folder), "FAKE_BROKER=%s", ct_tmpdir());
    env[0] = program;
    env[1] = folder;
    env[2] = NULL;
    return env;
}

static void write_file(const char *name, const char *text)
{
    char path[512];
    char temporary[512];
    (void)snprintf(path, sizeof(path), "%s/%s", ct_tmpdir(), name);
    (void)snprintf(temporary, sizeof(temporary), "%s/%s.new", ct_tmpdir(), name);
    FILE *file = fopen(temporary, "we");
    if (file != NULL) {
        (void)fputs(text, file);
        (void)fclose(file);
    }
    EXPECT_EQ(rename(temporary, path), 0);
}

void fake_broker_mode(const char *mode)
{
    write_file("mode", mode);
}

void fake_broker_stop_at(const char *place)
{
    write_file("stop_at", place);
}

int fake_broker_count(const char *text)
{
    char path[512];
    char line[512];
    int n = 0;
    (void)snprintf(path, sizeof(path), "%s/log", ct_tmpdir());
    FILE *file = fopen(path, "re");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        n += strstr(line, text) != NULL ? 1 : 0;
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return n;
}
