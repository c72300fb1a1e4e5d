/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_CRASH_H
#define HOST_CRASH_H

/*
 * Crash points: numbered places between two steps of a protocol where a test can make the process
 * die by SIGKILL. Compiled in when PINT_CRASHPOINTS is 1 (test presets), nothing otherwise.
 *
 * A test arms one with pinti_crash_arm(); a program is armed by PINTABLE_CRASH="point:nth" in its
 * environment (nth pass, from 1). tests/proc/crash_test.c kills a worker at every one of them.
 */

#define PINTI_CRASHPOINT_MAP(X)                                                                    \
    X(LEASE_INTENT)           /* intent noted, nothing claimed */                                  \
    X(LEASE_PART_CLAIMED)     /* some of several columns claimed */                                \
    X(LEASE_CLAIMED)          /* all claimed, lease not handed out yet */                          \
    X(LEASE_PART_COMMITTED)   /* some columns committed */                                         \
    X(LEASE_COMMITTED)        /* all committed, intent still noted */                              \
    X(JOB_INTENT)             /* intent noted, job word untouched */                               \
    X(JOB_CLAIMED)            /* job word CLAIMED, no column */                                    \
    X(JOB_COLUMNS_CLAIMED)    /* columns claimed, no undo buffer */                                \
    X(JOB_UNDO_TAKEN)         /* undo buffer taken, nothing copied */                              \
    X(JOB_UNDO_HALF)          /* part of the old bytes copied */                                   \
    X(JOB_UNDO_SAVED)         /* all copied, still CLAIMED */                                      \
    X(JOB_LEASED)             /* LEASED, lease not handed out yet */                               \
    X(JOB_RESTORING)          /* RESTORING, nothing claimed */                                     \
    X(JOB_RESTORE_CLAIMED)    /* columns claimed for the restore */                                \
    X(JOB_RESTORE_HALF)       /* part of the old bytes copied back */                              \
    X(JOB_RESTORED)           /* old bytes back for good, CLAIMED, columns still held */           \
    X(JOB_COMMITTING)         /* the commit point is behind, columns not committed */              \
    X(JOB_PART_COMMITTED)     /* some columns committed */                                         \
    X(JOB_COLUMNS_COMMITTED)  /* all columns committed, job word COMMITTING */                     \
    X(JOB_DONE)               /* DONE, undo buffer not freed */                                    \
    X(JOB_UNDO_FREED)         /* all done, intent still noted */                                   \
    X(FOREIGN_RESTORING)      /* a lease found RESTORE and took the job word */                    \
    X(FOREIGN_RESTORED)       /* bytes back, job word RESTORING */                                 \
    X(DICT_HELD)              /* dictionary tail lease held, nothing appended */                   \
    X(DICT_WRITTEN)           /* category written, count not published */                          \
    X(DICT_PUBLISHED)         /* published, tail lease held */                                     \
    X(VIEW_REGISTERING)       /* first writable view: noted, not counted */                        \
    X(VIEW_COUNTED)           /* counted, still noted as REGISTERING */                            \
    X(VIEW_REGISTERED)        /* REGISTERED, devices still in masks */                             \
    X(VIEW_UNREGISTERING)     /* last writable view: noted, still counted */                       \
    X(VIEW_UNCOUNTED)         /* not counted any more, still noted */                              \
    X(SERVICE_VIEW_HALF)      /* service: a dead session's view noted, still counted */            \
    X(SERVICE_SWEEP_HALF)     /* service: some words of the dead swept */                          \
    X(SERVICE_CREATE_HALF)    /* service: columns and extents recorded, table record not */        \
    X(SERVICE_CREATED)        /* service: record BUILDING, no answer sent */                       \
    X(SERVICE_PUBLISH_HALF)   /* service: index swapped, old record not marked */                  \
    X(SERVICE_RENAME_HALF)    /* service: new entry in, name not changed */                        \
    X(SERVICE_RENAMED)        /* service: name changed, old entry in */                            \
    X(SERVICE_INDEX_MOVING)   /* service: index entries half moved */                              \
    X(SERVICE_ADD_COPIED)     /* service: added columns recorded, nothing noted */                 \
    X(SERVICE_ADD_NOTED)      /* service: the addition noted, nothing moved */                     \
    X(SERVICE_ADD_HALF)       /* service: memory moved, columns not seen */                        \
    X(SERVICE_ADD_SEEN)       /* service: columns seen, their donor not DYING */                   \
    X(SERVICE_ADDED)          /* service: all done, no answer sent */                              \
    X(SERVICE_DROP_HALF)      /* service: DYING, entry still in the index */                       \
    X(SERVICE_FREE_HALF)      /* service: record FREE, memory not given back */                    \
    X(SERVICE_JOIN_HALF)      /* service: session recorded, no answer sent */                      \
    X(SERVICE_TEARDOWN_HALF)  /* service: session half ended */                                    \
    X(SERVICE_COPY_BUILDING)  /* service: device copy recorded, no memory asked for */             \
    X(SERVICE_COPY_HELD)      /* service: its descriptor with the keeper, still BUILDING */        \
    X(SERVICE_COPY_LIVE)      /* service: device copy LIVE, its column does not name it */         \
    X(SERVICE_COPY_CLOSING)   /* service: device copy CLOSING, nobody asked yet */                 \
    X(SERVICE_COPY_REOPENED)  /* service: device copy LIVE again, bell not rung */                 \
    X(SERVICE_COPY_DYING)     /* service: device copy DYING, chunk words still name it */          \
    X(SERVICE_COPY_FREE_HALF) /* service: device copy FREE, sync memory not given back */          \
    X(PREPARER_WORKING)       /* preparer: in the middle of a plan */                              \
    X(KEEPER_GOT_FDS)         /* keeper: descriptors received, not acknowledged */

enum pinti_crash_point {
    PINTI_CRASH_NONE = 0,
#define PINTI_CRASHPOINT_ENUM(name) PINTI_CRASH_##name,
    PINTI_CRASHPOINT_MAP(PINTI_CRASHPOINT_ENUM)
#undef PINTI_CRASHPOINT_ENUM
        PINTI_CRASH_COUNT
};

#if PINT_CRASHPOINTS
void pinti_crash_pass(enum pinti_crash_point point);
#    define PINTI_CRASHPOINT(name) pinti_crash_pass(PINTI_CRASH_##name)
#else
#    define PINTI_CRASHPOINT(name) ((void)0)
#endif

/* Die at the nth pass of point from now on; PINTI_CRASH_NONE disarms. Without PINT_CRASHPOINTS it
 * does nothing. */
void pinti_crash_arm(enum pinti_crash_point point, unsigned nth);
const char *pinti_crash_name(enum pinti_crash_point point);

#endif
