/* Memory for one piece of work: whoever takes it gives it back before returning, and keeps no pointer into it. What
 * must last longer is copied out. Taking it twice is a fault of ours and ends the process, before anything is
 * overwritten that somebody still reads. Under AddressSanitizer it cannot be touched while nobody has it. */
#ifndef LM_ROOM_H
#define LM_ROOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lm_room {
  uint8_t *bytes; /* read by lm_room_take() only */
  size_t size;
  bool taken;
};

/* Aborts without memory. */
void lm_room_make(struct lm_room *room, size_t size);
void lm_room_free(struct lm_room *room);
/* `size` bytes with nothing certain in them. */
uint8_t *lm_room_take(struct lm_room *room);
void lm_room_leave(struct lm_room *room);
/* Gives its pages back to the system, until they are used again. */
void lm_room_trim(struct lm_room *room);

#endif
