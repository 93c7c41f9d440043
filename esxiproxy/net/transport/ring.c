/* The ring's loop over the streams that are ready: those with a passage are served here, and nobody asks Python. */
#include "compiled.h"
#include <errno.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Between a message and its answer there is less time than the reactor's turn takes.  So long as all that comes is
   for passages, the next is waited for here: PATIENCE and LONGEST in microseconds, ENOUGH streams served. */
enum { BATCH = 256, PATIENCE = 50, LONGEST = 1000, ENOUGH = 64 };

static PyObject *passage_name;

const char ring_serve_doc[] =
    "serve(epoll_fd, entries, turn, other)\n\n"
    "Serve what is ready, and say how many that were; 0 when nobody is left.  `entries` has a list for each descriptor: its stream, what\n"
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

/* What a passage left, NULL when it left nothing: octets, or what was raised.  `asked`: it has run Python. */
static PyObject *left_by(PyObject *passage, int *asked) {
    PyObject *came = passage_go(passage, asked);
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

/* Serve one that is ready; 1 when Python had to do it, -1 when that failed. */
static int serve_one(PyObject *entries, const struct epoll_event *ready, long turn, PyObject *other) {
    PyObject *fd = PyLong_FromLong(ready->data.fd);
    PyObject *entry = fd ? PyDict_GetItemWithError(entries, fd) : NULL; /* borrowed */
    PyObject *passage = entry ? passage_of(entry, ready->events, turn) : NULL;
    int asked = 0;
    PyObject *came = passage ? left_by(passage, &asked) : NULL;
    if (entry && (passage == NULL || came)) {
        PyObject *event = PyLong_FromUnsignedLong(ready->events);
        PyObject *told[] = {fd, event, came ? came : Py_None};
        PyObject *result = event ? PyObject_Vectorcall(other, told, 3, NULL) : NULL;
        asked = 1;
        Py_XDECREF(event);
        Py_XDECREF(result);
    }
    Py_XDECREF(came);
    Py_XDECREF(passage);
    Py_XDECREF(fd);
    return PyErr_Occurred() ? -1 : asked;
}

static long long microseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

/* Who is ready, or becomes so very soon; 0 where the system cannot wait for so short a time. */
static int wait_for(int poller, struct epoll_event *events) {
    int ready = 0;
#ifdef SYS_epoll_pwait2
    struct timespec patience = {0, PATIENCE * 1000};
    Py_BEGIN_ALLOW_THREADS
    ready = (int)syscall(SYS_epoll_pwait2, poller, events, BATCH, &patience, NULL, (size_t)0);
    Py_END_ALLOW_THREADS
#endif
    return ready < 0 ? 0 : ready;
}

PyObject *ring_serve(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    (void)module;
    struct epoll_event events[BATCH];
    if (count != 4 || !PyDict_CheckExact(args[1]))
        return PyErr_Format(PyExc_TypeError, "serve() takes a descriptor, a dict, a number and a callable");
    long turn = PyLong_AsLong(args[2]);
    int poller = (int)PyLong_AsLong(args[0]), ready, asked = 0, served = 0;
    if (PyErr_Occurred()) return NULL;
    if ((ready = epoll_wait(poller, events, BATCH, 0)) < 0) {
        if (errno == EINTR) return PyLong_FromLong(0); /* the reactor comes again */
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    for (long long end = microseconds() + LONGEST; ready > 0; ready = wait_for(poller, events)) {
        for (int i = 0; i < ready; i++) {
            int python = serve_one(args[1], &events[i], turn, args[3]);
            if (python < 0) return NULL;
            asked |= python;
        }
        served += ready;
        if (asked || served >= ENOUGH || microseconds() >= end) return PyLong_FromLong(served);
    }
    return PyLong_FromLong(0);
}

int ring_ready(void) {
    return (passage_name = PyUnicode_InternFromString("_passage")) ? 0 : -1;
}
