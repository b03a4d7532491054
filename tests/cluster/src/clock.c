/*
 * A clock that a test sets and speeds up while a server runs: preloaded into it (LD_PRELOAD), it answers for the wall
 * clock and the monotonic ones, and shortens waits. Monotonic clocks are sped up, too, and never set.
 *
 * libfaketime can't be used here. PostgreSQL 15's postmaster forks its workers in signal handlers, while it is inside
 * select(), and libfaketime lets whatever runs inside a call of its own see the real time; so the workers would, for good.
 *
 * FAKE_CLOCK names a file of five 64-bit words: a number that is odd while the others are being written; an instant of
 * the real monotonic clock; what to show for it as wall clock and as monotonic clock, all in nanoseconds; how many times
 * faster than real time these go on from there.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct control {
	_Atomic uint64_t version;
	_Atomic int64_t real, wall, monotonic, speed;
};

static struct control *control;

__attribute__((constructor)) static void open_control(void)
{
	const char *path = getenv("FAKE_CLOCK");
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	if (fd < 0)
		return;
	void *p = mmap(NULL, sizeof *control, PROT_READ, MAP_SHARED, fd, 0);
	if (p != MAP_FAILED)
		control = p;
	close(fd);
}

static int64_t real_now(clockid_t id)
{
	struct timespec t;
	syscall(SYS_clock_gettime, id, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int64_t shown_now(clockid_t id)
{
	if (!control)
		return real_now(id);
	int64_t now = real_now(CLOCK_MONOTONIC);
	for (;;) {
		uint64_t version = control->version;
		int64_t shown = id == CLOCK_REALTIME ? control->wall : control->monotonic;
		shown += (now - control->real) * control->speed;
		if (!(version & 1) && version == control->version)
			return shown;
	}
}

/* A wait of so many milliseconds, in real ones: at least one, so that waiting never becomes looking all the time. */
static int shortened(int ms)
{
	if (!control || ms <= 0)
		return ms;
	int64_t speed = control->speed;
	return (int) ((ms + speed - 1) / speed);
}

int clock_gettime(clockid_t id, struct timespec *t)
{
	if (id == CLOCK_REALTIME_COARSE)
		id = CLOCK_REALTIME;
	if (id == CLOCK_MONOTONIC_COARSE || id == CLOCK_MONOTONIC_RAW || id == CLOCK_BOOTTIME)
		id = CLOCK_MONOTONIC;
	if (id != CLOCK_REALTIME && id != CLOCK_MONOTONIC)
		return (int) syscall(SYS_clock_gettime, id, t);
	int64_t now = shown_now(id);
	t->tv_sec = now / 1000000000;
	t->tv_nsec = now % 1000000000;
	return 0;
}

int gettimeofday(struct timeval *t, void *zone)
{
	(void) zone;
	int64_t now = shown_now(CLOCK_REALTIME);
	t->tv_sec = now / 1000000000;
	t->tv_usec = now % 1000000000 / 1000;
	return 0;
}

time_t time(time_t *out)
{
	time_t now = shown_now(CLOCK_REALTIME) / 1000000000;
	if (out)
		*out = now;
	return now;
}

int epoll_pwait(int fd, struct epoll_event *events, int max, int ms, const sigset_t *mask)
{
	return (int) syscall(SYS_epoll_pwait, fd, events, max, shortened(ms), mask, _NSIG / 8);
}

int epoll_wait(int fd, struct epoll_event *events, int max, int ms)
{
	return epoll_pwait(fd, events, max, ms, NULL);
}

int poll(struct pollfd *fds, nfds_t n, int ms)
{
	ms = shortened(ms);
	struct timespec t = {ms / 1000, ms % 1000 * 1000000L};
	return (int) syscall(SYS_ppoll, fds, n, ms < 0 ? NULL : &t, NULL, _NSIG / 8);
}
