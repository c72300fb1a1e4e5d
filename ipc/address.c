/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The folder is what keeps a socket safe: who may write in it decides who may answer there. So the
 * folder is opened once without following a link in its last part, and judged by that descriptor.
 *
 *   default folder   must belong to this user and be closed to everybody else
 *   named folder     must not be writable by others; if it belongs neither to this user nor to
 *                    root, the folder around it must not be writable by others either, since
 *                    anybody could have made it there
 */

#include "ipc/address.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/error.h"

#define SOCKET_SUFFIX   ".sock"
#define PATH_TEXT_BYTES 128 /* of a path inside a message */

typedef struct path_text {
    char text[PATH_TEXT_BYTES];
} path_text;

static const char *show(path_text *out, const char *path)
{
    return pinti_printable(out->text, sizeof(out->text), path, strlen(path));
}

static pint_status fail_long(const char *path, size_t limit, pint_error *err)
{
    path_text text;
    return pinti_fail(err, PINT_E_RANGE, 0,
                      "socket path of %zu bytes is longer than the limit of %zu: '%s'",
                      strlen(path), limit, show(&text, path));
}

/* The folder is there, open as fd: is it safe? */
static pint_status judge(int fd, const char *folder, bool named, pint_error *err)
{
    path_text text;
    struct stat st;
    if (fstat(fd, &st) != 0) {
        return pinti_fail(err, PINT_E_SYSTEM, errno, "fstat('%s')", show(&text, folder));
    }
    const unsigned mode = st.st_mode & 07777u;
    const uid_t self = geteuid();
    if (!named) {
        if (st.st_uid != self) {
            return pinti_fail(err, PINT_E_PERMISSION, 0,
                              "folder '%s' belongs to uid %u, not to this user (uid %u)",
                              show(&text, folder), (unsigned)st.st_uid, (unsigned)self);
        }
        if ((mode & 0777u) != 0700u) {
            return pinti_fail(err, PINT_E_PERMISSION, 0,
                              "folder '%s' has mode %04o, it must be 0700", show(&text, folder),
                              mode);
        }
        return PINT_OK;
    }
    if ((mode & 0002u) != 0) {
        return pinti_fail(err, PINT_E_PERMISSION, 0,
                          "folder '%s' (mode %04o, uid %u) is writable by everybody: name a folder "
                          "of your own inside it",
                          show(&text, folder), mode, (unsigned)st.st_uid);
    }
    if (st.st_uid == self || st.st_uid == 0) {
        return PINT_OK;
    }
    struct stat around;
    if (fstatat(fd, "..", &around, 0) != 0) {
        return pinti_fail(err, PINT_E_PERMISSION, errno,
                          "folder '%s' belongs to uid %u and the folder around it cannot be seen",
                          show(&text, folder), (unsigned)st.st_uid);
    }
    if ((around.st_mode & 0002u) != 0) {
        return pinti_fail(err, PINT_E_PERMISSION, 0,
                          "folder '%s' belongs to uid %u and lies where everybody can write",
                          show(&text, folder), (unsigned)st.st_uid);
    }
    return PINT_OK;
}

static pint_status fail_open(const char *folder, int error, pint_error *err)
{
    path_text text;
    struct stat st;
    show(&text, folder);
    switch (error) {
    case ENOENT:
        return pinti_fail(err, PINT_E_NO_SERVICE, error, "folder '%s'", text.text);
    case ENOTDIR:
    case ELOOP:
        if (fstatat(AT_FDCWD, folder, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode)) {
            return pinti_fail(err, PINT_E_PERMISSION, 0,
                              "'%s' is a symbolic link (uid %u): name the folder itself", text.text,
                              (unsigned)st.st_uid);
        }
        return pinti_fail(err, PINT_E_INVALID, error, "folder '%s'", text.text);
    case EACCES:
        return pinti_fail(err, PINT_E_PERMISSION, error, "folder '%s'", text.text);
    case ENAMETOOLONG:
        return pinti_fail(err, PINT_E_RANGE, error, "folder '%s'", text.text);
    case EMFILE:
    case ENFILE:
        return pinti_fail(err, PINT_E_FD_LIMIT, error, "folder '%s'", text.text);
    default:
        return pinti_fail(err, PINT_E_SYSTEM, error, "folder '%s'", text.text);
    }
}

static pint_status make_folder(const char *folder, pint_error *err)
{
    path_text text;
    if (mkdir(folder, 0700) == 0 || errno == EEXIST) {
        return PINT_OK;
    }
    const int error = errno;
    const bool forbidden = error == EACCES || error == EPERM || error == EROFS;
    const bool absent = error == ENOENT || error == ENOTDIR;
    return pinti_fail(err,
                      forbidden ? PINT_E_PERMISSION
                      : absent  ? PINT_E_NO_SERVICE
                                : PINT_E_SYSTEM,
                      error, "cannot make folder '%s'", show(&text, folder));
}

static pint_status check_folder(const char *folder, bool named, bool create, pint_error *err)
{
    const int flags = O_PATH | O_DIRECTORY | O_NOFOLLOW;
    int fd = openat(AT_FDCWD, folder, flags | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT && create) {
        const pint_status status = make_folder(folder, err);
        if (status != PINT_OK) {
            return status;
        }
        fd = openat(AT_FDCWD, folder, flags | O_CLOEXEC);
    }
    if (fd < 0) {
        return fail_open(folder, errno, err);
    }
    const pint_status status = judge(fd, folder, named, err);
    (void)close(fd);
    return status;
}

