/* The buffer that all fast paths share: read into it, and write from it.

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

void buffer_set_openssl(const uintptr_t *addresses) {
    ssl_read = (int (*)(void *, void *, int))addresses[0];
    ssl_write = (int (*)(void *, const void *, int))addresses[1];
    ssl_get_error = (int (*)(void *, int))addresses[2];
    err_clear_error = (void (*)(void))addresses[3];
}

int buffer_has_openssl(void) {
    return ssl_read != NULL;
}
