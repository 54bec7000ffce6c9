# The C layout of autograd.py's classes, for Cython. autograd.py itself stays plain Python.
cdef class Storage:
    cdef public object owner
    cdef public long version
    cdef public bint viewed

cdef class TensorBase:
    cdef object __weakref__
    cdef public object _array
    cdef public Storage _storage
    cdef public bint _view
    cdef public object _grad_fn
    cdef public int _output
    cdef public bint _requires_grad
    cdef public object _grad
    cdef public object _hooks
    cdef public bint _retains

cdef class Edge:
    cdef public object target
    cdef public int index
    cdef public object shape
    cdef public object dtype
    cdef public int place
    cdef public object rule
    cdef public list saved
    cdef public list versions

cdef class SavedOutput:
    cdef public object array
    cdef public Storage storage
    cdef public int index

cdef class Node:
    cdef object __weakref__
    cdef public str name
    cdef public list metas
    cdef public object joint
    cdef public list saved
    cdef public list versions
    cdef public list edges
    cdef public object hooks
    cdef public bint released
    cdef public long sequence
    cpdef object release(self)
    cpdef list unpack(self, list saved, list versions)

cdef class Operator:
    cdef dict __dict__
    cdef object __weakref__
    cdef public object forward
    cdef public bint view
    cdef public str direct
    cdef public str name
    cdef public tuple parameters
    cdef public int count
    cdef public bint has_out
    cdef public tuple defaults
    cdef public dict rules
    cdef public tuple joint
    cpdef object record(self, object args, object outputs)
    cpdef tuple keep(self, tuple wants, object args, object outputs, object index)

cpdef object wrap(object array, object storage=*)
cpdef object bump(TensorBase target)
cpdef object _mark_view(TensorBase output, object base)
cpdef object _deliver(dict pending, list heap, dict leaves, object target, object index, object grad)
cpdef object _walk_node(Node node, list slots, dict pending, list heap, dict leaves, dict captured, dict wanted_nodes,
                        set wanted_leaves, object useful)
