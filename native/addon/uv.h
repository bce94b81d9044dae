/* The little of libuv that the poller uses. Node.js has libuv's functions for addons to call, and Node-API hands out
 * the loop (napi_get_uv_event_loop), but uv.h comes with neither node-api-headers nor every installation. libuv keeps
 * these declarations and the number of UV_POLL as they are for all of its version 1; handles are allocated by
 * uv_handle_size. */
#ifndef LM_UV_H
#define LM_UV_H

#include <stddef.h>

struct uv_loop_s;
typedef struct uv_handle_s uv_handle_t;

#define UV_POLL 8
#define UV_READABLE 1
#define UV_PRIORITIZED 8

size_t uv_handle_size(int type);
void *uv_handle_get_data(const uv_handle_t *handle);
void uv_handle_set_data(uv_handle_t *handle, void *data);
void uv_ref(uv_handle_t *handle);
void uv_unref(uv_handle_t *handle);
void uv_close(uv_handle_t *handle, void (*closed)(uv_handle_t *handle));

/* These take the handle as a uv_poll_t, which begins with it. 0 or a negative errno. */
int uv_poll_init(struct uv_loop_s *loop, uv_handle_t *handle, int fd);
int uv_poll_stop(uv_handle_t *handle);
int uv_poll_start(uv_handle_t *handle, int events, void (*ready)(uv_handle_t *handle, int status, int events));

#endif
