/* The ring's loop over the streams that are ready: those with a passage are served here, and nobody asks Python. */
#include "compiled.h"
#include <errno.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Between a message and its answer there is less time than the reactor's turn takes.  So long as all that comes is
   for passages, the next is waited for here: PATIENCE, SELDOM and LONGEST in microseconds, ENOUGH streams served. */
enum { BATCH = 256, PATIENCE = 50, SELDOM = 100, LONGEST = 1000, ENOUGH = 64 };

static PyObject *passage_name;

const char ring_serve_doc[] =
    "serve(epoll_fd, entries, turn, other)\n\n"
    "Serve what is ready, and say how many that were; 0 when nobody is left.  `entries` has a list for each\n"
    "descriptor: its stream, what it waits for, and the turn in which it began to: in that turn it is left alone.\n"
    "`other(fd, event, came)` is called for what has no passage, with None, and for what a passage did not carry\n"
    "through: with the octets that came, or with the exception.";

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

enum outcome { FAILED = -1, SERVED, ASKED, SLOW };

/* Serve one that is ready.  ASKED: Python had to do it.  SLOW: only a quick one was wanted, and it was left alone. */
static enum outcome serve_one(PyObject *entries, const struct epoll_event *ready, long turn, PyObject *other,
                              int quick) {
    PyObject *fd = PyLong_FromLong(ready->data.fd);
    PyObject *entry = fd ? PyDict_GetItemWithError(entries, fd) : NULL; /* borrowed */
    PyObject *passage = entry ? passage_of(entry, ready->events, turn) : NULL, *came = NULL;
    int asked = 0, slow = quick && entry && (passage == NULL || passage_is_bulky(passage));
    if (passage && !slow) came = left_by(passage, &asked);
    if (entry && !slow && (passage == NULL || came)) {
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
    if (PyErr_Occurred()) return FAILED;
    return slow ? SLOW : asked ? ASKED : SERVED;
}

static long long microseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

/* Serve all of them, the quick ones first, and those that have become ready again now and then between those that are
   slow: a key press waits neither for many sessions that begin nor for somebody's film.  That may take LONGEST in
   all, since the slow ones have to come to their end as well. */
static enum outcome serve_all(PyObject *entries, int poller, const struct epoll_event *events, int ready, long turn,
                              PyObject *other, int *served) {
    struct epoll_event again[BATCH];
    int slow[BATCH], left = 0;
    enum outcome each, all = SERVED;
    for (int i = 0; i < ready; i++) {
        if ((each = serve_one(entries, &events[i], turn, other, 1)) == FAILED) return FAILED;
        if (each == SLOW) slow[left++] = i;
        else if (each == ASKED) all = ASKED;
    }
    *served += ready;
    long long looked = microseconds(), spent = 0;
    for (int i = 0; i < left; i++) {
        if ((each = serve_one(entries, &events[slow[i]], turn, other, 0)) == FAILED) return FAILED;
        if (each == ASKED) all = ASKED;
        if (i + 1 == left || spent >= LONGEST) continue;
        long long began = microseconds();
        if (began - looked < SELDOM) continue;
        int more = epoll_wait(poller, again, BATCH, 0);
        for (int j = 0; j < more; j++) {
            if ((each = serve_one(entries, &again[j], turn, other, 1)) == FAILED) return FAILED;
            if (each == ASKED) all = ASKED;
            if (each != SLOW) ++*served;
        }
        looked = microseconds();
        spent += looked - began;
    }
    return all;
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
    int poller = (int)PyLong_AsLong(args[0]), ready, served = 0;
    if (PyErr_Occurred()) return NULL;
    if ((ready = epoll_wait(poller, events, BATCH, 0)) < 0) {
        if (errno == EINTR) return PyLong_FromLong(0); /* the reactor comes again */
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    for (long long end = microseconds() + LONGEST; ready > 0; ready = wait_for(poller, events)) {
        enum outcome all = serve_all(args[1], poller, events, ready, turn, args[3], &served);
        if (all == FAILED) return NULL;
        if (all == ASKED || served >= ENOUGH || microseconds() >= end) return PyLong_FromLong(served);
    }
    return PyLong_FromLong(0);
}

int ring_ready(void) {
    return (passage_name = PyUnicode_InternFromString("_fast_path")) ? 0 : -1;
}
