/* The module: what buffer.c, fast_path.c and epoll_loop.c have for Python. */
#include "compiled.h"

PyDoc_STRVAR(openssl_doc, "openssl(read, write, get_error, clear_error): where these functions are.");

static PyObject *openssl(PyObject *module, PyObject *args) {
    (void)module;
    unsigned long long read, write, get_error, clear_error;
    if (!PyArg_ParseTuple(args, "KKKK", &read, &write, &get_error, &clear_error)) return NULL;
    uintptr_t found[] = {(uintptr_t)read, (uintptr_t)write, (uintptr_t)get_error, (uintptr_t)clear_error};
    room_openssl(found);
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"openssl", openssl, METH_VARARGS, openssl_doc},
    {"serve", (PyCFunction)(void (*)(void))ring_serve, METH_FASTCALL, ring_serve_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "_compiled", .m_size = -1, .m_methods = methods};

PyMODINIT_FUNC PyInit__compiled(void) {
    if (passage_ready() < 0 || ring_ready() < 0) return NULL;
    PyObject *module = PyModule_Create(&definition);
    if (module && PyModule_AddObjectRef(module, "Passage", (PyObject *)&passage_type) < 0) Py_CLEAR(module);
    return module;
}
