/* Attributes of `__slots__`, which are read and written where the object has them. */
#include "compiled.h"
#include <structmember.h>

PyObject **slot_find(PyObject *object, PyObject *name) {
    PyObject *found = PyObject_GetAttr((PyObject *)Py_TYPE(object), name), **slot = NULL;
    if (found && Py_TYPE(found) == &PyMemberDescr_Type)
        slot = (PyObject **)((char *)object + ((PyMemberDescrObject *)found)->d_member->offset);
    else if (found)
        PyErr_Format(PyExc_TypeError, "%U of %R is not a slot", name, Py_TYPE(object));
    Py_XDECREF(found);
    return slot;
}

int slot_is_empty_bytes(PyObject *const *slot) {
    return *slot && PyBytes_CheckExact(*slot) && PyBytes_GET_SIZE(*slot) == 0;
}

int slot_load(PyObject *const *slot, uint64_t *value) {
    *value = PyLong_AsUnsignedLongLong(*slot);
    return *value == (uint64_t)-1 && PyErr_Occurred() ? -1 : 0;
}

int slot_set(PyObject **slot, PyObject *value) {
    PyObject *old = *slot;
    if (value == NULL) return -1;
    *slot = value;
    Py_XDECREF(old);
    return 0;
}

int slot_store(PyObject **slot, uint64_t value) {
    return slot_set(slot, PyLong_FromUnsignedLongLong(value));
}
