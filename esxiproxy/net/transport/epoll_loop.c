/* The loop over the streams that are ready, in C: streams with a fast path are served without Python. */
#include "compiled.h"
#include <errno.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static PyObject *fast_path_name, *do_read_name, *do_write_name;

const char epoll_loop_serve_doc[] =
    "serve(epoll_fd, entries, turn, other, ended, wait)\n\n"
    "Serve the streams that are ready, and return how many they were; 0 when none is left.  If `wait` is True and\n"
    "none is ready, wait a moment for one.  `entries` maps each\n"
    "descriptor to a list: the stream, the events it waits for, and the turn in which it was registered.\n"
    "A stream is not served in that turn.  Its fast path is run, or its doRead or doWrite is called.\n"
    "`ended(stream, why, event, raised)` is called for a result other than None, and for an exception with\n"
    "`raised` True.  `other(fd, event, octets)` is called with the exception of a fast path, and with None for\n"
    "several events at once and for errors.";

/* The functions of the EpollLoop that Python events lead to. */
struct callbacks {
    PyObject *other, *ended;
};

/* Return a new reference to the fast path of an entry's stream.  Return NULL without an exception if the stream has
   none, or if the event is not EPOLLIN alone. */
static PyObject *fast_path_of(PyObject *entry, uint32_t event, long turn) {
    if (event != EPOLLIN || !PyList_CheckExact(entry) || PyList_GET_SIZE(entry) != 3) return NULL;
    if (!(PyLong_AsLong(PyList_GET_ITEM(entry, 1)) & EPOLLIN)) return NULL;
    if (PyLong_AsLong(PyList_GET_ITEM(entry, 2)) == turn) return NULL;
    PyObject *fast_path = PyObject_GetAttr(PyList_GET_ITEM(entry, 0), fast_path_name);
    if (fast_path && Py_TYPE(fast_path) == &fast_path_type) return fast_path;
    Py_XDECREF(fast_path);
    PyErr_Clear(); /* not a Stream */
    return NULL;
}

/* Return a new reference to the exception that is set, with its traceback. */
static PyObject *take_exception(void) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback) PyException_SetTraceback(value, traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value;
}

/* Run a fast path.  Return a new reference to the bytes or the exception that it leaves; NULL if it leaves nothing. */
static PyObject *run_fast_path(PyObject *fast_path, int *ran_python) {
    PyObject *leftover = fast_path_run(fast_path, ran_python);
    if (leftover == Py_None) Py_CLEAR(leftover);
    else if (leftover == NULL) leftover = take_exception();
    return leftover;
}

/* The outcome of one event, or of a batch of events.
     FAILED      an exception is set
     SERVED      fast paths alone have served it
     RAN_PYTHON  Python code was run, so entries may have changed, and the reactor gets its turn
     SLOW        the event was not served: only a fast one was wanted */
enum outcome { FAILED = -1, SERVED, RAN_PYTHON, SLOW };

/* Call a stream's doRead or doWrite for its one event, and `ended` unless it returns None.  `octets` are what a fast
   path has left, or NULL. */
static void call_stream(PyObject *stream, uint32_t event, PyObject *octets, PyObject *ended) {
    PyObject *arguments[] = {Py_NewRef(stream), octets};
    PyObject *name = event == EPOLLIN ? do_read_name : do_write_name;
    PyObject *why = PyObject_VectorcallMethod(name, arguments, octets ? 2 : 1, NULL);
    int raised = why == NULL;
    if (raised) why = take_exception();
    if (why != Py_None) {
        PyObject *bit = PyLong_FromUnsignedLong(event);
        PyObject *end[] = {stream, why, bit, raised ? Py_True : Py_False};
        PyObject *result = bit ? PyObject_Vectorcall(ended, end, 4, NULL) : NULL;
        Py_XDECREF(bit);
        Py_XDECREF(result);
    }
    Py_DECREF(why);
    Py_DECREF(stream);
}

/* Whether an event is EPOLLIN or EPOLLOUT alone, and the stream of this entry waits for it. */
static int is_one_event(PyObject *entry, uint32_t event, long turn) {
    if ((event != EPOLLIN && event != EPOLLOUT) || !PyList_CheckExact(entry) || PyList_GET_SIZE(entry) != 3) return 0;
    return (PyLong_AsLong(PyList_GET_ITEM(entry, 1)) & event) && PyLong_AsLong(PyList_GET_ITEM(entry, 2)) != turn;
}

