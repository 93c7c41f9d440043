/* What the compiled parts know of each other. */
#ifndef ESXIPROXY_COMPILED_H
#define ESXIPROXY_COMPILED_H
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

/* One connection.  `ssl` is OpenSSL's part of it, NULL when it is plain. */
struct connection {
    int fd;
    void *ssl;
};

/* Where in its stream of frames a walker stands (core/websocket/frames.py). */
struct scan_state {
    int masked, fragmented;
    uint64_t longest, left;
};

/* buffer.c: one buffer for all, since the GIL is kept. */
enum { RECORD_SIZE = 16 * 1024, BUFFER_SIZE = 6 * RECORD_SIZE };
extern unsigned char buffer[BUFFER_SIZE];

/* What is there to be read: its size, 0 when Python has to look, -1 with errno.  `more`: there may be more. */
Py_ssize_t buffer_fill(const struct connection *source, int *more);
/* Whether all that is in the room is data frames without a fault; then the place is behind them. */
int buffer_scan(struct scan_state *place, uint64_t size);
/* How much of it was taken; why not all of it is for Python to find out, which offers the rest again. */
Py_ssize_t buffer_flush(const struct connection *sink, Py_ssize_t size);
/* OpenSSL as pyOpenSSL has it: where its read, write, get_error and clear_error are. */
void buffer_set_openssl(const uintptr_t *addresses);
int buffer_has_openssl(void);

/* fast_path.c: from one leg's connection to the other's. */
extern PyTypeObject fast_path_type;
PyObject *fast_path_run(PyObject *fast_path, int *ran_python); /* ran_python: it had to run Python */
int fast_path_is_bulk(PyObject *fast_path);                  /* whether it takes its time */
int fast_path_init(void);

/* epoll_loop.c: who of those that are ready has a fast_path. */
extern const char epoll_loop_serve_doc[];
PyObject *epoll_loop_serve(PyObject *module, PyObject *const *args, Py_ssize_t count);
int epoll_loop_init(void);

#endif