/* Is there a folder of this user's? */
static bool is_own_folder(const char *path)
{
    struct stat st;
    return path != NULL && path[0] == '/' && stat(path, &st) == 0 && S_ISDIR(st.st_mode) &&
           st.st_uid == geteuid();
}

static bool set_text(char *out, size_t room, const char *folder, const char *tail)
{
    const int bytes = snprintf(out, room, "%s%s", folder, tail);
    return bytes >= 0 && (size_t)bytes < room;
}

static pint_status set_default(pinti_address *out, pint_error *err)
{
    char run_user[64];
    char last_resort[64];
    (void)snprintf(run_user, sizeof(run_user), "/run/user/%u", (unsigned)geteuid());
    (void)snprintf(last_resort, sizeof(last_resort), "/pintable-%u", (unsigned)geteuid());
    /* A runtime directory of another user (kept by sudo or su) is none of ours. */
    const char *runtime = secure_getenv("XDG_RUNTIME_DIR");
    const char *parent = is_own_folder(runtime) ? runtime : run_user;
    const char *tail = "/pintable";
    if (!is_own_folder(parent)) {
        parent = secure_getenv("TMPDIR");
        if (parent == NULL || parent[0] != '/') {
            parent = "/tmp";
        }
        tail = last_resort;
    }
    if (!set_text(out->folder, sizeof(out->folder), parent, tail)) {
        return fail_long(parent, sizeof(out->socket) - 1, err);
    }
    return PINT_OK;
}

/* Copy a path into out[room], made absolute: a private service changes its working directory. */
static pint_status set_absolute(char *out, size_t room, const char *path, pint_error *err)
{
    size_t used = 0;
    if (path[0] != '/') {
        if (getcwd(out, room) == NULL) {
            path_text text;
            return pinti_fail(err, PINT_E_SYSTEM, errno, "working directory, for address '%s'",
                              show(&text, path));
        }
        used = strlen(out);
        if (used + 1 < room) {
            out[used++] = '/';
        }
    }
    const size_t bytes = strlen(path);
    if (bytes >= room - used) {
        return fail_long(path, sizeof(((pinti_address *)0)->socket) - 1, err);
    }
    memcpy(out + used, path, bytes + 1);
    return PINT_OK;
}

static void strip_slashes(char *path)
{
    size_t bytes = strlen(path);
    while (bytes > 1 && path[bytes - 1] == '/') {
        path[--bytes] = '\0';
    }
}

/* Paths beside a folder, or beside a socket named in full. */
static pint_status set_files(pinti_address *out, const char *full, pint_error *err)
{
    char stem[sizeof(out->folder)];
    const char *name = full != NULL ? full : stem;
    if (full != NULL) {
        const size_t bytes = strlen(full) - strlen(SOCKET_SUFFIX);
        memcpy(stem, full, bytes);
        stem[bytes] = '\0';
        (void)set_text(out->lock, sizeof(out->lock), stem, ".lock");
        (void)set_text(out->log, sizeof(out->log), stem, ".log");
    } else {
        const char *slash = out->folder[1] == '\0' ? "" : "/";
        if (!set_text(stem, sizeof(stem), out->folder, slash) ||
            strlen(stem) + strlen(PINTI_SOCKET_NAME) >= sizeof(stem)) {
            return fail_long(out->folder, sizeof(out->socket) - 1, err);
        }
        (void)set_text(out->lock, sizeof(out->lock), stem, PINTI_LOCK_NAME);
        (void)set_text(out->log, sizeof(out->log), stem, PINTI_LOG_NAME);
        memcpy(stem + strlen(stem), PINTI_SOCKET_NAME, sizeof(PINTI_SOCKET_NAME));
    }
    if (!set_text(out->socket, sizeof(out->socket), name, "")) {
        return fail_long(name, sizeof(out->socket) - 1, err);
    }
    return PINT_OK;
}

static pint_status set_named(const char *text, pinti_address *out, pint_error *err)
{
    const size_t suffix = strlen(SOCKET_SUFFIX);
    char full[sizeof(out->folder)];
    pint_status status = set_absolute(full, sizeof(full), text, err);
    if (status != PINT_OK) {
        return status;
    }
    const size_t bytes = strlen(full);
    if (bytes <= suffix || strcmp(full + bytes - suffix, SOCKET_SUFFIX) != 0) {
        strip_slashes(full);
        memcpy(out->folder, full, sizeof(full));
        return set_files(out, NULL, err);
    }
    memcpy(out->folder, full, sizeof(full));
    char *slash = strrchr(out->folder, '/');
    slash[slash == out->folder ? 1 : 0] = '\0';
    strip_slashes(out->folder);
    return set_files(out, full, err);
}

pint_status pinti_address_resolve(const char *text, int create, pinti_address *out, pint_error *err)
{
    if (text != NULL && text[0] == '\0') {
        return pinti_fail(err, PINT_E_INVALID, 0, "the address is empty");
    }
    if (text == NULL) {
        text = secure_getenv("PINTABLE_ADDRESS");
    }
    const bool named = text != NULL && text[0] != '\0';
    pinti_address *address = calloc(1, sizeof(*address));
    if (address == NULL) {
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "address");
    }
    pint_status status;
    if (named) {
        status = set_named(text, address, err);
    } else {
        status = set_default(address, err);
        if (status == PINT_OK) {
            status = set_files(address, NULL, err);
        }
    }
    if (status == PINT_OK) {
        status = check_folder(address->folder, named, create != 0, err);
    }
    if (status == PINT_OK) {
        *out = *address;
    }
    free(address);
    return status;
}
