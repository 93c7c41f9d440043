/* A scanner of the data frames of one leg.

   Everything else (a control frame, a protocol error, a header that is split between two reads) is left to Python.
   So every rule here is a rule of core/websocket/frames.py as well, and all state is that of a FrameWalker. */
#include "compiled.h"

enum { LEG, SINK_LEG, FRAME_WALKER };
enum { SINK, WALKER, INPUT, FRAME, OCTETS, HEARD, HELD, LEFT, FRAGMENTED };
static struct slot_name slots[] = {
    [SINK] = {LEG, "sink", NULL},
    [WALKER] = {LEG, "walker", NULL},
    [INPUT] = {LEG, "data", NULL},
    [FRAME] = {LEG, "current_frame", NULL},
    [OCTETS] = {LEG, "octets", NULL},
    [HEARD] = {LEG, "heard", NULL},
    [HELD] = {SINK_LEG, "held", NULL},
    [LEFT] = {FRAME_WALKER, "left", NULL},
    [FRAGMENTED] = {FRAME_WALKER, "fragmented", NULL},
    {0, NULL, NULL},
};

static int prepare(struct scanner *self) {
    PyObject *walker = PyTuple_GET_ITEM(self->objects, FRAME_WALKER);
    PyObject *masked = PyObject_GetAttrString(walker, "masked");
    PyObject *longest = masked ? PyObject_GetAttrString(walker, "max_frame") : NULL;
    if (longest) {
        self->masked = masked == Py_True;
        self->longest = longest == Py_None ? UINT64_MAX : PyLong_AsUnsignedLongLong(longest);
    }
    Py_XDECREF(masked);
    Py_XDECREF(longest);
    return PyErr_Occurred() ? -1 : 0;
}

/* Bytes may be forwarded while the leg has this walker and this sink and no unprocessed input, and the sink has no
   control frame to send. */
static int load(struct scanner *self) {
    PyObject *held = *self->slots[HELD];
    if (*self->slots[SINK] != PyTuple_GET_ITEM(self->objects, SINK_LEG) ||
        *self->slots[WALKER] != PyTuple_GET_ITEM(self->objects, FRAME_WALKER) || *self->slots[FRAME] != Py_None ||
        !slot_is_empty_bytes(self->slots[INPUT]) || !held || !PyDict_CheckExact(held) || PyDict_GET_SIZE(held))
        return 0;
    self->fragmented = self->fragmented_before = *self->slots[FRAGMENTED] == Py_True;
    if (slot_load(self->slots[LEFT], &self->left) < 0) return -1;
    self->left_before = self->left;
    return 1;
}

static uint64_t big_endian(const unsigned char *at, int octets) {
    uint64_t value = 0;
    while (octets-- > 0) value = value << 8 | *at++;
    return value;
}

static int scan(struct scanner *self, uint64_t size) {
    uint64_t position = self->left;
    int fragmented = self->fragmented;
    while (position < size) {
        uint64_t have = size - position, header = self->masked ? 6 : 2;
        if (have < header) return 0;
        const unsigned char *at = buffer + position;
        int opcode = at[0] & 0x0f;
        uint64_t length = at[1] & 0x7f;
        if (at[0] & 0x70 || opcode > 2 || (opcode == 0) != fragmented) return 0;
        if ((at[1] >> 7) != self->masked) return 0;
        if (length >= 126) {
            int octets = length == 126 ? 2 : 8;
            header += octets;
            if (have < header) return 0;
            length = big_endian(at + 2, octets);
            if (length < (octets == 2 ? 126 : 65536) || length >> 63) return 0;
        }
        if (length > self->longest) return 0;
        fragmented = !(at[0] & 0x80);
        position += header + length;
    }
    self->left = position - size;
    self->fragmented = fragmented;
    return 1;
}

/* Update the leg and its walker as Leg.dataReceived does. */
static int store(struct scanner *self, Py_ssize_t moved) {
    uint64_t octets;
    if (slot_load(self->slots[OCTETS], &octets) < 0) return -1;
    if (slot_set(self->slots[HEARD], Py_NewRef(Py_True)) < 0) return -1;
    if (slot_store(self->slots[OCTETS], octets + (uint64_t)moved) < 0) return -1;
    if (self->left != self->left_before && slot_store(self->slots[LEFT], self->left) < 0) return -1;
    if (self->fragmented == self->fragmented_before) return 0;
    return slot_set(self->slots[FRAGMENTED], PyBool_FromLong(self->fragmented));
}

const struct scanner_kind frames_kind = {"frames", 3, slots, prepare, load, scan, store};
