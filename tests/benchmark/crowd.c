/* crowd PROCESSES CONNECTIONS: that many children that only wait, and that many connections over loopback. Says "ready" when all of
 * them are there, and ends with them when its standard input ends. */
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

/* By one process: both ends of each connection are descriptors of its own. */
enum { HELD = 5000 };

static void hold(int holder)
{
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons(20000 + holder)};
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&server, sizeof server) || listen(listener, 4096)) {
        perror("listen");
        exit(1);
    }
    for (int i = 0; i < HELD; i++) {
        struct sockaddr_in to = server;
        to.sin_addr.s_addr = htonl(0x7f000001u);
        int client = socket(AF_INET, SOCK_STREAM, 0);
        if (client < 0 || connect(client, (struct sockaddr *)&to, sizeof to) || accept(listener, NULL, NULL) < 0) {
            perror("connect");
            exit(1);
        }
    }
}

int main(int argc, char **argv)
{
    int processes = argc > 1 ? atoi(argv[1]) : 0, connections = argc > 2 ? atoi(argv[2]) : 0;
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    for (int i = 0; i < processes; i++) {
        pid_t child = fork();
        if (child < 0) {
            perror("fork");
            return 1;
        }
        if (child == 0) {
            /* A program with libraries, as most are. */
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            close(0);
            close(1);
            execl("/usr/bin/sleep", "sleep", "infinity", (char *)NULL);
            _exit(127);
        }
    }
    int told[2];
    if (pipe(told))
        return 1;
    for (int holder = 0; holder * HELD < connections; holder++) {
        if (fork() == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            hold(holder);
            char done = 1;
            write(told[1], &done, 1);
            for (;;)
                pause();
        }
        char done;
        if (read(told[0], &done, 1) != 1)
            return 1;
    }
    puts("ready");
    fflush(stdout);
    char end;
    while (read(0, &end, 1) > 0) {
    }
    kill(0, SIGTERM);
    return 0;
}
