/* The bodies of HTTP messages, of a known length or chunked (RFC 9112 6 and 7.1). */
#ifndef HTTP_H
#define HTTP_H
#include <ctype.h>

#include "wire.h"

enum { CHUNK = 1 << 14 }; /* bytes of each chunk that is sent */

/* A body that is sent: a block again and again, and at its end the last chunk. */
struct sent_body {
    const unsigned char *block;
    size_t block_size, at, tail;
    uint64_t left; /* octets, with the chunks' lines and the tail */
};

/* A body that is received. */
struct received_body {
    enum { CHUNK_SIZE, CHUNK_DATA, CHUNK_END, TRAILER } stage;
    int chunked, extension, done;
    size_t line;       /* octets of the trailer's current line */
    uint64_t left;     /* octets of the body, or of the chunk */
    uint64_t received; /* octets of payload */
};

/* Begins a body of `size` octets, which a chunked one rounds up to whole blocks.  Returns its size then. */
static uint64_t start_sending(struct sent_body *body, uint64_t size, int chunked) {
    static unsigned char zeros[BLOCK], chunks[BLOCK];
    static size_t filled;
    enum { EACH = CHUNK + 8, COUNT = BLOCK / EACH }; /* "4000\r\n", the data, "\r\n" */
    memset(body, 0, sizeof *body);
    if (!chunked) {
        body->block = zeros;
        body->block_size = BLOCK;
        body->left = size;
        return size;
    }
    for (; filled < (size_t)COUNT * EACH; filled += EACH) {
        memcpy(chunks + filled, "4000\r\n", 6);
        memcpy(chunks + filled + EACH - 2, "\r\n", 2);
    }
    uint64_t blocks = (size + COUNT * CHUNK - 1) / (COUNT * CHUNK);
    body->block = chunks;
    body->block_size = filled;
    body->tail = 5;
    body->left = blocks * filled + body->tail;
    return blocks * COUNT * CHUNK;
}

/* Sends a part and returns its size, BLOCKED or ENDED. */
static ssize_t send_part(struct sent_body *body, struct wire *wire) {
    const char *tail = "0\r\n\r\n";
    ssize_t count;
    if (body->left > body->tail) {
        size_t size = body->block_size - body->at;
        if (size > body->left - body->tail) size = body->left - body->tail;
        count = wire_write(wire, body->block + body->at, size);
        if (count > 0) body->at = (body->at + count) % body->block_size;
    } else {
        count = wire_write(wire, tail + body->tail - body->left, body->left);
    }
    if (count > 0) body->left -= count;
    return count;
}

/* Begins a body whose head is `text`. */
static void start_receiving(struct received_body *body, const char *text) {
    const char *length = strcasestr(text, "\ncontent-length:");
    memset(body, 0, sizeof *body);
    body->chunked = strcasestr(text, "\ntransfer-encoding:") != NULL;
    body->left = length && !body->chunked ? strtoull(length + 16, NULL, 10) : 0;
    body->done = !body->chunked && body->left == 0;
}

static void take_line(struct received_body *body, unsigned char octet) {
    switch (body->stage) {
        case CHUNK_SIZE:
            if (octet == '\n') {
                body->stage = body->left ? CHUNK_DATA : TRAILER;
                body->extension = body->line = 0;
            } else if (isxdigit(octet) && !body->extension) {
                body->left = body->left << 4 | (isdigit(octet) ? octet - '0' : (octet | 32) - 'a' + 10);
            } else {
                body->extension = 1;
            }
            break;
        case CHUNK_END:
            if (octet == '\n') body->stage = CHUNK_SIZE;
            break;
        default:
            if (octet == '\n') {
                body->done = body->line == 0;
                body->line = 0;
            } else if (octet != '\r') {
                body->line++;
            }
    }
}

static void take_octets(struct received_body *body, const unsigned char *at, size_t size) {
    const unsigned char *end = at + size;
    while (at < end && !body->done) {
        if (body->chunked && body->stage != CHUNK_DATA) {
            take_line(body, *at++);
            continue;
        }
        uint64_t part = (uint64_t)(end - at) < body->left ? (uint64_t)(end - at) : body->left;
        at += part;
        body->left -= part;
        body->received += part;
        if (body->left > 0) continue;
        if (body->chunked) body->stage = CHUNK_END;
        else body->done = 1;
    }
}

/* Receives a part and returns its size, BLOCKED or ENDED. */
static ssize_t receive_part(struct received_body *body, struct wire *wire) {
    if (body->chunked) {
        ssize_t count = wire_read(wire, room, sizeof room);
        if (count > 0) take_octets(body, room, count);
        return count;
    }
    ssize_t count = wire->ssl ? wire_read(wire, room, sizeof room) : wire_drop(wire);
    if (count > 0) {
        body->received += count;
        body->left = (uint64_t)count < body->left ? body->left - count : 0;
        body->done = body->left == 0;
    }
    return count;
}
#endif
