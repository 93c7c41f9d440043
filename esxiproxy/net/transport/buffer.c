/* The buffer that all fast paths share: read into it, check the frames in it, write from it.

   No function of this file blocks or runs Python code. */
#include "compiled.h"
#include <errno.h>
#include <sys/socket.h>

enum { WANT_READ = 2 }; /* OpenSSL's SSL_ERROR_WANT_READ */

unsigned char buffer[BUFFER_SIZE];

/* Functions of the OpenSSL that pyOpenSSL uses.  It is linked into cryptography's module, so Python passes them. */
static int (*ssl_read)(void *, void *, int);
static int (*ssl_write)(void *, const void *, int);
static int (*ssl_get_error)(void *, int);
static void (*err_clear_error)(void);

Py_ssize_t buffer_fill(const struct connection *source, int *more) {
    Py_ssize_t size = 0;
    if (source->ssl == NULL) {
        size = recv(source->fd, buffer, BUFFER_SIZE, MSG_DONTWAIT);
        *more = size == BUFFER_SIZE;
        return size;
    }
    while (size <= BUFFER_SIZE - RECORD_SIZE) { /* space for a whole record: no plaintext stays in OpenSSL */
        int count = ssl_read(source->ssl, buffer + size, RECORD_SIZE);
        if (count > 0) {
            size += count;
            if (count >= SMALL_RECORD) continue;
        } else if (ssl_get_error(source->ssl, count) != WANT_READ) {
            if (size > 0) err_clear_error(); /* with no bytes, Python reads next and needs the error */
            *more = -1;
            return size;
        }
        *more = 0;
        if (size > 0) return size;
        errno = EAGAIN;
        return -1;
    }
    *more = 1;
    return size;
}

Py_ssize_t buffer_flush(const struct connection *sink, Py_ssize_t size) {
    if (sink->ssl == NULL) {
        Py_ssize_t count = send(sink->fd, buffer, (size_t)size, MSG_DONTWAIT | MSG_NOSIGNAL);
        return count < 0 ? 0 : count;
    }
    Py_ssize_t sent = 0;
    while (sent < size) { /* SSL_write takes one record at a time */
        int count = ssl_write(sink->ssl, buffer + sent, (int)(size - sent));
        if (count <= 0) {
            err_clear_error();
            break;
        }
        sent += count;
    }
    return sent;
}

static uint64_t big_endian(const unsigned char *at, int octets) {
    uint64_t value = 0;
    while (octets-- > 0) value = value << 8 | *at++;
    return value;
}

int buffer_scan(struct scan_state *state, uint64_t size) {
    uint64_t position = state->left;
    int fragmented = state->fragmented;
    while (position < size) {
        uint64_t have = size - position, header = state->masked ? 6 : 2;
        if (have < header) return 0;
        const unsigned char *at = buffer + position;
        int opcode = at[0] & 0x0f;
        uint64_t length = at[1] & 0x7f;
        if (at[0] & 0x70 || opcode > 2 || (opcode == 0) != fragmented) return 0;
        if ((at[1] >> 7) != state->masked) return 0;
        if (length >= 126) {
            int octets = length == 126 ? 2 : 8;
            header += octets;
            if (have < header) return 0;
            length = big_endian(at + 2, octets);
            if (length < (octets == 2 ? 126 : 65536) || length >> 63) return 0;
        }
        if (length > state->longest) return 0;
        fragmented = !(at[0] & 0x80);
        position += header + length;
    }
    state->left = position - size;
    state->fragmented = fragmented;
    return 1;
}

void buffer_set_openssl(const uintptr_t *addresses) {
    ssl_read = (int (*)(void *, void *, int))addresses[0];
    ssl_write = (int (*)(void *, const void *, int))addresses[1];
    ssl_get_error = (int (*)(void *, int))addresses[2];
    err_clear_error = (void (*)(void))addresses[3];
}

int buffer_has_openssl(void) {
    return ssl_read != NULL;
}
