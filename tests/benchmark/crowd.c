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
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            close(0);
            close(1);
            for (;;)
                pause();
        }
    }
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons(9)};
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&server, sizeof server) || listen(listener, 4096)) {
        perror("listen");
        return 1;
    }
    for (int i = 0; i < connections; i++) {
        struct sockaddr_in from = {.sin_family = AF_INET}, to = server;
        /* An address has 28,000 ports. */
        from.sin_addr.s_addr = htonl(0x7f010001u + i / 20000);
        to.sin_addr.s_addr = htonl(0x7f000001u);
        int client = socket(AF_INET, SOCK_STREAM, 0);
        if (bind(client, (struct sockaddr *)&from, sizeof from) || connect(client, (struct sockaddr *)&to, sizeof to) ||
            accept(listener, NULL, NULL) < 0) {
            perror("connect");
            return 1;
        }
    }
    puts("ready");
    fflush(stdout);
    char end;
    while (read(0, &end, 1) > 0) {
    }
    kill(0, SIGTERM);
    return 0;
}
