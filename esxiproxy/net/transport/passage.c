/* The relay's inner loop: from one leg's connection to the other's while good data frames come, and nothing else.

   Whatever is out of the ordinary (a control frame, a fault, a header in two pieces, the end) is given back as
   bytes that nobody has looked at, and Python does with them what it does without this file.  So there is no
   rule here that core/frames.py does not have, and no state but what a walker holds.

   The GIL is kept: no call here blocks, and all passages share one buffer. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <errno.h>
#include <stdint.h>
#include <sys/socket.h>

enum { RECORD = 16 * 1024, ROOM = 6 * RECORD, ROUNDS = 2, BULK = 1024, WANT_READ = 2 };

static unsigned char room[ROOM];

/* OpenSSL as pyOpenSSL has it: it lies inside of cryptography's module, and its addresses come from there. */
static int (*ssl_read)(void *, void *, int);
static int (*ssl_write)(void *, const void *, int);
static int (*ssl_get_error)(void *, int);
static void (*err_clear_error)(void);

struct end {
    int fd;
    void *ssl; /* NULL: plain */
};

/* Where in its stream of frames a walker stands (core/frames.py). */
struct place {
    int masked, fragmented;
    uint64_t longest, left;
};

/* What is there to be read: its size, 0 when Python has to look, -1 with errno.  `more`: there may be more. */
static Py_ssize_t take(const struct end *source, int *more) {
    Py_ssize_t size = 0;
    if (source->ssl == NULL) {
        size = recv(source->fd, room, ROOM, MSG_DONTWAIT);
        *more = size == ROOM;
        return size;
    }
    while (size <= ROOM - RECORD) { /* with room for a whole record nothing stays behind in OpenSSL */
        int count = ssl_read(source->ssl, room + size, RECORD);
        if (count > 0) {
            size += count;
            if (count >= BULK) continue;
        } else if (ssl_get_error(source->ssl, count) != WANT_READ) {
            err_clear_error();
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

/* How much of it was taken; why not all of it is for Python to find out, which offers the rest again. */
static Py_ssize_t put(const struct end *sink, Py_ssize_t size) {
    if (sink->ssl == NULL) {
        Py_ssize_t count = send(sink->fd, room, (size_t)size, MSG_DONTWAIT | MSG_NOSIGNAL);
        return count < 0 ? 0 : count;
    }
    Py_ssize_t sent = 0;
    while (sent < size) { /* a record at a time */
        int count = ssl_write(sink->ssl, room + sent, (int)(size - sent));
        if (count <= 0) {
            err_clear_error();
            break;
        }
        sent += count;
    }
    return sent;
}

static uint64_t number(const unsigned char *at, int octets) {
    uint64_t value = 0;
    while (octets-- > 0) value = value << 8 | *at++;
    return value;
}

/* Whether all that is in the room is data frames without a fault; then the place is behind them. */
static int walk(struct place *place, uint64_t size) {
    uint64_t position = place->left;
    int fragmented = place->fragmented;
    while (position < size) {
        uint64_t have = size - position, header = place->masked ? 6 : 2;
        if (have < header) return 0;
        const unsigned char *at = room + position;
        int opcode = at[0] & 0x0f;
        uint64_t length = at[1] & 0x7f;
        if (at[0] & 0x70 || opcode > 2 || (opcode == 0) != fragmented) return 0;
        if ((at[1] >> 7) != place->masked) return 0;
        if (length >= 126) {
            int octets = length == 126 ? 2 : 8;
            header += octets;
            if (have < header) return 0;
            length = number(at + 2, octets);
            if (length < (octets == 2 ? 126 : 65536) || length >> 63) return 0;
        }
        if (length > place->longest) return 0;
        fragmented = !(at[0] & 0x80);
        position += header + length;
    }
    place->left = position - size;
    place->fragmented = fragmented;
    return 1;
}

/* The names of the attributes that are read and written here. */
#define NAMES(X) X(left) X(fragmented) X(octets) X(heard)
#define DECLARE(name) static PyObject *name##_name;
NAMES(DECLARE)

static int load(PyObject *walker, struct place *place) {
    PyObject *left = PyObject_GetAttr(walker, left_name);
    PyObject *fragmented = left ? PyObject_GetAttr(walker, fragmented_name) : NULL;
    if (fragmented) {
        place->left = PyLong_AsUnsignedLongLong(left);
        place->fragmented = PyObject_IsTrue(fragmented);
    }
    Py_XDECREF(left);
    Py_XDECREF(fragmented);
    return PyErr_Occurred() ? -1 : 0;
}

/* Sets an attribute to a value that is given away. */
static int set(PyObject *object, PyObject *name, PyObject *value) {
    int result = value ? PyObject_SetAttr(object, name, value) : -1;
    Py_XDECREF(value);
    return result;
}

/* What Leg.dataReceived would have done for so many octets. */
static int store(PyObject *leg, Py_ssize_t moved, PyObject *walker, const struct place *old,
                 const struct place *new) {
    PyObject *octets = PyObject_GetAttr(leg, octets_name), *more = PyLong_FromSsize_t(moved);
    PyObject *sum = octets && more ? PyNumber_Add(octets, more) : NULL;
    Py_XDECREF(octets);
    Py_XDECREF(more);
    if (set(leg, octets_name, sum) < 0 || PyObject_SetAttr(leg, heard_name, Py_True) < 0) return -1;
    if (old->left != new->left && set(walker, left_name, PyLong_FromUnsignedLongLong(new->left)) < 0) return -1;
    if (old->fragmented == new->fragmented) return 0;
    return set(walker, fragmented_name, PyBool_FromLong(new->fragmented));
}

PyDoc_STRVAR(go_doc,
    "go(leg, walker, masked, longest, source_fd, source_ssl, sink_fd, sink_ssl, write)\n\n"
    "Move what is there, some rooms full at most.  None: all of it went on, or into `write` when the sink took\n"
    "no more.  Octets: nobody has looked at them.  No octet: it ends here: read, and see.");

static PyObject *go(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    (void)module;
    if (count != 9) return PyErr_Format(PyExc_TypeError, "go() takes 9 arguments, not %zd", count);
    PyObject *leg = args[0], *walker = args[1], *write = args[8];
    struct place place = {.masked = PyObject_IsTrue(args[2]), .longest = PyLong_AsUnsignedLongLong(args[3])};
    struct end source = {(int)PyLong_AsLong(args[4]), PyLong_AsVoidPtr(args[5])};
    struct end sink = {(int)PyLong_AsLong(args[6]), PyLong_AsVoidPtr(args[7])};
    if (PyErr_Occurred() || load(walker, &place) < 0) return NULL;
    if ((source.ssl || sink.ssl) && ssl_read == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "no OpenSSL was given");
        return NULL;
    }
    struct place before = place;
    Py_ssize_t moved = 0;
    PyObject *unseen = NULL, *unsent = NULL;
    int more = 1, fault = 0;
    for (int round = 0; round < ROUNDS && more > 0 && unsent == NULL; round++) {
        Py_ssize_t size = take(&source, &more);
        if (size < 0) {
            fault = errno == EAGAIN || errno == EINTR ? 0 : errno;
            break;
        }
        if (size == 0 || more < 0 || !walk(&place, (uint64_t)size)) {
            if ((unseen = PyBytes_FromStringAndSize((char *)room, size)) == NULL) return NULL;
            break;
        }
        Py_ssize_t sent = put(&sink, size);
        if (sent < size && (unsent = PyBytes_FromStringAndSize((char *)room + sent, size - sent)) == NULL)
            return NULL;
        moved += size;
    }
    PyObject *answer = unseen ? unseen : Py_NewRef(Py_None);
    if (moved > 0 && store(leg, moved, walker, &before, &place) < 0) Py_CLEAR(answer);
    if (unsent) { /* the last: it runs Python, which may end either leg */
        PyObject *result = answer ? PyObject_CallOneArg(write, unsent) : NULL;
        if (result == NULL) Py_CLEAR(answer);
        Py_XDECREF(result);
        Py_DECREF(unsent);
    }
    if (answer && fault) {
        Py_CLEAR(answer);
        errno = fault;
        PyErr_SetFromErrno(PyExc_OSError);
    }
    return answer;
}

PyDoc_STRVAR(openssl_doc, "openssl(read, write, get_error, clear_error): where these functions are.");

static PyObject *openssl(PyObject *module, PyObject *args) {
    (void)module;
    unsigned long long read, write, get_error, clear_error;
    if (!PyArg_ParseTuple(args, "KKKK", &read, &write, &get_error, &clear_error)) return NULL;
    ssl_read = (int (*)(void *, void *, int))(uintptr_t)read;
    ssl_write = (int (*)(void *, const void *, int))(uintptr_t)write;
    ssl_get_error = (int (*)(void *, int))(uintptr_t)get_error;
    err_clear_error = (void (*)(void))(uintptr_t)clear_error;
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"go", (PyCFunction)(void (*)(void))go, METH_FASTCALL, go_doc},
    {"openssl", openssl, METH_VARARGS, openssl_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "_passage", .m_size = -1, .m_methods = methods};

PyMODINIT_FUNC PyInit__passage(void) {
#define INTERN(name) \
    if ((name##_name = PyUnicode_InternFromString(#name)) == NULL) return NULL;
    NAMES(INTERN)
    return PyModule_Create(&definition);
}
