// Starts one command inside a cgroup and says what it cost. It is C, and small, because the kernel carries the memory peak
// of a process over `exec`: started from Python, every tool would seem to need Python's memory. It knows nothing of caches.
//
//   meter CGROUP_PROCS|- CPU_COUNTER|- LOG COMMAND ARGS…
//
// One line of JSON on stdout; `counter` is the text of CPU_COUNTER right after the command ended, or null.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000ll + now.tv_nsec;
}

static long long us(struct timeval t) { return t.tv_sec * 1000000ll + t.tv_usec; }

static void child(const char *procs, const char *log, char **command) {
    if (strcmp(procs, "-")) {
        int file = open(procs, O_WRONLY | O_CLOEXEC);
        if (file < 0 || write(file, "0", 1) != 1) {
            dprintf(2, "meter: `%s`: %s\n", procs, strerror(errno));
            _exit(125);
        }
    }
    int in = open("/dev/null", O_RDONLY), out = open(log, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (in < 0 || out < 0) _exit(125);
    dup2(in, 0), dup2(out, 1), dup2(out, 2);
    if (in > 2) close(in);
    if (out > 2) close(out);
    execvp(command[0], command);
    dprintf(2, "meter: `%s`: %s\n", command[0], strerror(errno));
    _exit(127);
}

int main(int argc, char **argv) {
    if (argc < 5) {
        dprintf(2, "usage: meter CGROUP_PROCS|- CPU_COUNTER|- LOG COMMAND ARGS…\n");
        return 64;
    }
    long long start = now_ns();
    pid_t pid = fork();
    if (pid < 0) return perror("meter: fork"), 1;
    if (pid == 0) child(argv[1], argv[3], argv + 4);
    int status;
    struct rusage usage;
    while (wait4(pid, &status, 0, &usage) < 0)
        if (errno != EINTR) return perror("meter: wait4"), 1;
    long long wall = now_ns() - start;
    char counter[4096] = "";
    if (strcmp(argv[2], "-")) {
        int file = open(argv[2], O_RDONLY);
        ssize_t got = file < 0 ? -1 : read(file, counter, sizeof counter - 1);
        if (got < 0) return perror("meter: CPU counter"), 1;
        counter[got] = 0;
        counter[strcspn(counter, "\n")] = 0; // in both versions of cgroups the first line has the total
    }
    printf("{\"wall_ns\": %lld, \"rusage_us\": %lld, \"rss_kb\": %ld, \"exit\": %d, \"counter\": ", wall,
           us(usage.ru_utime) + us(usage.ru_stime), usage.ru_maxrss,
           WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    if (counter[0]) printf("\"%s\"}\n", counter);
    else printf("null}\n");
    return 0;
}
