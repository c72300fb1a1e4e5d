/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PINTABLE_TYPES_H
#define PINTABLE_TYPES_H

/*
 * Column types and the schema a table is created from. Layout of the buffers is Arrow's columnar
 * format, little endian; see docs/format.md.
 */

#include <pintable/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Numbers are part of the shared-memory format: append only. */
typedef uint32_t pint_type;

enum pint_type_code {
    PINT_BOOL = 1,  /* one bit a row, least significant bit first */
    PINT_BOOL8 = 2, /* one byte a row, 0 or 1 (Arrow extension arrow.bool8) */
    PINT_INT8 = 3,
    PINT_INT16 = 4,
    PINT_INT32 = 5,
    PINT_INT64 = 6,
    PINT_UINT8 = 7,
    PINT_UINT16 = 8,
    PINT_UINT32 = 9,
    PINT_UINT64 = 10,
    PINT_FLOAT16 = 11, /* IEEE binary16 bit patterns */
    PINT_FLOAT32 = 12,
    PINT_FLOAT64 = 13,
    PINT_DATE32 = 14,       /* int32, days since 1970-01-01 */
    PINT_TIMESTAMP = 15,    /* int64, units since 1970-01-01; see pint_unit, and the zone */
    PINT_BINARY_FIXED = 16, /* width_bytes bytes a row */
    PINT_TEXT = 17,         /* UTF-8 with int64 offsets (Arrow large_utf8) */
    PINT_DICT_TEXT = 18,    /* codes of item_type (int8, int16 or int32) into UTF-8 categories */
    PINT_LIST_FIXED = 19    /* list_length items of the primitive item_type a row */
};

typedef uint32_t pint_unit;

enum pint_unit_code {
    PINT_UNIT_NONE = 0,
    PINT_SECOND = 1,
    PINT_MILLISECOND = 2,
    PINT_MICROSECOND = 3,
    PINT_NANOSECOND = 4
};

/* flags of a field */
#define PINT_NULLABLE 1u /* the column has a validity bitmap: bit 1 means the row has a value */

#define PINT_NAME_BYTES_MAX     255u /* longest name of a table, column or job, without the final 0 */
#define PINT_ZONE_BYTES_MAX     63u
#define PINT_METADATA_BYTES_MAX (16u << 20) /* of a table, and of each column */

/**
 * One column of a schema. Start from PINT_FIELD_INIT: members added later then have their default.
 */
typedef struct pint_field {
    uint32_t struct_bytes; /* sizeof(pint_field) as the caller was compiled */
    pint_type type;
    const char *name; /* UTF-8, 1 to PINT_NAME_BYTES_MAX bytes, no control characters; borrowed */
    uint32_t flags;   /* PINT_NULLABLE or 0 */
    pint_unit unit;   /* PINT_TIMESTAMP only */
    const char *zone; /* PINT_TIMESTAMP only: IANA zone or offset, or NULL; borrowed */
    uint32_t width_bytes; /* PINT_BINARY_FIXED only: 1 to 2^20 */
    uint32_t list_length; /* PINT_LIST_FIXED only: items a row, 1 to 2^20 */
    pint_type item_type;  /* PINT_LIST_FIXED: type of an item; PINT_DICT_TEXT: type of a code */
    uint32_t reserved;    /* 0 */
    uint64_t data_bytes;  /* PINT_TEXT: room for text; PINT_DICT_TEXT: room for categories' text */
    uint64_t
        n_categories;     /* PINT_DICT_TEXT: room for categories; the code type's range limits it */
    const void *metadata; /* the caller's own bytes, kept with the column; borrowed, may be NULL */
    uint64_t metadata_bytes; /* 0 to PINT_METADATA_BYTES_MAX */
} pint_field;

#define PINT_FIELD_INIT                                                                            \
    {                                                                                              \
        sizeof(pint_field), 0, NULL, 0, 0, NULL, 0, 0, 0, 0, 0, 0, NULL, 0                         \
    }

/* flags of a schema */
#define PINT_UNINITIALISED                                                                         \
    1u               /* do not zero: buffers may hold bytes of dropped tables of the pool */
#define PINT_KEPT 2u /* the table outlives the family of processes that made it */

/** What a table is created from. Start from PINT_SCHEMA_INIT. */
typedef struct pint_schema {
    uint32_t struct_bytes;    /* sizeof(pint_schema) as the caller was compiled */
    uint32_t n_fields;        /* 1 to 65536 */
    const pint_field *fields; /* n_fields of them; borrowed */
    uint64_t chunk_rows;      /* power of two, 512 or more; 0: chosen, see docs/format.md */
    uint32_t flags;           /* PINT_UNINITIALISED, PINT_KEPT */
    uint32_t reserved;        /* 0 */
    const void *metadata; /* the caller's own bytes, kept with the table; borrowed, may be NULL */
    uint64_t metadata_bytes; /* 0 to PINT_METADATA_BYTES_MAX */
} pint_schema;

#define PINT_SCHEMA_INIT                                                                           \
    {                                                                                              \
        sizeof(pint_schema), 0, NULL, 0, 0, 0, NULL, 0                                             \
    }

/**
 * Name of a type as the command line and the protocol spell it ("float64"), or NULL.
 * @since 0.1
 */
PINT_API const char *pint_type_name(pint_type type);

/**
 * Type with this name, or 0.
 * @since 0.1
 */
PINT_API pint_type pint_type_by_name(const char *name);

/**
 * Bytes a value takes in the values buffer: 1 for PINT_BOOL8, 8 for PINT_FLOAT64; 0 for types whose
 * width depends on the field (binary, list, dictionary) or is not a whole number of bytes.
 * @since 0.1
 */
PINT_API uint32_t pint_type_bytes(pint_type type);

#ifdef __cplusplus
}
#endif

#endif
