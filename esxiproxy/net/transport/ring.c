/* The ring's loop over the streams that are ready: those with a passage are served here, and nobody asks Python. */
#include "compiled.h"
#include <errno.h>
#include <sys/epoll.h>

enum { BATCH = 256 };

static PyObject *passage_name;

const char ring_serve_doc[] =
    "serve(epoll_fd, entries, turn, other)\n\n"
    "Serve what is ready, and say how many that were.  `entries` has a list for each descriptor: its stream, what\n"
    "it waits for, and the turn in which it began to: in that turn it is left alone.  `other(fd, event, came)` is\n"
    "called for what has no passage, with None, and for what a passage did not carry through: with the octets that\n"
    "came, or with the exception.";

/* The passage of the stream behind this entry, when it is to be read now and for no other cause: a new reference. */
static PyObject *passage_of(PyObject *entry, uint32_t event, long turn) {
    if (event != EPOLLIN || !PyList_CheckExact(entry) || PyList_GET_SIZE(entry) != 3) return NULL;
    if (!(PyLong_AsLong(PyList_GET_ITEM(entry, 1)) & EPOLLIN)) return NULL;
    if (PyLong_AsLong(PyList_GET_ITEM(entry, 2)) == turn) return NULL;
    PyObject *way = PyObject_GetAttr(PyList_GET_ITEM(entry, 0), passage_name);
    if (way && Py_TYPE(way) == &passage_type) return way;
    Py_XDECREF(way);
    PyErr_Clear(); /* not one of our streams */
    return NULL;
}

/* What a passage left, NULL when it left nothing: octets, or what was raised. */
static PyObject *left_by(PyObject *passage) {
    PyObject *came = passage_go(passage);
    if (came == Py_None) Py_CLEAR(came);
    else if (came == NULL) {
        PyObject *type, *traceback;
        PyErr_Fetch(&type, &came, &traceback);
        PyErr_NormalizeException(&type, &came, &traceback);
        Py_XDECREF(type);
        Py_XDECREF(traceback);
    }
    return came;
}

PyObject *ring_serve(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    (void)module;
    struct epoll_event events[BATCH];
    if (count != 4 || !PyDict_CheckExact(args[1]))
        return PyErr_Format(PyExc_TypeError, "serve() takes a descriptor, a dict, a number and a callable");
    long turn = PyLong_AsLong(args[2]);
    int poller = (int)PyLong_AsLong(args[0]), ready;
    if (PyErr_Occurred()) return NULL;
    if ((ready = epoll_wait(poller, events, BATCH, 0)) < 0) {
        if (errno == EINTR) return PyLong_FromLong(0); /* the reactor comes again */
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    for (int i = 0; i < ready; i++) {
        PyObject *fd = PyLong_FromLong(events[i].data.fd);
        PyObject *entry = fd ? PyDict_GetItemWithError(args[1], fd) : NULL; /* borrowed */
        PyObject *passage = entry ? passage_of(entry, events[i].events, turn) : NULL;
        PyObject *came = passage ? left_by(passage) : NULL, *result = Py_None;
        if (entry && (passage == NULL || came)) {
            PyObject *event = PyLong_FromUnsignedLong(events[i].events);
            PyObject *told[] = {fd, event, came ? came : Py_None};
            result = event ? PyObject_Vectorcall(args[3], told, 3, NULL) : NULL;
            Py_XDECREF(event);
            Py_XDECREF(result);
        }
        Py_XDECREF(came);
        Py_XDECREF(passage);
        Py_XDECREF(fd);
        if (result == NULL || PyErr_Occurred()) return NULL;
    }
    return PyLong_FromLong(ready);
}

int ring_ready(void) {
    return (passage_name = PyUnicode_InternFromString("_passage")) ? 0 : -1;
}
