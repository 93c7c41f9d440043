/* The extension module: the functions of buffer.c, fast_path.c and epoll_loop.c that Python calls. */
#include "compiled.h"

PyDoc_STRVAR(openssl_doc,
    "openssl(read, write, get_error, clear_error)\n\nSet the addresses of these OpenSSL functions.");

static PyObject *openssl(PyObject *module, PyObject *args) {
    (void)module;
    unsigned long long read, write, get_error, clear_error;
    if (!PyArg_ParseTuple(args, "KKKK", &read, &write, &get_error, &clear_error)) return NULL;
    uintptr_t addresses[] = {(uintptr_t)read, (uintptr_t)write, (uintptr_t)get_error, (uintptr_t)clear_error};
    buffer_set_openssl(addresses);
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"openssl", openssl, METH_VARARGS, openssl_doc},
    {"serve", (PyCFunction)(void (*)(void))epoll_loop_serve, METH_FASTCALL, epoll_loop_serve_doc},
    {"register", (PyCFunction)(void (*)(void))epoll_register, METH_FASTCALL, epoll_register_doc},
    {"unregister", (PyCFunction)(void (*)(void))epoll_unregister, METH_FASTCALL, epoll_unregister_doc},
    {"set_options", (PyCFunction)(void (*)(void))set_options, METH_FASTCALL, set_options_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "_compiled", .m_size = -1, .m_methods = methods};

PyMODINIT_FUNC PyInit__compiled(void) {
    if (fast_path_init() < 0 || epoll_loop_init() < 0) return NULL;
    PyObject *module = PyModule_Create(&definition);
    if (module && PyModule_AddObjectRef(module, "FastPath", (PyObject *)&fast_path_type) < 0) Py_CLEAR(module);
    return module;
}
