/* The interface between the compiled parts, with the bounds of their work. */
#ifndef ESXIPROXY_COMPILED_H
#define ESXIPROXY_COMPILED_H
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

/* Bounds that constants.py explains.  BUFFER_SIZE is its READ_SIZE, and its TLS_READ_SIZE. */
enum {
    RECORD_SIZE = 16 * 1024,
    RECORDS_PER_EVENT = 6,
    BUFFER_SIZE = RECORDS_PER_EVENT * RECORD_SIZE,
    SMALL_RECORD = 1024,
    MAX_EVENTS = 256,
    STREAMS_PER_TURN = 64,
};

/* Bounds of the compiled part alone. */
enum {
    FILLS_PER_CALL = 2, /* buffers that one call of a fast path forwards, at most */
    MAX_BLOCKERS = 8,   /* names in a stream class's FAST_PATH_BLOCKERS, at most */
    MAX_SLOTS = 12,     /* slots that a scanner reads, at most */
    WAIT_US = 50,       /* microseconds that the loop waits for the next event before it returns to the reactor */
    RECHECK_US = 100,   /* microseconds of slow streams after which the loop serves newly ready fast streams */
    MAX_TURN_US = 1000, /* microseconds after which the loop returns to the reactor, and limit of all rechecks */
};

/* A connection.  `ssl` is its OpenSSL object, NULL for a plain connection. */
struct connection {
    int fd;
    void *ssl;
};

/* buffer.c: one buffer, shared by all fast paths.  The GIL is not released while it is in use. */
extern unsigned char buffer[BUFFER_SIZE];

/* Read from a connection into the buffer, and return the number of bytes; 0 at the end of a plain connection.
   Return -1 with errno for an error of the socket, EAGAIN included.  `*more` is 1 if there may be more to read,
   0 if not, and -1 if Python has to read next: a TLS connection has ended, failed or has to write. */
Py_ssize_t buffer_fill(const struct connection *source, int *more);
/* Write the first `size` bytes, and return the number of bytes written.  An error is reported as a short write: the
   rest is given to the target's `write`, which finds the same error. */
Py_ssize_t buffer_flush(const struct connection *sink, Py_ssize_t size);
/* Set the addresses of pyOpenSSL's SSL_read, SSL_write, SSL_get_error and ERR_clear_error. */
void buffer_set_openssl(const uintptr_t *addresses);
int buffer_has_openssl(void);

/* A scanner, which examines the bytes of one stream.  Its state is that of Python objects, which have it between two
   calls.  An attribute of `__slots__` has the same offset in every object of its class, so it is read without a
   look-up. */
struct scanner {
    const struct scanner_kind *kind;
    PyObject *objects;           /* a tuple of the Python objects */
    PyObject **slots[MAX_SLOTS]; /* where they have their values, in the order of the kind's names; may be NULL */
    int masked, fragmented;      /* of frames */
    uint64_t longest;            /* the maximum of a frame, and of a body's `octets` */
    uint64_t left, octets;       /* bytes until the next frame, chunk line or end; payload so far */
    uint64_t left_before, octets_before;
    int fragmented_before;
};

struct slot_name {
    int object; /* its place in the tuple */
    const char *text;
    PyObject *name; /* set by fast_path_init */
};

/* The functions of one kind of scanner.  None of them runs Python code.  Each returns -1 with an exception. */
struct scanner_kind {
    const char *name;
    Py_ssize_t objects;
    struct slot_name *slots; /* ends with an entry without a text */
    /* Read what does not change, once. */
    int (*prepare)(struct scanner *scanner);
    /* Read the state, and return whether bytes may be forwarded now. */
    int (*load)(struct scanner *scanner);
    /* Return whether the first `size` bytes of the buffer may be forwarded unchanged, and advance the state if so. */
    int (*scan)(struct scanner *scanner, uint64_t size);
    /* Write the state back after `moved` bytes were forwarded. */
    int (*store)(struct scanner *scanner, Py_ssize_t moved);
};

/* scan_frames.c: the data frames of a leg.  scan_body.c: a body with a length, and a chunked one. */
extern const struct scanner_kind frames_kind, fixed_body_kind, chunked_body_kind;

/* slots.c: attributes of `__slots__`. */
/* Return where an object has an attribute, NULL with an exception if it is not a slot. */
PyObject **slot_find(PyObject *object, PyObject *name);
/* Whether a slot is the object's own bytes of no length. */
int slot_is_empty_bytes(PyObject *const *slot);
/* Read an integer that is not negative. */
int slot_load(PyObject *const *slot, uint64_t *value);
/* Set a slot; takes the reference to the value, NULL with an exception included. */
int slot_set(PyObject **slot, PyObject *value);
int slot_store(PyObject **slot, uint64_t value);

/* fast_path.c: forwards the bytes of a stream that its scanner knows from one connection to the other. */
extern PyTypeObject fast_path_type;
/* Forward the bytes that are ready, and return a FastPathResult (interfaces.py), which is what is left to Python:
     None         nothing: all bytes were forwarded, or there were none
     b""          the read itself: the fast path may not read now, or saw the end of the connection
     other bytes  these bytes, which were read and are not examined
     NULL         an exception: OSError for an error of the socket, any other for a bug
   `*ran_python` is set to 1 if Python code was run, which may have changed any stream. */
PyObject *fast_path_run(PyObject *fast_path, int *ran_python);
/* Whether the last call forwarded more than a record: such a stream is served after those with little data. */
int fast_path_is_bulk(PyObject *fast_path);
int fast_path_init(void);

/* epoll_loop.c: serves the streams that are ready. */
extern const char epoll_loop_serve_doc[];
PyObject *epoll_loop_serve(PyObject *module, PyObject *const *args, Py_ssize_t count);
int epoll_loop_init(void);

/* registration.c: registers streams with the epoll instance of the loop, and sets options of sockets. */
extern const char epoll_register_doc[], epoll_unregister_doc[], set_options_doc[];
PyObject *epoll_register(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *epoll_unregister(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *set_options(PyObject *module, PyObject *const *args, Py_ssize_t count);

#endif
