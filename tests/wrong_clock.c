/* For LD_PRELOAD: the time of day stands so many seconds from the true one as the file WRONG_CLOCK says (8 octets, as
 * this machine writes a long), from one call to the next. All other clocks, and all sleeps and waits, are left alone:
 * so does the kernel when an administrator sets the clock. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long offset(void)
{
    static volatile long *kept;
    if (!kept) {
        const char *path = getenv("WRONG_CLOCK");
        int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        void *map = file < 0 ? MAP_FAILED : mmap(NULL, sizeof(long), PROT_READ, MAP_SHARED, file, 0);
        if (file >= 0)
            close(file);
        if (map == MAP_FAILED)
            abort();
        kept = map;
    }
    return *kept;
}

int clock_gettime(clockid_t id, struct timespec *told)
{
    int answer = (int)syscall(SYS_clock_gettime, id, told);
    if (answer == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
        told->tv_sec += offset();
    return answer;
}

int gettimeofday(struct timeval *restrict told, void *restrict zone)
{
    int answer = (int)syscall(SYS_gettimeofday, told, zone);
    if (answer == 0)
        told->tv_sec += offset();
    return answer;
}

time_t time(time_t *told)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (told)
        *told = now.tv_sec;
    return now.tv_sec;
}
