/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PINTABLE_PINTABLE_H
#define PINTABLE_PINTABLE_H

/* Everything. Each of these compiles alone, too. */

#include <pintable/column.h>
#include <pintable/device.h>
#include <pintable/job.h>
#include <pintable/lease.h>
#include <pintable/pool.h>
#include <pintable/status.h>
#include <pintable/table.h>
#include <pintable/types.h>
#include <pintable/version.h>

#endif
