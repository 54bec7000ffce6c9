// Runs a piece of a test in a forked child, with a time limit.
#pragma once
#if defined(__unix__) || defined(__APPLE__)
#define HOMINY_TEST_HAS_FORK 1
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

namespace test {

// True if body() returned true in a child process (or called exit(0) there) within 60 seconds.
template <class Body>
bool in_child(Body body) {
  fflush(stdout);
  const pid_t child = fork();
  if (child < 0) return false;
  if (child == 0) {
    signal(SIGALRM, SIG_DFL);
    alarm(60);
    _exit(body() ? 0 : 1);
  }
  int status = 0;
  return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace test
#else
#define HOMINY_TEST_HAS_FORK 0
#endif
