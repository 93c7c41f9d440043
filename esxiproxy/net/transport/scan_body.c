/* Scanners of HTTP bodies: one with a length, and a chunked one.

   Everything unusual is left to Python: the bytes with the end of the body, the last chunk and trailers, a chunk line
   that is split between two reads or has more than its size, many small chunks, and payload over max_body.  So every
   rule here is a rule of core/http/body.py and core/http/chunked_body.py as well, and all state is that of a Body. */
#include "compiled.h"

enum {
    MIN_COUNTED_CHUNKS = 64, /* chunks in one read that Python counts, at least */
    MAX_DIGITS = 7,          /* digits of a plain chunk's size, at most: its maximum is MAX_PLAIN_SIZE */
};

enum { VERBATIM, LEFT, OCTETS, HEARD, REST, MAX_BODY };
static struct slot_name fixed_slots[] = {
    [VERBATIM] = {0, "verbatim", NULL},
    [LEFT] = {0, "left", NULL},
    [OCTETS] = {0, "octets", NULL},
    [HEARD] = {0, "heard", NULL},
    {0, NULL, NULL},
};
static struct slot_name chunked_slots[] = {
    [VERBATIM] = {0, "verbatim", NULL},
    [LEFT] = {0, "left", NULL},
    [OCTETS] = {0, "octets", NULL},
    [HEARD] = {0, "heard", NULL},
    [REST] = {0, "rest", NULL},
    [MAX_BODY] = {0, "max_body", NULL},
    {0, NULL, NULL},
};

static int fixed_load(struct scanner *self) {
    if (*self->slots[VERBATIM] != Py_True) return 0;
    if (slot_load(self->slots[LEFT], &self->left) < 0 || slot_load(self->slots[OCTETS], &self->octets) < 0) return -1;
    return 1;
}

static int fixed_scan(struct scanner *self, uint64_t size) {
    if (size >= self->left) return 0;
    self->left -= size;
    self->octets += size;
    return 1;
}

static int store(struct scanner *self, Py_ssize_t moved) {
    (void)moved;
    if (slot_store(self->slots[LEFT], self->left) < 0 || slot_store(self->slots[OCTETS], self->octets) < 0) return -1;
    return slot_set(self->slots[HEARD], Py_NewRef(Py_True));
}

static int chunked_prepare(struct scanner *self) {
    PyObject *max_body = *self->slots[MAX_BODY];
    self->longest = UINT64_MAX;
    return max_body == Py_None ? 0 : slot_load(self->slots[MAX_BODY], &self->longest);
}

static int chunked_load(struct scanner *self) {
    return slot_is_empty_bytes(self->slots[REST]) ? fixed_load(self) : 0;
}

/* Return the size in a plain chunk line (1 to MAX_DIGITS digits without a leading zero, then CRLF), and set `*at`
   behind it.  Return 0 for every other line, the last chunk's and an incomplete one included. */
static uint64_t chunk_size(uint64_t *at, uint64_t end) {
    uint64_t size = 0, start = *at, i = start;
    for (; i < end && i <= start + MAX_DIGITS; i++) {
        unsigned char digit = buffer[i], letter = digit | 0x20;
        if (digit >= '0' && digit <= '9') size = size << 4 | (uint64_t)(digit - '0');
        else if (letter >= 'a' && letter <= 'f') size = size << 4 | (uint64_t)(letter - 'a' + 10);
        else break;
        if (size == 0) return 0;
    }
    if (i > start + MAX_DIGITS || i + 2 > end || buffer[i] != '\r' || buffer[i + 1] != '\n') return 0;
    *at = i + 2;
    return size;
}

/* `left` has the line end behind a chunk's data in it. */
static int chunked_scan(struct scanner *self, uint64_t end) {
    uint64_t at = 0, left = self->left, octets = self->octets;
    for (int chunks = 0; at < end;) {
        if (left > 2) {
            uint64_t size = left - 2 < end - at ? left - 2 : end - at;
            at += size;
            left -= size;
            octets += size;
        } else if (left > 0) {
            if (buffer[at++] != (left-- == 2 ? '\r' : '\n')) return 0;
        } else {
            uint64_t size = ++chunks < MIN_COUNTED_CHUNKS ? chunk_size(&at, end) : 0;
            if (size == 0) return 0;
            left = size + 2;
        }
    }
    if (octets > self->longest) return 0;
    self->left = left;
    self->octets = octets;
    return 1;
}

static int fixed_prepare(struct scanner *self) {
    (void)self;
    return 0;
}

const struct scanner_kind fixed_body_kind = {
    "fixed body", 1, fixed_slots, fixed_prepare, fixed_load, fixed_scan, store};
const struct scanner_kind chunked_body_kind = {
    "chunked body", 1, chunked_slots, chunked_prepare, chunked_load, chunked_scan, store};
