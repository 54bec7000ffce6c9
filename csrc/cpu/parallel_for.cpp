// The thread pool: one job at a time, its tasks dealt out to places in equal runs of neighbours. The caller has place 0,
// each worker a place of its own for good; whoever has done his run helps with the others'. So thread and task stay
// together from call to call as long as nobody is late, and what a thread wrote is in its own cache when the next call
// reads it. (One counter for all tasks mixed them: with the two CPUs on different last-level caches a product's packing
// took five times as long as on one thread, and a whole network half as long again.)
//
// A worker takes part in a job only through a door. The caller fills in the job, then opens the door in `state` to the
// places below a number; a worker enters (active + 1) in one atomic step, and only then looks at the job. When the
// tasks are all claimed the door is closed, and the caller returns once nobody is active. So a worker that comes late
// finds the door closed and touches nothing, a worker that holds an old view of `state` fails its exchange or enters
// the newer job (which is as good), and the caller never waits for a worker that has not woken up yet.
//
// Nothing here is ever destroyed: workers are detached and the pool is leaked, so that a process may end at any moment.
// What a fork leaves behind in the child (a pool whose workers do not exist) is abandoned, not repaired.
#include "parallel_for.hpp"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <fstream>
#include <mutex>
#include <new>
#include <string>
#include <thread>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#include <signal.h>
#endif
#if defined(__linux__)
#include <sched.h>
#endif
#if defined(__SSE2__) || defined(_M_X64)
#include <emmintrin.h>
#endif

namespace hominy {
namespace {

constexpr int max_threads = 1024;

// How long an idle worker stays hot before it sleeps: it bridges the gaps between the calls of a training step (waking
// it costs the caller some 8 us). It yields its CPU now and then: with a busy neighbour on a machine of two CPUs,
// worker and caller end up on the same one, and a job of 10 us took 217 us behind a worker that spun without yielding.
constexpr auto worker_spin = std::chrono::microseconds(200);
// How long a caller waits hot for the tasks that others still run. It never yields (a neighbour would keep the CPU for
// a whole time slice), it sleeps, which lets a worker on the same CPU go on.
constexpr auto caller_spin = std::chrono::microseconds(50);

// The object behind `slot`, made on first use. No lock, so that a fork in the middle cannot leave one held.
template <class T>
T& leaked_once(std::atomic<T*>& slot) {
  T* known = slot.load(std::memory_order_acquire);
  if (known) return *known;
  T* fresh = new T;
  if (slot.compare_exchange_strong(known, fresh, std::memory_order_acq_rel, std::memory_order_acquire)) return *fresh;
  delete fresh;
  return *known;
}

// ---- How many threads -----------------------------------------------------------------------------------------------

// CPUs that this process may be scheduled on.
int cpus_by_affinity() {
#if defined(__linux__)
  for (int bits = 1024; bits <= 1 << 20; bits *= 2) {  // the call fails on a mask smaller than the kernel's
    cpu_set_t* mask = CPU_ALLOC(bits);
    if (!mask) break;
    const size_t size = CPU_ALLOC_SIZE(bits);
    const int count = sched_getaffinity(0, size, mask) == 0 ? CPU_COUNT_S(size, mask) : 0;
    CPU_FREE(mask);
    if (count > 0) return count;
  }
#endif
  return 0;
}

// CPUs' worth of time that the cgroups of this process (its own and every parent) allow, or 0 for no limit.
double cpus_by_quota() {
  double least = 0;
#if defined(__linux__)
  const auto limit = [&](double quota, double period) {
    if (quota > 0 && period > 0 && (least == 0 || quota / period < least)) least = quota / period;
  };
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {  // "id:controllers:path"; the path may be the host's view
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const bool version2 = controllers == ",,";
    if (!version2 && controllers.find(",cpu,") == std::string::npos) continue;
    for (std::string path = line.substr(second + 1);; path.erase(path.rfind('/'))) {
      if (path == "/") path.clear();
      double quota = 0, period = 0;
      if (version2) {  // "max 100000" stops the first extraction: no limit
        std::ifstream("/sys/fs/cgroup" + path + "/cpu.max") >> quota >> period;
      } else {
        std::ifstream("/sys/fs/cgroup/cpu" + path + "/cpu.cfs_quota_us") >> quota;
        std::ifstream("/sys/fs/cgroup/cpu" + path + "/cpu.cfs_period_us") >> period;
      }
      limit(quota, period);
      if (path.find('/') == std::string::npos) break;
    }
  }
#endif
  return least;
}

struct thread_default {
  int cpus;     // more threads than this would take turns
  int threads;  // the pool's size unless set_num_threads is called
  char reason[192];