/* Serve one event.  With `quick`, leave it if it has no fast path or its fast path last forwarded bulk data. */
static enum outcome serve_one(PyObject *entries, const struct epoll_event *ready, long turn,
                              const struct callbacks *python, int quick) {
    PyObject *fd = PyLong_FromLong(ready->data.fd);
    PyObject *entry = fd ? PyDict_GetItemWithError(entries, fd) : NULL;
    Py_XINCREF(entry); /* Python code may remove it from the dict */
    PyObject *fast_path = entry ? fast_path_of(entry, ready->events, turn) : NULL, *leftover = NULL;
    int ran_python = 0, slow = quick && entry && (fast_path == NULL || fast_path_is_bulk(fast_path));
    if (fast_path && !slow) leftover = run_fast_path(fast_path, &ran_python);
    if (entry && !slow && (fast_path == NULL || leftover)) {
        ran_python = 1;
        if ((leftover == NULL || PyBytes_Check(leftover)) && is_one_event(entry, ready->events, turn)) {
            call_stream(PyList_GET_ITEM(entry, 0), ready->events, leftover, python->ended);
        } else {
            PyObject *event = PyLong_FromUnsignedLong(ready->events);
            PyObject *arguments[] = {fd, event, leftover ? leftover : Py_None};
            PyObject *result = event ? PyObject_Vectorcall(python->other, arguments, 3, NULL) : NULL;
            Py_XDECREF(event);
            Py_XDECREF(result);
        }
    }
    Py_XDECREF(leftover);
    Py_XDECREF(fast_path);
    Py_XDECREF(entry);
    Py_XDECREF(fd);
    if (PyErr_Occurred()) return FAILED;
    return slow ? SLOW : ran_python ? RAN_PYTHON : SERVED;
}

static long long microseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

/* Serve a batch of events: first those of fast paths that last forwarded little, then the slow ones.  Between slow
   ones, every RECHECK_US, serve fast streams that have become ready since, so that a key press does not wait for bulk
   data or new sessions.  These rechecks take MAX_TURN_US at most. */
static enum outcome serve_all(PyObject *entries, int poller, const struct epoll_event *events, int ready, long turn,
                              const struct callbacks *python, int *served) {
    struct epoll_event again[MAX_EVENTS];
    int slow[MAX_EVENTS], left = 0;
    enum outcome each, all = SERVED;
    for (int i = 0; i < ready; i++) {
        if ((each = serve_one(entries, &events[i], turn, python, 1)) == FAILED) return FAILED;
        if (each == SLOW) slow[left++] = i;
        else if (each == RAN_PYTHON) all = RAN_PYTHON;
    }
    *served += ready;
    long long checked = microseconds(), spent = 0;
    for (int i = 0; i < left; i++) {
        if ((each = serve_one(entries, &events[slow[i]], turn, python, 0)) == FAILED) return FAILED;
        if (each == RAN_PYTHON) all = RAN_PYTHON;
        if (i + 1 == left || spent >= MAX_TURN_US) continue;
        long long began = microseconds();
        if (began - checked < RECHECK_US) continue;
        int more = epoll_wait(poller, again, MAX_EVENTS, 0);
        for (int j = 0; j < more; j++) {
            if ((each = serve_one(entries, &again[j], turn, python, 1)) == FAILED) return FAILED;
            if (each == RAN_PYTHON) all = RAN_PYTHON;
            if (each != SLOW) ++*served;
        }
        checked = microseconds();
        spent += checked - began;
    }
    return all;
}

/* Wait WAIT_US for events: an answer is often ready before the reactor's turn ends.  Return the number of events;
   0 after a timeout or an error, and where the system has no epoll_pwait2. */
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
    if (count != 6 || !PyDict_CheckExact(args[1]))
        return PyErr_Format(PyExc_TypeError, "serve() takes a descriptor, a dict, an integer, two callables and a bool");
    struct callbacks python = {args[3], args[4]};
    long turn = PyLong_AsLong(args[2]);
    int poller = (int)PyLong_AsLong(args[0]), ready, served = 0;
    if (PyErr_Occurred()) return NULL;
    if ((ready = epoll_wait(poller, events, MAX_EVENTS, 0)) < 0) {
        if (errno == EINTR) return PyLong_FromLong(0); /* the reactor calls again */
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    if (ready == 0 && args[5] == Py_True) ready = wait_for(poller, events);
    for (long long end = microseconds() + MAX_TURN_US; ready > 0; ready = wait_for(poller, events)) {
        enum outcome all = serve_all(args[1], poller, events, ready, turn, &python, &served);
        if (all == FAILED) return NULL;
        if (all == RAN_PYTHON || served >= STREAMS_PER_TURN || microseconds() >= end)
            return PyLong_FromLong(served);
    }
    return PyLong_FromLong(0);
}

int epoll_loop_init(void) {
    fast_path_name = PyUnicode_InternFromString("_fast_path");
    do_read_name = PyUnicode_InternFromString("doRead");
    do_write_name = PyUnicode_InternFromString("doWrite");
    return fast_path_name && do_read_name && do_write_name ? 0 : -1;
}
