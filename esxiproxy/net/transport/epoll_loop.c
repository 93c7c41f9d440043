/* The ring's loop over the streams that are ready: those with a fast_path are served here, and nobody asks Python. */
#include "compiled.h"
#include <errno.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Between a message and its answer there is less time than the reactor's turn takes.  So long as all that comes is
   for passages, the next is waited for here: WAIT_US, RECHECK_US and MAX_TURN_US in microseconds, STREAMS_PER_TURN streams served. */
enum { MAX_EVENTS = 256, WAIT_US = 50, RECHECK_US = 100, MAX_TURN_US = 1000, STREAMS_PER_TURN = 64 };

static PyObject *fast_path_name;

const char epoll_loop_serve_doc[] =
    "serve(epoll_fd, entries, turn, other)\n\n"
    "Serve what is ready, and say how many that were; 0 when nobody is left.  `entries` has a list for each\n"
    "descriptor: its stream, what it waits for, and the turn in which it began to: in that turn it is left alone.\n"
    "`other(fd, event, leftover)` is called for what has no fast_path, with None, and for what a fast_path did not carry\n"
    "through: with the octets that leftover, or with the exception.";

/* The fast_path of the stream behind this entry, when it is to be read now and for no other cause: a new reference. */
static PyObject *fast_path_of(PyObject *entry, uint32_t event, long turn) {
    if (event != EPOLLIN || !PyList_CheckExact(entry) || PyList_GET_SIZE(entry) != 3) return NULL;
    if (!(PyLong_AsLong(PyList_GET_ITEM(entry, 1)) & EPOLLIN)) return NULL;
    if (PyLong_AsLong(PyList_GET_ITEM(entry, 2)) == turn) return NULL;
    PyObject *way = PyObject_GetAttr(PyList_GET_ITEM(entry, 0), fast_path_name);
    if (way && Py_TYPE(way) == &fast_path_type) return way;
    Py_XDECREF(way);
    PyErr_Clear(); /* not one of our streams */
    return NULL;
}

/* What a fast_path left, NULL when it left nothing: octets, or what was raised.  `ran_python`: it has run Python. */
static PyObject *run_fast_path(PyObject *fast_path, int *ran_python) {
    PyObject *leftover = fast_path_run(fast_path, ran_python);
    if (leftover == Py_None) Py_CLEAR(leftover);
    else if (leftover == NULL) {
        PyObject *type, *traceback;
        PyErr_Fetch(&type, &leftover, &traceback);
        PyErr_NormalizeException(&type, &leftover, &traceback);
        Py_XDECREF(type);
        Py_XDECREF(traceback);
    }
    return leftover;
}

enum outcome { FAILED = -1, SERVED, RAN_PYTHON, SLOW };

/* Serve one that is ready.  RAN_PYTHON: Python had to do it.  SLOW: only a quick one was wanted, and it was left alone. */
static enum outcome serve_one(PyObject *entries, const struct epoll_event *ready, long turn, PyObject *other,
                              int quick) {
    PyObject *fd = PyLong_FromLong(ready->data.fd);
    PyObject *entry = fd ? PyDict_GetItemWithError(entries, fd) : NULL; /* borrowed */
    PyObject *fast_path = entry ? fast_path_of(entry, ready->events, turn) : NULL, *leftover = NULL;
    int ran_python = 0, slow = quick && entry && (fast_path == NULL || fast_path_is_bulk(fast_path));
    if (fast_path && !slow) leftover = run_fast_path(fast_path, &ran_python);
    if (entry && !slow && (fast_path == NULL || leftover)) {
        PyObject *event = PyLong_FromUnsignedLong(ready->events);
        PyObject *arguments[] = {fd, event, leftover ? leftover : Py_None};
        PyObject *result = event ? PyObject_Vectorcall(other, arguments, 3, NULL) : NULL;
        ran_python = 1;
        Py_XDECREF(event);
        Py_XDECREF(result);
    }
    Py_XDECREF(leftover);
    Py_XDECREF(fast_path);
    Py_XDECREF(fd);
    if (PyErr_Occurred()) return FAILED;
    return slow ? SLOW : ran_python ? RAN_PYTHON : SERVED;
}

static long long microseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

/* Serve all of them, the quick ones first, and those that have become ready again now and then between those that are
   slow: a key press waits neither for many sessions that begin nor for somebody's film.  That may take MAX_TURN_US in
   all, since the slow ones have to come to their end as well. */
static enum outcome serve_all(PyObject *entries, int poller, const struct epoll_event *events, int ready, long turn,
                              PyObject *other, int *served) {
    struct epoll_event again[MAX_EVENTS];
    int slow[MAX_EVENTS], left = 0;
    enum outcome each, all = SERVED;
    for (int i = 0; i < ready; i++) {
        if ((each = serve_one(entries, &events[i], turn, other, 1)) == FAILED) return FAILED;
        if (each == SLOW) slow[left++] = i;
        else if (each == RAN_PYTHON) all = RAN_PYTHON;
    }
    *served += ready;
    long long checked = microseconds(), spent = 0;
    for (int i = 0; i < left; i++) {
        if ((each = serve_one(entries, &events[slow[i]], turn, other, 0)) == FAILED) return FAILED;
        if (each == RAN_PYTHON) all = RAN_PYTHON;
        if (i + 1 == left || spent >= MAX_TURN_US) continue;
        long long began = microseconds();
        if (began - checked < RECHECK_US) continue;
        int more = epoll_wait(poller, again, MAX_EVENTS, 0);
        for (int j = 0; j < more; j++) {
            if ((each = serve_one(entries, &again[j], turn, other, 1)) == FAILED) return FAILED;
            if (each == RAN_PYTHON) all = RAN_PYTHON;
            if (each != SLOW) ++*served;
        }
        checked = microseconds();
        spent += checked - began;
    }
    return all;
}

/* Who is ready, or becomes so very soon; 0 where the system cannot wait for so short a time. */
static int wait_for(int poller, struct epoll_event *events) {
    int ready = 0;
#ifdef SYS_epoll_pwait2
    struct timespec timeout = {0, WAIT_US * 1000};
    Py_BEGIN_ALLOW_THREADS
    ready = (int)syscall(SYS_epoll_pwait2, poller, events, MAX_EVENTS, &timeout, NULL, (size_t)0);
    Py_END_ALLOW_THREADS
#endif
    return ready < 0 ? 0 : ready;
}

PyObject *epoll_loop_serve(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    (void)module;
    struct epoll_event events[MAX_EVENTS];
    if (count != 4 || !PyDict_CheckExact(args[1]))
        return PyErr_Format(PyExc_TypeError, "serve() takes a descriptor, a dict, a number and a callable");
    long turn = PyLong_AsLong(args[2]);
    int poller = (int)PyLong_AsLong(args[0]), ready, served = 0;
    if (PyErr_Occurred()) return NULL;
    if ((ready = epoll_wait(poller, events, MAX_EVENTS, 0)) < 0) {
        if (errno == EINTR) return PyLong_FromLong(0); /* the reactor comes again */
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    for (long long end = microseconds() + MAX_TURN_US; ready > 0; ready = wait_for(poller, events)) {
        enum outcome all = serve_all(args[1], poller, events, ready, turn, args[3], &served);
        if (all == FAILED) return NULL;
        if (all == RAN_PYTHON || served >= STREAMS_PER_TURN || microseconds() >= end) return PyLong_FromLong(served);
    }
    return PyLong_FromLong(0);
}

int epoll_loop_init(void) {
    return (fast_path_name = PyUnicode_InternFromString("_fast_path")) ? 0 : -1;
}
