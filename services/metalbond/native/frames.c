/* Cuts a stream of UPDATE frames into runs of routes, as fast as they can be copied; `runs.py` says what comes out.
 *
 * Only frames in canonical form (each field as the protobuf encoder would have written it, every value within its
 * bounds) are taken here. At anything else the scan stops, and Python decodes or refuses that frame: this file need not
 * know why a frame is wrong. No byte beyond the given buffer is read. */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>
#include <stdint.h>
#include <string.h>

#define HEADER 4
#define UPDATE 5
#define MAX_VNI 0xffffffu	/* 24 bits (RFC 7348 section 5) */
#define MAX_PORT 0xffffu
#define NAT 1
#define REMOVE_FIELD 2		/* bytes of "action = REMOVE" */

struct update {
	int removed;
	uint32_t vni;
	uint32_t kind;
};

/* A varint that is not zero, not longer than needed and at most `limit`; NULL for any other. */
static const uint8_t *number(const uint8_t *at, const uint8_t *end, uint32_t limit, uint32_t *value)
{
	uint64_t found = 0;
	int shift = 0;

	for (; at < end && shift <= 28; shift += 7) {
		uint8_t byte = *at++;

		found |= (uint64_t)(byte & 0x7f) << shift;
		if (byte & 0x80)
			continue;
		if (!byte || found > limit)
			return NULL;
		*value = (uint32_t)found;
		return at;
	}
	return NULL;
}

/* As `number` behind its tag; where the tag is missing the value is zero and nothing is consumed. */
static const uint8_t *optional(const uint8_t *at, const uint8_t *end, uint8_t tag, uint32_t limit, uint32_t *value)
{
	*value = 0;
	if (at == end || *at != tag)
		return at;
	return number(at + 1, end, limit, value);
}

static int destination(const uint8_t *at, const uint8_t *end)
{
	int six = end - at >= 2 && at[0] == 0x08 && at[1] == 1;
	uint32_t length, size = six ? 16 : 4;

	at += six ? 2 : 0;
	if (end - at < 2 + (Py_ssize_t)size || at[0] != 0x12 || at[1] != size)
		return 0;
	at = optional(at + 2 + size, end, 0x18, size * 8, &length);
	return at == end;
}

static int next_hop(const uint8_t *at, const uint8_t *end, uint32_t *kind)
{
	uint32_t ignored;

	if (end - at < 2 || at[0] != 0x0a || (at[1] != 16 && at[1] != 4) || end - at < 2 + at[1])
		return 0;
	at = optional(at + 2 + at[1], end, 0x10, MAX_VNI, &ignored);
	if (at)
		at = optional(at, end, 0x18, INT32_MAX, kind);
	if (at && *kind == NAT)
		at = optional(at, end, 0x20, MAX_PORT, &ignored);
	if (at && *kind == NAT)
		at = optional(at, end, 0x28, MAX_PORT, &ignored);
	return at == end;
}

/* Whether the payload is an update in canonical form. */
static int update(const uint8_t *at, const uint8_t *end, struct update *found)
{
	const uint8_t *inner;

	found->removed = end - at >= REMOVE_FIELD && at[0] == 0x08 && at[1] == 1;
	at += found->removed ? REMOVE_FIELD : 0;
	at = optional(at, end, 0x10, MAX_VNI, &found->vni);
	if (!at || end - at < 2 || at[0] != 0x1a || at[1] >= 0x80 || end - at < 2 + at[1])
		return 0;
	inner = at + 2;
	at = inner + at[1];
	if (!destination(inner, at) || end - at < 2 || at[0] != 0x22 || at[1] >= 0x80 || end - at != 2 + at[1])
		return 0;
	return next_hop(at + 2, end, &found->kind);
}

/* The frame that adds the route, whether the received one adds or removes it. */
static PyObject *route(const uint8_t *frame, size_t size, int removed)
{
	uint8_t added[HEADER + 0x180];

	if (!removed)
		return PyBytes_FromStringAndSize((const char *)frame, (Py_ssize_t)(HEADER + size));
	if (size > sizeof(added) - HEADER)
		return PyErr_Format(PyExc_AssertionError, "a canonical update of %zu bytes", size);
	size -= REMOVE_FIELD;
	memcpy(added, (uint8_t[]){1, (uint8_t)(size >> 8), (uint8_t)size, UPDATE}, HEADER);
	memcpy(added + HEADER, frame + HEADER + REMOVE_FIELD, size);
	return PyBytes_FromStringAndSize((const char *)added, (Py_ssize_t)(HEADER + size));
}

