/* The pipe that all fast paths share: bytes that no scanner has to see pass through it without a copy.

   The pipe is empty between two calls of a fast path.  No function of this file blocks or runs Python code.  A write to
   a closed connection raises SIGPIPE, which Python ignores. */
#define _GNU_SOURCE
#include "compiled.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

enum { PIPE_SIZE = 1024 * 1024 }; /* a page for each packet of BUFFER_SIZE, also if packets are small */

static int ends[2] = {-1, -1};

static void close_pipe(void) {
    for (int i = 0; i < 2; i++) {
        if (ends[i] >= 0) close(ends[i]);
        ends[i] = -1;
    }
}

/* Open the pipe, with descriptors above those of the standard files: a daemon opens these again. */
static void open_pipe(void) {
    int opened[2];
    if (pipe2(opened, O_NONBLOCK | O_CLOEXEC) < 0) return;
    for (int i = 0; i < 2; i++) {
        ends[i] = opened[i] > STDERR_FILENO ? opened[i] : fcntl(opened[i], F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
        if (ends[i] != opened[i]) close(opened[i]);
    }
    if (ends[0] < 0 || ends[1] < 0) close_pipe();
    else (void)fcntl(ends[1], F_SETPIPE_SZ, PIPE_SIZE); /* else it has 16 pages */
}

/* A process must not share the pipe with its parent. */
static void open_in_child(void) {
    close_pipe();
    open_pipe();
}

int pipe_init(void) {
    open_pipe();
    if (pthread_atfork(NULL, NULL, open_in_child) == 0) return 0;
    PyErr_NoMemory();
    return -1;
}

int pipe_is_open(void) {
    return ends[0] >= 0;
}

Py_ssize_t pipe_fill(const struct connection *source, int *more) {
    Py_ssize_t size = splice(source->fd, NULL, ends[1], NULL, BUFFER_SIZE, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    *more = size == BUFFER_SIZE;
    return size;
}

Py_ssize_t pipe_flush(const struct connection *sink, Py_ssize_t size) {
    Py_ssize_t sent = 0, count = 1;
    while (sent < size && count > 0) {
        count = splice(ends[0], NULL, sink->fd, NULL, (size_t)(size - sent), SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
        if (count > 0) sent += count;
    }
    for (Py_ssize_t at = sent; at < size; at += count)
        if ((count = read(ends[0], buffer + at, (size_t)(size - at))) <= 0) Py_FatalError("the pipe has lost bytes");
    return sent;
}
