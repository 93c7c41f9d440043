/* The common code of load and upstream: connections, plain or TLS, and their frames (RFC 6455 5.2). */
#ifndef WIRE_H
#define WIRE_H
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BLOCKED = 0, ENDED = -1 };
enum { TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10 };
enum { BLOCK = 1 << 18 };       /* bytes of prebuilt frames, and of the read buffer */
#define GRAIN (UINT64_C(1) << 20) /* a sink reports each time it has received this many bytes */

static unsigned char room[BLOCK];
static const unsigned char MASK[4] = {0x5a, 0xc3, 0x17, 0x8e};

struct wire {
    int fd;
    SSL *ssl; /* NULL: plain */
};

__attribute__((noreturn)) static void die(const char *format, ...) {
    va_list rest;
    va_start(rest, format);
    vfprintf(stderr, format, rest);
    va_end(rest);
    fputc('\n', stderr);
    exit(1);
}

static inline double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec * 1e-9;
}

static ssize_t tls_result(SSL *ssl, int result) {
    if (result > 0) return result;
    int error = SSL_get_error(ssl, result);
    ERR_clear_error();
    return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? BLOCKED : ENDED;
}

static ssize_t tcp_result(ssize_t result) {
    if (result > 0) return result;
    return result < 0 && (errno == EAGAIN || errno == EINTR) ? BLOCKED : ENDED;
}

/* Reads and returns the number of bytes, BLOCKED or ENDED.  It also continues a TLS handshake. */
static inline ssize_t wire_read(struct wire *wire, void *into, size_t size) {
    if (wire->ssl) return tls_result(wire->ssl, SSL_read(wire->ssl, into, size));
    return tcp_result(recv(wire->fd, into, size, 0));
}

/* Discards bytes without a copy.  Those of TLS are not decrypted, so nothing can be read after them: a record
   of 16 KiB counts 22 octets too many, and load and upstream have half of the proxy's work. */
static inline ssize_t wire_drop(struct wire *wire) {
    return tcp_result(recv(wire->fd, room, sizeof room, MSG_TRUNC));
}

static inline ssize_t wire_write(struct wire *wire, const void *from, size_t size) {
    if (wire->ssl) return tls_result(wire->ssl, SSL_write(wire->ssl, from, size));
    return tcp_result(send(wire->fd, from, size, MSG_NOSIGNAL));
}

/* Returns whether OpenSSL has buffered bytes, which epoll does not report. */
static inline int wire_pending(struct wire *wire) { return wire->ssl && SSL_has_pending(wire->ssl); }

static void wire_close(struct wire *wire) {
    if (wire->ssl) {
        SSL_shutdown(wire->ssl);
        ERR_clear_error();
        SSL_free(wire->ssl);
    }
    close(wire->fd);
}

static int believe(X509_STORE_CTX *store, void *unused) {
    (void)store;
    (void)unused;
    return 1;
}

/* One suite of each version, and no verification, so that a handshake costs this side little. */
static SSL_CTX *tls_context(const SSL_METHOD *method) {
    SSL_CTX *context = SSL_CTX_new(method);
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_cipher_list(context, "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384");
    SSL_CTX_set_ciphersuites(context, "TLS_AES_256_GCM_SHA384");
    SSL_CTX_set1_groups_list(context, "X25519:P-256");
    SSL_CTX_set1_sigalgs_list(context, "ECDSA+SHA256:RSA-PSS+SHA256");
    SSL_CTX_set_cert_verify_callback(context, believe, NULL);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_options(context, SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_read_ahead(context, 1); /* one read(2) a record, not two */
    return context;
}

/* Writes one frame; `mask` may be NULL.  Returns the frame's length. */
static size_t put_frame(unsigned char *at, int opcode, const void *payload, size_t size,
                        const unsigned char *mask) {
    unsigned char *start = at;
    int octets = size < 126 ? 0 : size < 65536 ? 2 : 8; /* of the length, after its first */
    *at++ = 0x80 | opcode;
    *at++ = (mask ? 0x80 : 0) | (octets == 0 ? size : octets == 2 ? 126 : 127);
    while (octets > 0) *at++ = (uint64_t)size >> 8 * --octets;
    if (mask) {
        memcpy(at, mask, 4);
        at += 4;
    }
    for (size_t i = 0; i < size; i++) at[i] = ((const unsigned char *)payload)[i] ^ (mask ? mask[i & 3] : 0);
    return at + size - start;
}

/* The position in a stream of frames. */
struct frames {
    unsigned char head[14];
    size_t filled; /* bytes of the head that are received */
    int inside;    /* the head is complete, the payload is not */
    int opcode;
    uint64_t length, left; /* of the payload */
};

static size_t head_size(const struct frames *frames) {
    if (frames->filled < 2) return 2;
    int size = frames->head[1] & 127;
    return 2 + (size == 126 ? 2 : size == 127 ? 8 : 0) + (frames->head[1] & 128 ? 4 : 0);
}

/* The next run of payload in [*at, end), unmasked in place: its length, or -1 when more is needed.
   With it the frame has ended if `left` is 0 then. */
static ssize_t next_run(struct frames *frames, unsigned char **at, unsigned char *end, unsigned char **run) {
    unsigned char *head = frames->head;
    if (!frames->inside) {
        while (frames->filled < head_size(frames)) {
            if (*at == end) return -1;
            head[frames->filled++] = *(*at)++;
        }
        frames->opcode = head[0] & 15;
        frames->length = head[1] & 127;
        if (frames->length >= 126) {
            int count = frames->length == 126 ? 2 : 8;
            frames->length = 0;
            for (int i = 0; i < count; i++) frames->length = frames->length << 8 | head[2 + i];
        }
        frames->left = frames->length;
        frames->inside = 1;
    }
    size_t size = end - *at;
    if (size > frames->left) size = frames->left;
    if (size == 0 && frames->left > 0) return -1;
    *run = *at;
    if (head[1] & 128) {
        const unsigned char *mask = head + frames->filled - 4;
        uint64_t offset = frames->length - frames->left;
        for (size_t i = 0; i < size; i++) (*run)[i] ^= mask[(offset + i) & 3];
    }
    *at += size;
    frames->left -= size;
    if (frames->left == 0) frames->inside = frames->filled = 0;
    return size;
}
#endif
