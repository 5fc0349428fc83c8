/* Delays a program that is started with LD_PRELOAD=: for units that are active before they listen. */
#include <unistd.h>

__attribute__((constructor)) static void delay(void)
{
    usleep(700 * 1000);
}