  thread_default() {
    const int mask = cpus_by_affinity();
    const double quota = cpus_by_quota();
    cpus = mask > 0 ? mask : std::max(1, int(std::thread::hardware_concurrency()));
    const char* plural = cpus == 1 ? "" : "s";
    if (quota > 0 && quota <= cpus - 1) {
      snprintf(reason, sizeof reason, "cgroup quota of %.4g of %d CPUs", quota, cpus);
      cpus = int(quota) + (quota > int(quota));
    } else if (mask > 0) {
      snprintf(reason, sizeof reason, "%d CPU%s in the affinity mask", cpus, plural);
    } else {
      snprintf(reason, sizeof reason, "%d CPU%s in the machine", cpus, plural);
    }
    threads = std::min(cpus, max_threads);

    const char* asked = getenv("HOMINY_NUM_THREADS");
    if (!asked || !*asked) return;
    char* end = nullptr;
    const long value = strtol(asked, &end, 10);
    if (*end == 0 && value >= 1 && value <= max_threads) {
      threads = int(value);
      snprintf(reason, sizeof reason, "HOMINY_NUM_THREADS");
    } else {
      const size_t used = strlen(reason);
      snprintf(reason + used, sizeof reason - used, "; HOMINY_NUM_THREADS ignored: not a whole number from 1 to %d",
               max_threads);
    }
  }
};

std::atomic<thread_default*> default_slot{nullptr};
std::atomic<int> threads_set{0};  // by set_num_threads; 0: not yet

// ---- The pool -------------------------------------------------------------------------------------------------------

inline void pause() {
#if defined(__SSE2__) || defined(_M_X64)
  _mm_pause();
#elif defined(__aarch64__) && defined(__GNUC__)
  __asm__ volatile("isb");  // `yield` is a no-op on most cores; isb waits some 10 ns, as x86's pause does
#endif
}

// Rounding and denormal mode of this thread. Results must not depend on which thread ran a task.
inline uint64_t float_mode() {
#if defined(__SSE2__) || defined(_M_X64)
  return _mm_getcsr() & ~0x3fu;  // without the sticky exception flags
#elif defined(__aarch64__) && defined(__GNUC__)
  uint64_t mode;
  __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
  return mode;
#else
  return 0;
#endif
}
inline void set_float_mode([[maybe_unused]] uint64_t mode) {
#if defined(__SSE2__) || defined(_M_X64)
  _mm_setcsr(unsigned(mode));
#elif defined(__aarch64__) && defined(__GNUC__)
  __asm__ volatile("msr fpcr, %0" ::"r"(mode));
#endif
}

class pool {
 public:
  // True if the pool was free and now belongs to the caller, until run() returns.
  bool acquire() { return !busy.exchange(true, std::memory_order_acquire); }

  void run(int64_t tasks, int wanted, void (*body)(void*, int64_t, int64_t), void* context, bool spins) {
    const int places = 1 + std::min(wanted - 1, start_workers(wanted - 1));
    leave_this_cpu_to_the_caller();
    job = {body, context, tasks, places, float_mode()};
    for (int place = 0; place < places; ++place) at(place).next.store(run_begin(place), std::memory_order_relaxed);
    may_spin.store(spins, std::memory_order_relaxed);
    state.store(uint64_t(places) * one_place, std::memory_order_seq_cst);
    for (int place = 1; place < places; ++place) wake(at(place));
    run_tasks(0);
    state.fetch_and(~all_places, std::memory_order_relaxed);
    wait_for_workers();
    busy.store(false, std::memory_order_release);
  }

  int workers() const { return started.load(std::memory_order_relaxed); }

