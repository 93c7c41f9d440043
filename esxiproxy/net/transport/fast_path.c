/* The inner loop of relays and of large bodies: forwards the bytes of one connection to another one.

   A scanner decides which bytes pass.  Everything else is returned to Python as bytes that are not examined, and
   Python processes them as it does without this file. */
#include "compiled.h"
#include <errno.h>

#define NAMES(X) X(connected) X(_streaming) X(_write_buffer) X(size) X(FAST_PATH_BLOCKERS) X(write)
#define DECLARE(name) static PyObject *name##_name;
NAMES(DECLARE)

static const struct scanner_kind *const kinds[] = {&frames_kind, &fixed_body_kind, &chunked_body_kind, NULL};

/* A stream, with the slots that say whether a fast path may use it. */
struct stream_slots {
    PyObject **connected, **streaming, **size, **blockers[MAX_BLOCKERS];
    int count;
};

typedef struct {
    PyObject_HEAD
    PyObject *objects, *source, *target, *handles; /* the handles keep each `ssl` alive */
    PyObject *written;                             /* the target's write buffer */
    struct scanner scanner;
    struct connection from, to;
    struct stream_slots in, out;
    int bulk;
} FastPath;

/* Whether a stream is connected, has a push producer, and has none of its class's FAST_PATH_BLOCKERS set. */
static int is_unblocked(const struct stream_slots *slots) {
    if (*slots->connected != Py_True || *slots->streaming != Py_True) return 0;
    for (int i = 0; i < slots->count; i++) {
        PyObject *blocker = *slots->blockers[i];
        if (blocker != Py_False && blocker != Py_None) return 0;
    }
    return 1;
}

/* Return whether bytes may be forwarded: the scanner can, neither stream is blocked, and the target has no bytes to
   write.  Return -1 with an exception. */
static int may_forward(FastPath *self) {
    if (self->objects == NULL) return 0; /* cleared by the cycle collector */
    PyObject *unsent = *self->out.size;
    if (!unsent || !PyLong_CheckExact(unsent) || PyObject_IsTrue(unsent)) return 0;
    if (!is_unblocked(&self->in) || !is_unblocked(&self->out)) return 0;
    return self->scanner.kind->load(&self->scanner);
}

PyObject *fast_path_run(PyObject *fast_path, int *ran_python) {
    FastPath *self = (FastPath *)fast_path;
    struct scanner *scanner = &self->scanner;
    int ready = may_forward(self);
    if (ready < 0) return NULL;
    if (!ready) return PyBytes_FromStringAndSize(NULL, 0);
    Py_ssize_t moved = 0;
    PyObject *unread = NULL, *unsent = NULL;
    int more = 1, fault = 0;
    for (int round = 0; round < FILLS_PER_CALL && more > 0 && unsent == NULL; round++) {
        Py_ssize_t size = buffer_fill(&self->from, &more);
        if (size < 0) {
            fault = errno == EAGAIN || errno == EINTR ? 0 : errno;
            break;
        }
        if (size == 0 || more < 0 || !scanner->kind->scan(scanner, (uint64_t)size)) {
            if ((unread = PyBytes_FromStringAndSize((char *)buffer, size)) == NULL) return NULL;
            break;
        }
        Py_ssize_t sent = buffer_flush(&self->to, size);
        if (sent < size && (unsent = PyBytes_FromStringAndSize((char *)buffer + sent, size - sent)) == NULL)
            return NULL;
        moved += size;
    }
    self->bulk = moved > RECORD_SIZE;
    PyObject *leftover = unread ? unread : Py_NewRef(Py_None);
    if (moved > 0 && scanner->kind->store(scanner, moved) < 0) Py_CLEAR(leftover);
    if (unsent) { /* comes last: write() runs Python code, which may close either connection */
        *ran_python = 1;
        PyObject *result = leftover ? PyObject_CallMethodOneArg(self->target, write_name, unsent) : NULL;
        if (result == NULL) Py_CLEAR(leftover);
        Py_XDECREF(result);
        Py_DECREF(unsent);
    }
    if (leftover && fault) {
        Py_CLEAR(leftover);
        errno = fault;
        PyErr_SetFromErrno(PyExc_OSError);
    }
    return leftover;
}

int fast_path_is_bulk(PyObject *fast_path) {
    return ((FastPath *)fast_path)->bulk;
}

PyDoc_STRVAR(fast_path_doc,
    "FastPath(kind, objects, source, target, handles, (source_fd, source_ssl), (target_fd, target_ssl))\n\n"
    "Call it to forward the bytes that are ready.  Bytes that the socket does not take are passed to the target's\n"
    "`write`.  The result is a FastPathResult (esxiproxy.net.transport.interfaces).  `kind` and `objects` are:\n"
    "  'frames'        (leg, sink, walker)\n"
    "  'fixed body'    (body,)\n"
    "  'chunked body'  (body,)");

static PyObject *call(PyObject *self, PyObject *args, PyObject *named) {
    if (PyTuple_GET_SIZE(args) || named)
        return PyErr_Format(PyExc_TypeError, "FastPath.__call__() takes no arguments");
    int ran_python;
    return fast_path_run(self, &ran_python);
}

