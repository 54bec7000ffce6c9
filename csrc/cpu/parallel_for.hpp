// parallel_for: the one thread pool of the process, and the only global state that kernels see.
//
// Started on the first call that wants it; size: HOMINY_NUM_THREADS, else what CPU affinity and the cgroup quota allow.
// Workers spin for a bounded moment, then sleep. After a fork the child starts its own. A call from inside a task, or
// while another thread holds the pool, runs serially on the caller's thread. Tasks must neither throw nor fork. They
// run under the caller's floating-point mode (rounding, denormals), whichever thread takes them.
//
// Bits must not depend on the number of threads: split work by shape into `tasks`, never by `num_threads()`, wherever a
// sum could be split.
#pragma once
#include <stdint.h>

namespace hominy {

// Calls body(context, i, place) once for each i in [0, tasks), in any order, on any thread; returns when all are done.
// What the caller wrote before is visible to every task, what the tasks wrote is visible to the caller after. `place` is
// below `places` (at least 1), and tasks of the same place run one after another: scratch memory is a place's.
void parallel_for(int64_t tasks, int64_t places, void (*body)(void* context, int64_t task, int64_t place),
                  void* context);

// The same for a callable f(int64_t task, int64_t place). It is called by reference, never copied. A single task is a
// plain call, which the compiler may inline.
template <class F>
inline void parallel_for_places(int64_t tasks, int64_t places, F&& f) {
  struct erased {  // a function cannot be carried in a void*, a pointer to this can
    decltype(&f) callable;
    static void call(void* self, int64_t task, int64_t place) { (*static_cast<erased*>(self)->callable)(task, place); }
  } self{&f};
  if (tasks == 1)
    erased::call(&self, 0, 0);
  else
    parallel_for(tasks, places, erased::call, &self);
}

// For a callable f(int64_t task): parallel_for(rows, [&](int64_t row) { ... }).
template <class F>
inline void parallel_for(int64_t tasks, F&& f) {
  parallel_for_places(tasks, INT64_MAX, [&f](int64_t task, int64_t) { f(task); });
}

// Threads that the next parallel_for may use, the caller's among them.
int num_threads();
// From any thread at any time; takes effect with the next parallel_for. n is brought into [1, 1024].
void set_num_threads(int n);
// Why that many: one English phrase ("HOMINY_NUM_THREADS", "2 CPUs in the affinity mask", ...). Static storage.
const char* num_threads_reason();
// Worker threads that this process has started so far (they are never ended), without the callers' own.
int num_workers_started();

}  // namespace hominy
