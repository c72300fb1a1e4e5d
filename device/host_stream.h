/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DEVICE_HOST_STREAM_H
#define DEVICE_HOST_STREAM_H

/*
 * Streams of backend "host": a thread with a queue. Work runs in the order it was enqueued, after
 * the call has returned: whoever forgets to wait reads old bytes, as on a GPU.
 *
 * A stream that failed stays failed: work behind the failure does not run, marks behind it say so.
 * Nothing a host thread does can fail; pinti_host_stream_fail() is what tests make of a kernel that
 * traps.
 *
 * Threads:   any, on any stream; a stream is destroyed by one thread when no other uses it.
 * Processes: the thread does not exist in a forked child, where nothing here may be called.
 */

#include <stdbool.h>

#include "device/backend.h"

typedef struct pinti_host_stream pinti_host_stream;

pint_status pinti_host_stream_new(pinti_host_stream **out_stream, pint_error *err);

/* Runs what is enqueued, then ends the thread. */
void pinti_host_stream_free(pinti_host_stream *stream);

pint_status pinti_host_stream_wait(pinti_host_stream *stream, pint_error *err);
pint_status pinti_host_stream_call(pinti_host_stream *stream, void (*function)(void *context),
                                   void *context, pint_error *err);
pint_status pinti_host_stream_copy(pinti_host_stream *stream, bool to_device,
                                   const pinti_piece *pieces, uint32_t n_pieces, pint_error *err);
/* The stream waits for the mark; when the work before the mark failed, this stream fails, too. */
pint_status pinti_host_stream_after(pinti_host_stream *stream, pinti_mark *mark, pint_error *err);

/* Work enqueued from now on does not run, and marks behind this point fail. */
pint_status pinti_host_stream_fail(pinti_host_stream *stream, pint_error *err);

pint_status pinti_host_mark_new(pinti_host_stream *stream, pinti_mark **out_mark, pint_error *err);
void pinti_host_mark_free(pinti_mark *mark);
pint_status pinti_host_mark_passed(pinti_mark *mark, pint_error *err);
pint_status pinti_host_mark_wait(pinti_mark *mark, pint_error *err);
/* Call function(context) once when the mark has passed or failed: at once if it has. Runs on the
 * stream's thread, with no lock held. One function per mark. */
void pinti_host_mark_notify(pinti_mark *mark, void (*function)(void *context), void *context);

#endif