/* Find the slots of a stream.  Return its write buffer, or NULL with an exception if its class has not all of them. */
static PyObject *find_stream(struct stream_slots *slots, PyObject *stream) {
    PyObject *write_buffer = PyObject_GetAttr(stream, _write_buffer_name);
    PyObject *blockers = write_buffer ? PyObject_GetAttr(stream, FAST_PATH_BLOCKERS_name) : NULL;
    if (blockers && (!PyTuple_CheckExact(blockers) || PyTuple_GET_SIZE(blockers) > MAX_BLOCKERS))
        PyErr_Format(PyExc_TypeError, "FAST_PATH_BLOCKERS is not a tuple of at most %d names", MAX_BLOCKERS);
    if (blockers && !PyErr_Occurred()) {
        slots->count = (int)PyTuple_GET_SIZE(blockers);
        if ((slots->connected = slot_find(stream, connected_name)) &&
            (slots->streaming = slot_find(stream, _streaming_name)) &&
            (slots->size = slot_find(write_buffer, size_name)))
            for (int i = 0; i < slots->count; i++)
                if ((slots->blockers[i] = slot_find(stream, PyTuple_GET_ITEM(blockers, i))) == NULL) break;
    }
    Py_XDECREF(blockers);
    if (PyErr_Occurred()) Py_CLEAR(write_buffer);
    return write_buffer;
}

/* Find the slots of a scanner.  Return -1 with an exception for objects of another kind. */
static int find_scanner(struct scanner *scanner, const char *name, PyObject *objects) {
    const struct scanner_kind *const *kind = kinds;
    while (*kind && strcmp((*kind)->name, name)) kind++;
    if (*kind == NULL || PyTuple_GET_SIZE(objects) != (*kind)->objects) {
        PyErr_Format(PyExc_TypeError, "FastPath() has no kind '%s' of %zd objects", name, PyTuple_GET_SIZE(objects));
        return -1;
    }
    scanner->kind = *kind;
    scanner->objects = objects;
    for (int i = 0; scanner->kind->slots[i].text; i++) {
        const struct slot_name *slot = &scanner->kind->slots[i];
        if ((scanner->slots[i] = slot_find(PyTuple_GET_ITEM(objects, slot->object), slot->name)) == NULL) return -1;
    }
    return scanner->kind->prepare(scanner);
}

static PyObject *make(PyTypeObject *type, PyObject *args, PyObject *named) {
    PyObject *objects, *source, *target, *handles;
    const char *kind;
    unsigned long long source_ssl, target_ssl;
    int source_fd, target_fd;
    if (named) return PyErr_Format(PyExc_TypeError, "FastPath() takes no keyword arguments");
    if (!PyArg_ParseTuple(args, "sO!OOO(iK)(iK)", &kind, &PyTuple_Type, &objects, &source, &target, &handles,
                          &source_fd, &source_ssl, &target_fd, &target_ssl))
        return NULL;
    if ((source_ssl || target_ssl) && !buffer_has_openssl())
        return PyErr_Format(PyExc_RuntimeError, "openssl() was not called, which a TLS connection needs");
    FastPath *self = (FastPath *)type->tp_alloc(type, 0);
    if (self == NULL) return NULL;
    self->objects = Py_NewRef(objects), self->handles = Py_NewRef(handles);
    self->source = Py_NewRef(source), self->target = Py_NewRef(target);
    self->from = (struct connection){source_fd, (void *)(uintptr_t)source_ssl};
    self->to = (struct connection){target_fd, (void *)(uintptr_t)target_ssl};
    PyObject *read = find_stream(&self->in, source);
    if (read) self->written = find_stream(&self->out, target);
    if (!self->written || find_scanner(&self->scanner, kind, objects) < 0) Py_CLEAR(self);
    Py_XDECREF(read);
    return (PyObject *)self;
}

/* A stream refers to its fast path, which refers to the stream: the cycle collector has to see these references. */
#define OWNED(X) X(objects) X(source) X(target) X(handles) X(written)

static int traverse(PyObject *fast_path, visitproc visit, void *arg) {
#define VISIT(name) Py_VISIT(((FastPath *)fast_path)->name);
    OWNED(VISIT)
    return 0;
}

static int clear(PyObject *fast_path) {
#define CLEAR(name) Py_CLEAR(((FastPath *)fast_path)->name);
    OWNED(CLEAR)
    return 0;
}

static void dealloc(PyObject *fast_path) {
    PyObject_GC_UnTrack(fast_path);
    clear(fast_path);
    Py_TYPE(fast_path)->tp_free(fast_path);
}

PyTypeObject fast_path_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "esxiproxy.net.transport._compiled.FastPath",
    .tp_doc = fast_path_doc,
    .tp_basicsize = sizeof(FastPath),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = make,
    .tp_call = call,
    .tp_traverse = traverse,
    .tp_clear = clear,
    .tp_dealloc = dealloc,
};

int fast_path_init(void) {
#define INTERN(name) \
    if ((name##_name = PyUnicode_InternFromString(#name)) == NULL) return -1;
    NAMES(INTERN)
    for (int i = 0; kinds[i]; i++)
        for (struct slot_name *slot = kinds[i]->slots; slot->text; slot++)
            if ((slot->name = PyUnicode_InternFromString(slot->text)) == NULL) return -1;
    return PyType_Ready(&fast_path_type);
}
