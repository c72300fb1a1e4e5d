/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ranges in a treap: a binary tree by offset, a heap by a hash of the node's number. Every node
 * knows the longest range below it, so that first fit skips what is too short. Nodes live in one
 * array and are linked by number; number 0 is nobody and has longest 0.
 *
 * Invariants: ranges are not empty, do not overlap and do not touch; longest is right in every node
 * outside the functions that change links.
 */
#include "ipc/service/range.h"

#include <stdlib.h>
#include <string.h>

typedef struct pinti_range_node {
    uint64_t off;
    uint64_t bytes;
    uint64_t longest; /* in this subtree */
    uint32_t left;    /* also links the unused */
    uint32_t right;
} node;

#define DEPTH_MAX 128 /* of a treap of 2^32 nodes; expected depth is under 80 */

static inline uint32_t priority(uint32_t number)
{
    uint32_t h = number * 0x9e3779b1u;
    h ^= h >> 15;
    return h * 0x85ebca77u;
}

static inline uint64_t end_of(const node *n)
{
    return n->off + n->bytes;
}

static void update(node *nodes, uint32_t at)
{
    node *n = &nodes[at];
    const uint64_t left = nodes[n->left].longest;
    const uint64_t right = nodes[n->right].longest;
    const uint64_t below = left > right ? left : right;
    n->longest = n->bytes > below ? n->bytes : below;
}

void pinti_ranges_init(pinti_ranges *set)
{
    memset(set, 0, sizeof(*set));
}

void pinti_ranges_done(pinti_ranges *set)
{
    free(set->nodes);
    memset(set, 0, sizeof(*set));
}

bool pinti_ranges_reserve(pinti_ranges *set, uint32_t n)
{
    const uint64_t need = (uint64_t)set->n + n + 1;
    if (need <= set->room) {
        return true;
    }
    uint64_t room = (uint64_t)set->room * 2 > need ? (uint64_t)set->room * 2 : need;
    room = room < 16 ? 16 : room;
    if (room > UINT32_MAX) {
        return false;
    }
    node *nodes = realloc(set->nodes, (size_t)room * sizeof(*nodes));
    if (nodes == NULL) {
        return false;
    }
    if (set->nodes == NULL) {
        memset(nodes, 0, sizeof(*nodes));
        set->n_used = 1;
    }
    set->nodes = nodes;
    set->room = (uint32_t)room;
    return true;
}

static uint32_t make_node(pinti_ranges *set, uint64_t off, uint64_t bytes)
{
    uint32_t at = set->unused;
    if (at != 0) {
        set->unused = set->nodes[at].left;
    } else {
        at = set->n_used++;
    }
    set->nodes[at] = (node){.off = off, .bytes = bytes, .longest = bytes};
    set->n++;
    set->total += bytes;
    return at;
}

/* Cut the tree at into those before off and those at or after it. */
static void split(node *nodes, uint32_t at, uint64_t off, uint32_t *out_left, uint32_t *out_right)
{
    if (at == 0) {
        *out_left = 0;
        *out_right = 0;
    } else if (nodes[at].off < off) {
        split(nodes, nodes[at].right, off, &nodes[at].right, out_right);
        *out_left = at;
        update(nodes, at);
    } else {
        split(nodes, nodes[at].left, off, out_left, &nodes[at].left);
        *out_right = at;
        update(nodes, at);
    }
}

/* Join two trees; everything in left lies before everything in right. */
static uint32_t join(node *nodes, uint32_t left, uint32_t right)
{
    if (left == 0 || right == 0) {
        return left | right;
    }
    if (priority(left) >= priority(right)) {
        nodes[left].right = join(nodes, nodes[left].right, right);
        update(nodes, left);
        return left;
    }
    nodes[right].left = join(nodes, left, nodes[right].left);
    update(nodes, right);
    return right;
}

static void link_node(pinti_ranges *set, uint32_t at)
{
    node *nodes = set->nodes;
    uint32_t *link = &set->root;
    while (*link != 0 && priority(*link) >= priority(at)) {
        node *n = &nodes[*link];
        n->longest = n->longest > nodes[at].bytes ? n->longest : nodes[at].bytes;
        link = nodes[at].off < n->off ? &n->left : &n->right;
    }
    split(nodes, *link, nodes[at].off, &nodes[at].left, &nodes[at].right);
    update(nodes, at);
    *link = at;
}

/* Walk down to the node of this offset, then up again to mend longest. */
static void unlink_node(pinti_ranges *set, uint32_t at)
{
    node *nodes = set->nodes;
    uint32_t path[DEPTH_MAX];
    uint32_t depth = 0;
    uint32_t *link = &set->root;
    while (*link != at) {
        path[depth++ % DEPTH_MAX] = *link;
        node *n = &nodes[*link];
        link = nodes[at].off < n->off ? &n->left : &n->right;
    }
    *link = join(nodes, nodes[at].left, nodes[at].right);
    while (depth > 0) {
        update(nodes, path[--depth % DEPTH_MAX]);
    }
    set->n--;
    set->total -= nodes[at].bytes;
    nodes[at].left = set->unused;
    set->unused = at;
}

