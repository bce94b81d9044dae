/* The keeper's own rare log lines, in the format containerd forwards from a bundle's `log` FIFO. */
#ifndef LM_LOG_H
#define LM_LOG_H

/* Where lines go: a FIFO or file, opened anew for each line so that no descriptor of the bundle is held. */
void lm_log_to(const char *path);
/* Keeps a descriptor for the lines of a time when there is no other. */
void lm_log_keep_spare(void);
/* Writes one line if somebody reads, without ever waiting. level: "info", "warning", "error". */
void lm_log(const char *level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
