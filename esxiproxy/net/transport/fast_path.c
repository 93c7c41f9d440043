/* The relay's inner loop: from one leg's connection to the other's while good data frames come, and nothing else.

   Whatever is out of the ordinary (a control frame, a fault, a header in two pieces, the end) is given back as
   bytes that nobody has looked at, and Python does with them what it does without this file.  So there is no
   rule here that core/websocket/frames.py does not have, and no state but what a walker holds. */
#include "compiled.h"
#include <errno.h>
#include <structmember.h>

enum { ROUNDS = 2 }; /* rooms full at a time */

/* An attribute that is a slot (`__slots__`) lies at the same place in every object of its class: no look-up is made. */
#define AT(object, slot) (*(PyObject **)((char *)(object) + (slot)))

static Py_ssize_t slot_of(PyObject *object, PyObject *name) {
    PyObject *found = PyObject_GetAttr((PyObject *)Py_TYPE(object), name);
    Py_ssize_t slot = -1;
    if (found && Py_TYPE(found) == &PyMemberDescr_Type)
        slot = ((PyMemberDescrObject *)found)->d_member->offset;
    else if (found)
        PyErr_Format(PyExc_TypeError, "%U of %R is no slot", name, Py_TYPE(object));
    Py_XDECREF(found);
    return slot;
}

#define NAMES(X) \
    X(sink) X(walker) X(data) X(current_frame) X(held) X(octets) X(heard) X(left) X(fragmented) \
    X(connected) X(_streaming) X(_write_buffer) X(size) X(FAST_PATH_BLOCKERS) X(write)
#define DECLARE(name) static PyObject *name##_name;
NAMES(DECLARE)

enum { BUSY = 8 };

/* A stream, and the slots that say whether there is a way through it. */
struct way {
    PyObject *stream;
    Py_ssize_t connected, streaming, outbox, size, busy[BUSY];
    int count;
};

typedef struct {
    PyObject_HEAD
    PyObject *leg, *sink, *walker, *source, *target, *handles; /* the handles keep what `ssl` is */
    struct end here, there;
    struct way in, out;
    Py_ssize_t sink_slot, walker_slot, data_slot, frame_slot, octets_slot, heard_slot; /* the leg's */
    Py_ssize_t held_slot;                                                              /* the sink's */
    Py_ssize_t left_slot, fragmented_slot;                                             /* the walker's */
    int masked, bulky;
    unsigned long long longest;
} Passage;

/* Whether it is connected with somebody who feeds it, and none of what its class names in FAST_PATH_BLOCKERS is so. */
static int is_free(const struct way *way) {
    if (AT(way->stream, way->connected) != Py_True || AT(way->stream, way->streaming) != Py_True) return 0;
    for (int i = 0; i < way->count; i++) {
        PyObject *busy = AT(way->stream, way->busy[i]);
        if (busy != Py_False && busy != Py_None) return 0;
    }
    return 1;
}

/* Whether the leg has nothing in hand, its walker and its sink are those of old, and the way is free. */
static int is_open(const Passage *self) {
    PyObject *leg = self->leg, *octets = AT(leg, self->data_slot), *held = AT(self->sink, self->held_slot);
    PyObject *outbox = AT(self->target, self->out.outbox);
    return AT(leg, self->sink_slot) == self->sink && AT(leg, self->walker_slot) == self->walker &&
           AT(leg, self->frame_slot) == Py_None && octets && PyBytes_CheckExact(octets) &&
           PyBytes_GET_SIZE(octets) == 0 && held && PyDict_CheckExact(held) && PyDict_GET_SIZE(held) == 0 &&
           outbox && PyObject_IsTrue(AT(outbox, self->out.size)) == 0 && is_free(&self->in) && is_free(&self->out);
}

/* Sets a slot to a value that is given away. */
static int set(PyObject *object, Py_ssize_t slot, PyObject *value) {
    PyObject *old = AT(object, slot);
    if (value == NULL) return -1;
    AT(object, slot) = value;
    Py_XDECREF(old);
    return 0;
}

