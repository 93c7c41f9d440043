/* The relay's inner loop: from one leg's connection to the other's while good data frames come, and nothing else.

   Whatever is out of the ordinary (a control frame, a fault, a header in two pieces, the end) is given back as
   bytes that nobody has looked at, and Python does with them what it does without this file.  So there is no
   rule here that core/frames.py does not have, and no state but what a walker holds. */
#include "compiled.h"
#include <errno.h>

enum { ROUNDS = 2 }; /* rooms full at a time */

/* The names of what is read, written and called here. */
#define NAMES(X) \
    X(left) X(fragmented) X(octets) X(heard) X(sink) X(walker) X(data) X(held) X(current_frame) \
    X(is_at_rest) X(is_clear) X(write)
#define DECLARE(name) static PyObject *name##_name;
NAMES(DECLARE)

typedef struct {
    PyObject_HEAD
    PyObject *leg, *sink, *walker, *source, *target, *handles; /* the handles keep what `ssl` is */
    struct end here, there;
    int masked;
    unsigned long long longest;
} Passage;

/* Whether an attribute is that very object, or is true: 1 or 0, -1 when Python raised. */
static int is(PyObject *object, PyObject *name, PyObject *value) {
    PyObject *found = PyObject_GetAttr(object, name);
    Py_XDECREF(found); /* only compared: somebody else holds it */
    return found ? found == value : -1;
}

static int is_true(PyObject *found) {
    int answer = found ? PyObject_IsTrue(found) : -1;
    Py_XDECREF(found);
    return answer;
}

/* Whether the leg has nothing in hand, its walker and its sink are those of old, and both streams are ready. */
static int is_open(Passage *self) {
    int closed = is(self->leg, sink_name, self->sink) < 1 || is(self->leg, walker_name, self->walker) < 1 ||
                 is(self->leg, current_frame_name, Py_None) < 1 ||
                 is_true(PyObject_GetAttr(self->leg, data_name)) || is_true(PyObject_GetAttr(self->sink, held_name)) ||
                 (self->here.ssl && is_true(PyObject_CallMethodNoArgs(self->source, is_at_rest_name)) < 1) ||
                 is_true(PyObject_CallMethodNoArgs(self->target, is_clear_name)) < 1;
    return PyErr_Occurred() ? -1 : !closed;
}

static int load(PyObject *walker, struct place *place) {
    PyObject *left = PyObject_GetAttr(walker, left_name);
    if (left) place->left = PyLong_AsUnsignedLongLong(left);
    Py_XDECREF(left);
    place->fragmented = is_true(PyObject_GetAttr(walker, fragmented_name));
    return PyErr_Occurred() ? -1 : 0;
}

/* Sets an attribute to a value that is given away. */
static int set(PyObject *object, PyObject *name, PyObject *value) {
    int result = value ? PyObject_SetAttr(object, name, value) : -1;
    Py_XDECREF(value);
    return result;
}

/* What Leg.dataReceived would have done for so many octets. */
static int store(Passage *self, Py_ssize_t moved, const struct place *old, const struct place *new) {
    PyObject *octets = PyObject_GetAttr(self->leg, octets_name), *more = PyLong_FromSsize_t(moved);
    PyObject *sum = octets && more ? PyNumber_Add(octets, more) : NULL, *walker = self->walker;
    Py_XDECREF(octets);
    Py_XDECREF(more);
    if (set(self->leg, octets_name, sum) < 0 || PyObject_SetAttr(self->leg, heard_name, Py_True) < 0) return -1;
    if (old->left != new->left && set(walker, left_name, PyLong_FromUnsignedLongLong(new->left)) < 0) return -1;
    if (old->fragmented == new->fragmented) return 0;
    return set(walker, fragmented_name, PyBool_FromLong(new->fragmented));
}

PyObject *passage_go(PyObject *passage) {
    Passage *self = (Passage *)passage;
    struct place place = {.masked = self->masked, .longest = self->longest};
    int open = is_open(self);
    if (open < 1) return open < 0 ? NULL : PyBytes_FromStringAndSize(NULL, 0);
    if (load(self->walker, &place) < 0) return NULL;
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
    PyObject *answer = unseen ? unseen : Py_NewRef(Py_None);
    if (moved > 0 && store(self, moved, &before, &place) < 0) Py_CLEAR(answer);
    if (unsent) { /* the last: it runs Python, which may end either leg */
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

PyDoc_STRVAR(passage_doc,
    "Passage(leg, sink, walker, source, target, handles, (source_fd, source_ssl), (target_fd, target_ssl),\n"
    "        masked, longest)\n\n"
    "Call it to move what is there, some rooms full at most.  None: all of it went on, or into the target's\n"
    "`write` when the socket took no more.  Octets: nobody has looked at them.  No octet: read, and see.");

static PyObject *call(PyObject *self, PyObject *args, PyObject *named) {
    if (PyTuple_GET_SIZE(args) || named) return PyErr_Format(PyExc_TypeError, "a passage takes no arguments");
    return passage_go(self);
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