 private:
  // `state` holds three numbers, so that they change together.
  static constexpr uint64_t one_active = 1, all_active = 0xffff;            // workers inside the job
  static constexpr uint64_t one_place = 1 << 16, all_places = 0xffff0000u;  // places below this one may enter it
  static constexpr uint64_t caller_sleeps = uint64_t(1) << 32;              // the last to leave wakes the caller

  // A thread of the pool. Its counter has a cache line (or the pair that the prefetcher fetches) of its own.
  struct alignas(128) participant {
    std::atomic<int64_t> next{0};  // of its run, the first task that nobody has claimed
    alignas(128) std::atomic<bool> asleep{false};
    std::mutex mutex;
    std::condition_variable woken;
#if defined(__linux__)
    pthread_t handle;  // a worker's
#endif
  };
  participant& at(int place) { return place ? *members[place - 1] : caller; }

  int64_t run_begin(int place) const {
    const int64_t each = job.tasks / job.places, longer = job.tasks % job.places;
    return place * each + std::min<int64_t>(place, longer);
  }

  void run_tasks(int own) {
    const auto [body, context, tasks, places, mode] = job;
    for (int turn = 0; turn < places; ++turn) {
      const int place = own + turn < places ? own + turn : own + turn - places;
      std::atomic<int64_t>& next = at(place).next;
      const int64_t end = run_begin(place + 1);
      while (next.load(std::memory_order_relaxed) < end) {  // a look costs less than a claim in vain
        const int64_t task = next.fetch_add(1, std::memory_order_relaxed);
        if (task < end) body(context, task, own);
      }
    }
  }

  void wait_for_workers() {
    const auto all_left = [this] { return (state.load(std::memory_order_acquire) & all_active) == 0; };
    if (spin_until(caller_spin, false, all_left)) return;
    if ((state.fetch_or(caller_sleeps, std::memory_order_acquire) & all_active) == 0) return;
    std::unique_lock<std::mutex> lock(caller.mutex);
    caller.woken.wait(lock, all_left);
  }

  bool enter(int place) {
    uint64_t seen = state.load(std::memory_order_seq_cst);
    while (uint64_t(place) < (seen & all_places) / one_place)
      if (state.compare_exchange_weak(seen, seen + one_active, std::memory_order_acquire, std::memory_order_relaxed))
        return true;
    return false;
  }

  // No tasks are left to claim: closes the door too, else this worker would find it open again.
  void leave() {
    uint64_t seen = state.load(std::memory_order_relaxed);
    while (!state.compare_exchange_weak(seen, (seen & ~all_places) - one_active, std::memory_order_release,
                                        std::memory_order_relaxed)) {
    }
    if ((seen & caller_sleeps) && (seen & all_active) == one_active) notify(caller);
  }

  void work(int place) {
    participant& self = at(place);
    for (;;) {
      if (!spin_until(worker_spin, true, [&] { return enter(place); })) {
        std::unique_lock<std::mutex> lock(self.mutex);
        // Either this worker sees the door of a new job open or that job's caller sees this sleeper: both sides write,
        // then read what the other wrote, sequentially consistent.
        self.asleep.store(true, std::memory_order_seq_cst);
        self.woken.wait(lock, [&] { return enter(place); });
        self.asleep.store(false, std::memory_order_relaxed);
      }
      if (float_mode() != job.float_mode) set_float_mode(job.float_mode);
      run_tasks(place);
      leave();
    }
  }

  void wake(participant& worker) {
    if (worker.asleep.load(std::memory_order_seq_cst)) notify(worker);
  }

  // Who is to be woken is inside its wait once the lock is free, or sees the new state.
  static void notify(participant& sleeper) {
    sleeper.mutex.lock();
    sleeper.mutex.unlock();
    sleeper.woken.notify_one();
  }

