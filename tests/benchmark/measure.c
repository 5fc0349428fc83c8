/* measure COMMAND [ARGUMENT…]: runs it once, silently, and prints its microseconds and its peak memory in KiB. A program of its own,
 * since a child's peak counts what its parent held when it was started (ru_maxrss in getrusage(2)). */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

int main(int argc, char **argv)
{
    struct rusage usage;
    int status, nowhere = open("/dev/null", O_RDWR);
    if (argc < 2)
        return 2;
    long long begun = now();
    pid_t child = vfork();
    if (child == 0) {
        dup2(nowhere, 0);
        dup2(nowhere, 1);
        dup2(nowhere, 2);
        execvp(argv[1], argv + 1);
        _exit(127);
    }
    if (child < 0 || wait4(child, &status, 0, &usage) < 0)
        return 1;
    printf("%lld %ld %d\n", now() - begun, usage.ru_maxrss, WIFEXITED(status) ? WEXITSTATUS(status) : -1);
    return 0;
}