/* What Leg.dataReceived would have done for so many octets. */
static int store(Passage *self, Py_ssize_t moved, const struct place *old, const struct place *new) {
    PyObject *walker = self->walker;
    unsigned long long octets = PyLong_AsUnsignedLongLong(AT(self->leg, self->octets_slot));
    if (PyErr_Occurred() || set(self->leg, self->heard_slot, Py_NewRef(Py_True)) < 0) return -1;
    if (set(self->leg, self->octets_slot, PyLong_FromUnsignedLongLong(octets + moved)) < 0) return -1;
    if (old->left != new->left && set(walker, self->left_slot, PyLong_FromUnsignedLongLong(new->left)) < 0) return -1;
    if (old->fragmented == new->fragmented) return 0;
    return set(walker, self->fragmented_slot, PyBool_FromLong(new->fragmented));
}

PyObject *passage_go(PyObject *passage, int *asked) {
    Passage *self = (Passage *)passage;
    if (!is_open(self)) return PyBytes_FromStringAndSize(NULL, 0);
    struct place place = {
        .masked = self->masked,
        .longest = self->longest,
        .left = PyLong_AsUnsignedLongLong(AT(self->walker, self->left_slot)),
        .fragmented = AT(self->walker, self->fragmented_slot) == Py_True,
    };
    if (PyErr_Occurred()) return NULL;
    struct place before = place;
    Py_ssize_t moved = 0;
    PyObject *unseen = NULL, *unsent = NULL;
    int more = 1, fault = 0;
    for (int round = 0; round < ROUNDS && more > 0 && unsent == NULL; round++) {
        Py_ssize_t size = room_take(&self->here, &more);
        if (size < 0) {
            fault = errno == EAGAIN || errno == EINTR ? 0 : errno;
            break;
        }
        if (size == 0 || more < 0 || !room_walk(&place, (uint64_t)size)) {
            if ((unseen = PyBytes_FromStringAndSize((char *)room, size)) == NULL) return NULL;
            break;
        }
        Py_ssize_t sent = room_put(&self->there, size);
        if (sent < size && (unsent = PyBytes_FromStringAndSize((char *)room + sent, size - sent)) == NULL)
            return NULL;
        moved += size;
    }
    self->bulky = moved > RECORD;
    PyObject *answer = unseen ? unseen : Py_NewRef(Py_None);
    if (moved > 0 && store(self, moved, &before, &place) < 0) Py_CLEAR(answer);
    if (unsent) { /* the last: it runs Python, which may end either leg */
        *asked = 1;
        PyObject *result = answer ? PyObject_CallMethodOneArg(self->target, write_name, unsent) : NULL;
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

int passage_is_bulky(PyObject *passage) {
    return ((Passage *)passage)->bulky;
}

PyDoc_STRVAR(passage_doc,
    "Passage(leg, sink, walker, source, target, handles, (source_fd, source_ssl), (target_fd, target_ssl),\n"
    "        masked, longest)\n\n"
    "Call it to move what is there, some rooms full at most.  None: all of it went on, or into the target's\n"
    "`write` when the socket took no more.  Octets: nobody has looked at them.  No octet: read, and see.");

static PyObject *call(PyObject *self, PyObject *args, PyObject *named) {
    if (PyTuple_GET_SIZE(args) || named) return PyErr_Format(PyExc_TypeError, "a passage takes no arguments");
    int asked;
    return passage_go(self, &asked);
}

/* Finds the slots of a stream; -1 when it is none of ours. */
static int learn(struct way *way, PyObject *stream) {
    PyObject *outbox = PyObject_GetAttr(stream, _write_buffer_name);
    PyObject *busy = outbox ? PyObject_GetAttr(stream, FAST_PATH_BLOCKERS_name) : NULL;
    if (busy && (!PyTuple_CheckExact(busy) || PyTuple_GET_SIZE(busy) > BUSY))
        PyErr_Format(PyExc_TypeError, "FAST_PATH_BLOCKERS is no tuple of at most %d names", BUSY);
    if (busy && !PyErr_Occurred()) {
        way->stream = stream;
        way->count = (int)PyTuple_GET_SIZE(busy);
        way->connected = slot_of(stream, connected_name), way->streaming = slot_of(stream, _streaming_name);
        way->outbox = slot_of(stream, _write_buffer_name), way->size = slot_of(outbox, size_name);
        for (int i = 0; i < way->count; i++) way->busy[i] = slot_of(stream, PyTuple_GET_ITEM(busy, i));
    }
    Py_XDECREF(busy);
    Py_XDECREF(outbox);
    return PyErr_Occurred() ? -1 : 0;
}

static PyObject *make(PyTypeObject *type, PyObject *args, PyObject *named) {
    PyObject *leg, *sink, *walker, *source, *target, *handles;
    unsigned long long into, out, longest;
    int here, there, masked;
    if (named) return PyErr_Format(PyExc_TypeError, "a passage's arguments have no names");
    if (!PyArg_ParseTuple(args, "OOOOOO(iK)(iK)pK", &leg, &sink, &walker, &source, &target, &handles, &here, &into,
                          &there, &out, &masked, &longest))
        return NULL;
    if ((into || out) && !room_has_openssl()) return PyErr_Format(PyExc_RuntimeError, "no OpenSSL was given");
    Passage *self = (Passage *)type->tp_alloc(type, 0);
    if (self == NULL) return NULL;
    self->leg = Py_NewRef(leg), self->sink = Py_NewRef(sink), self->walker = Py_NewRef(walker);
    self->source = Py_NewRef(source), self->target = Py_NewRef(target), self->handles = Py_NewRef(handles);
    self->here = (struct end){here, (void *)(uintptr_t)into};
    self->there = (struct end){there, (void *)(uintptr_t)out};
    self->masked = masked, self->longest = longest;
    self->sink_slot = slot_of(leg, sink_name), self->walker_slot = slot_of(leg, walker_name);
    self->data_slot = slot_of(leg, data_name), self->frame_slot = slot_of(leg, current_frame_name);
    self->octets_slot = slot_of(leg, octets_name), self->heard_slot = slot_of(leg, heard_name);
    self->held_slot = slot_of(sink, held_name);
    self->left_slot = slot_of(walker, left_name), self->fragmented_slot = slot_of(walker, fragmented_name);
    if (PyErr_Occurred() || learn(&self->in, source) < 0 || learn(&self->out, target) < 0) Py_CLEAR(self);
    return (PyObject *)self;
}

/* A stream has its passage, which has the stream: the collector is told, should nobody take it out. */
#define HELD(X) X(leg) X(sink) X(walker) X(source) X(target) X(handles)

static int traverse(PyObject *passage, visitproc visit, void *arg) {
#define VISIT(name) Py_VISIT(((Passage *)passage)->name);
    HELD(VISIT)
    return 0;
}

static int clear(PyObject *passage) {
#define CLEAR(name) Py_CLEAR(((Passage *)passage)->name);
    HELD(CLEAR)
    return 0;
}

static void dealloc(PyObject *passage) {
    PyObject_GC_UnTrack(passage);
    clear(passage);
    Py_TYPE(passage)->tp_free(passage);
}

PyTypeObject passage_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "esxiproxy.net.transport._compiled.Passage",
    .tp_doc = passage_doc,
    .tp_basicsize = sizeof(Passage),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = make,
    .tp_call = call,
    .tp_traverse = traverse,
    .tp_clear = clear,
    .tp_dealloc = dealloc,
};

int passage_ready(void) {
#define INTERN(name) \
    if ((name##_name = PyUnicode_InternFromString(#name)) == NULL) return -1;
    NAMES(INTERN)
    return PyType_Ready(&passage_type);
}
