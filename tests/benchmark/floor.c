/* The least that can be done: the program of each process is asked for once (readlinkat(2) on /proc/PID/exe). */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int main(void)
{
    DIR *proc = opendir("/proc");
    struct dirent *entry;
    char name[300], program[256];
    while (proc && (entry = readdir(proc))) {
        if (entry->d_name[0] < '0' || entry->d_name[0] > '9')
            continue;
        snprintf(name, sizeof name, "%s/exe", entry->d_name);
        if (readlinkat(dirfd(proc), name, program, sizeof program) < 0)
            continue;
    }
    return 0;
}