/* Last node that begins at or before off; 0 if none. */
static uint32_t find_le(const pinti_ranges *set, uint64_t off)
{
    uint32_t found = 0;
    for (uint32_t at = set->root; at != 0;) {
        const node *n = &set->nodes[at];
        if (n->off <= off) {
            found = at;
            at = n->right;
        } else {
            at = n->left;
        }
    }
    return found;
}

/* First node that begins after off; 0 if none. */
static uint32_t find_gt(const pinti_ranges *set, uint64_t off)
{
    uint32_t found = 0;
    for (uint32_t at = set->root; at != 0;) {
        const node *n = &set->nodes[at];
        if (n->off > off) {
            found = at;
            at = n->left;
        } else {
            at = n->right;
        }
    }
    return found;
}

bool pinti_ranges_add(pinti_ranges *set, uint64_t off, uint64_t bytes)
{
    if (bytes == 0) {
        return true;
    }
    if (!pinti_ranges_reserve(set, 1)) {
        return false;
    }
    uint64_t end = off + bytes;
    const uint32_t before = find_le(set, off);
    if (before != 0 && end_of(&set->nodes[before]) >= off) {
        off = set->nodes[before].off;
        end = end_of(&set->nodes[before]) > end ? end_of(&set->nodes[before]) : end;
        unlink_node(set, before);
    }
    for (;;) {
        const uint32_t after = find_gt(set, off);
        if (after == 0 || set->nodes[after].off > end) {
            break;
        }
        end = end_of(&set->nodes[after]) > end ? end_of(&set->nodes[after]) : end;
        unlink_node(set, after);
    }
    link_node(set, make_node(set, off, end - off));
    return true;
}

bool pinti_ranges_remove(pinti_ranges *set, uint64_t off, uint64_t bytes)
{
    if (bytes == 0 || set->root == 0) {
        return true;
    }
    if (!pinti_ranges_reserve(set, 1)) {
        return false;
    }
    const uint64_t end = off + bytes;
    uint32_t at = find_le(set, off);
    if (at == 0 || end_of(&set->nodes[at]) <= off) {
        at = find_gt(set, off);
    }
    while (at != 0 && set->nodes[at].off < end) {
        const node cut = set->nodes[at];
        unlink_node(set, at);
        if (cut.off < off) {
            link_node(set, make_node(set, cut.off, off - cut.off));
        }
        if (end_of(&cut) > end) {
            link_node(set, make_node(set, end, end_of(&cut) - end));
        }
        at = find_gt(set, off);
    }
    return true;
}

bool pinti_ranges_next(const pinti_ranges *set, uint64_t from, pinti_range *out_range)
{
    uint32_t at = find_le(set, from);
    if (at == 0 || end_of(&set->nodes[at]) <= from) {
        at = find_gt(set, from);
    }
    if (at == 0) {
        return false;
    }
    const node *n = &set->nodes[at];
    out_range->off = n->off > from ? n->off : from;
    out_range->bytes = end_of(n) - out_range->off;
    return true;
}

bool pinti_ranges_prev(const pinti_ranges *set, uint64_t limit, pinti_range *out_range)
{
    const uint32_t at = limit == 0 ? 0 : find_le(set, limit - 1);
    if (at == 0) {
        return false;
    }
    const node *n = &set->nodes[at];
    out_range->off = n->off;
    out_range->bytes = (end_of(n) < limit ? end_of(n) : limit) - n->off;
    return true;
}

bool pinti_ranges_has_all(const pinti_ranges *set, uint64_t off, uint64_t bytes)
{
    pinti_range r;
    return bytes == 0 || (pinti_ranges_next(set, off, &r) && r.off == off && r.bytes >= bytes);
}

bool pinti_ranges_has_any(const pinti_ranges *set, uint64_t off, uint64_t bytes)
{
    pinti_range r;
    return bytes != 0 && pinti_ranges_next(set, off, &r) && r.off - off < bytes;
}

static bool fits(const node *n, uint64_t bytes, uint64_t align, uint64_t *out_off)
{
    const uint64_t skip = (0 - n->off) & (align - 1);
    if (n->bytes < bytes || n->bytes - bytes < skip) {
        return false;
    }
    *out_off = n->off + skip;
    return true;
}

/* In address order, without the subtrees that have nothing long enough. */
static bool first_fit_below(const node *nodes, uint32_t at, uint64_t bytes, uint64_t align,
                            uint64_t *out_off)
{
    while (nodes[at].longest >= bytes) {
        if (first_fit_below(nodes, nodes[at].left, bytes, align, out_off) ||
            fits(&nodes[at], bytes, align, out_off)) {
            return true;
        }
        at = nodes[at].right;
    }
    return false;
}

bool pinti_ranges_first_fit(const pinti_ranges *set, uint64_t bytes, uint64_t align,
                            uint64_t *out_off)
{
    return set->root != 0 && first_fit_below(set->nodes, set->root, bytes, align, out_off);
}