  // Starts workers up to `wanted`; returns how many there are. Only the pool's holder calls it.
  int start_workers(int wanted) {
    int count = workers();
    if (count >= wanted) return count;
#if defined(__unix__) || defined(__APPLE__)
    sigset_t all, before;  // a process's signals are its own threads' business: workers inherit a full mask
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
#endif
    try {
      for (; count < wanted; ++count) {
        if (!members[count]) members[count] = new participant;
        std::thread worker([this, place = count + 1] { work(place); });
#if defined(__linux__)
        members[count]->handle = worker.native_handle();
        avoided_cpu = -1;
#endif
        worker.detach();
      }
    } catch (...) {  // no more threads to be had: the job goes on with fewer
    }
#if defined(__unix__) || defined(__APPLE__)
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
#endif
    started.store(count, std::memory_order_relaxed);
    return count;
  }

  // Keeps the workers off the CPU that the caller runs on. The kernel likes to wake a thread where its waker runs, and
  // under a hypervisor that packs virtual CPUs it does so with the others idle: the worker then waits for the end of
  // the caller's time slice, milliseconds, while the caller computes everything alone. So the workers' affinity leaves
  // out that one CPU; a system call only when the caller has moved.
  void leave_this_cpu_to_the_caller() {
#if defined(__linux__)
    const int cpu = sched_getcpu();
    if (cpu == avoided_cpu || cpu < 0 || cpu >= CPU_SETSIZE) return;
    avoided_cpu = cpu;
    cpu_set_t others;
    if (sched_getaffinity(0, sizeof others, &others) != 0) return;
    CPU_CLR(cpu, &others);
    if (CPU_COUNT(&others) == 0) return;
    for (int i = 0; i < workers(); ++i) pthread_setaffinity_np(members[i]->handle, sizeof others, &others);
#endif
  }

  template <class Ready>
  bool spin_until(std::chrono::microseconds limit, bool yields, Ready ready) {
    if (ready()) return true;
    if (!may_spin.load(std::memory_order_relaxed)) return false;
    const auto end = std::chrono::steady_clock::now() + limit;
    do {
      if (yields) std::this_thread::yield();
      for (int i = 0; i < 32; ++i) {
        pause();
        if (ready()) return true;
      }
    } while (std::chrono::steady_clock::now() < end);
    return false;
  }

  struct {
    void (*body)(void*, int64_t, int64_t);
    void* context;
    int64_t tasks;
    int places;
    uint64_t float_mode;
  } job{};  // written by the pool's holder while nobody is inside, read by who is

  alignas(128) std::atomic<uint64_t> state{0};  // spun on
  alignas(128) std::atomic<bool> busy{false};
  std::atomic<bool> may_spin{true};
  std::atomic<int> started{0};
  participant caller;
  participant* members[max_threads - 1] = {};  // the workers
#if defined(__linux__)
  int avoided_cpu = -1;  // belongs to the pool's holder
#endif
};

std::atomic<pool*> pool_slot{nullptr};

#if defined(__unix__) || defined(__APPLE__)
// The child has none of the workers, and perhaps a pool that some other thread held: it starts from nothing.
void forget_pool() { pool_slot.store(nullptr, std::memory_order_relaxed); }
[[maybe_unused]] const int fork_handler = pthread_atfork(nullptr, nullptr, forget_pool);
#endif

}  // namespace

void parallel_for(int64_t tasks, int64_t places, void (*body)(void* context, int64_t task, int64_t place),
                  void* context) {
  const int threads = num_threads(), wanted = int(std::min({int64_t(threads), tasks, places}));
  if (wanted > 1) {
    pool& workers = leaked_once(pool_slot);
    // A call from inside a task finds the pool taken as well: nesting needs no case of its own.
    if (workers.acquire()) return workers.run(tasks, wanted, body, context, threads <= leaked_once(default_slot).cpus);
  }
  for (int64_t task = 0; task < tasks; ++task) body(context, task, 0);
}

int num_threads() {
  const int set = threads_set.load(std::memory_order_relaxed);
  return set ? set : leaked_once(default_slot).threads;
}

void set_num_threads(int n) { threads_set.store(std::clamp(n, 1, max_threads), std::memory_order_relaxed); }

const char* num_threads_reason() {
  return threads_set.load(std::memory_order_relaxed) ? "set_num_threads" : leaked_once(default_slot).reason;
}

int num_workers_started() {
  const pool* workers = pool_slot.load(std::memory_order_acquire);
  return workers ? workers->workers() : 0;
}

}  // namespace hominy
