/* The relay's inner loop: forwards valid data frames from one leg's connection to the other's.

   Everything else (a control frame, a protocol error, a header that is split between two reads, the end of the
   connection) is returned to Python as bytes that are not examined, and Python processes them as it does without
   this file.  So every rule here is a rule of core/websocket/frames.py as well, and all state is that of a
   FrameWalker. */
#include "compiled.h"
#include <errno.h>
#include <structmember.h>

/* An attribute of `__slots__` has the same offset in every object of its class, so it is read without a look-up. */
#define AT(object, slot) (*(PyObject **)((char *)(object) + (slot)))

static Py_ssize_t slot_offset(PyObject *object, PyObject *name) {
    PyObject *found = PyObject_GetAttr((PyObject *)Py_TYPE(object), name);
    Py_ssize_t slot = -1;
    if (found && Py_TYPE(found) == &PyMemberDescr_Type)
        slot = ((PyMemberDescrObject *)found)->d_member->offset;
    else if (found)
        PyErr_Format(PyExc_TypeError, "%U of %R is not a slot", name, Py_TYPE(object));
    Py_XDECREF(found);
    return slot;
}

#define NAMES(X) \
    X(sink) X(walker) X(data) X(current_frame) X(held) X(octets) X(heard) X(left) X(fragmented) \
    X(connected) X(_streaming) X(_write_buffer) X(size) X(FAST_PATH_BLOCKERS) X(write)
#define DECLARE(name) static PyObject *name##_name;
NAMES(DECLARE)

/* A stream, with the offsets of the slots that say whether a fast path may use it. */
struct stream_slots {
    PyObject *stream;
    Py_ssize_t connected, streaming, write_buffer, size, blockers[MAX_BLOCKERS];
    int count;
};

typedef struct {
    PyObject_HEAD
    PyObject *leg, *sink, *walker, *source, *target, *handles; /* the handles keep each `ssl` alive */
    struct connection from, to;
    struct stream_slots in, out;
    Py_ssize_t sink_slot, walker_slot, data_slot, frame_slot, octets_slot, heard_slot; /* the leg's */
    Py_ssize_t held_slot;                                                              /* the sink's */
    Py_ssize_t left_slot, fragmented_slot;                                             /* the walker's */
    int masked, bulk;
    unsigned long long longest;
} FastPath;

/* Whether a stream is connected, has a push producer, and has none of its class's FAST_PATH_BLOCKERS set. */
static int is_unblocked(const struct stream_slots *slots) {
    if (AT(slots->stream, slots->connected) != Py_True || AT(slots->stream, slots->streaming) != Py_True) return 0;
    for (int i = 0; i < slots->count; i++) {
        PyObject *blocker = AT(slots->stream, slots->blockers[i]);
        if (blocker != Py_False && blocker != Py_None) return 0;
    }
    return 1;
}

/* Whether bytes may be forwarded: the leg still has this walker and this sink and no unprocessed input, the sink has no
   control frame to send and no bytes to write, and neither stream is blocked. */
static int may_forward(const FastPath *self) {
    PyObject *leg = self->leg, *octets = AT(leg, self->data_slot), *held = AT(self->sink, self->held_slot);
    PyObject *write_buffer = AT(self->target, self->out.write_buffer);
    return AT(leg, self->sink_slot) == self->sink && AT(leg, self->walker_slot) == self->walker &&
           AT(leg, self->frame_slot) == Py_None && octets && PyBytes_CheckExact(octets) &&
           PyBytes_GET_SIZE(octets) == 0 && held && PyDict_CheckExact(held) && PyDict_GET_SIZE(held) == 0 &&
           write_buffer && PyObject_IsTrue(AT(write_buffer, self->out.size)) == 0 && is_unblocked(&self->in) &&
           is_unblocked(&self->out);
}

/* Set a slot; takes the reference to the value.  Return -1 if the value is NULL. */
static int set_slot(PyObject *object, Py_ssize_t slot, PyObject *value) {
    PyObject *old = AT(object, slot);
    if (value == NULL) return -1;
    AT(object, slot) = value;
    Py_XDECREF(old);
    return 0;
}

/* Update the leg and its walker as Leg.dataReceived does after it has forwarded `moved` bytes. */
static int update_leg(FastPath *self, Py_ssize_t moved, const struct scan_state *old,
                      const struct scan_state *new) {
    PyObject *walker = self->walker;
    unsigned long long octets = PyLong_AsUnsignedLongLong(AT(self->leg, self->octets_slot));
    if (PyErr_Occurred() || set_slot(self->leg, self->heard_slot, Py_NewRef(Py_True)) < 0) return -1;
    if (set_slot(self->leg, self->octets_slot, PyLong_FromUnsignedLongLong(octets + moved)) < 0) return -1;
    if (old->left != new->left && set_slot(walker, self->left_slot, PyLong_FromUnsignedLongLong(new->left)) < 0)
        return -1;
    if (old->fragmented == new->fragmented) return 0;
    return set_slot(walker, self->fragmented_slot, PyBool_FromLong(new->fragmented));
}

