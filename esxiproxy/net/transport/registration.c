/* The registration of streams with the epoll instance of the loop, and options of sockets, in C.  Python's epoll and
   socket objects parse their arguments anew in each of a session's twenty calls. */
#include "compiled.h"
#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

const char epoll_register_doc[] =
    "register(epoll_fd, entries, stream, fd, event, turn)\n\n"
    "Let a stream wait for one more event, EPOLLIN or EPOLLOUT.  `entries` is that of serve().  A descriptor of another\n"
    "stream belongs to this one from now on.";
const char epoll_unregister_doc[] =
    "unregister(epoll_fd, entries, stream, fd, events)\n\n"
    "Let a stream no longer wait for these events.  Do nothing if the descriptor is not that of the stream.";
const char set_options_doc[] =
    "set_options(fd, options)\n\n"
    "Set options of a socket, each of which is a tuple of level, name and value.  An option that the socket does not\n"
    "have is left out.";

static int control(int poller, int operation, int fd, long events) {
    struct epoll_event event = {.events = (uint32_t)events, .data.fd = fd};
    if (epoll_ctl(poller, operation, fd, &event) == 0) return 0;
    PyErr_SetFromErrno(PyExc_OSError);
    return -1;
}

/* Return a borrowed reference to the entry of a descriptor; NULL without one, or with an exception. */
static PyObject *entry_of(PyObject *entries, PyObject *fd) {
    PyObject *entry = PyDict_GetItemWithError(entries, fd);
    if (entry && (!PyList_CheckExact(entry) || PyList_GET_SIZE(entry) != 3)) {
        PyErr_SetString(PyExc_TypeError, "an entry is a list of three");
        return NULL;
    }
    return entry;
}

/* Set the events of an entry.  This steals a reference to the number, which may be NULL. */
static int set_events(PyObject *entry, PyObject *number) { return number ? PyList_SetItem(entry, 1, number) : -1; }

PyObject *epoll_register(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    (void)module;
    if (count != 6 || !PyDict_CheckExact(args[1]))
        return PyErr_Format(PyExc_TypeError, "register() takes a descriptor, a dict and four more arguments");
    int poller = (int)PyLong_AsLong(args[0]), fd = (int)PyLong_AsLong(args[3]);
    long event = PyLong_AsLong(args[4]), events;
    if (PyErr_Occurred()) return NULL;
    PyObject *entry = entry_of(args[1], args[3]);
    if (PyErr_Occurred()) return NULL;
    if (entry && PyList_GET_ITEM(entry, 0) == args[2]) {
        events = PyLong_AsLong(PyList_GET_ITEM(entry, 1));
        if (events == -1 && PyErr_Occurred()) return NULL;
        if (events & event) Py_RETURN_NONE;
        if (control(poller, EPOLL_CTL_MOD, fd, events | event) < 0) return NULL;
        if (set_events(entry, PyLong_FromLong(events | event)) < 0) return NULL;
        Py_RETURN_NONE;
    }
    if (control(poller, entry ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, event) < 0) return NULL;
    /* The stream before gets no further event of this batch. */
    if (entry && set_events(entry, PyLong_FromLong(0)) < 0) return NULL;
    PyObject *fresh = PyList_New(3);
    if (fresh == NULL) return NULL;
    PyList_SET_ITEM(fresh, 0, Py_NewRef(args[2]));
    PyList_SET_ITEM(fresh, 1, Py_NewRef(args[4]));
    PyList_SET_ITEM(fresh, 2, Py_NewRef(args[5]));
    int failed = PyDict_SetItem(args[1], args[3], fresh);
    Py_DECREF(fresh);
    if (failed) return NULL;
    Py_RETURN_NONE;
}

PyObject *epoll_unregister(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    (void)module;
    if (count != 5 || !PyDict_CheckExact(args[1]))
        return PyErr_Format(PyExc_TypeError, "unregister() takes a descriptor, a dict and three more arguments");
    int poller = (int)PyLong_AsLong(args[0]), fd = (int)PyLong_AsLong(args[3]);
    long removed = PyLong_AsLong(args[4]);
    if (PyErr_Occurred()) return NULL;
    PyObject *entry = entry_of(args[1], args[3]);
    if (entry == NULL && PyErr_Occurred()) return NULL;
    if (entry == NULL || PyList_GET_ITEM(entry, 0) != args[2]) Py_RETURN_NONE;
    long events = PyLong_AsLong(PyList_GET_ITEM(entry, 1));
    if (events == -1 && PyErr_Occurred()) return NULL;
    if (!(events & removed)) Py_RETURN_NONE;
    long left = events & ~removed;
    if (control(poller, left ? EPOLL_CTL_MOD : EPOLL_CTL_DEL, fd, left) < 0) return NULL;
    if (set_events(entry, PyLong_FromLong(left)) < 0) return NULL;
    if (!left && PyDict_DelItem(args[1], args[3]) < 0) return NULL;
    Py_RETURN_NONE;
}

PyObject *set_options(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    (void)module;
    if (count != 2 || !PyTuple_CheckExact(args[1]))
        return PyErr_Format(PyExc_TypeError, "set_options() takes a descriptor and a tuple");
    int fd = (int)PyLong_AsLong(args[0]);
    if (PyErr_Occurred()) return NULL;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(args[1]); i++) {
        PyObject *option = PyTuple_GET_ITEM(args[1], i);
        if (!PyTuple_CheckExact(option) || PyTuple_GET_SIZE(option) != 3)
            return PyErr_Format(PyExc_TypeError, "an option is a tuple of three");
        int level = (int)PyLong_AsLong(PyTuple_GET_ITEM(option, 0));
        int name = (int)PyLong_AsLong(PyTuple_GET_ITEM(option, 1));
        int value = (int)PyLong_AsLong(PyTuple_GET_ITEM(option, 2));
        if (PyErr_Occurred()) return NULL;
        setsockopt(fd, level, name, &value, sizeof value); /* the socket may not have it, or may be closed */
    }
    Py_RETURN_NONE;
}
