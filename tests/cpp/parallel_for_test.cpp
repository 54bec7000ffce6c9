// The thread pool: every task once, whoever calls, from wherever, with however many threads; forks; exits.
#include "parallel_for.hpp"

#include <atomic>
#include <chrono>
#include <thread>

#include "check.hpp"
#include "subprocess.hpp"

namespace test {
namespace {

// Runs `tasks` tasks and counts how often each was run.
bool each_task_once(int64_t tasks) {
  std::vector<std::atomic<int>> runs(size_t(tasks > 0 ? tasks : 0));
  hominy::parallel_for(tasks, [&](int64_t task) { runs[size_t(task)].fetch_add(1, std::memory_order_relaxed); });
  for (auto& count : runs)
    if (count.load(std::memory_order_relaxed) != 1) return false;
  return true;
}

// Plain, unsynchronised writes: the pool itself must order them before the caller's reads.
bool sums_right(int64_t tasks) {
  std::vector<int64_t> squares(size_t(tasks), -1);
  hominy::parallel_for(tasks, [&](int64_t task) { squares[size_t(task)] = task * task; });
  for (int64_t task = 0; task < tasks; ++task)
    if (squares[size_t(task)] != task * task) return false;
  return true;
}

void counting() {
  begin_group("threads: each task once");
  for (int threads : {1, 2, 3, 8, 2, 1, 5}) {
    hominy::set_num_threads(threads);
    check(hominy::num_threads() == threads, "num_threads after set_num_threads(%d)", threads);
    for (int64_t tasks : {-1, 0, 1, 2, 3, 7, 8, 9, 1000})
      check(each_task_once(tasks), "%lld tasks on %d threads", (long long)tasks, threads);
  }
  hominy::set_num_threads(-5);
  check(hominy::num_threads() == 1, "a negative number of threads is brought to 1");
  hominy::set_num_threads(1 << 30);
  check(hominy::num_threads() == 1024, "too many threads are brought to 1024");
  hominy::set_num_threads(2);

  struct move_only {
    std::vector<int> touched = std::vector<int>(5);
    move_only() = default;
    move_only(const move_only&) = delete;
    void operator()(int64_t task) { touched[size_t(task)] += 1; }
  } callable;
  hominy::parallel_for(5, callable);
  check(callable.touched == std::vector<int>(5, 1), "a callable is called itself, not a copy");
  const auto constant = [&](int64_t task) { callable.touched[size_t(task)] += 1; };
  hominy::parallel_for(5, constant);
  check(callable.touched == std::vector<int>(5, 2), "a const callable");
  end_group();
}

// Tasks of one place run one after another, and there are no more places than asked: scratch memory depends on it.
void places() {
  begin_group("threads: places");
  for (int threads : {1, 2, 4, 7})
    for (int64_t limit : {1, 2, 3, 100})
      for (int64_t tasks : {1, 2, 5, 300}) {
        hominy::set_num_threads(threads);
        std::vector<std::atomic<int>> inside((size_t)limit), runs((size_t)tasks);
        std::atomic<int> shared{0}, outside{0};
        hominy::parallel_for_places(tasks, limit, [&](int64_t task, int64_t place) {
          ++runs[size_t(task)];
          if (place < 0 || place >= limit || place >= threads) {
            ++outside;
            return;
          }
          if (inside[size_t(place)].fetch_add(1) != 0) ++shared;
          if (task % 3 == 0) std::this_thread::yield();
          inside[size_t(place)].fetch_sub(1);
        });
        int wrong = 0;
        for (auto& count : runs) wrong += count != 1;
        check(wrong == 0 && shared == 0 && outside == 0,
              "%lld tasks in at most %lld places on %d threads: %d not run once, %d at once in a place, %d outside",
              (long long)tasks, (long long)limit, threads, wrong, shared.load(), outside.load());
      }
  // Fewer threads than before: workers that are still awake stay outside.
  hominy::set_num_threads(7);
  sums_right(100);
  hominy::set_num_threads(2);
  std::atomic<int64_t> highest{0};
  for (int repeat = 0; repeat < 100; ++repeat)
    hominy::parallel_for_places(20, INT64_MAX, [&](int64_t, int64_t place) {
      if (place > highest) highest = place;
    });
  check(highest <= 1, "place %lld of two", (long long)highest.load());
  end_group();
}

void nesting() {
  begin_group("threads: nested and busy");
  hominy::set_num_threads(4);
  std::atomic<int64_t> total{0};
  hominy::parallel_for(10, [&](int64_t i) {
    hominy::parallel_for(
        10, [&](int64_t j) { hominy::parallel_for(3, [&](int64_t k) { total += 100 * i + 10 * j + k; }); });
  });
  check(total == 3 * 100 * 450 + 3 * 10 * 450 + 3 * 100, "three levels of nesting: %lld", (long long)total.load());

  // Many callers at once: one gets the pool, the others work alone.
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < 8; ++c)
    callers.emplace_back([&, c] {
      for (int repeat = 0; repeat < 500; ++repeat)
        if (!sums_right(2 + (c + repeat) % 13)) ++wrong;
    });
  callers.emplace_back([] {
    for (int repeat = 0; repeat < 500; ++repeat) {
      hominy::set_num_threads(1 + repeat % 8);
      if (repeat % 16 == 0) std::this_thread::yield();
    }
  });
  for (auto& caller : callers) caller.join();
  check(wrong == 0, "%d wrong results with 8 callers at once", wrong.load());
  end_group();
}

// Thousands of tiny jobs, each with its context on the stack and scribbled over right after: a late worker that touched
// an old job would be seen here (and by the sanitizers).
void stress(const options& settings) {
  begin_group("threads: stress");
  const int jobs = settings.quick ? 5000 : 100000;
  for (int threads : {2, 4, 8}) {
    hominy::set_num_threads(threads);
    int wrong = 0;
    for (int job = 0; job < jobs / threads; ++job) {
      struct {
        int64_t magic;
        int64_t results[9];
      } context{job, {}};
      const int64_t tasks = 2 + job % 8;
      hominy::parallel_for(
          tasks, 9,
          [](void* self, int64_t task, int64_t) {
            auto* c = static_cast<decltype(context)*>(self);
            c->results[task] = c->magic + task;
          },
          &context);
      for (int64_t task = 0; task < tasks; ++task) wrong += context.results[task] != job + task;
      memset(&context, 0xee, sizeof context);
      __asm__ volatile("" ::"r"(&context) : "memory");
    }
    check(wrong == 0, "%d wrong results on %d threads", wrong, threads);
    check(hominy::num_workers_started() >= 1, "workers were started");
  }
  end_group();
}

// x86: flush-to-zero of the caller reaches every task, and no worker keeps it.
void float_mode() {
#if defined(__SSE2__)
  begin_group("threads: floating-point mode");
  const auto flushed_tasks = [] {
    std::atomic<int> flushed{0};
    volatile float tiny = 0x1p-140f;
    hominy::parallel_for(64, [&](int64_t) {
      if (tiny * 0.5f == 0.0f) ++flushed;
      std::this_thread::yield();  // let every thread have some
    });
    return flushed.load();
  };
  hominy::set_num_threads(4);
  check(flushed_tasks() == 0, "subnormals are kept by default");
  const unsigned mode = __builtin_ia32_stmxcsr();
  __builtin_ia32_ldmxcsr(mode | 0x8000);
  const int flushed = flushed_tasks();
  __builtin_ia32_ldmxcsr(mode);
  check(flushed == 64, "%d of 64 tasks saw the caller's flush-to-zero", flushed);
  check(flushed_tasks() == 0, "no worker keeps it");
  end_group();
#endif
}

#if HOMINY_TEST_HAS_FORK
void environment() {
  begin_group("threads: HOMINY_NUM_THREADS");
  const auto with = [](const char* value, auto expectation) {
    return in_child([&] {
      if (value)
        setenv("HOMINY_NUM_THREADS", value, 1);
      else
        unsetenv("HOMINY_NUM_THREADS");
      return expectation(hominy::num_threads(), std::string(hominy::num_threads_reason()));
    });
  };
  using text = const std::string&;
  check(with(nullptr, [](int n, text) { return n >= 1; }), "unset");
  check(with("3", [](int n, text why) { return n == 3 && why == "HOMINY_NUM_THREADS"; }), "3");
  check(with("1024", [](int n, text) { return n == 1024; }), "1024");
  check(with("", [](int n, text why) { return n >= 1 && why.find("HOMINY") == std::string::npos; }), "empty");
  for (const char* invalid : {"0", "-1", "1025", "two", "2x", "1.5", "99999999999999999999"})
    check(with(invalid, [](int n, text why) { return n >= 1 && why.find("ignored") != std::string::npos; }),
          "%s is ignored, and the reason says so", invalid);
  end_group();
}

void forks() {
  begin_group("threads: fork and exit");
  hominy::set_num_threads(4);
  sums_right(100);
  check(in_child([] { return sums_right(100) && hominy::num_workers_started() > 0; }), "a child uses its own pool");
  check(in_child([] { return in_child([] { return sums_right(100); }); }), "a child of a child");

  // The sanitizers' own runtimes do not survive what follows (a thread started in the child of a threaded process).
  if (under_sanitizer) return end_group();

  // Forks while other threads are inside parallel_for: the child finds the pool neither held nor half open.
  std::atomic<bool> stop{false};
  std::vector<std::thread> busy;
  for (int t = 0; t < 2; ++t)
    busy.emplace_back([&] {
      while (!stop) sums_right(50);
    });
  int wrong = 0;
  for (int repeat = 0; repeat < 20; ++repeat)
    wrong += !in_child([] {
      for (int job = 0; job < 20; ++job)
        if (!sums_right(50)) return false;
      return hominy::num_workers_started() > 0;  // the pool was really used
    });
  stop = true;
  for (auto& thread : busy) thread.join();
  check(wrong == 0, "%d of 20 children failed that were forked while the pool was busy", wrong);

  // Exits with work in flight, on workers and on a thread that never stops calling.
  for (int repeat = 0; repeat < 5; ++repeat)
    check(in_child([] {
            std::thread([] {
              for (;;) hominy::parallel_for(1000, [](int64_t) { std::this_thread::yield(); });
            }).detach();
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
            exit(0);  // runs destructors and exit handlers, as a return from main would
            return false;
          }),
          "exit while tasks run");
  end_group();
}
#endif

}  // namespace

void parallel_for_test(const options& settings) {
#if HOMINY_TEST_HAS_FORK
  if (settings.fork) environment();
#endif
  const int before = hominy::num_threads();
  printf("threads: %d (%s)\n", before, hominy::num_threads_reason());
  counting();
  places();
  nesting();
  stress(settings);
  float_mode();
#if HOMINY_TEST_HAS_FORK
  if (settings.fork) forks();
#endif
  hominy::set_num_threads(before);
}

}  // namespace test
