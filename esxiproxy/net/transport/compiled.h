/* What the compiled parts know of each other. */
#ifndef ESXIPROXY_COMPILED_H
#define ESXIPROXY_COMPILED_H
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

/* One connection.  `ssl` is OpenSSL's part of it, NULL when it is plain. */
struct end {
    int fd;
    void *ssl;
};

/* Where in its stream of frames a walker stands (core/websocket/frames.py). */
struct place {
    int masked, fragmented;
    uint64_t longest, left;
};

/* buffer.c: one buffer for all, since the GIL is kept. */
enum { RECORD = 16 * 1024, ROOM = 6 * RECORD };
extern unsigned char room[ROOM];

/* What is there to be read: its size, 0 when Python has to look, -1 with errno.  `more`: there may be more. */
Py_ssize_t room_take(const struct end *source, int *more);
/* Whether all that is in the room is data frames without a fault; then the place is behind them. */
int room_walk(struct place *place, uint64_t size);
/* How much of it was taken; why not all of it is for Python to find out, which offers the rest again. */
Py_ssize_t room_put(const struct end *sink, Py_ssize_t size);
/* OpenSSL as pyOpenSSL has it: where its read, write, get_error and clear_error are. */
void room_openssl(const uintptr_t *found);
int room_has_openssl(void);

/* fast_path.c: from one leg's connection to the other's. */
extern PyTypeObject passage_type;
PyObject *passage_go(PyObject *passage, int *asked); /* asked: it had to run Python */
int passage_is_bulky(PyObject *passage);                  /* whether it takes its time */
int passage_ready(void);

/* epoll_loop.c: who of those that are ready has a passage. */
extern const char ring_serve_doc[];
PyObject *ring_serve(PyObject *module, PyObject *const *args, Py_ssize_t count);
int ring_ready(void);

#endif
