/*
 * Preloaded into a program: lets the N-th change of a file below a directory fail, or kills the
 * program there. Changes are counted over all threads.
 *
 *   FAULT_ROOT  the directory; calls on other files are not counted
 *   FAULT_AT    the number of the call, from 1; 0 only counts
 *   FAULT_HOW   kill: before the call; torn: in the middle of a write, else before the call;
 *               ENOSPC, EIO: this call fails; ENOSPC+, EIO+: and all that follow
 *   FAULT_COUNT a file that gets the number of calls at the end
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_long calls;

static int below(const char *path)
{
	const char *root = getenv("FAULT_ROOT");
	size_t length = root ? strlen(root) : 0;
	return length > 0 && strncmp(path, root, length) == 0 && (path[length] == '/' || path[length] == 0);
}

static int descriptor_below(int fd)
{
	char link[64], path[PATH_MAX];
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	ssize_t length = readlink(link, path, sizeof(path) - 1);
	if (length < 0)
		return 0;
	path[length] = 0;
	return below(path);
}

/* What is reached through a descriptor: removal does. */
static int path_below(const char *path)
{
	char real[PATH_MAX];
	if (strncmp(path, "/proc/self/fd/", 14) != 0)
		return below(path);
	return snprintf(real, sizeof(real), "/proc/self/fd/%d", atoi(path + 14)) > 0 && descriptor_below(atoi(path + 14));
}

/* 0: go on; 1: fail, errno is set; 2: write half, then die. */
static int strike(int counts, int is_write)
{
	if (!counts)
		return 0;
	long at = getenv("FAULT_AT") ? atol(getenv("FAULT_AT")) : 0;
	const char *how = getenv("FAULT_HOW") ? getenv("FAULT_HOW") : "kill";
	long call = atomic_fetch_add(&calls, 1) + 1;
	if (at == 0 || call < at || (call > at && how[strlen(how) - 1] != '+'))
		return 0;
	if (strncmp(how, "ENOSPC", 6) == 0 || strncmp(how, "EIO", 3) == 0) {
		errno = how[1] == 'N' ? ENOSPC : EIO;
		return 1;
	}
	if (strcmp(how, "torn") == 0 && is_write)
		return 2;
	kill(getpid(), SIGKILL);
	for (;;)
		pause();
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define WRITE(name, type, params, args, half)                                                                          \
	type name params                                                                                               \
	{                                                                                                              \
		switch (strike(descriptor_below(fd), 1)) {                                                             \
		case 1:                                                                                                \
			return -1;                                                                                     \
		case 2:                                                                                                \
			REAL(name) half;                                                                               \
			kill(getpid(), SIGKILL);                                                                       \
			pause();                                                                                       \
		}                                                                                                      \
		return REAL(name) args;                                                                                \
	}

#define CALL(name, counts, params, args)                                                                               \
	int name params                                                                                                \
	{                                                                                                              \
		return strike(counts, 0) ? -1 : REAL(name) args;                                                       \
	}

WRITE(write, ssize_t, (int fd, const void *data, size_t size), (fd, data, size), (fd, data, size / 2))
WRITE(pwrite, ssize_t, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at), (fd, data, size / 2, at))
WRITE(pwrite64, ssize_t, (int fd, const void *data, size_t size, off64_t at), (fd, data, size, at),
      (fd, data, size / 2, at))
CALL(fsync, descriptor_below(fd), (int fd), (fd))
CALL(fdatasync, descriptor_below(fd), (int fd), (fd))
CALL(ftruncate, descriptor_below(fd), (int fd, off_t size), (fd, size))
CALL(ftruncate64, descriptor_below(fd), (int fd, off64_t size), (fd, size))
CALL(rename, path_below(to), (const char *from, const char *to), (from, to))
CALL(link, path_below(to), (const char *from, const char *to), (from, to))
CALL(unlink, path_below(path), (const char *path), (path))
CALL(rmdir, path_below(path), (const char *path), (path))
CALL(mkdir, path_below(path), (const char *path, mode_t mode), (path, mode))

__attribute__((destructor)) static void report(void)
{
	const char *path = getenv("FAULT_COUNT");
	FILE *file = path ? fopen(path, "w") : NULL;
	if (!file)
		return;
	fprintf(file, "%ld\n", atomic_load(&calls));
	fclose(file);
}
