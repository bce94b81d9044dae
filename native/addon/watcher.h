/* Waits for descriptors with epoll on a thread of its own; knows nothing of JavaScript. Used by poller.c alone.
 *
 * All functions belong to the JavaScript thread; `wake` is called on the watcher's own. Those that return int give 0 or
 * an errno. */
#ifndef LM_WATCHER_H
#define LM_WATCHER_H

#include <stddef.h>
#include <stdint.h>

struct watcher;

/* Asked for once by every first event after a watcher_take. */
typedef void (*wake_function)(void *context);

/* NULL with errno. No thread yet: that starts with the first watcher_add. */
struct watcher *watcher_open(wake_function wake, void *context);
/* Ends the thread and closes the descriptors; `wake` is not called any more. Idempotent. */
void watcher_stop(struct watcher *watcher);
/* After watcher_stop. */
void watcher_free(struct watcher *watcher);

/* Watches fd for one event. EBADF once stopped. */
int watcher_add(struct watcher *watcher, int fd, uint32_t events);
/* For one more. ENOENT when fd is not watched. */
int watcher_rearm(struct watcher *watcher, int fd, uint32_t events);
/* Nothing that watcher_take gives from now on has fd, until it is added again. */
void watcher_remove(struct watcher *watcher, int fd);

/* What became ready: `*count` pairs of descriptor and events, freed by the caller. NULL when there are none, or (errno)
 * no memory. */
int *watcher_take(struct watcher *watcher, size_t *count);

#endif