static int append(PyObject *list, PyObject *item)
{
	int failed = !item || PyList_Append(list, item);

	Py_XDECREF(item);
	return failed;
}

/* Appends the finished run; an empty one is none. */
static int finish(PyObject *runs, const struct update *of, PyObject *routes)
{
	if (!routes)
		return 0;
	return append(runs, Py_BuildValue("(NIIN)", PyBool_FromLong(of->removed), of->vni, of->kind, routes));
}

static PyObject *scan(PyObject *self, PyObject *arguments)
{
	struct update current = {0}, next;
	PyObject *runs, *routes = NULL;
	Py_ssize_t at, size;
	Py_buffer stream;

	(void)self;
	if (!PyArg_ParseTuple(arguments, "y*n", &stream, &at))
		return NULL;
	runs = PyList_New(0);
	if (!runs || at < 0)
		goto failed;
	for (const uint8_t *data = stream.buf; stream.len - at >= HEADER; at += HEADER + size) {
		const uint8_t *frame = data + at;

		size = frame[1] << 8 | frame[2];
		if (frame[0] != 1 || frame[3] != UPDATE || stream.len - at < HEADER + size ||
		    !update(frame + HEADER, frame + HEADER + size, &next))
			break;
		if (!routes || next.removed != current.removed || next.vni != current.vni || next.kind != current.kind) {
			PyObject *finished = routes;

			routes = NULL;
			if (finish(runs, &current, finished) || !(routes = PyList_New(0)))
				goto failed;
			current = next;
		}
		if (append(routes, route(frame, (size_t)size, next.removed)))
			goto failed;
	}
	if (finish(runs, &current, routes)) {
		routes = NULL;
		goto failed;
	}
	PyBuffer_Release(&stream);
	return Py_BuildValue("(Nn)", runs, at);
failed:
	PyBuffer_Release(&stream);
	Py_XDECREF(routes);
	Py_XDECREF(runs);
	if (!PyErr_Occurred())
		PyErr_SetString(PyExc_ValueError, "start: negative");
	return NULL;
}

static PyObject *removals(PyObject *self, PyObject *frames)
{
	Py_ssize_t count, total = 0, size;
	PyObject *joined = NULL;
	char *data, *to;

	(void)self;
	if (!PyList_Check(frames))
		return PyErr_Format(PyExc_TypeError, "a list of frames is needed");
	count = PyList_Size(frames);
	for (Py_ssize_t n = 0; n < count; n++) {
		if (PyBytes_AsStringAndSize(PyList_GetItem(frames, n), &data, &size))
			return NULL;
		if (size < HEADER || size > 0xffff)
			return PyErr_Format(PyExc_ValueError, "a frame of %zd bytes", size);
		total += size + REMOVE_FIELD;
	}
	joined = PyBytes_FromStringAndSize(NULL, total);
	if (!joined)
		return NULL;
	to = PyBytes_AsString(joined);
	for (Py_ssize_t n = 0; n < count; n++) {
		PyBytes_AsStringAndSize(PyList_GetItem(frames, n), &data, &size);
		size -= HEADER;
		memcpy(to, (uint8_t[]){1, (uint8_t)((size + 2) >> 8), (uint8_t)(size + 2), UPDATE, 0x08, 1}, HEADER + REMOVE_FIELD);
		memcpy(to + HEADER + REMOVE_FIELD, data + HEADER, (size_t)size);
		to += HEADER + REMOVE_FIELD + size;
	}
	return joined;
}

static PyMethodDef methods[] = {
	{"scan", scan, METH_VARARGS, "scan(stream, start) -> (runs, end)"},
	{"removals", removals, METH_O, "removals(frames) -> bytes"},
	{NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
	PyModuleDef_HEAD_INIT, "_frames", "Frames in bulk; see services/metalbond/runs.py.", 0, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__frames(void)
{
	return PyModule_Create(&module);
}