PyObject *fast_path_run(PyObject *fast_path, int *ran_python) {
    FastPath *self = (FastPath *)fast_path;
    if (!may_forward(self)) return PyBytes_FromStringAndSize(NULL, 0);
    struct scan_state state = {
        .masked = self->masked,
        .longest = self->longest,
        .left = PyLong_AsUnsignedLongLong(AT(self->walker, self->left_slot)),
        .fragmented = AT(self->walker, self->fragmented_slot) == Py_True,
    };
    if (PyErr_Occurred()) return NULL;
    struct scan_state before = state;
    Py_ssize_t moved = 0;
    PyObject *unread = NULL, *unsent = NULL;
    int more = 1, fault = 0;
    for (int round = 0; round < FILLS_PER_CALL && more > 0 && unsent == NULL; round++) {
        Py_ssize_t size = buffer_fill(&self->from, &more);
        if (size < 0) {
            fault = errno == EAGAIN || errno == EINTR ? 0 : errno;
            break;
        }
        if (size == 0 || more < 0 || !buffer_scan(&state, (uint64_t)size)) {
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
    if (moved > 0 && update_leg(self, moved, &before, &state) < 0) Py_CLEAR(leftover);
    if (unsent) { /* comes last: write() runs Python code, which may close either leg */
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
    "FastPath(leg, sink, walker, source, target, handles, (source_fd, source_ssl), (target_fd, target_ssl),\n"
    "        masked, longest)\n\n"
    "Call it to forward the bytes that are ready.  Bytes that the socket does not take are passed to the target's\n"
    "`write`.  The result is a FastPathResult (esxiproxy.net.transport.interfaces).");

static PyObject *call(PyObject *self, PyObject *args, PyObject *named) {
    if (PyTuple_GET_SIZE(args) || named)
        return PyErr_Format(PyExc_TypeError, "FastPath.__call__() takes no arguments");
    int ran_python;
    return fast_path_run(self, &ran_python);
}

/* Find the slots of a stream.  Return -1 with an exception if its class has not all of them. */
static int find_slots(struct stream_slots *slots, PyObject *stream) {
    PyObject *write_buffer = PyObject_GetAttr(stream, _write_buffer_name);
    PyObject *blockers = write_buffer ? PyObject_GetAttr(stream, FAST_PATH_BLOCKERS_name) : NULL;
    if (blockers && (!PyTuple_CheckExact(blockers) || PyTuple_GET_SIZE(blockers) > MAX_BLOCKERS))
        PyErr_Format(PyExc_TypeError, "FAST_PATH_BLOCKERS is not a tuple of at most %d names", MAX_BLOCKERS);
    if (blockers && !PyErr_Occurred()) {
        slots->stream = stream;
        slots->count = (int)PyTuple_GET_SIZE(blockers);
        slots->connected = slot_offset(stream, connected_name);
        slots->streaming = slot_offset(stream, _streaming_name);
        slots->write_buffer = slot_offset(stream, _write_buffer_name);
        slots->size = slot_offset(write_buffer, size_name);
        for (int i = 0; i < slots->count; i++)
            slots->blockers[i] = slot_offset(stream, PyTuple_GET_ITEM(blockers, i));
    }
    Py_XDECREF(blockers);
    Py_XDECREF(write_buffer);
    return PyErr_Occurred() ? -1 : 0;
}

static PyObject *make(PyTypeObject *type, PyObject *args, PyObject *named) {
    PyObject *leg, *sink, *walker, *source, *target, *handles;
    unsigned long long source_ssl, target_ssl, longest;
    int source_fd, target_fd, masked;
    if (named) return PyErr_Format(PyExc_TypeError, "FastPath() takes no keyword arguments");
    if (!PyArg_ParseTuple(args, "OOOOOO(iK)(iK)pK", &leg, &sink, &walker, &source, &target, &handles, &source_fd,
                          &source_ssl, &target_fd, &target_ssl, &masked, &longest))
        return NULL;
    if ((source_ssl || target_ssl) && !buffer_has_openssl())
        return PyErr_Format(PyExc_RuntimeError, "openssl() was not called, which a TLS connection needs");
    FastPath *self = (FastPath *)type->tp_alloc(type, 0);
    if (self == NULL) return NULL;
    self->leg = Py_NewRef(leg), self->sink = Py_NewRef(sink), self->walker = Py_NewRef(walker);
    self->source = Py_NewRef(source), self->target = Py_NewRef(target), self->handles = Py_NewRef(handles);
    self->from = (struct connection){source_fd, (void *)(uintptr_t)source_ssl};
    self->to = (struct connection){target_fd, (void *)(uintptr_t)target_ssl};
    self->masked = masked, self->longest = longest;
    self->sink_slot = slot_offset(leg, sink_name), self->walker_slot = slot_offset(leg, walker_name);
    self->data_slot = slot_offset(leg, data_name), self->frame_slot = slot_offset(leg, current_frame_name);
    self->octets_slot = slot_offset(leg, octets_name), self->heard_slot = slot_offset(leg, heard_name);
    self->held_slot = slot_offset(sink, held_name);
    self->left_slot = slot_offset(walker, left_name), self->fragmented_slot = slot_offset(walker, fragmented_name);
    if (PyErr_Occurred() || find_slots(&self->in, source) < 0 || find_slots(&self->out, target) < 0) Py_CLEAR(self);
    return (PyObject *)self;
}

/* A stream refers to its fast path, which refers to the stream: the cycle collector has to see these references. */
#define OWNED(X) X(leg) X(sink) X(walker) X(source) X(target) X(handles)

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
    return PyType_Ready(&fast_path_type);
}
